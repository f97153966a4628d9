"""The copy test detects a copying generator, passes an honest one, and states its limits."""

import io
import math
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Self

import numpy as np
import pytest
import scipy.stats
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import roc_auc_score

from src.common.errors import UserError
from src.common.rng import Stream, numpy_stream
from src.config.data import PhantomSettings
from src.config.privacy import PrivacySettings
from src.config.settings import Settings
from src.data.dataset import ImageSet
from src.data.patients import Patients, patient_of
from src.data.phantoms import draw_phantoms
from src.models.initialization import initialize
from src.models.networks import Generator
from src.models.sampling import generate
from src.privacy import copy_test as privacy
from src.privacy.attack import delong_roc_auc, excess_z
from src.privacy.copy_test import SpaceFindings, closest, draw_baseline, find_copies
from src.privacy.ct_score import c_t
from src.privacy.neighbours import FeatureSpace, Images, MakeSpace, Nearest, PixelSpace
from src.privacy.perturbations import PERTURBATIONS
from src.privacy.thresholds import (
    Baseline,
    CopyTestResult,
    detectable_share,
    fisher,
    grouped_fisher,
)
from src.privacy.verdict import judge_copying, shared_level

SETTINGS = PrivacySettings(
    generated_images=150,
    baseline_images=1000,
    control_images=60,
    near_quantile=0.01,
    significance_level=0.01,
    detectable_fraction=0.15,
    shown_pairs=5,
    membership=False,
    membership_images=150,
    seed=4,
)


def phantoms(seed: int, train: int, test: int) -> dict[str, ImageSet]:
    """NORMAL phantoms of 64 pixels by split, with their patients."""
    settings = PhantomSettings(
        train_per_class=train, test_per_class=test, images_per_patient=2, image_size=64, seed=seed
    )
    drawn: dict[str, list[tuple[str, NDArray[np.uint8]]]] = {"train": [], "test": []}
    for split, label, name, content in draw_phantoms(settings):
        if label == "NORMAL":
            drawn[split].append((patient_of(name), np.asarray(Image.open(io.BytesIO(content)))))
    return {
        split: ImageSet.of_class(
            np.stack([image for _, image in part]),
            "NORMAL",
            Patients.from_names([whose for whose, _ in part]),
        )
        for split, part in drawn.items()
    }


@pytest.fixture(scope="module")
def real() -> dict[str, ImageSet]:
    return phantoms(2021, train=600, test=300)


@pytest.fixture(scope="module")
def honest() -> NDArray[np.uint8]:
    """What a generator that learnt the distribution and no image of it would draw."""
    return phantoms(5, train=150, test=1)["train"].images


@pytest.fixture(scope="module")
def findings(real: dict[str, ImageSet], honest: NDArray[np.uint8]) -> SpaceFindings:
    return find_copies(real["train"], real["test"], honest, PixelSpace, SETTINGS, 0.01, 0)


@pytest.fixture(scope="module")
def harmless() -> SpaceFindings:
    """What is found where all images are noise, within a fraction of a second."""
    rng = np.random.default_rng(8)
    train, test, generated = (
        rng.integers(0, 256, (count, 16, 16), dtype=np.uint8) for count in (240, 100, 150)
    )
    patients = Patients(np.arange(240) // 2)
    real = (
        ImageSet.of_class(train, "NORMAL", patients),
        ImageSet.of_class(test, "NORMAL", Patients.singletons(100)),
    )
    return find_copies(*real, generated, PixelSpace, SETTINGS, 0.01, 0)


def test_an_honest_generator_shows_no_sign_of_copying(findings: SpaceFindings) -> None:
    verdict = judge_copying({"pixels": findings}, SETTINGS)
    assert verdict.kind == "no sign of copying"
    assert "would be detected with a probability of 80% if they were" in verdict.sentence
    assert findings.passes(SETTINGS.significance_level)
    assert abs(findings.attack.auc - 0.5) < 3 * findings.attack.interval.standard_error
    assert abs(findings.authentic["generated"] - findings.authentic["held_out"]) < 0.15
    assert findings.c_t is not None
    assert abs(findings.c_t) < 3


def test_every_perturbation_is_detected_with_the_power_that_is_stated(
    findings: SpaceFindings,
) -> None:
    for name in PERTURBATIONS:
        assert findings.results[name].share > 0.95
        share = findings.detectable[name]
        assert share is not None
        assert share < 0.15


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_a_generator_that_copies_a_tenth_is_caught_whatever_it_does_to_the_copies(
    real: dict[str, ImageSet], honest: NDArray[np.uint8], name: str
) -> None:
    mixed = honest.copy()
    mixed[:15] = PERTURBATIONS[name](real["train"].images[40:55], np.random.default_rng(9))
    found = find_copies(real["train"], real["test"], mixed, PixelSpace, SETTINGS, 0.01, 0)
    verdict = judge_copying({"pixels": found}, SETTINGS)
    assert verdict.kind == "copies"
    assert verdict.sentence.startswith("Copies: ")
    assert found.copied >= 15
    assert verdict.sentence.endswith(f"They are near to {found.copied} different train images.")
    assert set(closest(found.generated, found.thresholds.max_distance, 15)) == set(range(15))
    assert np.array_equal(found.generated.index[:15], np.arange(40, 55))


def test_a_generator_that_copies_everything_is_caught_by_every_measure(
    real: dict[str, ImageSet],
) -> None:
    copies = real["train"].images[:150]
    found = find_copies(real["train"], real["test"], copies, PixelSpace, SETTINGS, 0.01, 0)
    assert found.results["generated"].near_images == 150
    assert found.authentic["generated"] == 0
    assert found.c_t is not None
    assert found.c_t < -5
    assert found.attack.interval.low > 0.53  # a quarter of the members are copied


def test_images_far_from_all_real_ones_are_no_copies_though_one_outlier_is_nearest_to_all() -> None:
    """As those of a generator that has hardly learnt: in many features they lie on one side."""
    rng = np.random.default_rng(7)
    train = rng.integers(100, 140, (400, 4, 4), dtype=np.uint8)
    train[3] = 170
    far = rng.integers(215, 235, (150, 4, 4), dtype=np.uint8)
    found = find_copies(
        ImageSet.of_class(train, "NORMAL", Patients(np.arange(400) // 2)),
        ImageSet.of_class(
            rng.integers(100, 140, (100, 4, 4), dtype=np.uint8), "NORMAL", Patients.singletons(100)
        ),
        far,
        lambda references: FeatureSpace(grey_values, references),
        SETTINGS.model_copy(update={"controls": 2}),
        0.01,
        0,
    )
    assert (found.generated.index == 3).all()
    assert (found.generated.ratio <= found.thresholds.max_ratio).any()
    assert found.results["generated"].near_images == 0


@pytest.mark.parametrize(
    "make_space", [PixelSpace, lambda references: FeatureSpace(grey_values, references)]
)
def test_an_untrained_generator_copies_nothing(
    real: dict[str, ImageSet], tiny_settings: Settings, make_space: MakeSpace
) -> None:
    settings = tiny_settings.train.normal.generator
    side = 16
    generator = Generator(settings, side)
    initialize(generator, "xavier", torch.Generator().manual_seed(1))
    drawn = generate(generator, 2, 150)
    untrained = np.repeat(np.repeat(drawn, 64 // side, 1), 64 // side, 2)
    found = find_copies(real["train"], real["test"], untrained, make_space, SETTINGS, 0.01, 0)
    assert found.results["generated"].near_images == 0


def test_where_held_out_images_are_train_images_there_is_no_verdict(
    real: dict[str, ImageSet], honest: NDArray[np.uint8]
) -> None:
    leaked = ImageSet.of_class(real["train"].images[:150], "NORMAL", Patients.singletons(150))
    found = find_copies(real["train"], leaked, honest, PixelSpace, SETTINGS, 0.01, 0)
    verdict = judge_copying({"pixels": found}, SETTINGS)
    assert verdict.kind == "can't tell"
    assert "held-out real images are themselves taken for copies in pixels" in verdict.sentence


def grey_values(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Every pixel as a feature."""
    return images.reshape(len(images), -1).astype(np.float32)


def brightness(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A feature that tells nothing of whose an image is."""
    return images.mean(axis=(1, 2), dtype=np.float32)[:, None]


def test_where_perturbed_train_images_are_not_detected_there_is_no_verdict(
    real: dict[str, ImageSet], honest: NDArray[np.uint8], findings: SpaceFindings
) -> None:
    found = find_copies(
        real["train"],
        real["test"],
        honest,
        lambda references: FeatureSpace(brightness, references),
        SETTINGS,
        0.01,
        0,
    )
    verdict = judge_copying({"brightness": found}, SETTINGS)
    assert verdict.kind == "can't tell"
    assert "brightened" in verdict.sentence
    assert "would not be detected" in verdict.sentence
    # Copies that the other space sees are copies all the same.
    copies = real["train"].images[:150]
    copying = find_copies(real["train"], real["test"], copies, PixelSpace, SETTINGS, 0.005, 0)
    told = judge_copying({"brightness": found, "pixels": copying}, SETTINGS)
    assert told.kind == "copies"
    assert "brightness" not in told.sentence
    # One space that sees them is enough.
    assert (
        judge_copying({"brightness": found, "pixels": findings}, SETTINGS).kind
        == "no sign of copying"
    )


def test_an_attack_that_succeeds_without_copies_forbids_the_all_clear(
    harmless: SpaceFindings,
) -> None:
    interval = replace(harmless.attack.interval, standard_error=0.01)
    leaking = replace(harmless, attack=replace(harmless.attack, auc=0.7, interval=interval))
    verdict = judge_copying({"pixels": leaking}, SETTINGS)
    assert verdict.kind == "can't tell"
    assert "pixels 0.70" in verdict.sentence
    # A control below a guess adds no doubt to it, however vague.
    vague = replace(harmless.attack_control.interval, standard_error=0.2)
    control = replace(harmless.attack_control, auc=0.45, interval=vague)
    unsure = replace(leaking, attack_control=control)
    assert judge_copying({"pixels": unsure}, SETTINGS).kind == "can't tell"
    above = replace(leaking, attack_control=replace(control, auc=0.55))
    assert judge_copying({"pixels": above}, SETTINGS).kind == "no sign of copying"
    # Where train images of other patients give away as much, the splits differ, not more.
    splits = replace(leaking, attack_control=leaking.attack)
    assert judge_copying({"pixels": splits}, SETTINGS).kind == "no sign of copying"


def with_results(findings: SpaceFindings, **changes: CopyTestResult) -> SpaceFindings:
    return replace(findings, results={**findings.results, **changes})


def test_every_verdict_is_one_sentence_with_its_numbers(harmless: SpaceFindings) -> None:
    near = "as near to a train image as the nearest 1% of other patients' images"
    spaces = {"pixels": harmless, "features": harmless}
    shares = "0.0% in pixels (held-out real images: 1.0%)"
    both = shares + ", 0.0% in features (held-out real images: 1.0%)"

    def told(**changes: SpaceFindings) -> str:
        return judge_copying({**spaces, **changes}, SETTINGS).sentence

    assert told() == (
        f"No sign of copying: of 150 generated images {both} are {near}. Copies, shifted, "
        "brightened, compressed or mirrored, would be detected with a probability of 80% if they "
        "were 9.0% of the images."
    )
    # What one space sees is enough, so that the better one counts for each perturbation.
    blunt = replace(harmless, detectable={**harmless.detectable, "mirrored": 0.14})
    better = replace(harmless, detectable=dict.fromkeys(PERTURBATIONS, 0.05))
    assert told(features=blunt).endswith("if they were 9.0% of the images.")
    assert told(pixels=blunt, features=better).endswith("if they were 5.0% of the images.")
    copying = replace(with_results(harmless, generated=CopyTestResult(150, 30, 0.004)), copied=7)
    assert told(pixels=copying) == (
        "Copies: of 150 generated images 20.0% in pixels (held-out real images: 1.0%) are "
        f"{near}. They are near to 7 different train images."
    )
    other = replace(copying, copied=5)
    assert told(pixels=copying, features=other).endswith("near to 5 different train images.")
    # Two spaces share the level, 0.01.
    unsure = with_results(harmless, generated=CopyTestResult(150, 30, 0.006))
    assert told(pixels=unsure).startswith("No sign of copying")
    leaked = with_results(copying, held_out=CopyTestResult(100, 50, 0.009))
    assert told(pixels=leaked, features=leaked) == (
        "Can't tell: held-out real images are themselves taken for copies in pixels and features, "
        "so the test does not hold on these data."
    )
    assert told(pixels=leaked, features=copying).startswith("Copies: of 150 generated images 20.0%")
    blind = replace(harmless, detectable={**harmless.detectable, "shifted": None, "mirrored": 0.16})
    assert told(pixels=blind, features=blind) == (
        "Can't tell: copies that are shifted or mirrored would not be detected among the generated "
        "images, even if they were 15% of them."
    )
    error = replace(harmless.attack.interval, standard_error=0.01)
    leaking = replace(
        harmless,
        attack=replace(harmless.attack, auc=0.625, interval=error),
        attack_control=replace(harmless.attack_control, auc=0.5),
    )
    assert told(pixels=leaking, features=leaking) == (
        "Can't tell: no copies are found, but a membership attack succeeds. The ROC AUC of the "
        "attack (pixels 0.62, features 0.62) lies above chance and above an attack from other "
        "patients' images. Splits that differ may cause that as well. For copies: of 150 generated "
        f"images {both} are {near}."
    )


def test_no_more_images_are_looked_at_than_the_settings_say() -> None:
    rng = np.random.default_rng(12)
    images = rng.integers(0, 256, (200, 4, 4), dtype=np.uint8)
    real = ImageSet.of_class(images[:120], "NORMAL", Patients.singletons(120))
    few = SETTINGS.model_copy(
        update={"generated_images": 10, "baseline_images": 12, "control_images": 3}
    )
    found = find_copies(
        real,
        ImageSet.of_class(images[120:], "NORMAL", Patients.singletons(80)),
        images[:20],
        lambda references: FeatureSpace(grey_values, references),
        few,
        0.01,
        0,
    )
    assert (len(found.train), len(found.held_out), len(found.generated)) == (12, 10, 20)
    assert (found.attack.members, found.attack_control.members) == (12, 12)
    # One patient has nearly all images, and is drawn after most of the others.
    one_patient = Patients(np.where(np.arange(120) < 110, 0, np.arange(120) // 4))
    with pytest.raises(UserError, match=r"^nearly all train images are of one patient$"):
        find_copies(
            ImageSet.of_class(images[:120], "NORMAL", one_patient),
            ImageSet.of_class(images[120:], "NORMAL", Patients.singletons(80)),
            images[:20],
            lambda references: FeatureSpace(grey_values, references),
            few,
            0.01,
            1,
        )


def test_cells_are_clusters_of_alike_images() -> None:
    rng = np.random.default_rng(13)
    levels = np.repeat([40, 210, 125], 50)
    images = (levels[:, None, None] + rng.integers(-9, 9, (150, 32, 32))).astype(np.uint8)
    cells = privacy.cluster_cells(images, 170, seed=1)
    groups = [set(cells[levels == level]) for level in (40, 125, 210)]
    assert sorted(len(group) for group in groups) == [1, 1, 1]
    assert len(set.union(*groups)) == 3
    assert np.array_equal(privacy.cluster_cells(images, 170, seed=1), cells)
    assert set(privacy.cluster_cells(images, 30, seed=1)) == {0}  # too few held-out images to part


def test_the_draws_are_repeatable_and_those_of_another_seed_differ(
    real: dict[str, ImageSet], honest: NDArray[np.uint8], findings: SpaceFindings
) -> None:
    again = find_copies(real["train"], real["test"], honest, PixelSpace, SETTINGS, 0.01, 0)
    assert np.array_equal(again.perturbed["shifted"].ratio, findings.perturbed["shifted"].ratio)
    assert again.attack == findings.attack
    other = SETTINGS.model_copy(update={"seed": 5})
    changed = find_copies(real["train"], real["test"], honest, PixelSpace, other, 0.01, 0)
    assert changed.attack != findings.attack


def plainly_nearest(
    images: Images, train: ImageSet, own: NDArray[np.int64] | None = None
) -> list[tuple[int, float, float]]:
    """For each image its nearest train image, how far that is, and the same of the second patient.

    The images of its own patient, if it has one, are left out.
    """
    found = []
    for row, image in enumerate(images.astype(float)):
        far = [math.dist(image.ravel(), other.ravel()) for other in train.images.astype(float)]
        whose = train.patients.ids.tolist()
        ranked = sorted(
            (distance, index)
            for index, distance in enumerate(far)
            if own is None or whose[index] != own[row]
        )
        first, index = ranked[0]
        second = next(d for d, other in ranked if whose[other] != whose[index])
        found.append((index, first, first / second))
    return found


def test_what_is_found_in_a_space_is_what_a_plain_computation_finds() -> None:
    rng = np.random.default_rng(11)
    train = ImageSet.of_class(
        rng.integers(0, 256, (120, 4, 4), dtype=np.uint8), "NORMAL", Patients(np.arange(120) // 2)
    )
    test = ImageSet.of_class(
        rng.integers(0, 256, (80, 4, 4), dtype=np.uint8), "NORMAL", Patients(np.arange(80) // 2)
    )
    fake = rng.integers(0, 256, (70, 4, 4), dtype=np.uint8)
    fake[:6] = train.images[[7, 7, 30, 31, 64, 99]]
    fake[:6, 0, 0] ^= 16
    test.images[9] = train.images[40]
    settings = SETTINGS.model_copy(update={"control_images": 20, "near_quantile": 0.05})
    found = find_copies(
        train,
        test,
        fake,
        lambda references: FeatureSpace(grey_values, references),
        settings,
        0.03,
        2,
    )

    # One image of each patient, of both splits.
    chosen = draw_baseline(train, settings, numpy_stream(Stream.COPY_TEST, settings.seed, 2))
    assert sorted(train.patients.ids[chosen]) == list(range(60))
    assert sorted(test.patients.ids[found.held_out_rows]) == list(range(40))
    members, others = train.images[chosen], test.images[found.held_out_rows]
    own = plainly_nearest(train.images, train, train.patients.ids)
    expected = {
        "train": [own[row] for row in chosen],
        "held_out": plainly_nearest(others, train),
        "generated": plainly_nearest(fake, train),
    }
    for name, images in expected.items():
        nearest = getattr(found, name)
        for part, values in zip(
            ("index", "distance", "ratio"), zip(*images, strict=True), strict=True
        ):
            np.testing.assert_allclose(getattr(nearest, part), values, atol=1e-4)

    max_distance = np.median([distance for _, distance, _ in expected["train"]])
    ratios = sorted(r if d <= max_distance else math.inf for _, d, r in expected["train"])
    max_ratio = ratios[math.ceil(0.05 * 60) - 1]
    assert (found.thresholds.max_distance, found.thresholds.max_ratio) == pytest.approx(
        (max_distance, max_ratio)
    )
    near = {
        name: [index for index, d, r in images if d <= max_distance and r <= max_ratio + 1e-9]
        for name, images in expected.items()
    }
    below = {name: len(places) for name, places in near.items()}
    assert below["generated"] >= 6
    assert found.copied == len(set(near["generated"])) < below["generated"]

    # Two train images count as one, the nearer ones rounded up; then the held-out ones beside them.
    base = (30, math.ceil(below["train"] / 2))
    joined = (30 + 40, base[1] + below["held_out"])
    for name, count, (images, few) in (("held_out", 40, base), ("generated", 70, joined)):
        result = found.results[name]
        assert (result.images, result.near_images) == (count, below[name])
        if name == "held_out":
            tail = scipy.stats.hypergeom(images + count, few + below[name], count)
            assert result.p_value == pytest.approx(tail.sf(below[name] - 1))
    # One train image is copied twice: those count as one that is drawn with the weight of two.
    shortest = sorted(d for _, d, _ in expected["train"])[math.ceil(0.05 * 60) - 1]
    assert found.thresholds.min_distance == pytest.approx(shortest)
    assert math.dist(fake[0].ravel().astype(float), fake[1].ravel().astype(float)) <= shortest
    assert found.distinct == 69
    weights = np.array([2] + [1] * 68 + [0] * joined[0])
    near_units = below["generated"] - 1 + joined[1]
    sums = [weights[rng.permutation(len(weights))[:near_units]].sum() for _ in range(20_000)]
    chance = np.mean(np.array(sums) >= below["generated"])
    assert found.results["generated"].p_value == pytest.approx(chance, abs=0.015)
    assert set(found.results) == {"held_out", "generated", *PERTURBATIONS}
    for name in PERTURBATIONS:
        result = found.results[name]
        perturbed = found.perturbed[name]
        assert result.images == len(perturbed) == 20
        few = sum((perturbed.distance <= max_distance) & (perturbed.ratio <= max_ratio + 1e-9))
        assert result.near_images == few
        assert found.detectable[name] == detectable_share(few / 20, 69, Baseline(*joined), 0.03)

    # Authentic is what lies farther from its neighbour than that one from other patients' images.
    for name in ("held_out", "generated"):
        authentic = [distance > own[index][1] for index, distance, _ in expected[name]]
        assert found.authentic[name] == pytest.approx(np.mean(authentic))

    # With so few held-out images all are in one cell.
    for sign, name in ((found.c_t, "generated"), (found.c_t_control, "train")):
        x, y = (np.array([d for _, d, _ in expected[part]]) for part in (name, "held_out"))
        n, m = len(x), len(y)
        u = (x[:, None] > y).sum() + 0.5 * (x[:, None] == y).sum()
        assert sign == pytest.approx((u - n * m / 2) / np.sqrt(n * m * (n + m + 1) / 12), abs=0.02)

    def scores(images: Images, nearest: list[tuple[int, float, float]]) -> NDArray[np.float64]:
        published = fake.reshape(70, -1).astype(float)
        least = [np.linalg.norm(published - image.ravel(), axis=1).min() for image in images]
        return -np.log(np.maximum(least, 1e-6) / np.maximum([d for _, d, _ in nearest], 1e-6))

    score = [scores(members, expected["train"]), scores(others, expected["held_out"])]
    labels = np.repeat([1, 0], [60, 40])
    auc = roc_auc_score(labels, np.concatenate(score).round(4))
    assert (found.attack.auc, found.attack.members, found.attack.others) == (
        pytest.approx(auc, abs=1e-3),
        60,
        40,
    )
    assert (found.attack_control.members, found.attack_control.others) == (30, 40)
    assert 0.2 < found.attack_control.auc < 0.8


def test_too_few_patients_are_refused_by_name() -> None:
    images = np.zeros((150, 16, 16), dtype=np.uint8)
    two = ImageSet.of_class(images[:20], "NORMAL", Patients(np.arange(20) % 2))
    many = ImageSet.of_class(images, "NORMAL", Patients.singletons(len(images)))
    with pytest.raises(UserError, match="the test images are of fewer than 4 patients"):
        find_copies(many, two, images, PixelSpace, SETTINGS, 0.01, 0)


@pytest.mark.parametrize("patients", [20, 21])
def test_features_that_are_the_same_for_all_images_tell_nothing(patients: int) -> None:
    images = np.arange(patients * 16, dtype=np.uint8).reshape(patients, 4, 4)
    real = ImageSet.of_class(images, "NORMAL", Patients.singletons(patients))

    def constant(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.zeros((len(images), 2), dtype=np.float32)

    found = find_copies(
        real,
        real,
        images,
        lambda references: FeatureSpace(constant, references),
        SETTINGS.model_copy(update={"controls": 5}),
        0.01,
        0,
    )
    assert judge_copying({"constant": found}, SETTINGS).kind == "can't tell"


def test_fisher_is_the_tail_of_the_hypergeometric_distribution() -> None:
    tail = scipy.stats.hypergeom(650, 16, 150).sf(8)
    assert fisher(9, 150, Baseline(500, 7)) == pytest.approx(tail, rel=1e-9)
    assert fisher(0, 150, Baseline(500, 5)) == pytest.approx(1)


@pytest.mark.parametrize("near", [0, 3, 9, 40])
def test_where_no_image_repeats_another_the_test_is_fishers(near: int) -> None:
    base, is_near = Baseline(500, 7), np.arange(150) < near
    one_each = np.ones(150, dtype=np.int64)
    assert grouped_fisher(one_each, is_near, base) == pytest.approx(fisher(near, 150, base))


def test_images_that_repeat_each_other_are_drawn_as_one() -> None:
    """Against all ways to choose which groups and baseline images are near."""
    sizes = np.array([4, 1, 1, 2, 6])
    is_near = np.array([False, True, False, True, False])
    weights = np.concatenate([sizes, np.zeros(6, dtype=np.int64)])
    ways = [sum(weights[list(way)]) >= 3 for way in combinations(range(11), 2 + 3)]
    assert grouped_fisher(sizes, is_near, Baseline(6, 3)) == pytest.approx(np.mean(ways))


def test_the_smallest_detectable_share_gives_that_power() -> None:
    base = Baseline(1000, 10)
    share = detectable_share(0.9, 200, base, 0.01)
    assert share is not None
    rng = np.random.default_rng(3)
    below = rng.binomial(200, share * 0.9, size=4000)  # of other images none
    called = np.array([fisher(k, 200, base) < 0.01 for k in range(201)])
    assert called[below].mean() == pytest.approx(0.8, abs=0.02)


def test_what_is_caught_no_more_often_than_others_is_never_detectable() -> None:
    base = Baseline(1000, 10)
    assert detectable_share(0.01, 200, base, 0.01) is None
    assert detectable_share(0.02, 200, base, 0.01) is None
    assert detectable_share(1.0, 2, Baseline(1000, 500), 0.01) is None
    # Fewer of such copies are near than the test needs.
    assert detectable_share(0.03, 200, base, 0.01) is None


def test_several_tests_share_the_level_of_false_alarms() -> None:
    assert shared_level(SETTINGS, 2) == SETTINGS.significance_level / 2


def test_false_alarms_are_as_rare_as_the_level_says() -> None:
    """Without copies: generated, held-out and train points are of one distribution."""
    settings = SETTINGS.model_copy(update={"baseline_images": 300, "control_images": 2})
    alarms = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        points = rng.integers(0, 256, (700, 4, 4), dtype=np.uint8)
        found = find_copies(
            ImageSet.of_class(points[:400], "NORMAL", Patients(np.arange(400) * 3 // 4)),
            ImageSet.of_class(points[400:500], "NORMAL", Patients.singletons(100)),
            points[500:],
            lambda references: FeatureSpace(grey_values, references),
            settings,
            0.01,
            0,
        )
        alarms.append(found.results["generated"].p_value < 0.05)
    assert np.mean(alarms) <= 0.1  # three standard errors above 0.05 would be 0.13


@dataclass(frozen=True)
class Gaussian:
    """Points of a normal distribution as images of 4 x 4 pixels, and generators of such."""

    train: ImageSet
    held_out: ImageSet
    generated: Images

    @classmethod
    def draw(
        cls, seed: int, held_out_spread: float, spread: float, copies: int = 0, distinct: int = 300
    ) -> Self:
        """Draw 400 train, 150 held-out and 300 generated images in 16 dimensions.

        Args:
            seed: of all draws.
            held_out_spread: standard deviation of the held-out images; the train images' is 1.
            spread: standard deviation of the generated images.
            copies: generated images that are train images with noise of a tenth.
            distinct: generated images that differ; the others repeat them.
        """
        rng = np.random.default_rng(seed)
        train = rng.normal(size=(400, 16))
        generated = spread * rng.normal(size=(distinct, 16))[rng.permutation(300) % distinct]
        noisy = train[rng.permutation(400)[:copies]] + 0.1 * rng.normal(size=(copies, 16))
        generated[:copies] = noisy
        sets = (train, held_out_spread * rng.normal(size=(150, 16)), generated)
        images = [np.clip(128 + 18 * part, 0, 255).round().reshape(-1, 4, 4) for part in sets]
        first, second, third = (part.astype(np.uint8) for part in images)
        return cls(
            ImageSet.of_class(first, "NORMAL", Patients.singletons(400)),
            ImageSet.of_class(second, "NORMAL", Patients.singletons(150)),
            third,
        )

    def find(self, level: float) -> SpaceFindings:
        return find_copies(
            self.train,
            self.held_out,
            self.generated,
            lambda references: FeatureSpace(grey_values, references),
            SETTINGS.model_copy(update={"control_images": 2}),
            level,
            0,
        )


@pytest.mark.parametrize(
    "runs", [pytest.param(20, id="quick"), pytest.param(1000, marks=pytest.mark.long)]
)
@pytest.mark.parametrize("distinct", [20, 50, 100])
def test_few_images_that_are_no_copies_are_not_called_copies(distinct: int, runs: int) -> None:
    """One accidental match of an image that is repeated counts once."""
    level = 0.01
    found = [Gaussian.draw(seed, 1.0, 1.0, distinct=distinct).find(level) for seed in range(runs)]
    alarms = sum(part.results["generated"].p_value < level for part in found)
    assert all(part.distinct <= distinct for part in found)
    assert np.mean([part.distinct for part in found]) > 0.95 * distinct
    assert alarms <= scipy.stats.binom(runs, level).ppf(0.999)


@pytest.mark.parametrize("repeated", [5, 150])
def test_few_images_that_are_copies_are_called_copies(
    real: dict[str, ImageSet], honest: Images, repeated: int
) -> None:
    """Alone, and in a half of what is generated."""
    few = honest.copy()
    copies = PERTURBATIONS["brightened"](real["train"].images[40:45], np.random.default_rng(9))
    rows = np.arange(len(few)) if repeated == 5 else np.arange(75)
    few[rows] = copies[rows % 5]
    found = find_copies(real["train"], real["test"], few, PixelSpace, SETTINGS, 0.01, 0)
    verdict = judge_copying({"pixels": found}, SETTINGS)
    assert verdict.kind == "copies"
    repeats = f"draws the same few images: only {found.distinct} of these 150 are distinct."
    assert verdict.sentence.endswith(repeats) == (repeated == 5)
    if repeated == 5:
        assert (found.distinct, found.copied) == (5, 5)


@pytest.mark.parametrize(
    "runs", [pytest.param(20, id="quick"), pytest.param(1000, marks=pytest.mark.long)]
)
@pytest.mark.parametrize("held_out_spread", [1.0, 1.1, 1.2, 1.3])
def test_splits_that_differ_are_no_leak_of_a_generator_that_spreads_less(
    held_out_spread: float, runs: int
) -> None:
    """Its images lie nearer to train images than to those that spread more, without any leak."""
    level = 0.01
    alarms = 0
    for seed in range(runs):
        found = Gaussian.draw(seed, held_out_spread, 0.72).find(level)
        z = excess_z(found.attack, found.attack_control)
        alarms += z > scipy.stats.norm.isf(level)
    assert alarms <= scipy.stats.binom(runs, 2 * level).ppf(0.999)


@pytest.mark.parametrize("held_out_spread", [1.0, 1.2])
def test_noisy_train_images_among_contracted_ones_are_found(held_out_spread: float) -> None:
    verdicts = [
        Gaussian.draw(seed, held_out_spread, 0.72, copies=30).find(0.01).results["generated"]
        for seed in range(20)
    ]
    assert np.mean([part.p_value < 0.01 for part in verdicts]) >= 0.8


def test_the_attacks_control_spreads_as_the_generated_images_do(
    real: dict[str, ImageSet], honest: Images
) -> None:
    for make_space in (PixelSpace, lambda references: FeatureSpace(grey_values, references)):
        space = make_space(honest)
        before = space.spread
        space.contract(0.7)
        assert space.spread == pytest.approx(0.7 * before, rel=0.05)


def test_the_area_is_that_of_scikit_learn_and_its_error_delongs() -> None:
    rng = np.random.default_rng(0)
    positive, negative = rng.normal(1, 1, 60).round(1), rng.normal(0, 1, 80).round(1)
    auc, interval = delong_roc_auc(positive, negative)
    labels = np.repeat([1, 0], [60, 80])
    assert auc == pytest.approx(roc_auc_score(labels, np.concatenate([positive, negative])))
    beats = np.sign(positive[:, None] - negative[None, :]) / 2 + 0.5
    variance = beats.mean(1).var(ddof=1) / 60 + beats.mean(0).var(ddof=1) / 80
    assert interval.standard_error == pytest.approx(np.sqrt(variance))


def test_delongs_interval_covers_the_true_area() -> None:
    rng = np.random.default_rng(1)
    true = scipy.stats.norm.cdf(1 / np.sqrt(2))
    inside = []
    for _ in range(400):
        _, interval = delong_roc_auc(rng.normal(1, 1, 100), rng.normal(0, 1, 100))
        inside.append(interval.low < true < interval.high)
    assert 0.92 < np.mean(inside) < 0.98


def nearest_at(distance: NDArray[np.float64], index: NDArray[np.int64]) -> Nearest:
    return Nearest(index, distance, np.ones(len(index)))


def test_c_t_is_the_z_of_mann_whitney_weighted_over_the_cells() -> None:
    rng = np.random.default_rng(2)
    cells = np.array([0, 1])
    real = nearest_at(rng.normal(5, 1, 200), np.repeat([0, 1], [150, 50]))
    fake = nearest_at(rng.normal(4, 1, 160), np.repeat([0, 1], 80))
    zs = []
    for cell in (0, 1):
        x, y = fake.distance[fake.index == cell], real.distance[real.index == cell]
        u = (x[:, None] > y[None, :]).sum()
        n, m = len(x), len(y)
        zs.append((u - n * m / 2) / np.sqrt(n * m * (n + m + 1) / 12))
    assert c_t(real, fake, cells) == pytest.approx((150 * zs[0] + 50 * zs[1]) / 200)


def test_c_t_needs_a_cell_with_enough_of_both() -> None:
    real = nearest_at(np.ones(50), np.zeros(50, np.int64))
    fake = nearest_at(np.ones(50), np.ones(50, np.int64))
    assert c_t(real, fake, np.array([0, 1])) is None
