"""The space of a search: what its names stand for, and what it refuses."""

from typing import Any

import pytest

from src.common.errors import UserError
from src.config.search_space import check_space, configure, current
from src.config.settings import parse_settings
from src.config.tune import Range


@pytest.fixture
def train(params: dict[str, Any]) -> Any:
    return parse_settings(params).train.normal


def test_the_current_configuration_is_a_point_of_the_committed_space(
    params: dict[str, Any],
) -> None:
    settings = parse_settings(params)
    for train in (settings.train.normal, settings.train.pneumonia):
        check_space(train, settings.tune.space, 64)
        point = current(train, settings.tune.space)
        assert point.keys() == settings.tune.space.keys()
        assert configure(train, point, 64) == train


def test_width_multiplies_all_filters_to_multiples_of_eight(train: Any) -> None:
    half = configure(train, {"generator.width": 0.5, "discriminator.width": 1.5}, 64)
    assert half.generator.base_channels == 64
    assert half.generator.channels == (32, 16, 8)
    assert half.discriminator.channels == (24, 48, 96, 192)
    least = configure(train, {"generator.width": 0.01}, 64)
    assert least.generator.channels == (8, 8, 8)


def test_depth_takes_layers_from_the_small_maps_and_adds_them_there(train: Any) -> None:
    less = configure(train, {"generator.depth": -1, "discriminator.depth": -2}, 64)
    assert less.generator.base_channels == 64
    assert less.generator.channels == (32, 16)
    assert less.generator.base_size(64) == 16
    assert less.discriminator.channels == (16, 32)
    more = configure(train, {"generator.depth": 1, "discriminator.depth": 1}, 64)
    assert more.generator.channels == (128, 64, 32, 16)
    assert more.generator.strides == (2, 2, 2, 2)
    assert more.discriminator.channels == (16, 32, 64, 128, 128)


def test_kernel_leaves_layers_alone_that_keep_the_size(train: Any) -> None:
    changed = configure(train, {"discriminator.kernel": 5, "generator.kernel": 5}, 64)
    assert changed.discriminator.kernels == (3, 5, 5, 5)
    assert changed.generator.kernels == (5, 5, 5)


def test_any_parameter_of_a_class_can_be_searched(train: Any) -> None:
    values = {"batch_size": 64, "augmentation": ("cutout",), "optimizer.beta1": 0.5, "loss": "bce"}
    changed = configure(train, values, 64)
    assert (changed.batch_size, changed.augmentation, changed.loss) == (64, ("cutout",), "bce")
    assert {changed.optimizer.generator.beta1, changed.optimizer.discriminator.beta1} == {0.5}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"generator.depth": 4}, "does not divide the image size"),
        ({"generator.depth": -3}, "generator.channels: Tuple should have at least 1 item"),
        ({"generator.depth": -4}, "generator.depth: -4 is not possible here"),
        ({"loss": "wasserstein"}, "gradient_penalty: the wasserstein loss needs one"),
        ({"loss": "best"}, "loss: it must be one of"),
        ({"generator.latent_dim": 0}, "generator.latent_dim: Input should be greater"),
        ({"generator.latents": 3}, "generator.latents: there is no such parameter"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(
    train: Any, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        configure(train, values, 64)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"loss": ("hinge", "wasserstein")}, 'loss: the current configuration has "bce"'),
        (
            {"generator.latent_dim": Range(low=50, high=90, log=False)},
            "generator.latent_dim: the current config",
        ),
        (
            {"batch_size": Range(low=0, high=64, log=False)},
            "batch_size: 0 is refused: batch_size: Input should be greater",
        ),
        (
            {"augmentation": (("translation",), ("mirror",))},
            "augmentation: .* is refused",
        ),
        ({"generator.depth": (0, 4)}, "generator.depth: 4 is refused"),
    ],
)
def test_a_space_that_cannot_be_searched_from_here_is_refused(
    train: Any, space: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check_space(train, space, 64)


def span(low: float, high: float, log: bool = False) -> dict[str, Any]:
    return {"low": low, "high": high, "log": log}


def test_kernels_that_differ_have_no_one_value(params: dict[str, Any]) -> None:
    params["train"]["normal"]["discriminator"]["kernels"] = [3, 4, 4, 5]
    train = parse_settings(params).train.normal
    with pytest.raises(ValueError, match=r"discriminator.kernel: .* several, \[4, 5\]"):
        current(train, {"discriminator.kernel": (4, 5)})


def test_lists_of_numbers_can_be_choices_in_params_yaml(params: dict[str, Any]) -> None:
    params["tune"]["space"] = {"generator.kernels": [[3, 3, 3], [5, 5, 3]]}
    settings = parse_settings(params)
    check_space(settings.train.normal, settings.tune.space, 64)
    (choices,) = settings.tune.space.values()
    assert list(choices) == [(3, 3, 3), (5, 5, 3)]


@pytest.mark.parametrize(
    ("name", "among", "message"),
    [
        ("generator.lattent", [1, 2], "tune.space.generator.lattent: there is no such parameter"),
        ("loss", ["bce"], "tune.space.loss.*at least 2"),
        ("epochs", [1, 2], "tune.space.epochs: it is not for a search to choose"),
        ("seed", [1, 2], "tune.space.seed: it is not for a search to choose"),
        (
            "generator.negative_slope",
            span(0.3, 0.1),
            "low, 0.3, must be less than high",
        ),
        ("generator.negative_slope", span(0.0, 0.1, True), "log: low must be above 0"),
        (
            "generator.negative_slope",
            span(0.0, 0.1) | {"hihg": 1},
            "tune.space.generator.negative_slope",
        ),
    ],
)
def test_a_faulty_declaration_is_refused_when_params_yaml_is_read(
    params: dict[str, Any], name: str, among: Any, message: str
) -> None:
    params["tune"]["space"][name] = among
    with pytest.raises(UserError, match=message):
        parse_settings(params)


def test_a_fraction_is_no_point_of_a_range_of_whole_numbers(params: dict[str, Any]) -> None:
    """The search would round it, and would not try the current configuration."""
    params["train"]["normal"]["gradient_penalty"] = 2.5
    params["tune"]["space"] = {"gradient_penalty": {"low": 1, "high": 10, "log": False}}
    settings = parse_settings(params)
    with pytest.raises(ValueError, match=r"gradient_penalty: the current configuration has 2\.5"):
        current(settings.train.normal, settings.tune.space)
    params["train"]["normal"]["gradient_penalty"] = 2.0
    settings = parse_settings(params)
    assert current(settings.train.normal, settings.tune.space) == {"gradient_penalty": 2.0}


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("generator.width", "generator.base_channels"),
        ("discriminator.width", "discriminator.channels"),
        ("generator.depth", "generator.strides"),
        ("discriminator.kernel", "discriminator.kernels"),
        ("optimizer.beta1", "optimizer.generator.beta1"),
    ],
)
def test_parameters_that_undo_each_other_are_refused(
    params: dict[str, Any], name: str, other: str
) -> None:
    """A trial would be told by a value that its networks do not have."""
    params["tune"]["space"] = {name: [1, 2], other: [1, 2]}
    with pytest.raises(UserError, match=rf"{name}: it sets {other}, which is in the space too"):
        parse_settings(params)
