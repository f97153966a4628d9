"""A test of whether generated images copy train images, with two controls.

Among real images of other patients, a share ``near_quantile`` is near to a train image. Without
copying, no larger share of the generated images is near (Fisher's exact test).

An image is near if two conditions hold. It is much nearer to a train image than to any image of
another patient: its ratio (see ``neighbours``) is at most ``max_ratio``. And its distance is at
most ``max_distance``, the median of such distances: images far from all real ones may share one
outlier as their nearest neighbour. Both thresholds come from train images that are compared with
other patients' train images, because a test split may come from elsewhere.

A generator of few different images repeats an accidental match. Generated images that lie nearer to
each other than nearly all train images do to other patients' are therefore drawn as one
(``thresholds.grouped_fisher``).

The first control: held-out real images must pass the same test, at the level of all spaces
together; otherwise the space is not used. The second control: the test must detect perturbed train
images; otherwise the absence of detected copies means nothing.

Three measures complement the test: authenticity (Alaa et al., 2022), the C_T test (Meehan et al.,
2020) and a black-box membership inference attack (Hilprecht et al., 2019). The attack is calibrated
by the distances to other patients' train images, as Chen et al. (2020) do with a reference model.
Its ROC AUC has DeLong's interval (1988). Its control attacks from other patients' train images,
which are contracted to the generated images' spread: images that spread less than held-out ones lie
nearer to train images, whether they leak or not.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..common.errors import UserError
from ..common.rng import Stream, numpy_stream
from ..config.privacy import PrivacySettings
from ..data.dataset import ImageSet
from ..data.patients import Indices, Patients
from .attack import Attack, run_attack
from .ct_score import c_t, cluster_cells
from .neighbours import (
    Images,
    MakeSpace,
    Nearest,
    Space,
    Vector,
    group_duplicates,
    nearest_in,
)
from .perturbations import PERTURBATIONS
from .thresholds import (
    Baseline,
    CopyTestResult,
    CopyThresholds,
    detectable_share,
    fisher,
    grouped_fisher,
)

MIN_PATIENTS = 4  # of each set of images


@dataclass(frozen=True)
class SpaceFindings:
    """Results of the copy test and its complements in one space, for one generator."""

    thresholds: CopyThresholds
    train: Nearest  # of train images, to other patients' train images
    held_out: Nearest
    held_out_rows: Indices  # indices of the held-out images
    generated: Nearest
    perturbed: Mapping[str, Nearest]
    results: Mapping[str, CopyTestResult]  # of held_out, generated and each perturbation
    detectable: Mapping[str, float | None]  # smallest share of such copies detected with ``POWER``
    authentic: Mapping[str, float]  # AuthPct / 100, of held_out and generated
    copied: int  # number of train images that generated images are near to
    distinct: int  # number of generated images that do not repeat another one
    c_t: float | None  # negative: generated images are nearer to train images than held-out ones
    c_t_control: float | None  # the same with other patients' train images instead of generated
    attack: Attack  # from the generated images
    attack_control: Attack  # from other patients' train images of the same spread instead

    def passes(self, level: float) -> bool:
        """Return whether held-out images are not taken for copies."""
        return self.results["held_out"].p_value >= level

    def catches(self, perturbation: str, share: float) -> bool:
        """Return whether a ``share`` of copies with this perturbation would be detected."""
        detectable = self.detectable[perturbation]
        return detectable is not None and detectable <= share


def find_copies(
    train: ImageSet,
    held_out: ImageSet,
    generated: Images,
    make_space: MakeSpace,
    settings: PrivacySettings,
    level: float,
    key: int,
) -> SpaceFindings:
    """Run the copy test, its controls and its complements in one space.

    Args:
        train: the images that the generator was trained on.
        held_out: real images of other patients.
        generated: uint8 (n, size, size).
        make_space: makes the space in which distances are measured.
        settings: the sizes and the quantile.
        level: the significance level in this space.
        key: names the random draws together with the settings' seed; they are the same in every
            space.

    Raises:
        UserError: if there are too few patients.
    """
    # Draw the images that are compared.
    for name, part in (("train", train), ("test", held_out)):
        check_patients(name, part.patients)
    space = make_space(train.images)
    drawn = _draw(train, held_out, settings, numpy_stream(Stream.COPY_TEST, settings.seed, key))

    # Find the nearest train image of each image.
    held = nearest_in(space, held_out.images[drawn.held_out], train.patients)
    fake = nearest_in(space, generated, train.patients)
    perturbed = {
        name: nearest_in(space, images, train.patients) for name, images in drawn.perturbed.items()
    }
    # Measure the train images: those that were drawn, and those that are nearest to some image.
    needed = np.unique(np.concatenate([drawn.train, drawn.other_half, held.index, fake.index]))
    own = train.patients.ids[needed]
    measured = nearest_in(space, train.images[needed], train.patients, own)
    of_train = _at(measured, np.searchsorted(needed, drawn.train))
    thresholds = CopyThresholds.of_train(of_train, settings.near_quantile)

    # Test whether more images are near than in the baseline.
    sets = {"train": of_train, "held_out": held, "generated": fake, **perturbed}
    near = {name: int(thresholds.near(part).sum()) for name, part in sets.items()}
    base = Baseline.of_train(len(of_train), near["train"])
    joined = base.joined(len(held), near["held_out"])
    published = make_space(generated)
    groups = group_duplicates(published, generated, thresholds.min_distance)
    first, sizes = np.unique(groups, return_counts=True)
    p_values = {
        "held_out": fisher(near["held_out"], len(held), base),
        "generated": grouped_fisher(sizes, thresholds.near(fake)[first], joined),
        **{name: fisher(near[name], len(part), joined) for name, part in perturbed.items()},
    }
    results = {
        name: CopyTestResult(len(sets[name]), near[name], p_value)
        for name, p_value in p_values.items()
    }
    detectable = {
        name: detectable_share(results[name].share, len(first), joined, level) for name in perturbed
    }

    # Compute the measures that complement the test.
    def own_distance(rows: Indices) -> Vector:
        return measured.distance[np.searchsorted(needed, rows)]

    def authentic(part: Nearest) -> float:
        return float((part.distance > own_distance(part.index)).mean())

    def attack(published: Space, members: Indices) -> Attack:
        return run_attack(
            published,
            (train.images[members], own_distance(members)),
            (held_out.images[drawn.held_out], held.distance),
        )

    others = make_space(train.images[drawn.half])
    others.contract(published.spread / max(space.spread, 1e-12))
    cells = cluster_cells(train.images, len(held), settings.seed)
    return SpaceFindings(
        thresholds=thresholds,
        train=of_train,
        held_out=held,
        held_out_rows=drawn.held_out,
        generated=fake,
        perturbed=perturbed,
        results=results,
        detectable=detectable,
        authentic={"held_out": authentic(held), "generated": authentic(fake)},
        copied=len(np.unique(fake.index[thresholds.near(fake)])),
        distinct=len(first),
        c_t=c_t(held, fake, cells),
        c_t_control=c_t(held, of_train, cells),
        attack=attack(published, drawn.train),
        attack_control=attack(others, drawn.other_half),
    )


def check_patients(split: str, patients: Patients) -> None:
    """Refuse images of too few patients for a comparison with other patients' images.

    Raises:
        UserError: if there are fewer than ``MIN_PATIENTS``; it names the split.
    """
    if patients.count < MIN_PATIENTS:
        raise UserError(f"the {split} images are of fewer than {MIN_PATIENTS} patients")


@dataclass(frozen=True)
class _Drawn:
    """Random draws of images, the same in every space."""

    train: Indices  # one image per patient
    held_out: Indices  # one image per patient
    perturbed: Mapping[str, Images]
    half: Indices  # train images of half of the patients
    other_half: Indices  # train images of the other half, one image per patient


def _draw(
    train: ImageSet, held_out: ImageSet, settings: PrivacySettings, rng: np.random.Generator
) -> _Drawn:
    """Draw the images that are compared, in a fixed order of draws.

    Raises:
        UserError: if nearly all train images are of one patient.
    """
    everything = np.arange(len(train.images))
    chosen = draw_baseline(train, settings, rng)
    held = _one_each(
        rng, held_out.patients, np.arange(len(held_out.images)), settings.generated_images
    )
    control = train.images[_some(rng, everything, settings.control_images)]
    half = train.patients.half(rng)
    others = np.setdiff1d(everything, half)
    rest = _one_each(rng, train.patients, others, settings.baseline_images)
    if len(rest) < 2:
        raise UserError("nearly all train images are of one patient")
    return _Drawn(
        train=chosen,
        held_out=held,
        perturbed={name: change(control, rng) for name, change in PERTURBATIONS.items()},
        half=_some(rng, half, settings.generated_images),
        other_half=rest,
    )


def draw_baseline(train: ImageSet, settings: PrivacySettings, rng: np.random.Generator) -> Indices:
    """Draw the train images of the baseline, one image per patient."""
    return _one_each(rng, train.patients, np.arange(len(train.images)), settings.baseline_images)


def _some(rng: np.random.Generator, rows: Indices, max_count: int) -> Indices:
    """Draw at most ``max_count`` of the rows, in ascending order."""
    return np.sort(rng.permutation(rows)[:max_count])


def _one_each(
    rng: np.random.Generator, patients: Patients, rows: Indices, max_count: int
) -> Indices:
    """Draw one image of each of at most ``max_count`` patients, so that they are independent."""
    mixed = rng.permutation(rows)
    return _some(rng, mixed[np.unique(patients.ids[mixed], return_index=True)[1]], max_count)


def _at(nearest: Nearest, rows: Indices) -> Nearest:
    """Return some of the rows."""
    return Nearest(nearest.index[rows], nearest.distance[rows], nearest.ratio[rows])


def closest(nearest: Nearest, max_distance: float, count: int) -> NDArray[np.int64]:
    """Return the indices of the ``count`` images that most resemble copies.

    They are in ascending order of the ratio; images beyond ``max_distance`` come last.
    """
    return np.lexsort((nearest.ratio, nearest.distance > max_distance))[:count]
