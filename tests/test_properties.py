"""What must hold for any input: distances, phantoms, preprocessing, settings."""

import io
from typing import Any

import numpy as np
import pytest
import scipy.linalg
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from ruamel.yaml import YAML

from src.common.errors import UserError
from src.config.data import PhantomSettings
from src.config.edit import changed_leaves, edited
from src.config.settings import flatten, parse_settings
from src.data import phantoms
from src.data.classes import CLASSES, SPLITS
from src.data.decode import decode_grey
from src.data.patients import patient_of
from src.metrics.frechet import FeatureSet, frechet_distance
from src.models.sampling import draw_latents
from tests.conftest import ROOT, set_value

TEXT = (ROOT / "params.yaml").read_text()
TREE: dict[str, Any] = YAML(typ="safe", pure=True).load(TEXT)
seeds = st.integers(0, 2**32 - 1)
few = settings(
    deadline=None,
    max_examples=60,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


# Distances


@st.composite
def features(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two sets of features of unlike sizes, spreads and places; some have no full rank."""
    rng = np.random.default_rng(draw(seeds))
    width = draw(st.integers(1, 12))
    found = []
    for _ in range(2):
        count, rank = draw(st.integers(2, 30)), draw(st.integers(1, width))
        mix = rng.standard_normal((rank, width)) * 10.0 ** draw(st.integers(-2, 2))
        found.append(rng.standard_normal((count, rank)) @ mix + draw(st.floats(-100, 100)))
    return found[0], found[1]


def distance(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    return frechet_distance(FeatureSet(x), FeatureSet(y))


def scale(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """How large the terms are whose difference a distance is; rounding is measured by it."""
    spread = np.cov(x, rowvar=False).sum() + np.cov(y, rowvar=False).sum()
    return float(np.square(x).mean() + np.square(y).mean() + abs(spread)) * x.shape[1]


@few
@given(features())
def test_a_distance_is_that_of_the_formula_and_symmetric(pair: Any) -> None:
    x, y = pair
    s, t = (np.atleast_2d(np.cov(z, rowvar=False)) for z in pair)
    # Through a symmetric product, whose eigenvalues are those of s @ t.
    roots, vectors = scipy.linalg.eigh(s)
    root = vectors * np.sqrt(np.clip(roots, 0, None)) @ vectors.T
    product = np.clip(np.linalg.eigvalsh(root @ t @ root), 0, None)
    gap = np.square(x.mean(0) - y.mean(0)).sum()
    expected = gap + np.trace(s) + np.trace(t) - 2 * np.sqrt(product).sum()
    near = 1e-6 * scale(x, y)
    assert distance(x, y) == pytest.approx(expected, abs=near, rel=1e-6)
    assert distance(y, x) == pytest.approx(distance(x, y), abs=near)
    assert distance(x, y) >= 0
    assert distance(x, x) == pytest.approx(0, abs=near)


@few
@given(features(), seeds)
def test_a_distance_does_not_depend_on_how_the_space_is_turned_or_moved(
    pair: Any, seed: int
) -> None:
    x, y = pair
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.standard_normal((x.shape[1], x.shape[1])))
    move = rng.standard_normal(x.shape[1])
    near = 1e-6 * scale(x, y)
    assert distance(x @ turn + move, y @ turn + move) == pytest.approx(distance(x, y), abs=near)
    assert distance(3 * x, 3 * y) == pytest.approx(9 * distance(x, y), abs=10 * near)
    order = rng.permutation(len(x))
    assert distance(x[order], y) == pytest.approx(distance(x, y), abs=near)


# Phantoms


@few
@given(
    seeds, st.integers(32, 80), st.sampled_from(SPLITS), st.sampled_from(CLASSES), st.integers(1, 9)
)
def test_patients_have_the_images_that_were_asked_for(
    seed: int, size: int, split: str, label: str, most: int
) -> None:
    wanted = PhantomSettings(
        train_per_class=7, test_per_class=4, images_per_patient=most, image_size=size, seed=seed
    )
    patients = list(phantoms._plan_patients(wanted, split, label))
    assert sum(patient.images for patient in patients) == (7 if split == "train" else 4)
    assert all(1 <= patient.images <= most for patient in patients)
    files = phantoms._draw_patient(patients[0])
    assert files == phantoms._draw_patient(patients[0])
    assert len({patient_of(name) for _, _, name, _ in files}) == 1
    other = phantoms._draw_patient(patients[-1])
    assert (patient_of(other[0][2]) == patient_of(files[0][2])) == (len(patients) == 1)
    for _, _, _, content in files:
        image = np.asarray(Image.open(io.BytesIO(content)))
        assert image.shape == (size, size)
        assert image.dtype == np.uint8
        assert image.max() > image.min()


# Preprocessing


@st.composite
def pictures(draw: st.DrawFn) -> Image.Image:
    """Grey noise of any shape, perhaps with a gradient."""
    height, width = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    rng = np.random.default_rng(draw(seeds))
    low, high = sorted(draw(st.tuples(st.integers(0, 255), st.integers(0, 255))))
    return Image.fromarray(rng.integers(low, high + 1, (height, width), dtype=np.uint8))


def decoded(image: Image.Image, **options: Any) -> NDArray[np.uint8]:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    buffer.seek(0)
    return decode_grey(buffer, **options)


@few
@given(pictures(), st.sampled_from(["L", "RGB", "RGBA", "P"]), st.integers(1, 64))
def test_a_picture_keeps_its_values_in_any_mode_and_size(
    image: Image.Image, mode: str, size: int
) -> None:
    values = np.asarray(image)
    assert np.array_equal(decoded(image.convert(mode)), values)
    for resampling in (Image.Resampling.BOX, Image.Resampling.BILINEAR):
        small = decoded(image.convert(mode), size=size, resampling=resampling)
        assert small.shape == (size, size)
        assert values.min() <= small.min()
        assert small.max() <= values.max()
    mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    turned = decoded(mirrored, size=size, resampling=resampling)[:, ::-1]
    assert np.abs(turned.astype(int) - small).max() <= 1


# Settings


COMMITTED = flatten(parse_settings(TREE))
LEAVES = sorted(COMMITTED)
KEYS = [key for key in LEAVES if not key.startswith("tune.space")]


def changed(key: str, value: Any) -> dict[str, Any]:
    tree: dict[str, Any] = YAML(typ="safe", pure=True).load(TEXT)
    set_value(*key.split("."), value=value)(tree)
    return tree


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=12),
    st.lists(st.integers(-3, 300), max_size=5),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
)


@settings(few, max_examples=150)
@given(st.sampled_from(KEYS), values)
def test_any_value_is_taken_as_it_is_or_refused_by_name(key: str, value: Any) -> None:
    told = ""
    try:
        parsed = flatten(parse_settings(changed(key, value)))
    except UserError as error:
        told = str(error)
    if told:
        assert key.split(".")[0] in told
        assert "\n" not in told
    else:
        assert set(parsed) == set(LEAVES)
        assert {name for name in LEAVES if parsed[name] != COMMITTED[name]} <= {key}


@few
@given(st.sampled_from(KEYS), st.text("abcdefgh_", min_size=1, max_size=9))
def test_an_unknown_key_is_refused_by_name(key: str, name: str) -> None:
    *sections, _ = key.split(".")
    place = TREE
    for section in sections:
        place = place[section]
    assume(name not in place)
    with pytest.raises(UserError, match=name):
        parse_settings(changed(".".join([*sections, name]), 1))


@few
@given(st.sampled_from(KEYS), st.integers(-1000, 1000) | st.floats(-1e3, 1e3) | st.booleans())
def test_editing_changes_the_one_value(key: str, value: Any) -> None:
    after = edited(TEXT, {key: value})
    tree = YAML(typ="safe", pure=True).load(after)
    found = changed_leaves(TREE, tree)
    assert set(found) <= {key}
    assert len(after.splitlines()) == len(TEXT.splitlines())
    if found:
        assert found[key] == value


# Noise


@few
@given(seeds, st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=6), st.integers(1, 40))
def test_the_noise_of_an_image_depends_on_its_seed_and_number_alone(
    seed: int, numbers: list[int], width: int
) -> None:
    together = draw_latents([seed] * len(numbers), numbers, width, 1.0)
    for row, number in zip(together, numbers, strict=True):
        assert np.array_equal(draw_latents([seed], [number], width, 1.0)[0], row)
    assert np.abs(together).max() <= 1
