"""Old names of parameters are refused with their new name, and read where they were written."""

from typing import Any

import pytest

from src.common.errors import UserError
from src.config.renames import RENAMES, new_name, with_new_names
from src.config.settings import load_settings, parse_settings
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("section", "old", "new"),
    [(section, old, new) for section, keys in RENAMES.items() for old, new in keys.items()],
)
def test_an_old_name_is_refused_with_its_new_one(
    section: str, old: str, new: str, params: dict[str, Any]
) -> None:
    place = section.replace("*", "pneumonia")
    part = params
    for key in place.split("."):
        part = part[key]
    part[old] = part.pop(new)
    with pytest.raises(UserError) as error:
        parse_settings(params)
    assert str(error.value) == (
        f"params.yaml: {place}.{old}: the parameter is called {place}.{new} now; rename it"
    )
    with pytest.raises(UserError, match=f"{old} is called {place}.{new} now"):
        load_settings(ROOT / "params.yaml", [f"{place}.{old}=1"])


def test_a_tree_from_before_is_read_with_the_new_names() -> None:
    before = {
        "train": {"collapse_batches": 7, "normal": {"average": 0.9, "generator": {"slope": 0.2}}},
        "tune": {"seeds": 3, "seed": 6},
    }
    assert with_new_names(before, "") == {
        "train": {
            "collapse_patience": 7,
            "normal": {
                "ema_decay": 0.9,
                "augmentation_strength": 1.0,
                "generator": {"negative_slope": 0.2, "exposure": "learned"},
            },
        },
        "tune": {"repeat_seeds": 3, "seed": 6},
    }


def test_names_that_stayed_have_no_new_one() -> None:
    assert new_name("train.normal.epochs") is None
    assert new_name("privacy.seed") is None
    assert new_name("generator.latent") == "generator.latent_dim"


def test_a_newer_parameter_of_an_older_tree_has_the_value_of_then() -> None:
    assert with_new_names({}, "train.*.generator") == {"exposure": "learned"}
    given = {"exposure": "drawn"}
    assert with_new_names(given, "train.*.generator") == given
