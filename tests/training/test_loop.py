import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from src.common.devices import Compute
from src.common.errors import UserError
from src.config.train import TrainSettings
from src.models.networks import Generator
from src.training import loop, trainer
from src.training.loop import EpochLosses, TrainingCallbacks, steps_per_epoch, train
from tests.conftest import noted_streams


def test_the_same_seed_gives_the_same_training_whatever_the_global_state(
    settings: TrainSettings, images: NDArray[np.uint8], compute: Compute
) -> None:
    torch.manual_seed(1)
    first = train(images, settings, compute, TrainingCallbacks())
    torch.manual_seed(2)
    again = train(images, settings, compute, TrainingCallbacks())
    assert first.history == again.history
    for one, other in zip(
        first.generator.state_dict().values(), again.generator.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other)
    changed = settings.model_copy(update={"seed": settings.seed + 1})
    assert train(images, changed, compute, TrainingCallbacks()).history != first.history


def test_callbacks_see_every_step_and_epoch_and_the_chosen_samples(
    settings: TrainSettings, images: NDArray[np.uint8], compute: Compute
) -> None:
    steps: list[int] = []
    epochs: list[EpochLosses] = []
    samples: dict[int, NDArray[np.uint8]] = {}
    callbacks = TrainingCallbacks(steps.append, epochs.append, samples.__setitem__)
    result = train(images, settings, compute, callbacks)
    assert steps == [8] * (3 * 2)  # 20 images are two batches of 8, the remainder dropped
    assert [losses.epoch for losses in epochs] == [1, 2, 3]
    assert epochs == result.history
    assert sorted(samples) == [1, 3]  # the asked one and the last
    assert samples[3].shape == (6, 16, 16)
    assert samples[3].dtype == np.uint8
    assert not np.array_equal(samples[1], samples[3])


def test_an_epochs_losses_are_the_means_of_its_steps_losses(
    settings: TrainSettings,
    images: NDArray[np.uint8],
    compute: Compute,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps: list[torch.Tensor] = []
    step = trainer.Trainer.step

    def noting(self: trainer.Trainer, real: torch.Tensor) -> torch.Tensor:
        steps.append(step(self, real))
        return steps[-1]

    monkeypatch.setattr(trainer.Trainer, "step", noting)
    drawing: list[Generator] = []
    result = train(images, settings, compute, TrainingCallbacks(on_generator=drawing.append))
    assert drawing == [result.generator] * 6
    for epoch, losses in enumerate(result.history):
        mean = torch.stack(steps[2 * epoch : 2 * epoch + 2]).double().mean(0)
        assert [losses.loss_g, losses.loss_d_fake, losses.loss_d_real] == pytest.approx(
            mean.tolist(), rel=1e-12
        )


def test_a_batch_larger_than_the_set_is_refused() -> None:
    assert steps_per_epoch(1341, 128) == 10
    assert steps_per_epoch(3875, 128) == 30
    with pytest.raises(UserError, match="batch_size: 128 is more than the 127 images"):
        steps_per_epoch(127, 128)


def test_training_learns_a_simple_distribution(settings: TrainSettings, compute: Compute) -> None:
    """Images of a bright upper half: after some epochs the generated ones have it too."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 40, (64, 16, 16), dtype=np.uint8)
    images[:, :8] += 200
    longer = settings.model_copy(update={"epochs": 60})
    drawn: dict[int, NDArray[np.uint8]] = {}
    train(images, longer, compute, TrainingCallbacks(on_samples=drawn.__setitem__))

    def gap(epoch: int) -> float:
        return float(drawn[epoch][:, :8].mean() - drawn[epoch][:, 8:].mean())

    assert gap(60) > 80
    assert gap(60) > 2 * abs(gap(1))


def test_every_stream_of_randomness_has_the_seed_and_a_number_of_its_own(
    settings: TrainSettings,
    images: NDArray[np.uint8],
    compute: Compute,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = noted_streams(monkeypatch, loop, trainer)
    train(
        images, settings.model_copy(update={"seed": 77, "epochs": 1}), compute, TrainingCallbacks()
    )
    assert len(keys) == 6  # weights, order, noise, dropout, augmentation, penalty
    assert {seed for _, seed in keys} == {77}
    assert len(set(keys)) == len(keys)


def test_the_images_of_the_sample_grids_are_the_seeds_alone(
    settings: TrainSettings, compute: Compute
) -> None:
    generator = trainer.Trainer(settings, 16, compute).generator
    grid = loop.sample_grid(generator, settings)
    assert grid.shape == (settings.samples.rows * settings.samples.columns, 16, 16)
    torch.manual_seed(1)
    assert np.array_equal(loop.sample_grid(generator, settings), grid)
    other = settings.model_copy(update={"seed": settings.seed + 1})
    assert not np.array_equal(loop.sample_grid(generator, other), grid)
