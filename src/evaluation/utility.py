"""Do generated images help a classifier? Trained with and without, tested on real patients.

Each arm trains the same networks by the same recipe, on real images, on generated ones, or on
both, at several sizes of the real set. What generated images must beat is classical augmentation.
The test split is looked at once, by what each training chose on held-out train patients.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from multiprocessing import get_context

import numpy as np
import pandas as pd
import scipy.stats
import torch
from numpy.typing import NDArray

from src.data.classes import CLASSES
from src.errors import UserError
from src.evaluation.diagnosis import (
    NETWORKS,
    LabelledImages,
    Logits,
    diagnose,
    train_to_diagnose,
)
from src.evaluation.draws import CONFIDENCE, Places
from src.process import begin_as_worker
from src.settings.utility import UtilitySettings

SPLIT, SUBSET, HALVES = range(3)  # streams of randomness
BINS = 10  # of the calibration error
SPECIFICITY = 0.95  # at which the sensitivity is told
Labels = NDArray[np.bool_]


@dataclass(frozen=True)
class Arm:
    """What the classifiers of one arm learn from."""

    real: bool
    generated: bool
    augmented: bool  # by classical means


ARMS: dict[str, Arm] = {
    "real": Arm(real=True, generated=False, augmented=False),
    "real + classical": Arm(real=True, generated=False, augmented=True),
    "real + generated": Arm(real=True, generated=True, augmented=False),
    "real + both": Arm(real=True, generated=True, augmented=True),
    "generated": Arm(real=False, generated=True, augmented=False),
}
BASELINE = "real + classical"
TOGETHER = "real + both"
CHALLENGERS = ("real + generated", TOGETHER)


@dataclass(frozen=True)
class Trial:
    """One training: which network, on what, and its number among those alike."""

    network: str
    arm: str
    fraction: float  # of the real images; 0 where there are none
    repeat: int


@dataclass(frozen=True)
class Outcome:
    """What a trained network says of images that it has not seen."""

    trial: Trial
    test: Logits  # of the real test images
    generated: Logits  # of generated ones, drawn for this


@dataclass(frozen=True)
class Exams:
    """The images of all trials."""

    fit: LabelledImages  # real, to learn from
    validation: LabelledImages  # real, of other patients of the train split
    test: LabelledImages  # real, of the test split
    generated: LabelledImages  # to learn from
    unseen: LabelledImages  # generated as well, to be judged


def area(sick: Labels, logits: Logits) -> float:
    """The area under the ROC curve; ties count half."""
    ranks = scipy.stats.rankdata(logits)
    n, m = int(sick.sum()), int((~sick).sum())
    return float((ranks[sick].sum() - n * (n + 1) / 2) / (n * m))


def balanced_accuracy(sick: Labels, logits: Logits) -> float:
    """The mean of sensitivity and specificity, where a logit above 0 says sick."""
    return float(((logits[sick] > 0).mean() + (logits[~sick] <= 0).mean()) / 2)


def sensitivity(sick: Labels, logits: Logits) -> float:
    """The share of the sick above a threshold that 95 % of the healthy do not exceed."""
    healthy = np.sort(logits[~sick])
    threshold = healthy[len(healthy) - 1 - int((1 - SPECIFICITY) * len(healthy) + 1e-9)]
    return float((logits[sick] > threshold).mean())


def calibration_error(sick: Labels, logits: Logits) -> float:
    """The expected calibration error (Naeini et al., 2015), both classes weighing the same.

    The networks learn from as many images of each class, so that is what their probabilities are
    of, whatever the share of the sick in the test split.
    """
    weight = np.where(sick, 0.5 / sick.sum(), 0.5 / (~sick).sum())
    probability = 1 / (1 + np.exp(-logits))
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weight * (probability - sick), minlength=BINS)
    return float(np.abs(gaps).sum())


METRICS: dict[str, Callable[[Labels, Logits], float]] = {
    "roc_auc": area,
    "balanced_accuracy": balanced_accuracy,
    "sensitivity": sensitivity,
    "calibration_error": calibration_error,
}


def trials(settings: UtilitySettings) -> Iterator[Trial]:
    """All trainings, in their order."""
    for network, (arm, what), repeat in product(NETWORKS, ARMS.items(), range(settings.repeats)):
        for fraction in settings.fractions if what.real else (0.0,):
            yield Trial(network, arm, fraction, repeat)


def split_off_validation(
    images: LabelledImages, settings: UtilitySettings
) -> tuple[LabelledImages, LabelledImages]:
    """The images of most patients of each class, and those of the others.

    Raises:
        UserError: if a class has fewer than two patients.
    """
    rng = np.random.default_rng([settings.seed, SPLIT])
    share = 1 - settings.held_out
    _check_patients(images, "train")
    kept = np.concatenate(
        [_of_patients(images, sick, share, rng, spared=1) for sick in (False, True)]
    )
    held = np.setdiff1d(np.arange(len(images)), kept)
    return images.of(np.sort(kept)), images.of(held)


def _check_patients(images: LabelledImages, split: str) -> int:
    """The patients of the class that has fewer.

    Raises:
        UserError: if it has only one.
    """
    counts = [
        images.patients.of(np.flatnonzero(images.sick == sick)).count for sick in (False, True)
    ]
    for count, label in zip(counts, CLASSES, strict=True):
        if count < 2:
            raise UserError(f"the {split} images of {label} are of too few patients for utility")
    return min(counts)


def run_trials(
    exams: Exams, settings: UtilitySettings, device: torch.device, workers: int
) -> Iterator[Outcome]:
    """Train every network of every arm; yield what each says, in order.

    Args:
        exams: the images.
        settings: sizes and schedule.
        device: what to train on.
        workers: processes that train side by side, on a CPU; the outcome does not depend on them.

    Raises:
        UserError: if the test images of a class are all of one patient.
    """
    _check_patients(exams.test, "test")
    work = partial(run_trial, exams=exams, settings=settings, device=device)
    if device.type != "cpu":
        yield from map(work, trials(settings))
        return
    # Spawned, since a fork would inherit torch's threads in an unusable state.
    with ProcessPoolExecutor(workers, get_context("spawn"), _prepare, (work,)) as pool:
        yield from pool.map(_work, trials(settings))


_in_worker: Callable[[Trial], Outcome] | None = None


def _prepare(work: Callable[[Trial], Outcome]) -> None:
    """Set up a worker, once: the images are sent to it here, and it computes with one thread."""
    global _in_worker
    begin_as_worker()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    _in_worker = work


def _work(trial: Trial) -> Outcome:
    assert _in_worker is not None
    return _in_worker(trial)


def run_trial(
    trial: Trial, exams: Exams, settings: UtilitySettings, device: torch.device
) -> Outcome:
    """Train one network of one arm."""
    arm = ARMS[trial.arm]
    sources = []
    if arm.real:
        sources.append(subset(exams.fit, trial.fraction, trial.repeat, settings))
    if arm.generated:
        sources.append(exams.generated)
    number = list(NETWORKS).index(trial.network)
    model = train_to_diagnose(
        trial.network,
        sources,
        exams.validation,
        arm.augmented,
        settings,
        (settings.seed, number, trial.repeat),
        device,
    )
    return Outcome(
        trial,
        diagnose(model, exams.test.images, device),
        diagnose(model, exams.unseen.images, device),
    )


def subset(
    images: LabelledImages, fraction: float, repeat: int, settings: UtilitySettings
) -> LabelledImages:
    """Images of random patients, about ``fraction`` of each class; the same in every arm."""
    rng = np.random.default_rng([settings.seed, SUBSET, repeat])
    rows = [_of_patients(images, sick, fraction, rng) for sick in (False, True)]
    return images.of(np.sort(np.concatenate(rows)))


def _of_patients(
    images: LabelledImages, sick: bool, share: float, rng: np.random.Generator, spared: int = 0
) -> Places:
    """Places of so large a share of a class's images, by whole patients, of one at least.

    ``spared`` patients are never among them.
    """
    rows = np.flatnonzero(images.sick == sick)
    numbers = images.patients.numbers[rows]
    order = rng.permutation(np.unique(numbers))
    counts = np.bincount(numbers, minlength=int(numbers.max()) + 1)[order]
    enough = int(np.searchsorted(np.cumsum(counts), share * len(rows) - 0.5)) + 1
    enough = min(enough, len(order) - spared)
    return rows[np.isin(numbers, order[:enough])]


def summarize(
    outcomes: Sequence[Outcome], test: LabelledImages, settings: UtilitySettings
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The scores of all arms, and how far the challengers are above the baseline.

    An interval joins two sources of chance: which patients the test split has (halves of them, as
    in ``draws.interval``), and which images, weights and order a training drew (its repeats), with
    Satterthwaite's degrees of freedom (1946).

    Returns:
        scores: network, arm, fraction, metric, value, standard_error, low, high;
        differences: network, arm, fraction, metric, difference, standard_error, low, high, and p,
        two-sided, of no difference.
    """
    logits: dict[tuple[str, str, float], list[Logits]] = {}
    for outcome in outcomes:
        trial = outcome.trial
        logits.setdefault((trial.network, trial.arm, trial.fraction), []).append(outcome.test)
    halves = _halves(test, settings)
    patients = _check_patients(test, "test")
    whole = np.arange(len(test))
    rows, gaps = [], []
    for metric, score in METRICS.items():
        # By repeat and part of the test set: the whole one, then its halves.
        table = {
            place: np.array(
                [[score(test.sick[part], each[part]) for part in (whole, *halves)] for each in of]
            )
            for place, of in logits.items()
        }
        for (network, arm, fraction), found in table.items():
            place = {"network": network, "arm": arm, "fraction": fraction, "metric": metric}
            around = _interval(found, patients)
            del around["p"]
            around |= {edge: float(np.clip(around[edge], 0, 1)) for edge in ("low", "high")}
            rows.append(place | {"value": float(found[:, 0].mean())} | around)
            if arm in CHALLENGERS:
                gap = found - table[network, BASELINE, fraction]
                gaps.append(
                    place | {"difference": float(gap[:, 0].mean())} | _interval(gap, patients)
                )
    return pd.DataFrame(rows), pd.DataFrame(gaps)


def _halves(test: LabelledImages, settings: UtilitySettings) -> list[Places]:
    """Halves of the test set's patients, of each class."""
    rng = np.random.default_rng([settings.seed, HALVES])
    classes = [np.flatnonzero(test.sick == sick) for sick in (False, True)]
    return [
        np.concatenate([rows[test.patients.of(rows).half_of_patients(rng)] for rows in classes])
        for _ in range(settings.draws)
    ]


def _interval(found: NDArray[np.float64], patients: int) -> dict[str, float]:
    """The interval of the mean over repeats, (repeats, 1 + halves).

    Halves tell no more than there are patients, so those bound the degrees of freedom.
    """
    repeats, draws = found.shape[0], found.shape[1] - 1
    by_training = float(found[:, 0].var(ddof=1)) / repeats
    by_patients = float(found[:, 1:].mean(axis=0).var(ddof=1))
    error = float(np.sqrt(by_training + by_patients))
    freedom = 1.0
    if error > 0:
        parts = by_training**2 / (repeats - 1) + by_patients**2 / (min(draws, patients) - 1)
        freedom = error**4 / parts
    reach = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    value = float(found[:, 0].mean())
    p = 2 * float(scipy.stats.t.sf(abs(value) / error, freedom)) if error > 0 else 1.0
    return {"standard_error": error, "low": value - reach, "high": value + reach, "p": p}


def gan_accuracies(outcomes: Sequence[Outcome], exams: Exams) -> dict[str, dict[str, float]]:
    """GAN-train and GAN-test (Shmelkov et al., 2018) of each network, as balanced accuracies.

    GAN-train is that of classifiers that learnt from generated images alone, on real test images.
    GAN-test is that of classifiers that learnt from all real images, on generated ones; beside it
    stands theirs on real test images.
    """
    found: dict[str, dict[str, float]] = {}
    for network in NETWORKS:
        of_generated = [
            o for o in outcomes if (o.trial.network, o.trial.arm) == (network, "generated")
        ]
        real = [o for o in outcomes if (o.trial.network, o.trial.arm) == (network, "real")]
        most = max(o.trial.fraction for o in real)
        of_real = [o for o in real if o.trial.fraction == most]
        found[network] = {
            "gan_train": _mean(exams.test, [o.test for o in of_generated]),
            "gan_test": _mean(exams.unseen, [o.generated for o in of_real]),
            "real": _mean(exams.test, [o.test for o in of_real]),
        }
    return found


def _mean(images: LabelledImages, logits: Sequence[Logits]) -> float:
    return float(np.mean([balanced_accuracy(images.sick, each) for each in logits]))


@dataclass(frozen=True)
class Verdict:
    """Whether generated images beat classical augmentation with all real images, and how far."""

    beaten: bool
    sentence: str


def judge(differences: pd.DataFrame) -> Verdict:
    """The verdict, by ROC AUC.

    It rests on the largest share of real images: the generators have learnt from all of them, so
    fewer show nothing of how much generated images are worth where real ones are scarce.
    """
    table = differences[differences["metric"] == "roc_auc"]
    most = table["fraction"].max()
    whole, fewer = (table[(table["fraction"] == most) == same] for same in (True, False))
    # Several comparisons: each must be surer of itself (Bonferroni).
    sure = whole["p"] < (1 - CONFIDENCE) / len(whole)
    better = whole[(whole["difference"] > 0) & sure]
    lower = int(((whole["difference"] < 0) & sure).sum())
    shown = (whole if better.empty else better).nlargest(1, "difference").iloc[0]
    outcome = "not beaten" if better.empty else f"beaten in {len(better)} of {len(whole)} ways"
    way = "added to it, half of each batch," if shown["arm"] == TOGETHER else "in its place"
    at_best = "at best " if better.empty else ""
    sentence = (
        f"With all real train images but those of the validation, which the generators saw too, "
        f"classical augmentation was {outcome}: {at_best}"
        f"generated images {way} move the area under the ROC curve by {shown['difference']:+.3f} "
        f"(95 % interval {shown['low']:+.3f} to {shown['high']:+.3f}; {shown['network']}); "
        f"in {lower} of {len(whole)} comparisons they surely lower it."
    )
    if len(fewer):
        by_chance = len(fewer) * (1 - CONFIDENCE) / 2
        sentence += (
            f" With fewer real images, where the generators had learnt from all of them, it is "
            f"higher in {int((fewer['low'] > 0).sum())} and lower in "
            f"{int((fewer['high'] < 0).sum())} of {len(fewer)} (chance alone gives "
            f"{by_chance:.1f} of each)."
        )
    return Verdict(not better.empty, sentence)
