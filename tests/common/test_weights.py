"""Weights are found wherever PyTorch's tools put them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from src.common.weights import find_weights, open_containers

OWN = {"dense.weight": torch.ones(1), "norm.bias": torch.zeros(1)}

SAVED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "alone": lambda own: own,
    "state_dict": lambda own: {"state_dict": own, "epoch": 3, "optimizer": {"state": {}}},
    "model_state_dict": lambda own: {"model_state_dict": own, "loss": 0.5},
    "model": lambda own: {"model": own, "args": None},
    "a name beside it": lambda own: {"state_dict": own, "model": "inception_v3"},
    "within each other": lambda own: {"model": {"state_dict": own}},
    "DataParallel": lambda own: {f"module.{name}": value for name, value in own.items()},
    "compiled": lambda own: {f"_orig_mod.{name}": value for name, value in own.items()},
    "both": lambda own: {f"module._orig_mod.{name}": value for name, value in own.items()},
    "both, turned": lambda own: {f"_orig_mod.module.{name}": value for name, value in own.items()},
    "a compiled layer": lambda own: {
        name.replace("dense.", "dense._orig_mod."): value for name, value in own.items()
    },
    "all": lambda own: {
        "state_dict": {"model": {f"module._orig_mod.{name}": own[name] for name in own}}
    },
}


@pytest.fixture(params=SAVED)
def saved(request: pytest.FixtureRequest) -> Callable[[dict[str, Any]], Any]:
    """A way in which tools save weights."""
    return SAVED[request.param]


def test_containers_and_wrappers_are_taken_off(saved: Callable[[dict[str, Any]], Any]) -> None:
    assert find_weights(saved(OWN), OWN.keys()) == OWN


def test_the_names_are_those_that_torch_gives() -> None:
    network = nn.Sequential(nn.Linear(2, 1))
    wrapped = torch.compile(nn.DataParallel(network))
    assert {"_orig_mod.module.0.weight", "_orig_mod.module.0.bias"} == set(wrapped.state_dict())
    averaged = torch.optim.swa_utils.AveragedModel(network).state_dict()
    for state in (wrapped.state_dict(), averaged):
        found = find_weights(state, network.state_dict().keys())
        assert torch.equal(found["0.weight"], network[0].weight)


def test_a_name_of_the_networks_own_stays() -> None:
    own = {"module.weight": 1, "weight": 2}
    assert find_weights(own, own.keys()) == own


def test_names_that_are_the_same_without_wrappers_are_refused() -> None:
    for pair in (["module.a", "a"], ["module.a", "_orig_mod.a"]):
        with pytest.raises(ValueError, match=f"{pair[0]} and {pair[1]} are both a"):
            find_weights(dict.fromkeys(pair, 1), ["a"])


def test_two_networks_in_a_file_are_refused() -> None:
    with pytest.raises(ValueError, match="as state_dict and as model"):
        find_weights({"model": OWN, "state_dict": OWN}, OWN.keys())


@pytest.mark.parametrize("content", [None, [1], "text", torch.zeros(2)])
def test_what_is_no_mapping_is_refused(content: object) -> None:
    with pytest.raises(ValueError, match="and not weights by name"):
        find_weights(content, OWN.keys())


def test_a_file_that_holds_itself_comes_to_an_end() -> None:
    endless: dict[str, Any] = {}
    endless["model"] = endless
    assert open_containers(endless) is endless
    assert find_weights(endless, OWN.keys()).keys() == {"model"}
