"""Whether generated images copy train images, held against two controls.

The test: of real images of other patients, ``quantile`` lie nearer to a train image than a
threshold; a generator that does not copy has no more such images (Fisher's exact test). Near is
meant in both senses: much nearer than to any other patient's image (a threshold of the ratio, see
``neighbours``), and not far (within the median of such distances), for images that are far from
all real ones may all lie on one side and have the same outlier for their neighbour. Train images
themselves, each compared with other patients' ones, give both, because a test split may come from
elsewhere. Two controls stand beside it: held-out real images must pass the same test against the
train images, at the level of all spaces together, else a space says nothing, and disturbed train
images must be caught by it, else nothing is no answer.

Beside it stand authenticity (Alaa et al., 2022), the C_T test (Meehan et al., 2020) and a black-box
membership inference attack (Hilprecht et al., 2019), calibrated by how near other patients' train
images are (as Chen et al., 2020, do with a reference model), its area under the curve with DeLong's
interval (1988).
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
from .neighbours import Images, MakeSpace, Nearest, Vector, nearest_in
from .perturbations import DISTURBANCES
from .thresholds import Baseline, Caught, Limits, detectable_share, fisher

SEVERAL = 4  # patients that a set of images must have


@dataclass(frozen=True)
class SpaceFindings:
    """What one space tells of a generator."""

    limits: Limits
    train: Nearest  # of train images, to other patients' ones
    held_out: Nearest
    held_out_rows: Indices  # which held-out images those are
    generated: Nearest
    disturbed: Mapping[str, Nearest]
    caught: Mapping[str, Caught]  # held_out, generated and each disturbance
    detectable: Mapping[str, float | None]  # smallest share of such copies with ``POWER``
    authentic: Mapping[str, float]  # AuthPct / 100, of held_out and generated
    copied: int  # train images that generated ones are near to
    c_t: float | None  # negative: nearer to the train images than held-out images are
    c_t_control: float | None  # of train images to other patients' ones, instead of generated
    attack: Attack  # from the generated images
    attack_control: Attack  # from train images of other patients instead

    def passes(self, level: float) -> bool:
        """Whether held-out images are not taken for copies."""
        return self.caught["held_out"].p >= level

    def catches(self, disturbance: str, share: float) -> bool:
        """Whether ``share`` of copies, disturbed so, would be noticed."""
        found = self.detectable[disturbance]
        return found is not None and found <= share


def find_copies(
    train: ImageSet,
    held_out: ImageSet,
    generated: Images,
    make_space: MakeSpace,
    settings: PrivacySettings,
    level: float,
    key: int,
) -> SpaceFindings:
    """Run the test, its controls, and the measures beside it, in one space.

    Args:
        train: the images that the generator learnt from.
        held_out: real images of other patients.
        generated: uint8 (n, size, size).
        make_space: how distances are measured.
        settings: sizes.
        level: at which copies are called in this space.
        key: with the settings' seed names the draws; it gives the same ones in every space.

    Raises:
        UserError: if there are too few patients.
    """
    for name, part in (("train", train), ("test", held_out)):
        check_patients(name, part.patients)
    space = make_space(train.images)
    drawn = _draw(train, held_out, settings, numpy_stream(Stream.COPY_TEST, settings.seed, key))

    held = nearest_in(space, held_out.images[drawn.held_out], train.patients)
    fake = nearest_in(space, generated, train.patients)
    disturbed = {
        name: nearest_in(space, images, train.patients) for name, images in drawn.disturbed.items()
    }
    # What is known of train images: of those drawn, and of those that are nearest to some image.
    asked = np.unique(np.concatenate([drawn.train, drawn.other_half, held.place, fake.place]))
    own = train.patients.ids[asked]
    known = nearest_in(space, train.images[asked], train.patients, own)
    of_train = _at(known, np.searchsorted(asked, drawn.train))
    limits = Limits.of_train(of_train, settings.near_quantile)

    sets = {"train": of_train, "held_out": held, "generated": fake, **disturbed}
    below = {name: int(limits.near(part).sum()) for name, part in sets.items()}
    base = Baseline.of_train(len(of_train), below["train"])
    joined = base.joined(len(held), below["held_out"])
    caught = {
        name: Caught(
            len(part),
            below[name],
            fisher(below[name], len(part), base if name == "held_out" else joined),
        )
        for name, part in sets.items()
        if name != "train"
    }
    detectable = {
        name: detectable_share(caught[name].share, len(fake), joined, level) for name in disturbed
    }

    def own_distance(rows: Indices) -> Vector:
        return known.distance[np.searchsorted(asked, rows)]

    def authentic(part: Nearest) -> float:
        return float((part.distance > own_distance(part.place)).mean())

    def attack(published: Images, members: Indices) -> Attack:
        return run_attack(
            make_space(published),
            (train.images[members], own_distance(members)),
            (held_out.images[drawn.held_out], held.distance),
        )

    cells = cluster_cells(train.images, len(held), settings.seed)
    return SpaceFindings(
        limits=limits,
        train=of_train,
        held_out=held,
        held_out_rows=drawn.held_out,
        generated=fake,
        disturbed=disturbed,
        caught=caught,
        detectable=detectable,
        authentic={"held_out": authentic(held), "generated": authentic(fake)},
        copied=len(np.unique(fake.place[limits.near(fake)])),
        c_t=c_t(held, fake, cells),
        c_t_control=c_t(held, of_train, cells),
        attack=attack(generated, drawn.train),
        attack_control=attack(train.images[drawn.half], drawn.other_half),
    )


def check_patients(split: str, patients: Patients) -> None:
    """Refuse images of so few patients that nothing can be told from other patients' ones.

    Raises:
        UserError: with the split.
    """
    if patients.count < SEVERAL:
        raise UserError(f"the {split} images are of fewer than {SEVERAL} patients")


@dataclass(frozen=True)
class _Drawn:
    """What chance chooses, the same in every space."""

    train: Indices  # one image of a patient
    held_out: Indices  # one image of a patient
    disturbed: Mapping[str, Images]
    half: Indices  # train images of half of the patients
    other_half: Indices  # train images of the other half, one of a patient


def _draw(
    train: ImageSet, held_out: ImageSet, settings: PrivacySettings, rng: np.random.Generator
) -> _Drawn:
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
        disturbed={name: change(control, rng) for name, change in DISTURBANCES.items()},
        half=_some(rng, half, settings.generated_images),
        other_half=rest,
    )


def draw_baseline(train: ImageSet, settings: PrivacySettings, rng: np.random.Generator) -> Indices:
    """The train images that show how near other patients' images are, one of a patient."""
    return _one_each(rng, train.patients, np.arange(len(train.images)), settings.baseline_images)


def _some(rng: np.random.Generator, rows: Indices, most: int) -> Indices:
    return np.sort(rng.permutation(rows)[:most])


def _one_each(rng: np.random.Generator, patients: Patients, rows: Indices, most: int) -> Indices:
    """One image of each of at most so many patients, so that all are apart."""
    mixed = rng.permutation(rows)
    return _some(rng, mixed[np.unique(patients.ids[mixed], return_index=True)[1]], most)


def _at(nearest: Nearest, rows: Indices) -> Nearest:
    return Nearest(nearest.place[rows], nearest.distance[rows], nearest.ratio[rows])


def closest(nearest: Nearest, reach: float, count: int) -> NDArray[np.int64]:
    """The images that are most like copies, the most like one first; those out of reach last."""
    return np.lexsort((nearest.ratio, nearest.distance > reach))[:count]
