import base64
import io
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException
from PIL import Image

from src.common.errors import UserError
from src.models.sampling import draw_images, draw_latents
from src.tracking import outbox
from src.tracking.delivery import sync
from src.tracking.registered_model import CANDIDATE, CHAMPION
from src.tracking.registry import download_generator, model_version, set_alias
from src.tracking.runs import start_run
from tests.models.test_sampling import saved
from tests.tracking.conftest import Away, client, outboxes, package


def test_a_generator_is_registered_with_all_that_it_needs_elsewhere(tmp_path: Path) -> None:
    name = "chest-xray-gan-normal"
    for number in ("1", "2"):
        with start_run("report", tmp_path, {}, {}) as run:
            run.log_generator(package(tmp_path, frechet=number))
    found = model_version(tmp_path, name, CANDIDATE)
    assert found is not None
    assert found.number == 2
    assert found.tags["frechet"] == "2"
    assert model_version(tmp_path, name, CHAMPION) is None
    set_alias(tmp_path, name, CHAMPION, found)
    assert model_version(tmp_path, name, CHAMPION) == found
    first = client(tmp_path).get_model_version(name, "1")
    assert "candidate" not in first.aliases

    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    loaded = mlflow.pyfunc.load_model(f"models:/{name}@candidate")
    drawn = loaded.predict(pd.DataFrame({"seed": [1] * 20, "index": range(20)}))
    network = saved(tmp_path / "g.pt").network
    expected = draw_images(network, draw_latents([1] * 20, range(20), 12))
    for image, text in zip(expected, drawn["png"], strict=True):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))), image)
    with pytest.raises(MlflowException, match="index"):
        loaded.predict(pd.DataFrame({"seed": [1]}))
    place = Path(mlflow.artifacts.download_artifacts(f"models:/{name}/2"))
    needs = (place / "requirements.txt").read_text()
    assert f"torch=={torch.__version__.partition('+')[0]}" in needs
    assert (place / "input_example.json").exists()
    assert (place / "data" / "generator" / "model-card.md").read_text() == "not for diagnosis"
    assert not list(place.rglob("*.pkl"))


def test_a_registered_generator_is_fetched_as_it_was_saved(tmp_path: Path) -> None:
    with start_run("report", tmp_path, {}, {}) as run:
        run.log_generator(package(tmp_path))
    address = "models:/chest-xray-gan-normal@candidate"
    (tmp_path / "to").mkdir()
    file = download_generator(tmp_path, address, tmp_path / "to")
    assert file.read_bytes() == (tmp_path / "g.pt").read_bytes()
    with pytest.raises(UserError, match="nobody"):
        download_generator(tmp_path, "models:/nobody@candidate", tmp_path / "to")


def test_a_generator_that_waited_is_not_the_candidate_before_a_newer_one(
    server: Path, away: Away
) -> None:
    away.now = True
    with start_run("older", server, {}, {}) as run:
        run.log_generator(package(server, frechet="1"))
    (left,) = outboxes(server)
    kept = server / "kept"
    left.rename(kept)  # so that the next run cannot deliver it
    away.now = False
    with start_run("newer", server, {}, {}) as run:
        run.log_generator(package(server, frechet="2"))
    kept.rename(left)
    assert sync(server).delivered == ["older"]
    found = model_version(server, "chest-xray-gan-normal", CANDIDATE)
    assert found is not None
    assert found.tags["frechet"] == "2"
    assert len(client(server).search_model_versions("name = 'chest-xray-gan-normal'")) == 2


def test_a_clock_that_jumped_back_leaves_the_candidate_and_both_versions_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "chest-xray-gan-normal"
    for time, number in ((7_200_000, "1"), (3_600_000, "2"), (9_000_000, "3")):
        monkeypatch.setattr(outbox, "now_ms", lambda time=time: time)
        with start_run("report", tmp_path, {}, {}) as run:
            run.log_generator(package(tmp_path, frechet=number))
        found = model_version(tmp_path, name, CANDIDATE)
        assert found is not None
        assert found.tags["frechet"] == {"1": "1", "2": "1", "3": "3"}[number]
        told = capsys.readouterr().err
        assert told.count("warning:") == (number == "2")
        if number == "2":
            assert f"{name}: version 2 was logged at 1970-01-01 01:00:00 UTC" in told
            assert "before version 1 at 1970-01-01 02:00:00 UTC, which stays the candidate" in told
