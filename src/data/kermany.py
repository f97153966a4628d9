"""Kermany's chest X-rays, or others in the layout of its published archives."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..common.errors import UserError
from ..common.logging import logger
from ..common.progress import progress
from ..config.data import DataSettings
from .archive import GIB, ArchiveEntry, list_entries, read_entry
from .classes import CLASSES, SPLITS
from .decode import SUFFIXES
from .download import download_kermany, downloaded_kermany, kaggle_token
from .patients import patient_of
from .sources import ImageRecord, SourceReader, resolve_path, write_image

UNUSED_SPLIT = "val"  # Kaggle's 8 + 8 images, which the thesis does not use
# Images in each split and class of the two published archives, without val.
PUBLISHED = {
    "Kaggle": {
        "train": {"NORMAL": 1341, "PNEUMONIA": 3875},
        "test": {"NORMAL": 234, "PNEUMONIA": 390},
    },
    "Mendeley": {
        "train": {"NORMAL": 1349, "PNEUMONIA": 3883},
        "test": {"NORMAL": 234, "PNEUMONIA": 390},
    },
}


@dataclass(frozen=True)
class ArchiveListing:
    """Images of an archive, and the number of files that are skipped, by reason."""

    images: dict[tuple[str, str, str], ArchiveEntry]  # by split, class and file name
    repeated: int  # images of the same name and content as another one
    unused_split: int  # images of ``UNUSED_SPLIT``
    other_files: int  # outside the folders of the classes
    unknown: Counter[str]  # other files within them, by suffix

    def counts(self) -> dict[str, dict[str, int]]:
        """Count the images in each split and class, zeros included."""
        counter = Counter((split, label) for split, label, _ in self.images)
        return {split: {label: counter[split, label] for label in CLASSES} for split in SPLITS}


def list_archive_images(path: Path, max_bytes: int) -> ArchiveListing:
    """List the images of a zip archive or a folder, in any of the published layouts.

    The split and class are an image's two parent folders, in any letter case and at any depth.
    An image that occurs twice (Kaggle's doubled ``chest_xray/chest_xray``) counts once.

    Raises:
        UserError: for an unsafe or broken archive, a layout without these folders, a class
            without images, or two images of one name.
    """
    images: dict[tuple[str, str, str], ArchiveEntry] = {}
    repeated = unused_split = other_files = 0
    unknown: Counter[str] = Counter()
    for entry in list_entries(path, max_bytes):
        name = entry.path.name
        split, label = _split_and_class(entry)
        if not label:
            other_files += 1
        elif entry.path.suffix.lower() not in SUFFIXES:
            unknown[entry.path.suffix.lower() or "no suffix"] += 1
        elif split == UNUSED_SPLIT:
            unused_split += 1
        elif (split, label, name) not in images:
            images[split, label, name] = entry
        elif read_entry(images[split, label, name]) == read_entry(entry):
            repeated += 1
        else:
            raise UserError(
                f"data.path: {path} holds two different images named {split}/{label}/{name}"
            )
    listing = ArchiveListing(images, repeated, unused_split, other_files, unknown)
    _check_counts(listing.counts(), path)
    return listing


def count_table(counts: dict[str, dict[str, int]]) -> str:
    """Format the images in each split and class beside the published counts, as text lines."""
    lines = [f"{'split':<8}{'class':<12}{'here':>8}" + "".join(f"{name:>10}" for name in PUBLISHED)]
    for split in SPLITS:
        for label in CLASSES:
            published = "".join(f"{table[split][label]:>10}" for table in PUBLISHED.values())
            lines.append(f"{split:<8}{label:<12}{counts[split][label]:>8}{published}")
    return "\n".join(lines)


def collect_kermany(settings: DataSettings, root: Path, folder: Path) -> Iterator[ImageRecord]:
    """Copy the archive's images."""
    path = resolve_path(settings, root, download_kermany)
    listing = list_archive_images(path, round(settings.max_unpacked_gib * GIB))
    logger.info(count_table(listing.counts()))
    logger.info(
        f"left aside: {listing.unused_split} images of the {UNUSED_SPLIT} split, "
        f"{listing.repeated} repeated images, {listing.other_files} other files"
    )
    if listing.unknown:
        found = ", ".join(f"{count} {suffix}" for suffix, count in listing.unknown.most_common())
        logger.warning(
            f"left aside in the classes' folders: {found}; images end in {', '.join(SUFFIXES)}"
        )
    items = progress(listing.images.items(), "reading images", len(listing.images), "images")
    for (split, label, name), entry in items:
        patient = patient_of(f"{split}/{label}/{name}")
        yield write_image(folder, split, label, name, read_entry(entry), patient)


def count_kermany_train_images(settings: DataSettings, root: Path) -> Mapping[str, int]:
    """Count the train images of each class; before the download those that Kaggle states."""
    if not settings.path and downloaded_kermany() is None:
        logger.info("the archive is not here yet: counting with Kaggle's published numbers")
        return PUBLISHED["Kaggle"]["train"]
    path = resolve_path(settings, root, download_kermany)
    return list_archive_images(path, round(settings.max_unpacked_gib * GIB)).counts()["train"]


def recognise_kermany(path: Path) -> str:
    """Describe how many images have Kermany's names and folders, if half of all have."""
    images = [entry for entry in list_entries(path) if entry.path.suffix.lower() in SUFFIXES]
    named = sum(
        bool(_split_and_class(entry)[1]) and patient_of(entry.path.name) != entry.path.name
        for entry in images
    )
    if not images or 2 * named < len(images):
        return ""
    return f"{named} of {len(images)} images have the names and folders of Kermany's"


def describe_kermany_download(settings: DataSettings) -> str:
    """Describe which archive an empty ``data.path`` downloads.

    Raises:
        UserError: if the user's Kaggle token is damaged.
    """
    archive = "Kaggle's archive with your token" if kaggle_token() else "Mendeley's public archive"
    return f"{archive} will be downloaded (1.2 GB or more)"


def _split_and_class(entry: ArchiveEntry) -> tuple[str, str]:
    """Return the split and class in an entry's path, or two empty strings."""
    folders = entry.path.parts[:-1]
    if len(folders) < 2:
        return "", ""
    split, label = folders[-2].lower(), folders[-1].upper()
    known = split in (*SPLITS, UNUSED_SPLIT) and label in CLASSES
    return (split, label) if known else ("", "")


def _check_counts(counts: dict[str, dict[str, int]], path: Path) -> None:
    """Refuse an archive without images in some split and class."""
    empty = [
        f"{split}/{label}" for split in SPLITS for label in CLASSES if not counts[split][label]
    ]
    if len(empty) == len(SPLITS) * len(CLASSES):
        raise UserError(
            f"data.path: {path} has no images in folders such as train/NORMAL and test/PNEUMONIA; "
            "give Kaggle's or Mendeley's archive, or the folder that it unpacks to"
        )
    if empty:
        raise UserError(f"data.path: {path} has no image in {', '.join(empty)}")


KERMANY = SourceReader(
    collect_kermany,
    count_kermany_train_images,
    recognise_kermany,
    lambda settings: downloaded_kermany(),
    describe_kermany_download,
)
