from pathlib import Path

import pytest

from src import serve
from src.tracking import serving


def test_a_port_beyond_all_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        serve.main(["--class", "normal", "--port", "70000"])
    assert "--port: it must be from 1 to 65535, not 70000" in capsys.readouterr().err


def test_a_candidate_is_served_to_this_machine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[object] = []
    monkeypatch.setattr(serving, "serve_model", lambda *given: served.extend(given))
    assert serve.main(["--class", "normal"]) == 0
    assert served == [serve.HOME, "models:/chest-xray-gan-normal@candidate", "127.0.0.1", 5001]


def test_a_model_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serve, "HOME", tmp_path)
    assert serve.main(["--class", "normal", "--alias", "nobody"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: models:/chest-xray-gan-normal@nobody: MLflow cannot give")
    assert error.count("\n") == 1
