import pytest
import torch

from src.training.collapse import SIGNS, CollapseMonitor, all_finite, collapse_signs

CPU = torch.device("cpu")
VARIED = torch.linspace(-1, 1, 2 * 16).reshape(2, 1, 4, 4)
ALIKE = VARIED[:1].expand(2, 1, 4, 4)


@pytest.mark.parametrize(
    ("real", "fake", "images", "expected"),
    [
        ([0.1, 3.0], [-0.1, -2.0], VARIED, [1, 0, 0]),
        ([0.1, 3.0], [-0.1, 2.0], VARIED, [0, 0, 0]),
        ([-0.1, 3.0], [-0.1, -2.0], VARIED, [0, 0, 0]),
        ([0.5, 0.5], [0.5, 0.5], VARIED, [0, 1, 0]),
        ([0.1, -3.0], [-0.1, 2.0], ALIKE, [0, 0, 1]),
        ([0.1, -3.0], [-0.1, 2.0], ALIKE + VARIED / 1000, [0, 0, 1]),  # less than a grey level
        ([0.1], [-0.1], VARIED[:1], [1, 0, 0]),  # of one image nothing can be said
    ],
)
def test_the_signs_of_one_batch(
    real: list[float], fake: list[float], images: torch.Tensor, expected: list[int]
) -> None:
    signs = collapse_signs(torch.tensor(real), torch.tensor(fake), images)
    assert signs.tolist() == expected


def test_a_sign_counts_only_on_end() -> None:
    monitor = CollapseMonitor(CPU)
    seen, unseen = torch.tensor([0.0, 0.0, 1.0]), torch.zeros(3)
    for signs in (seen, seen, unseen, seen, seen):
        monitor.update(signs)
    assert monitor.find_sign(3) is None
    monitor.update(seen)
    assert monitor.find_sign(3) == (SIGNS[2], 3)
    again = CollapseMonitor(CPU)
    again.load_state_dict(monitor.state_dict())
    again.update(seen)
    assert again.find_sign(3) == (SIGNS[2], 4)
    assert monitor.find_sign(4) is None  # what was taken from it is a copy


def test_a_sign_in_a_part_of_the_processes_does_not_count() -> None:
    """Their mean is then between 0 and 1."""
    monitor = CollapseMonitor(CPU)
    monitor.update(torch.tensor([0.5, 0.0, 1.0]))
    assert monitor.find_sign(1) == (SIGNS[2], 1)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_one_weight_that_is_not_finite_is_found(value: float) -> None:
    networks = (torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))
    assert all_finite(networks)
    with torch.no_grad():
        networks[1].weight[0, 1] = value
    assert not all_finite(networks)
