"""An architecture is two classes in a module and one entry in the table."""

import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from src.common.devices import Compute
from src.common.errors import UserError
from src.config.registry import ARCHITECTURES, Entry
from src.config.settings import parse_settings
from src.models import networks
from src.models.architectures import load_architecture
from src.models.flops import forward_flops
from src.models.io import Origin, load_generator, save_generator
from src.training.trainer import Trainer

ORIGIN = Origin("NORMAL", "phantom", 24, "0" * 64, {})


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_classes_of_an_entry_have_its_name_and_the_same_arguments(name: str) -> None:
    for theirs, dcgan in zip(load_architecture(name), load_architecture("dcgan"), strict=True):
        assert theirs.architecture == name
        for method in ("__init__", "forward", "count_flops"):
            one, other = (inspect.signature(getattr(kind, method)) for kind in (theirs, dcgan))
            assert list(one.parameters) == list(other.parameters)


def test_a_new_entry_is_trained_counted_saved_and_loaded(
    tiny: dict[str, Any], compute: Compute, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Generator(networks.Generator):
        architecture = "other"

        @staticmethod
        def count_flops(settings: Any, image_size: int) -> dict[str, float]:
            return {"all": 7.0}

    class Discriminator(networks.Discriminator):
        architecture = "other"

        @staticmethod
        def count_flops(settings: Any, image_size: int) -> dict[str, float]:
            return {"all": 5.0}

    module = ModuleType("src.models.other_networks")
    module.__dict__["OTHER"] = (Generator, Discriminator)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(ARCHITECTURES, "other", Entry("models.other_networks:OTHER", "another"))
    tiny["train"]["normal"]["architecture"] = "other"
    settings = parse_settings(tiny).train.normal
    trainer = Trainer(settings, 16, compute)
    assert [type(trainer.generator), type(trainer.discriminator)] == [Generator, Discriminator]
    assert trainer.step(torch.zeros(8, 1, 16, 16)).shape == (3,)
    assert forward_flops(settings, 16) == 12
    path = tmp_path / "generator.pt"
    save_generator(path, trainer.generator, ORIGIN)
    assert type(load_generator(path, compute.device).network) is Generator
    monkeypatch.delitem(ARCHITECTURES, "other")
    with pytest.raises(UserError, match=r"generator\.pt .*architecture 'other' is none of dcgan"):
        load_generator(path, compute.device)


def test_a_file_without_an_architecture_holds_a_dcgan(
    tiny: dict[str, Any], compute: Compute, tmp_path: Path
) -> None:
    trainer = Trainer(parse_settings(tiny).train.normal, 16, compute)
    path = tmp_path / "generator.pt"
    save_generator(path, trainer.generator, ORIGIN)
    content = torch.load(path, weights_only=True)
    assert content.pop("architecture") == "dcgan"
    torch.save(content, path)
    assert type(load_generator(path, compute.device).network) is networks.Generator


def test_an_unknown_architecture_is_refused_by_name(tiny: dict[str, Any]) -> None:
    tiny["train"]["pneumonia"]["architecture"] = "resnet"
    message = r"train\.pneumonia\.architecture: it must be one of dcgan \(given: 'resnet'\)"
    with pytest.raises(UserError, match=message):
        parse_settings(tiny)
