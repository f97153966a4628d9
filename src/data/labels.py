"""Images of the two classes among somebody's files, by folders' names or by a table.

What is left aside is counted on stderr, where alone names of the source may appear.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import product

from ..common.errors import UserError
from ..common.logging import logger
from ..config.data import ClassPatterns
from .archive import ArchiveEntry
from .classes import CLASSES
from .decode import SUFFIXES
from .label_table import TableRow, match_files

UNUSED_SPLIT = "val"
SPLIT_OF_FOLDER = {  # in lower case
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation"), UNUSED_SPLIT),
}
MAX_NAMED = 10  # labels that a warning names


@dataclass(frozen=True)
class SourceImage:
    """An image of one of the two classes, before it is read."""

    entry: ArchiveEntry
    label: str
    split: str  # empty if it is not known
    patient: str  # as in the source; empty if it is not known

    @property
    def unit(self) -> tuple[bool, str]:
        """Key of the patient, or of an image without one, which is a patient of its own."""
        return (True, self.patient) if self.patient else (False, self.entry.path.as_posix())


def label_by_folder(entries: Sequence[ArchiveEntry], patterns: ClassPatterns) -> list[SourceImage]:
    """Return the images in folders of one class."""
    images, depths = [], Counter[int]()
    others: list[tuple[str, ...]] = []  # folders of images of neither class
    for entry in entries:
        folders = entry.path.parts[:-1]
        ends = {label: _match(folders, patterns.of(label)) for label in CLASSES}
        fits = {label: end is not None for label, end in ends.items()}
        label = _one_class(fits, f"folders of {entry.path}")
        if label:
            depths[ends[label] or 0] += 1
            images.append(SourceImage(entry, label, _split(entry), ""))
        else:
            others.append(folders)
    # Other labels are at the depth at which those of the classes are.
    depth = max(depths, key=lambda depth: depths[depth], default=0)
    names = Counter(
        folders[min(depth, len(folders) - 1)] if folders else "no folder" for folders in others
    )
    if names:
        logger.warning(f"left aside, images of neither class: {format_counts(names, 'in ')}")
    return images


def label_by_table(
    entries: Sequence[ArchiveEntry], rows: Mapping[str, TableRow], patterns: ClassPatterns
) -> list[SourceImage]:
    """Return the images that a table gives labels of one class."""
    files = match_files(list(rows), entries, "data.table.image")
    if absent := [image for image in rows if image not in files]:
        fault = f"{len(absent)} images of the table are not in data.path, such as {absent[0]}"
        if not files:
            kinds = f"images end in {', '.join(SUFFIXES)} or are DICOM"
            raise UserError(f"data.table.image: {fault}; {kinds}")
        logger.warning(fault)
    if len(files) < len(entries):
        number = len(entries) - len(files)
        logger.warning(f"left aside: {number} images that the table does not name")
    images, others = [], Counter[str]()
    for image, entry in files.items():
        row = rows[image]
        fits = {
            label: any(_fits(*pair) for pair in product(row.labels, patterns.of(label)))
            for label in CLASSES
        }
        label = _one_class(fits, f"labels of {image}")
        if label:
            images.append(SourceImage(entry, label, _split(entry, row.split), row.patient))
        else:
            others[" and ".join(row.labels) or "no label"] += 1
    if others:
        logger.warning(f"left aside, images of neither class: {format_counts(others)}")
    return images


def format_counts(counts: Counter[str], preposition: str = "") -> str:
    """Format counts by name, the most frequent first."""
    named = [f"{count} {preposition}{name}" for name, count in counts.most_common(MAX_NAMED)]
    rest = len(counts) - len(named)
    return ", ".join(named) + (f", and {rest} more names" if rest else "")


def _one_class(fits: Mapping[str, bool], what: str) -> str:
    """Return the class that fits, or an empty text.

    Raises:
        UserError: if both fit.
    """
    labels = [label for label, does_fit in fits.items() if does_fit]
    if len(labels) > 1:
        raise UserError(
            f"data.classes: the {what} fit {' and '.join(labels)}; name those of each class more "
            "closely"
        )
    return labels[0] if labels else ""


def _split(entry: ArchiveEntry, stated: str = "") -> str:
    """Return the split that a table states or that the innermost folder of such a name names.

    Raises:
        UserError: if the table states another split than the folder, or none that exists.
    """
    names = [name.lower() for name in entry.path.parts[:-1] if name.lower() in SPLIT_OF_FOLDER]
    named = SPLIT_OF_FOLDER[names[-1]] if names else ""
    if not stated:
        return named
    split = SPLIT_OF_FOLDER.get(stated.lower())
    if split is None:
        known = ", ".join(SPLIT_OF_FOLDER)
        raise UserError(f"data.table.split: {entry.path} is of split {stated!r}, none of {known}")
    if named not in ("", split):
        raise UserError(
            f"data.table.split: {entry.path} is of split {stated} by the table and in a folder of "
            f"{named}; empty it to use the folders"
        )
    return split


def _match(folders: Sequence[str], patterns: Sequence[str]) -> int | None:
    """Return the index of the last folder that a pattern fits, or None.

    A pattern with slashes fits as many folders, one in the other.
    """
    for pattern, end in product(patterns, reversed(range(len(folders)))):
        start = end - pattern.count("/")
        if start >= 0 and _fits("/".join(folders[start : end + 1]), pattern):
            return end
    return None


def _fits(name: str, pattern: str) -> bool:
    """Return whether a pattern with wildcards fits a name, in any letter case."""
    return fnmatchcase(name.casefold(), pattern.casefold())
