"""A clean membership inference attack: two generators, trained on swapped halves of the patients.

The patients of the train split are divided in two at random, and a generator is trained on each
half. So every image is once a member and once not, and members differ from the others by chance
alone. An attack on one generator has the other one as its reference model (Carlini et al., 2022):
an image's score is the difference of the negative log distances to the nearest image of either. An
image that is near to whatever is generated, such as a typical one, thus has no high score.

The ROC AUC is the mean of those of the two attacks. They are not pooled, since an attacker has one
generator before him, and the better one is nearer to all images. One image of each patient is
attacked, so patients are the sampling unit. Each has a score from both attacks, once as a member,
so the standard error is DeLong's for correlated ROC curves (1988): what a patient contributes to
both ROC AUCs is added up before the variance is taken. With the reference model the second attack
has the scores of the first with the opposite sign, and both have the same ROC AUC.

The true positive rate at 1 % false positives is no smooth function of the scores, so its interval
rests on halves of the patients (the delete-d jackknife, see ``metrics.intervals``).

Two more attacks on the same generators have the score of ``attack.run_attack``, whose reference is
the nearest train image of another patient, of either half. One has the other half as its
non-members, one the test split. What the latter finds beyond the former comes from the splits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..common.rng import Stream, numpy_stream
from ..config.privacy import PrivacySettings
from ..data.dataset import ImageSet
from ..data.patients import Indices
from ..metrics.intervals import Interval, interval_of_halves
from .attack import attack_score, auc_interval, placements
from .copy_test import check_patients
from .neighbours import Images, MakeSpace, Vector, least_distances, nearest_in

CLEAN, OTHER_HALF, TEST_SPLIT = "clean", "other half", "test split"  # the attacks
ONE_IN = 100  # non-members may be taken for a member, for the true positive rate
RESAMPLES = 200  # halves of the patients that its interval rests on


@dataclass(frozen=True)
class Target:
    """Attack on one generator: the scores of all images, and two groups that are told apart."""

    scores: Vector  # (n,), the same images in each attack; high for those likely trained on
    members: int  # number of the group that was trained on
    others: int  # number of a group that was not


@dataclass(frozen=True)
class MembershipResult:
    """Result of attacks on both generators; an AUC of 0.5 and a rate of 0.01 are chance."""

    auc: float  # mean area under the ROC curve
    interval: Interval
    true_positives: float  # mean share of the members found at 1 % false positives
    true_positives_interval: Interval
    members: int  # number of images, one of a patient, that are members of a generator
    others: int  # number of those that are non-members of one


def train_halves(train: ImageSet, settings: PrivacySettings, key: int) -> tuple[Indices, Indices]:
    """Draw the images that each of the two generators is trained on, by whole patients.

    Args:
        train: images of one class.
        settings: the seed.
        key: the number of the class.

    Raises:
        UserError: if there are too few patients.
    """
    check_patients("train", train.patients)
    rng = numpy_stream(Stream.MEMBERSHIP_HALVES, settings.seed, key)
    return train.patients.matched_halves(rng)


def attack_halves(
    train: ImageSet,
    test: ImageSet,
    halves: tuple[Indices, Indices],
    generated: tuple[Images, Images],
    make_space: MakeSpace,
    settings: PrivacySettings,
    key: int,
) -> dict[str, MembershipResult]:
    """Attack two generators that were trained on halves of the train images, in one space.

    Args:
        train: images of one class.
        test: real images of other patients, from the test split.
        halves: indices of the train images of each generator.
        generated: uint8 (n, size, size) of each generator.
        make_space: makes the space in which distances are measured.
        settings: the number of images, and the seed.
        key: names the random draws together with the settings' seed; they are the same in every
            space.

    Returns:
        the result of each attack: ``CLEAN``, ``OTHER_HALF`` and ``TEST_SPLIT``.

    Raises:
        UserError: if there are too few patients.
    """
    # Draw one image of each patient.
    check_patients("test", test.patients)
    rng = numpy_stream(Stream.MEMBERSHIP_IMAGES, settings.seed, key)
    first, second, held_out = (
        np.sort(rows[part.patients.take(rows).one_image_each(settings.membership_images, rng)])
        for part, rows in (
            (train, halves[0]),
            (train, halves[1]),
            (test, np.arange(len(test))),
        )
    )
    rows = np.concatenate([first, second])
    images = np.concatenate([train.images[rows], test.images[held_out]])
    groups = np.split(np.arange(len(images)), [len(first), len(rows)])

    # Measure the distances to the nearest train image of another patient, and of either generator.
    space = make_space(train.images)
    others = nearest_in(space, train.images[rows], train.patients, train.patients.ids[rows])
    held = least_distances(space, images[len(rows) :])
    to_train = np.concatenate([others.distance, held])
    nearest = [least_distances(make_space(part), images) for part in generated]

    # Attack each generator.
    attacks: dict[str, list[Target]] = {CLEAN: [], OTHER_HALF: [], TEST_SPLIT: []}
    for own, other in ((0, 1), (1, 0)):
        score = attack_score(nearest[own], to_train)
        attacks[CLEAN].append(Target(attack_score(nearest[own], nearest[other]), own, other))
        attacks[OTHER_HALF].append(Target(score, own, other))
        attacks[TEST_SPLIT].append(Target(score, own, 2))
    seed = settings.seed
    return {
        name: evaluate_attacks(targets, groups, numpy_stream(Stream.MEMBERSHIP_INTERVAL, seed, key))
        for name, targets in attacks.items()
    }


def evaluate_attacks(
    targets: Sequence[Target], groups: Sequence[Indices], rng: np.random.Generator
) -> MembershipResult:
    """Compute the mean ROC AUC and true positive rate of attacks on images of the same patients.

    Args:
        targets: the attacks.
        groups: indices of the images of each group, two or more, which no other group has; each
            image is of another patient.
        rng: generator that draws halves of the groups.
    """
    # Add up what each patient contributes to the mean of the ROC AUCs.
    aucs = []
    influence = np.zeros(len(targets[0].scores))
    for target in targets:
        pair = groups[target.members], groups[target.others]
        auc, *parts = placements(*(target.scores[group] for group in pair))
        aucs.append(auc)
        for group, part in zip(pair, parts, strict=True):
            size = len(group)
            influence[group] += (part - auc) / np.sqrt(size * (size - 1)) / len(targets)
    error = float(np.sqrt((influence**2).sum()))

    # Compute the true positive rate, of all patients and of halves of each group.
    rate = _mean_rate(targets, groups)
    rates = [
        _mean_rate(targets, [rng.permutation(group)[: (len(group) + 1) // 2] for group in groups])
        for _ in range(RESAMPLES)
    ]
    members = [len(groups[number]) for number in {target.members for target in targets}]
    others = [len(groups[number]) for number in {target.others for target in targets}]
    return MembershipResult(
        auc=float(np.mean(aucs)),
        interval=auc_interval(float(np.mean(aucs)), error),
        true_positives=rate,
        true_positives_interval=interval_of_halves(
            rate, rates, min(members + others), bounds=(0.0, 1.0)
        ),
        members=sum(members),
        others=sum(others),
    )


def true_positive_rate(members: Vector, others: Vector) -> float:
    """Compute the share of members that score above all but one in ``ONE_IN`` of the others."""
    last = len(others) - 1 - len(others) // ONE_IN
    return float((members > np.partition(others, last)[last]).mean())


def _mean_rate(targets: Sequence[Target], groups: Sequence[Indices]) -> float:
    """Compute the mean true positive rate of attacks on groups of images."""
    rates = [
        true_positive_rate(
            target.scores[groups[target.members]], target.scores[groups[target.others]]
        )
        for target in targets
    ]
    return float(np.mean(rates))


def membership_sentence(spaces: Mapping[str, MembershipResult]) -> str:
    """Say whether a clean attack tells train images from others, in any of the spaces.

    It does where the 95 % interval of its ROC AUC lies above 0.5. Without a leak that happens in
    at most 2.5 % of the runs for each space.

    Args:
        spaces: result of the clean attack by space.
    """
    name, strongest = max(spaces.items(), key=lambda item: item[1].interval.low)
    interval = strongest.interval
    tells = "tells" if interval.low > 0.5 else "can't tell"
    return (
        f"A clean membership attack {tells} train images from others: ROC AUC {strongest.auc:.2f} "
        f"({interval.low:.2f} to {interval.high:.2f}) in {name}."
    )
