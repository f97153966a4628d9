"""Several processes that train together do what one does."""

import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing
from torch import nn

from src.common.devices import Compute
from src.common.errors import UserError
from src.config.settings import Settings, parse_settings
from src.models.sampling import to_unit_range
from src.training.checkpoints import Checkpoints
from src.training.distributed import ProcessGroup
from src.training.loop import Safeguards, TrainingCallbacks, TrainResult, train
from src.training.trainer import Trainer

CPU = torch.device("cpu")
COMPUTE = Compute(CPU, "fp32", "channels_last", compile=False)
IMAGES = np.random.default_rng(0).integers(0, 256, (24, 16, 16), dtype=np.uint8)


def losses_of_steps(settings: Settings, group: ProcessGroup) -> torch.Tensor:
    """Twenty steps with a small learning rate, since Adam magnifies rounding errors."""
    small = settings.train.normal
    adam = small.optimizer.generator.model_copy(update={"learning_rate": 1e-4})
    optimizer = small.optimizer.model_copy(update={"generator": adam, "discriminator": adam})
    small = small.model_copy(update={"optimizer": optimizer})
    trainer = Trainer(small, 16, COMPUTE, group)
    rows = group.local_part(group.local_batch_size(8))
    real = torch.from_numpy(IMAGES)
    batches = [to_unit_range(real.roll(step, 0)[:8]) for step in range(20)]
    return torch.stack([trainer.step(batch[rows]) for batch in batches])


def result_of_training(
    settings: Settings, group: ProcessGroup, folder: Path, stop_after: int = 0
) -> TrainResult | None:
    """Three epochs of three batches; the last process may ask to stop after some."""
    asked: list[bool] = []

    def should_stop() -> bool:
        asked.append(True)
        return group.rank == group.size - 1 and len(asked) == stop_after

    kept = Safeguards(Checkpoints(folder) if group.is_first else None)
    callbacks = TrainingCallbacks(should_stop=should_stop)
    try:
        return train(IMAGES, settings.train.normal, COMPUTE, callbacks, kept, group)
    except KeyboardInterrupt:
        return None


def work(rank: int, size: int, params: dict[str, Any], task: str, folder: Path) -> None:
    """One process; it leaves what it found as a file."""
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size))
    settings = parse_settings(params)
    found: object
    with ProcessGroup.init(CPU, folder / f"{task}-{size}.rendezvous") as group:
        if task == "steps":
            found = losses_of_steps(settings, group)
        elif task == "same":
            try:
                group.check_same("code", "one" if rank == 0 else "other")
                found = ""
            except UserError as error:
                found = str(error)
        elif task == "share":
            content = bytes(range(256)) * 5 if group.is_first else None
            found = [group.broadcast(content), group.broadcast(None), group.any(rank == 1)]
        else:
            result = result_of_training(settings, group, folder, int(task))
            found = result and [
                [[one.loss_g, one.loss_d_fake, one.loss_d_real] for one in result.history],
                result.generator.state_dict(),
                [torch.from_numpy(grid) for grid in result.samples.values()],
            ]
    torch.save(found, folder / f"{rank}.found")


def together(size: int, params: dict[str, Any], task: str, folder: Path) -> list[Any]:
    """What each of ``size`` processes found."""
    # From a process that has imported everything once and done nothing yet.
    multiprocessing.set_forkserver_preload([__name__, "torch._dynamo"])  # the optimizers need it
    torch.multiprocessing.start_processes(
        work, (size, params, task, folder), size, start_method="forkserver"
    )
    return [torch.load(folder / f"{rank}.found") for rank in range(size)]


@pytest.mark.parametrize("size", [2, 4])
def test_the_same_batch_gives_the_same_losses_however_it_is_split(
    tiny: dict[str, Any], tmp_path: Path, size: int
) -> None:
    alone = losses_of_steps(parse_settings(tiny), ProcessGroup())
    for found in together(size, tiny, "steps", tmp_path):
        torch.testing.assert_close(found, alone, rtol=2e-5, atol=1e-6)


def test_augmentation_and_penalty_belong_to_the_whole_batch(
    fancy: dict[str, Any], tmp_path: Path
) -> None:
    alone = losses_of_steps(parse_settings(fancy), ProcessGroup())
    for found in together(2, fancy, "steps", tmp_path):
        torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-5)


def test_every_process_ends_with_the_same_networks(tiny: dict[str, Any], tmp_path: Path) -> None:
    first, second = together(2, tiny, "0", tmp_path)
    assert first[0] == second[0]
    assert all(
        torch.equal(a, b) for a, b in zip(first[1].values(), second[1].values(), strict=True)
    )
    assert len(first[2]) == 2
    assert second[2] == []  # only the first one draws


@pytest.mark.parametrize("sizes", [(2, 2), (2, 1), (1, 4)])
def test_a_stop_asked_of_one_stops_all_and_any_number_goes_on(
    tiny: dict[str, Any], tmp_path: Path, sizes: tuple[int, int]
) -> None:
    before, after = sizes
    (tmp_path / "whole").mkdir()
    (whole, *_) = together(after, tiny, "0", tmp_path / "whole")
    assert together(before, tiny, "5", tmp_path) == [None] * before
    assert [path.name for path in tmp_path.glob("*.pt")] == ["step_000000000005.pt"]
    (resumed, *_) = together(after, tiny, "0", tmp_path)
    if before == after:
        assert resumed[0] == whole[0]
        assert all(map(torch.equal, resumed[1].values(), whole[1].values()))
    np.testing.assert_allclose(resumed[0], whole[0], rtol=1e-3)


def test_processes_with_other_code_or_data_do_not_train_together(
    tiny: dict[str, Any], tmp_path: Path
) -> None:
    message = "the processes do not have the same code"
    assert together(2, tiny, "same", tmp_path) == [message, message]


def test_what_the_first_process_has_reaches_all(tiny: dict[str, Any], tmp_path: Path) -> None:
    content = bytes(range(256)) * 5
    assert together(2, tiny, "share", tmp_path) == [[content, None, True]] * 2


def test_a_batch_that_cannot_be_dealt_out_evenly_is_refused() -> None:
    assert ProcessGroup(1, 4).local_batch_size(8) == 2
    assert ProcessGroup(1, 4).local_part(2) == slice(2, 4)
    with pytest.raises(UserError, match="batch_size: 3 processes cannot share 8 images evenly"):
        ProcessGroup(0, 3).local_batch_size(8)


def test_batch_normalisation_between_processes_is_refused_by_name() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    ProcessGroup().check_networks([network])
    ProcessGroup(0, 2).check_networks([nn.Conv2d(1, 2, 3)])
    with pytest.raises(UserError, match=r"normalises by batch \(BatchNorm2d\)"):
        ProcessGroup(0, 2).check_networks([network])
