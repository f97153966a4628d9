"""Trained generators in the workspace, in a DVC revision, in a file or among MLflow's models."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..common.errors import UserError
from ..common.git import foreign_owner
from ..common.paths import HOME, PROJECT, generator_path, git_root
from ..common.secrets import hide_secrets

MODEL_SCHEMES = ("models:/", "runs:/", "mlflow-artifacts:/", "s3://")  # of MLflow's addresses


@contextmanager
def find_generator(
    label: str | None, model: str | None = None, revision: str | None = None
) -> Iterator[Path]:
    """Yield the file of a generator, which exists within the block.

    Args:
        label: the class; required unless ``model`` is given.
        model: a file, or the address of an MLflow model.
        revision: of the project: a commit, branch, tag or DVC experiment.

    Raises:
        UserError: if there is none.
    """
    with tempfile.TemporaryDirectory() as folder:
        if model is not None and model.startswith(MODEL_SCHEMES):
            from .registry import download_generator  # MLflow imports for seconds

            yield download_generator(HOME, model, Path(folder))
        elif model is not None:
            yield Path(model)
        elif revision is not None:
            assert label is not None
            yield _get_from_revision(label, revision, Path(folder))
        else:
            assert label is not None
            yield generator_path(label)


def _get_from_revision(label: str, revision: str, folder: Path) -> Path:
    """Copy the generator of a revision from DVC's cache or the default remote into ``folder``.

    Raises:
        UserError: if DVC has none.
    """
    file = folder / "generator.pt"
    # DVC wants the path from the top of the git repository, of which the project may be a folder.
    home = HOME.resolve()
    within = home.relative_to(git_root(home) or home)
    path = (within / generator_path(label).relative_to(PROJECT)).as_posix()
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "get", ".", path, f"--rev={revision}", f"--out={file}"],
        cwd=HOME,
        capture_output=True,
        text=True,
    )
    if done.returncode or not file.is_file():
        if hint := foreign_owner(HOME, done.stderr):
            raise UserError(f"--rev {revision}: {hint}")
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = hide_secrets(" ".join(lines).removeprefix("ERROR: ")) or "DVC does not say why"
        raise UserError(
            f"--rev {revision}: DVC cannot get {path} ({reason}); `dvc exp list` and `git log` "
            "name revisions, `dvc fetch --all-commits` brings what another machine made"
        )
    return file
