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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.stats
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

from src.errors import UserError
from src.evaluation.disturbances import DISTURBANCES
from src.evaluation.draws import CONFIDENCE, Interval, Patients, Places
from src.evaluation.neighbours import (
    Images,
    MakeSpace,
    Nearest,
    Space,
    Vector,
    least_distances,
    nearest_in,
)
from src.settings.privacy import PrivacySettings

POWER = 0.8  # with which the smallest detectable share of copies would be noticed
CELL = 50  # held-out images for each cell of the C_T test, about
SMALLEST_CELL = 10  # images of each side in a cell that counts
SEVERAL = 4  # patients that a set of images must have
DEPENDENCE = 2  # images of the baseline that count as one, see ``Baseline``

Kind = Literal["copies", "no sign of copying", "can't tell"]


@dataclass(frozen=True)
class RealImages:
    """Real images, uint8 (n, size, size), and whose they are."""

    images: Images
    patients: Patients


@dataclass(frozen=True)
class Baseline:
    """Real images of other patients, and how many of them are below the threshold.

    Train images are each other's neighbours: where one is near to another, that one mostly is near
    to it as well. Counted as independent they would give several times the false alarms that the
    level states, so two of them count as one.
    """

    images: int
    below: int

    @classmethod
    def of_train(cls, images: int, below: int) -> "Baseline":
        """Of train images, one of each patient."""
        counted = images // DEPENDENCE
        return cls(counted, min(-(-below // DEPENDENCE), counted))

    def joined(self, images: int, below: int) -> "Baseline":
        """With images that are independent."""
        return Baseline(self.images + images, self.below + below)


@dataclass(frozen=True)
class Limits:
    """What makes an image near to a train image, in one space."""

    threshold: float  # of the ratio, see ``neighbours``
    reach: float  # a distance beyond it is far, whatever the ratio

    @classmethod
    def of_train(cls, nearest: Nearest, quantile: float) -> "Limits":
        """From train images, one of each patient, to other patients' ones."""
        reach = float(np.median(nearest.distance))
        ratios = nearness(nearest, reach)
        return cls(float(np.quantile(ratios, quantile, method="inverted_cdf")), reach)

    def near(self, nearest: Nearest) -> NDArray[np.bool_]:
        """Which images are near, (n,)."""
        return nearness(nearest, self.reach) <= self.threshold


@dataclass(frozen=True)
class Caught:
    """How many of some images the test takes for copies."""

    images: int
    below: int  # of them, nearer to a train image than the threshold
    p: float  # chance of so many or more if they were like real images of other patients

    @property
    def share(self) -> float:
        """Of the images that are below the threshold."""
        return self.below / self.images


@dataclass(frozen=True)
class Attack:
    """A membership inference attack: area under its curve; 0.5 is a guess."""

    auc: float
    interval: Interval
    members: int
    others: int


@dataclass(frozen=True)
class SpaceFindings:
    """What one space tells of a generator."""

    limits: Limits
    train: Nearest  # of train images, to other patients' ones
    held_out: Nearest
    held_out_rows: Places  # which held-out images those are
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


@dataclass(frozen=True)
class Verdict:
    """One sentence on a generator, and what it rests on."""

    kind: Kind
    sentence: str


def find_copies(
    train: RealImages,
    held_out: RealImages,
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
    drawn = _draw(train, held_out, settings, np.random.default_rng([settings.seed, key]))

    held = nearest_in(space, held_out.images[drawn.held_out], train.patients)
    fake = nearest_in(space, generated, train.patients)
    disturbed = {
        name: nearest_in(space, images, train.patients) for name, images in drawn.disturbed.items()
    }
    # What is known of train images: of those drawn, and of those that are nearest to some image.
    asked = np.unique(np.concatenate([drawn.train, drawn.other_half, held.place, fake.place]))
    own = train.patients.numbers[asked]
    known = nearest_in(space, train.images[asked], train.patients, own)
    of_train = _at(known, np.searchsorted(asked, drawn.train))
    limits = Limits.of_train(of_train, settings.quantile)

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

    def own_distance(rows: Places) -> Vector:
        return known.distance[np.searchsorted(asked, rows)]

    def authentic(part: Nearest) -> float:
        return float((part.distance > own_distance(part.place)).mean())

    def attack(published: Images, members: Places) -> Attack:
        return _attack(
            make_space(published),
            (train.images[members], own_distance(members)),
            (held_out.images[drawn.held_out], held.distance),
        )

    cells = _cells(train.images, len(held), settings.seed)
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

    train: Places  # one image of a patient
    held_out: Places  # one image of a patient
    disturbed: Mapping[str, Images]
    half: Places  # train images of half of the patients
    other_half: Places  # train images of the other half, one of a patient


def _draw(
    train: RealImages, held_out: RealImages, settings: PrivacySettings, rng: np.random.Generator
) -> _Drawn:
    everything = np.arange(len(train.images))
    chosen = draw_baseline(train, settings, rng)
    held = _one_each(rng, held_out.patients, np.arange(len(held_out.images)), settings.images)
    control = train.images[_some(rng, everything, settings.controls)]
    half = train.patients.half(rng)
    others = np.setdiff1d(everything, half)
    rest = _one_each(rng, train.patients, others, settings.train_images)
    if len(rest) < 2:
        raise UserError("nearly all train images are of one patient")
    return _Drawn(
        train=chosen,
        held_out=held,
        disturbed={name: change(control, rng) for name, change in DISTURBANCES.items()},
        half=_some(rng, half, settings.images),
        other_half=rest,
    )


def draw_baseline(train: RealImages, settings: PrivacySettings, rng: np.random.Generator) -> Places:
    """The train images that show how near other patients' images are, one of a patient."""
    return _one_each(rng, train.patients, np.arange(len(train.images)), settings.train_images)


def _some(rng: np.random.Generator, rows: Places, most: int) -> Places:
    return np.sort(rng.permutation(rows)[:most])


def _one_each(rng: np.random.Generator, patients: Patients, rows: Places, most: int) -> Places:
    """One image of each of at most so many patients, so that all are apart."""
    mixed = rng.permutation(rows)
    return _some(rng, mixed[np.unique(patients.numbers[mixed], return_index=True)[1]], most)


def nearness(nearest: Nearest, reach: float) -> Vector:
    """The ratio of each image that is within reach of its nearest train image, else infinite."""
    return np.where(nearest.distance <= reach, nearest.ratio, np.inf)


def _at(nearest: Nearest, rows: Places) -> Nearest:
    return Nearest(nearest.place[rows], nearest.distance[rows], nearest.ratio[rows])


def fisher(below: int, images: int, base: Baseline) -> float:
    """One-sided p of Fisher's exact test that a share is no larger than the baseline's."""
    table = [[below, images - below], [base.below, base.images - base.below]]
    return float(scipy.stats.fisher_exact(table, alternative="greater").pvalue)


def detectable_share(caught: float, images: int, base: Baseline, level: float) -> float | None:
    """The smallest share of copies that the test would notice with a chance of ``POWER``.

    As if no image but a copy were below the threshold, which is so for many generators.

    Args:
        caught: share of such copies that lie below the threshold.
        images: generated ones.
        base: what they are held against.
        level: at which the test calls copies.

    Returns:
        None if no share is enough.
    """
    needed = next((k for k in range(images + 1) if fisher(k, images, base) < level), None)
    if not needed:
        return None
    # The chance of ``needed`` or more of binomial counts is the beta distribution's.
    share = float(scipy.stats.beta.ppf(POWER, needed, images - needed + 1))
    if caught <= base.below / base.images:
        return None
    return share / caught if share <= caught else None


def _cells(images: Images, held_out: int, seed: int) -> Places:
    """The cell of each train image: clusters of their coarse grey values."""
    count = max(1, min(held_out // CELL, len(images) // CELL))
    step = max(1, images.shape[-1] // 8)
    coarse = images[:, step // 2 :: step, step // 2 :: step].reshape(len(images), -1)
    rng = np.random.default_rng([seed, count])
    cells = kmeans2(coarse.astype(np.float64), count, minit="++", rng=rng)[1]
    return np.asarray(cells, dtype=np.int64)


def c_t(held_out: Nearest, generated: Nearest, cells: Places) -> float | None:
    """Meehan's C_T: z of the Mann-Whitney test of distances to the train images, over cells.

    Args:
        held_out: of real images of other patients.
        generated: of generated images.
        cells: the cell of each train image; an image is in its nearest train image's.

    Returns:
        the mean over cells, weighted by their held-out images: below about -3, generated images lie
        nearer to train images than held-out ones do; None if no cell has enough of both.
    """
    total = weights = 0.0
    for cell in np.unique(cells):
        real = held_out.distance[cells[held_out.place] == cell]
        fake = generated.distance[cells[generated.place] == cell]
        n, m = len(real), len(fake)
        if min(n, m) < SMALLEST_CELL:
            continue
        u = float(scipy.stats.mannwhitneyu(fake, real).statistic)
        z = (u - n * m / 2) / np.sqrt(n * m * (n + m + 1) / 12)
        total, weights = total + n * float(z), weights + n
    return total / weights if weights else None


def _attack(
    published: Space, members: tuple[Images, Vector], others: tuple[Images, Vector]
) -> Attack:
    """Guess who was trained on, from images that were published.

    The nearer an image is to a published one, compared with train images of other patients, the
    more likely it was trained on.

    Args:
        published: what the attacker has.
        members: images that were trained on, and each one's distance to the nearest train image of
            another patient.
        others: the same of images that were not.
    """
    # Where the nearest published image is the nearest of all, the score is 0: a tie, which rounding
    # keeps, since the last digits of distances depend on how many are computed at once.
    scores = [
        -np.log(
            np.maximum(least_distances(published, images), 1e-6) / np.maximum(near, 1e-6)
        ).round(4)
        for images, near in (members, others)
    ]
    auc, interval = roc_auc(*scores)
    return Attack(auc, interval, len(members[0]), len(others[0]))


def roc_auc(positive: Vector, negative: Vector) -> tuple[float, Interval]:
    """The area under the ROC curve of scores, and DeLong's interval (DeLong et al., 1988).

    Args:
        positive: scores of those that should be high, two or more.
        negative: of the others, two or more.
    """
    m, n = len(positive), len(negative)
    ranks = scipy.stats.rankdata(np.concatenate([positive, negative]))
    # Of each score, the share of the other side that it beats; ties count half.
    wins = (ranks[:m] - scipy.stats.rankdata(positive)) / n
    losses = 1 - (ranks[m:] - scipy.stats.rankdata(negative)) / m
    auc = float(wins.mean())
    error = float(np.sqrt(wins.var(ddof=1) / m + losses.var(ddof=1) / n))
    reach = float(scipy.stats.norm.ppf((1 + CONFIDENCE) / 2)) * error
    return auc, Interval(error, max(auc - reach, 0.0), min(auc + reach, 1.0))


def shared_level(settings: PrivacySettings, spaces: int) -> float:
    """The level of each space, so that more of them do not mean more false alarms."""
    return settings.level / spaces


def judge(spaces: Mapping[str, SpaceFindings], settings: PrivacySettings) -> Verdict:
    """The verdict on one generator, from what every space tells.

    Copies that are found in a space whose held-out images pass are copies, whatever else fails;
    that none are found counts only where both controls hold.
    """
    level = shared_level(settings, len(spaces))
    failed = [name for name, part in spaces.items() if not part.passes(settings.level)]
    copying = [
        name
        for name, part in spaces.items()
        if name not in failed and part.caught["generated"].p < level
    ]
    near = (
        f"as near to a train image as the nearest {percent(settings.quantile)} of other patients'"
    )
    if copying:
        alike = min(spaces[name].copied for name in copying)
        return Verdict(
            "copies",
            f"Copies: {_shares(spaces, copying)} are {near} images. They are near to {alike} "
            "different train images.",
        )
    if failed:
        return Verdict(
            "can't tell",
            f"Can't tell: held-out real images are themselves taken for copies in "
            f"{' and '.join(failed)}, so the test does not hold on these data.",
        )
    blind = [
        name
        for name in DISTURBANCES
        if not any(part.catches(name, settings.detectable_share) for part in spaces.values())
    ]
    if blind:
        return Verdict(
            "can't tell",
            f"Can't tell: copies that are {' or '.join(blind)} would not be noticed among the "
            f"generated images, even if they were {percent(settings.detectable_share)} of them.",
        )
    leaks = [
        f"{name} {part.attack.auc:.2f}"
        for name, part in spaces.items()
        if _z(part.attack, part.attack_control) > float(scipy.stats.norm.isf(level))
    ]
    if leaks:
        return Verdict(
            "can't tell",
            f"Can't tell: no copies are found ({_shares(spaces, list(spaces))} are {near} images), "
            "but with the generated images train images are told from held-out ones better than "
            f"by guessing (area under the curve: {', '.join(leaks)}), and better than with other "
            "patients' images. Splits that differ may do that as well.",
        )
    least = max(
        min(part.detectable[name] or 1.0 for part in spaces.values()) for name in DISTURBANCES
    )
    return Verdict(
        "no sign of copying",
        f"No sign of copying: {_shares(spaces, list(spaces))} are {near} images. Copies, shifted, "
        f"brightened, compressed or mirrored, would be noticed with a chance of {percent(POWER)} "
        f"if they were {least:.1%} of the images.",
    )


def _shares(spaces: Mapping[str, SpaceFindings], names: Sequence[str]) -> str:
    """How many generated images are below the threshold, beside the held-out ones."""
    shares = ", ".join(
        f"{spaces[name].caught['generated'].share:.1%} in {name} (held-out real images: "
        f"{spaces[name].caught['held_out'].share:.1%})"
        for name in names
    )
    return f"of {spaces[names[0]].caught['generated'].images} generated images {shares}"


def percent(share: float) -> str:
    """A share as a person writes it: 1%, 0.5%."""
    return f"{100 * share:g}%"


def _z(attack: Attack, control: Attack) -> float:
    """How many standard errors an attack lies above a guess and above its control.

    The control's error counts only where the control lies above a guess, which has none.
    """
    error = attack.interval.standard_error
    if control.auc > 0.5:
        error = float(np.hypot(error, control.interval.standard_error))
    return (attack.auc - max(0.5, control.auc)) / max(error, 1e-12)


def closest(nearest: Nearest, reach: float, count: int) -> NDArray[np.int64]:
    """The images that are most like copies, the most like one first; those out of reach last."""
    return np.lexsort((nearest.ratio, nearest.distance > reach))[:count]
