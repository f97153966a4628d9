"""A run that several modules look at."""

import pytest

from tests.pipeline.project import Project


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone with tiny parameters after an undisturbed run, which is committed."""
    project = Project.cloned(tmp_path_factory.mktemp("a clone with spaces"))
    project.repro()
    project.git("add", "-A")
    project.git("commit", "-qm", "run")
    return project
