"""A training that was cut off and went on ends as one that was not."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from src.common.devices import Compute
from src.common.errors import UserError
from src.config.settings import Settings
from src.config.train import OptimizersSettings, TrainSettings
from src.training import trainer as trainer_module
from src.training.checkpoints import Checkpoints, decode
from src.training.collapse import collapse_signs
from src.training.loop import EpochLosses, Safeguards, TrainingCallbacks, TrainResult, train
from src.training.trainer import Trainer

Images = NDArray[np.uint8]
STEPS = 6  # three epochs of two batches


class KilledError(Exception):
    """Instead of SIGKILL."""


def killed_after(steps: int) -> TrainingCallbacks:
    counter = itertools.count(1)

    def on_step(images: int) -> None:
        if next(counter) == steps:
            raise KilledError

    return TrainingCallbacks(on_step)


def stopped_after(steps: int) -> TrainingCallbacks:
    counter = itertools.count(1)
    return TrainingCallbacks(should_stop=lambda: next(counter) == steps)


def same(one: TrainResult, other: TrainResult) -> None:
    """Every byte."""
    assert one.history == other.history
    assert sorted(one.samples) == sorted(other.samples)
    for epoch, grid in one.samples.items():
        np.testing.assert_array_equal(grid, other.samples[epoch])
    for network in ("generator", "discriminator"):
        states = [getattr(result, network).state_dict() for result in (one, other)]
        assert all(torch.equal(a, b) for a, b in zip(*map(dict.values, states), strict=True))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_stopped_anywhere_and_resumed_it_is_the_same(
    settings: TrainSettings, images: Images, tmp_path: Path, step: int, precision: Any
) -> None:
    compute = Compute(torch.device("cpu"), precision, "channels_last", compile=False)
    whole = train(images, settings, compute, TrainingCallbacks())
    kept = Safeguards(Checkpoints(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        train(images, settings, compute, stopped_after(step), kept)
    seen: list[tuple[int, ...]] = []
    callbacks = TrainingCallbacks(on_resume=lambda *progress: seen.append(progress))
    same(train(images, settings, compute, callbacks, kept), whole)
    epoch, batch = (step - 1) // 2 + 1, (step - 1) % 2 + 1
    assert seen == [(epoch, batch, 8 * step)]


def test_with_every_choice_it_is_the_same_as_well(
    fancy_settings: Settings, images: Images, compute: Compute, tmp_path: Path
) -> None:
    settings = fancy_settings.train.normal
    whole = train(images, settings, compute, TrainingCallbacks())
    kept = Safeguards(Checkpoints(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        train(images, settings, compute, stopped_after(3), kept)
    same(train(images, settings, compute, TrainingCallbacks(), kept), whole)


@pytest.mark.parametrize("cuts", [(1,), (2, 1, 1), (5, 1), (3, 2)])
def test_killed_it_goes_on_from_the_last_checkpoint(
    settings: TrainSettings, images: Images, compute: Compute, tmp_path: Path, cuts: tuple[int, ...]
) -> None:
    whole = train(images, settings, compute, TrainingCallbacks())
    kept = Safeguards(Checkpoints(tmp_path), checkpoint_interval_seconds=0)
    for steps in cuts:
        with pytest.raises(KilledError):
            train(images, settings, compute, killed_after(steps), kept)
    same(train(images, settings, compute, TrainingCallbacks(), kept), whole)


def test_a_checkpoint_is_not_made_sooner_than_asked(
    settings: TrainSettings, images: Images, compute: Compute, tmp_path: Path
) -> None:
    kept = Safeguards(Checkpoints(tmp_path), checkpoint_interval_seconds=1e6)
    with pytest.raises(KilledError):
        train(images, settings, compute, killed_after(5), kept)
    assert list(tmp_path.rglob("*.pt")) == []


def test_what_was_seen_before_is_told_again(
    settings: TrainSettings, images: Images, compute: Compute, tmp_path: Path
) -> None:
    kept = Safeguards(Checkpoints(tmp_path), checkpoint_interval_seconds=0)
    with pytest.raises(KilledError):
        train(images, settings, compute, killed_after(5), kept)
    epochs: list[EpochLosses] = []
    drawn: dict[int, Images] = {}
    callbacks = TrainingCallbacks(on_epoch=epochs.append, on_samples=drawn.__setitem__)
    result = train(images, settings, compute, callbacks, kept)
    assert epochs == result.history
    assert [losses.epoch for losses in epochs] == [1, 2, 3]
    assert sorted(drawn) == [1, 3]
    for epoch, grid in drawn.items():
        np.testing.assert_array_equal(grid, result.samples[epoch])


def test_a_longer_training_goes_on_from_a_finished_one_and_is_the_same(
    settings: TrainSettings, images: Images, compute: Compute, tmp_path: Path
) -> None:
    checkpoints = Checkpoints(tmp_path)
    longer = settings.model_copy(update={"epochs": 5})
    whole = train(images, longer, compute, TrainingCallbacks())
    train(images, settings, compute, TrainingCallbacks(), Safeguards(checkpoints))
    checkpoints.finish()
    resumed: list[int] = []
    callbacks = TrainingCallbacks(on_resume=lambda epoch, batch, seen: resumed.append(epoch))
    result = train(images, longer, compute, callbacks, Safeguards(checkpoints))
    assert resumed == [4]
    assert 3 not in result.samples  # drawn only because the shorter one ended there
    same(result, whole)


def test_a_finished_training_that_is_asked_for_again_starts_anew(
    settings: TrainSettings, images: Images, compute: Compute, tmp_path: Path
) -> None:
    checkpoints = Checkpoints(tmp_path)
    train(images, settings, compute, TrainingCallbacks(), Safeguards(checkpoints))
    checkpoints.finish()
    steps: list[int] = []
    train(images, settings, compute, TrainingCallbacks(steps.append), Safeguards(checkpoints))
    assert len(steps) == STEPS


def explosive(settings: TrainSettings) -> TrainSettings:
    adam = settings.optimizer.generator.model_copy(update={"learning_rate": 1e30})
    return settings.model_copy(
        update={
            "optimizer": OptimizersSettings(
                learning_rate_half_life=0, generator=adam, discriminator=adam
            )
        }
    )


def test_losses_that_are_not_finite_stop(
    settings: TrainSettings, images: Images, compute: Compute
) -> None:
    with pytest.raises(UserError, match="epoch 1: the training has diverged: the losses are not"):
        train(images, explosive(settings), compute, TrainingCallbacks())


def test_a_training_that_diverges_keeps_its_last_good_state(
    settings: TrainSettings,
    images: Images,
    compute: Compute,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step, counter = Trainer.step, itertools.count(1)

    def lost_in_the_fourth(self: Trainer, real: torch.Tensor) -> torch.Tensor:
        if next(counter) == 4:
            with torch.no_grad():
                next(self.discriminator.parameters()).fill_(math.nan)
        return step(self, real)

    monkeypatch.setattr(Trainer, "step", lost_in_the_fourth)
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(UserError, match="epoch 2: the training has diverged") as raised:
        train(
            images,
            settings,
            compute,
            TrainingCallbacks(),
            Safeguards(checkpoints, checkpoint_interval_seconds=0),
        )
    assert checkpoints.newest() == tmp_path / "step_000000000003.pt"
    assert str(checkpoints.newest()) in str(raised.value)
    content = checkpoints.load(STEPS)
    assert content is not None
    weights = decode(content)["trainer"]["discriminator"].values()
    assert all(bool(value.isfinite().all()) for value in weights)


def test_weights_that_are_not_finite_give_no_result_even_where_only_a_warning_is_asked(
    settings: TrainSettings,
    images: Images,
    compute: Compute,
    capsys: pytest.CaptureFixture[str],
) -> None:
    going_on = Safeguards(on_divergence="warn")
    with pytest.raises(UserError, match="weights are not finite"):
        train(images, explosive(settings), compute, TrainingCallbacks(), going_on)
    assert capsys.readouterr().err.count("warning: epoch ") == 1  # once, not each epoch


@pytest.fixture
def collapsing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A discriminator that is never wrong from the second batch on."""
    counter = itertools.count()

    def signs(*tensors: torch.Tensor) -> torch.Tensor:
        return torch.tensor([float(next(counter) > 0), 0.0, 0.0], dtype=torch.float64)

    monkeypatch.setattr(trainer_module, "collapse_signs", signs)


@pytest.mark.usefixtures("collapsing")
def test_collapse_stops_at_the_end_of_the_epoch_and_names_the_last_state(
    settings: TrainSettings, images: Images, compute: Compute, tmp_path: Path
) -> None:
    kept = Safeguards(Checkpoints(tmp_path), 0, collapse_patience=3)
    message = (
        r"epoch 2: .* separated all real .* for 3 consecutive batches; .*step_000000000004\.pt"
    )
    with pytest.raises(UserError, match=message):
        train(images, settings, compute, TrainingCallbacks(), kept)


@pytest.mark.usefixtures("collapsing")
def test_collapse_is_only_warned_of_where_that_is_asked(
    settings: TrainSettings, images: Images, compute: Compute, capsys: pytest.CaptureFixture[str]
) -> None:
    going_on = Safeguards(on_divergence="warn", collapse_patience=3)
    assert len(train(images, settings, compute, TrainingCallbacks(), going_on).history) == 3
    assert capsys.readouterr().err.count("warning: ") == 1


def test_a_discriminator_without_weights_is_seen_to_give_one_score(
    settings: TrainSettings, compute: Compute
) -> None:
    trainer = Trainer(settings, 16, compute)
    for parameter in trainer.discriminator.parameters():
        torch.nn.init.zeros_(parameter)
        parameter.requires_grad_(False)
    on_real, on_fake = (trainer.discriminator(torch.rand(4, 1, 16, 16)) for _ in range(2))
    assert collapse_signs(on_real, on_fake, torch.rand(4, 1, 16, 16)).tolist()[1] == 1
    assert math.isclose(float(on_real[0]), 0)
