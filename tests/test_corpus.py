"""Bad input of every kind: it works, or one line names it and nothing half-written is left.

Each case makes its input anew. `repaired` runs the same with good input in the same place, since
what fails once must not spoil what comes after.
"""

import contextlib
import csv
import io
import json
import os
import pickle
import shutil
import stat
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from src import evaluate, generate
from src.common import paths as workspace
from src.common.errors import report_errors
from src.config.settings import Settings, load_settings
from src.data import archive
from src.data.preprocess import preprocess_images
from src.data.sources import collect_images
from src.models.initialization import initialize
from src.models.io import Origin, save_generator
from src.models.networks import Generator
from src.tracking import find_generator as model_source
from tests.conftest import ROOT, Hostile, kaggle_files, png_bytes

GOOD = "good"  # the outcome of a case that must work
HIT = Path("/tmp/corpus-was-hit")  # what hostile content would write

Write = Callable[[Path], object]


@pytest.fixture(autouse=True)
def _nothing_is_run() -> Iterator[None]:
    HIT.unlink(missing_ok=True)
    yield
    assert not HIT.exists()


def refused(capsys: pytest.CaptureFixture[str], work: Callable[[], object]) -> str:
    """What is said of a fault: one line, without a traceback."""
    assert report_errors(lambda: (work(), None)[1]) == 1
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "Traceback" not in error
    return lines[0]


# Archives


def zipped(files: dict[str, bytes], **infos: Callable[[zipfile.ZipInfo], None]) -> Write:
    """A zip archive; ``infos`` change how an entry is described."""

    def write(path: Path) -> None:
        with warnings.catch_warnings(), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            warnings.simplefilter("ignore")  # of doubled names
            for name, content in files.items():
                info = zipfile.ZipInfo(name)
                info.compress_type = zipfile.ZIP_DEFLATED
                for change in infos.values():
                    change(info)
                archive.writestr(info, content)

    return write


def images_and(name: str, content: bytes = b"x") -> Write:
    return zipped(kaggle_files() | {name: content})


def patched(write: Write, change: Callable[[bytes], bytes]) -> Write:
    """The same file with its bytes changed."""

    def then(path: Path) -> None:
        write(path)
        path.write_bytes(change(path.read_bytes()))

    return then


def linked(info: zipfile.ZipInfo) -> None:
    if info.filename.endswith("link.png"):
        info.external_attr = (stat.S_IFLNK | 0o777) << 16


def encrypted(content: bytes) -> bytes:
    """Set the flag of every entry, in its own header and in the directory."""
    changed = bytearray(content)
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = changed.find(mark)
        while start >= 0:
            changed[start + place] |= 1
            start = changed.find(mark, start + 4)
    return bytes(changed)


def understated(content: bytes) -> bytes:
    """Let the directory state other sizes than what comes out."""
    changed = bytearray(content)
    start = changed.find(b"PK\x01\x02")
    while start >= 0:
        struct.pack_into("<L", changed, start + 24, 10)
        start = changed.find(b"PK\x01\x02", start + 4)
    return bytes(changed)


def twice_with_other_content(path: Path) -> None:
    name = "chest_xray/train/NORMAL/IM-0000-0001.jpeg"
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")
        for entry, content in kaggle_files().items():
            archive.writestr(entry, content)
        archive.writestr(name, png_bytes(77))


def packed_by_lzma(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        for entry, content in kaggle_files().items():
            archive.writestr(entry, content)


def folder_with(change: Callable[[Path], object]) -> Write:
    def write(path: Path) -> None:
        for name, content in kaggle_files().items():
            file = path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        change(path)

    return write


MOST_FILES = 500
IMAGE = "chest_xray/train/NORMAL/extra.png"
ARCHIVES: dict[str, tuple[Write, str]] = {
    "goes up": (images_and("../../evil.png"), "unsafe entry name"),
    "goes up within": (images_and("chest_xray/train/../../../evil.png"), "unsafe entry name"),
    "absolute": (images_and("/etc/evil.png"), "unsafe entry name"),
    "backslashes": (images_and("chest_xray\\train\\NORMAL\\a.png", png_bytes(9)), GOOD),
    "backslashes that go up": (images_and("..\\evil.png"), "unsafe entry name"),
    "an entry for the root": (images_and("./"), GOOD),
    "a folder's icon": (images_and("chest_xray/Icon\r"), GOOD),
    "a drive": (images_and("C:/train/NORMAL/a.png"), "unsafe entry name"),
    "a line end": (images_and("chest_xray/train/NORMAL/a\nb.png"), "unsafe entry name"),
    "a terminal's code": (images_and("chest_xray/train/NORMAL/\x1b[2Ja.png"), "unsafe entry name"),
    "a name too long": (
        images_and(f"chest_xray/train/NORMAL/{'a' * 300}.png"),
        "unsafe entry name",
    ),
    "a link": (zipped(kaggle_files() | {"a/link.png": b"/etc/passwd"}, l=linked), "is a link"),
    "encrypted": (patched(zipped(kaggle_files()), encrypted), "encrypted"),
    "cut": (patched(zipped(kaggle_files()), lambda c: c[: len(c) // 2]), "not a readable zip"),
    "empty file": (lambda path: path.write_bytes(b""), "not a readable zip"),
    "another kind": (
        lambda path: path.write_bytes(b"\x1f\x8b\x08" + b"x" * 99),
        "not a readable zip",
    ),
    "a text": (lambda path: path.write_text("chest_xray.zip"), "not a readable zip"),
    "a bomb by what it says": (images_and(IMAGE, bytes(40 << 20)), "more than the"),
    "a bomb that says less": (
        patched(images_and(IMAGE, bytes(1 << 20)), understated),
        "cannot be read: Bad CRC-32",
    ),
    "a bomb by count": (
        zipped({f"{n}.txt": b"" for n in range(MOST_FILES + 1)}),
        "files or folders; give a",
    ),
    "damaged content": (
        patched(zipped(kaggle_files()), lambda c: c[:80] + b"\xff\xfe\xfd" + c[83:]),
        "cannot be read",
    ),
    "damaged content of another compression": (
        patched(packed_by_lzma, lambda c: c[:80] + b"\xff\xfe\xfd" + c[83:]),
        "cannot be read",
    ),
    "a name that is not what it says to be": (
        patched(
            images_and("chest_xray/train/NORMAL/é.png"),
            lambda c: c.replace("é".encode(), b"\xff\xfe"),
        ),
        "not a readable zip",
    ),
    "one name twice": (twice_with_other_content, "IM-0000-0001.jpeg"),
    "no images": (zipped({"readme.txt": b"x"}), "has no images in folders such as"),
    "no entries": (zipped({}), "has no images in folders such as"),
    "one class": (
        zipped({n: c for n, c in kaggle_files().items() if "NORMAL" in n}),
        "has no image in train/PNEUMONIA",
    ),
    "an archive within": (
        zipped({"chest_xray.zip": b"PK\x03\x04"}),
        "has no images in folders such as",
    ),
    "a link in a folder": (
        folder_with(
            lambda p: (p / "chest_xray/train/NORMAL/l.jpeg").symlink_to(
                next((p / "chest_xray/test/NORMAL").iterdir())
            )
        ),
        GOOD,
    ),
    "a broken link in a folder": (
        folder_with(lambda p: (p / "chest_xray/train/NORMAL/l.png").symlink_to("absent")),
        "is a broken link",
    ),
    "a pipe in a folder": (
        folder_with(lambda p: os.mkfifo(p / "chest_xray/train/NORMAL/p.png")),
        "no plain file",
    ),
    "a name that is not UTF-8": (
        folder_with(
            lambda p: Path(str(p) + "/chest_xray/train/NORMAL/\udcff.png").write_bytes(b"x")
        ),
        "unsafe entry name",
    ),
    "accents and spaces": (images_and("chest_xray/train/NORMAL/Bébé n° 1.png", png_bytes(9)), GOOD),
    "quotes and tags": (images_and("chest_xray/train/NORMAL/<b>'\"&.png", png_bytes(9)), GOOD),
    "other files": (images_and("__MACOSX/chest_xray/train/NORMAL/._a.png"), GOOD),
    "letters of other case": (
        zipped({n.replace("train", "TRAIN").lower(): c for n, c in kaggle_files().items()}),
        GOOD,
    ),
}


@pytest.mark.parametrize("case", ARCHIVES)
def test_archives(
    case: str,
    tmp_path: Path,
    tiny_settings: Settings,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(archive, "MAX_FILES", MOST_FILES)
    write, outcome = ARCHIVES[case]
    source, out = tmp_path / "in" / "source", tmp_path / "out"
    source.parent.mkdir()
    out.mkdir()
    data = tiny_settings.data.model_copy(
        update={"source": "kermany", "path": str(source), "max_unpacked_gib": 0.02}
    )

    def collect() -> None:
        list(collect_images(data, tmp_path, out))

    write(source)
    if outcome == GOOD:
        collect()
        assert len(list(out.rglob("*.*"))) >= 8
    else:
        assert outcome in refused(capsys, collect)
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}  # nothing beside
    with contextlib.suppress(FileNotFoundError):
        source.unlink() if source.is_file() else shutil.rmtree(source)
    zipped(kaggle_files())(source)
    collect()  # repaired


# Images


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def grey(side: int = 40, mode: str = "L") -> Image.Image:
    values = np.random.default_rng(1).integers(0, 256, (side, side), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">L", len(content))
        + kind
        + content
        + struct.pack(">L", zlib.crc32(kind + content))
    )


def png_that_says(width: int, height: int) -> bytes:
    """A PNG file of few bytes that states a size."""
    header = struct.pack(">LLBBBBB", width, height, 8, 0, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


def text_bomb() -> bytes:
    """A PNG file with a text that unpacks to 200 MB."""
    info = PngImagePlugin.PngInfo()
    content = encoded(grey(), pnginfo=info)
    bomb = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(200 << 20)))
    return content[:33] + bomb + content[33:]


def colours(mode: str) -> bytes:
    return encoded(grey(mode=mode), "JPEG" if mode == "CMYK" else "PNG")


JPEG = encoded(grey(), "JPEG")
IMAGES: dict[str, tuple[bytes, str]] = {
    "zero bytes": (b"", "extra.png"),
    "a text": (b"no image", "extra.png"),
    "cut JPEG": (JPEG[: len(JPEG) // 2], "extra.png"),
    "cut PNG": (encoded(grey())[:400], "extra.png"),
    "cut in its header": (encoded(grey())[:20], "extra.png"),
    "1 x 1": (encoded(grey(1)), "smaller than 32 pixels"),
    "one row": (encoded(grey(64).crop((0, 0, 64, 1))), "smaller than 32 pixels"),
    "one grey": (encoded(Image.new("L", (40, 40), 7)), "the same value"),
    "20000 x 20000 of nothing": (png_that_says(20000, 20000), "extra.png"),
    "a size beyond all": (png_that_says(2**31 - 1, 2**31 - 1), "extra.png"),
    "20000 x 20000": (encoded(Image.new("1", (20000, 20000))), "extra.png"),
    "a text that unpacks to 200 MB": (text_bomb(), "extra.png"),
    "values that are no numbers": (
        encoded(Image.fromarray(np.full((40, 40), np.nan, dtype=np.float32)), "TIFF"),
        "not finite",
    ),
    "a checksum that does not fit": (
        encoded(grey()).replace(b"IDAT", b"IDAT"[:3] + b"X"),
        "extra.png",
    ),
    "JPEG by another name": (JPEG, GOOD),
    "WebP by another name": (encoded(grey(), "WEBP"), GOOD),
    "16 bits": (
        encoded(Image.fromarray(np.arange(1600, dtype=np.uint16).reshape(40, 40) * 40)),
        GOOD,
    ),
    "floats": (
        encoded(Image.fromarray(np.arange(1600, dtype=np.float32).reshape(40, 40) * 40), "TIFF"),
        GOOD,
    ),
    "12 bits in 16": (
        encoded(Image.fromarray(np.arange(1600, dtype=np.uint16).reshape(40, 40) * 2)),
        "its values are 0 to 3198, where white would be 65535",
    ),
    "floats up to 1": (
        encoded(Image.fromarray(np.linspace(0, 1, 1600, dtype=np.float32).reshape(40, 40)), "TIFF"),
        "its values are 0 to 1, where white would be 65535",
    ),
    "CMYK": (colours("CMYK"), GOOD),
    "transparent": (colours("RGBA"), GOOD),
    "grey and transparent": (colours("LA"), GOOD),
    "a palette": (colours("P"), GOOD),
    "black and white": (colours("1"), GOOD),
    "animated": (
        encoded(grey(), "GIF", save_all=True, append_images=[grey().rotate(90)]),
        GOOD,
    ),
    "turned by its EXIF": (
        encoded(
            grey(),
            "JPEG",
            exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0",
        ),
        GOOD,
    ),
    "long and narrow": (
        encoded(Image.fromarray(np.tile(np.arange(33, dtype=np.uint8), (5000, 1)))),
        GOOD,
    ),
    "a broken colour profile": (encoded(grey(mode="RGB"), icc_profile=b"broken"), GOOD),
}


@pytest.mark.parametrize("case", IMAGES)
def test_images(
    case: str, tmp_path: Path, tiny_settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    content, outcome = IMAGES[case]
    source, images, arrays = tmp_path / "source.zip", tmp_path / "images", tmp_path / "arrays"
    data = tiny_settings.data.model_copy(update={"source": "kermany", "path": str(source)})

    def prepare(files: dict[str, bytes], on_bad_image: str = "refuse") -> int:
        zipped(files)(source)
        for folder in (images, arrays):
            folder.mkdir(exist_ok=True)
        records = list(collect_images(data, tmp_path, images))
        table = tmp_path / "images.csv"
        names = list(vars(records[0]))
        with table.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(vars(record) for record in records)
        settings = tiny_settings.preprocess.model_copy(update={"on_bad_image": on_bad_image})
        return len(preprocess_images(table, images, settings, arrays).bad)

    everything = kaggle_files() | {IMAGE: content}
    if outcome == GOOD:
        assert prepare(everything) == 0
        return
    said = refused(capsys, lambda: prepare(everything))
    assert outcome in said
    assert "extra.png" in said
    assert prepare(everything, "skip") == 1
    assert prepare(kaggle_files()) == 0  # repaired


# Parameters

TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")


def changed(old: str, new: str) -> bytes:
    assert old in TEXT
    return TEXT.replace(old, new, 1).encode()


def sized(value: str) -> bytes:
    """Parameters with another value of preprocess.image_size."""
    return changed("preprocess:\n  image_size: 64 ", f"preprocess:\n  image_size: {value}")


PARAMETERS: dict[str, tuple[bytes, str]] = {
    "unknown": (
        changed("  batch_size: 32  ", "  batsh_size: 32  "),
        "batsh_size: there is no such parameter",
    ),
    "missing": (
        changed("  resampling: lanczos", "  #"),
        "preprocess.resampling: the parameter is missing",
    ),
    "a text for a number": (
        sized("big "),
        "preprocess.image_size",
    ),
    "a number as text": (sized('"64" '), "preprocess.image_size"),
    "a truth for a number": (
        sized("true "),
        "preprocess.image_size",
    ),
    "a fraction": (sized("64.5 "), "preprocess.image_size"),
    "nothing": (sized(""), "preprocess.image_size"),
    "not a number": (changed("ema_decay: 0.99 ", "ema_decay: .nan "), "train.normal.ema_decay"),
    "infinite": (changed("ema_decay: 0.99 ", "ema_decay: .inf "), "train.normal.ema_decay"),
    "negative": (changed("epochs: 65", "epochs: -65"), "train.normal.epochs"),
    "huge": (sized(f"{10**30} "), "preprocess.image_size"),
    "a huge exponent": (
        changed("ema_decay: 0.99 ", "ema_decay: 1.0e999 "),
        "train.normal.ema_decay",
    ),
    "a list for a number": (
        sized("[64] "),
        "preprocess.image_size",
    ),
    "a date": (sized("2021-02-03 "), "preprocess.image_size"),
    "a section too few": (b"data: {source: phantom}\n", "train: the parameter is missing"),
    "an empty file": (b"", "it must be a mapping"),
    "a list": (b"- a\n- b\n", "it must be a mapping"),
    "a tab": (changed("preprocess:\n  image_size", "preprocess:\n\timage_size"), "not valid YAML"),
    "a key twice": (
        sized("32\n  image_size: 64 "),
        "not valid YAML",
    ),
    "an object's tag": (
        sized("!!python/object/apply:os.system ['true'] "),
        "not valid YAML",
    ),
    "not UTF-8": (b"data: \xff\xfe\n", "cannot be read"),
    "a null byte": (b"data: \0\n", "params.yaml"),
    "deep": (b"data: " + b"[" * 5000, "params.yaml"),
    "aliases that multiply": (
        b"a: &a [x,x,x,x,x,x,x,x,x]\n"
        + b"".join(
            f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n".encode()
            for i in range(5)
        ),
        "there is no such parameter",
    ),
    "aliases that multiply in a value": (
        changed(
            "augmentation: [translation] ",
            "augmentation: &a [&b [&c [x, x], *c, *c], *b, *b] ",
        ),
        "train.normal.augmentation",
    ),
    "Windows line ends": (TEXT.replace("\n", "\r\n").encode(), GOOD),
    "a mark at the start": (b"\xef\xbb\xbf" + TEXT.encode(), GOOD),
}


@pytest.mark.parametrize("case", PARAMETERS)
def test_parameters(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, outcome = PARAMETERS[case]
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    if outcome == GOOD:
        load_settings(path)
        return
    assert outcome in refused(capsys, lambda: load_settings(path))
    path.write_text(TEXT, encoding="utf-8")
    load_settings(path)  # repaired


# Generators


def saved(path: Path, settings: Settings) -> dict[str, Any]:
    network = Generator(settings.train.normal.generator, 16)
    initialize(network, "xavier", torch.Generator().manual_seed(1))
    save_generator(path, network, Origin("NORMAL", "phantom", 24, "0" * 64, {}))
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def without(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.pop(key)


def renamed_weight(content: dict[str, Any]) -> None:
    content["weights"]["other"] = content["weights"].pop("dense.weight")


def other_shape(content: dict[str, Any]) -> None:
    content["weights"]["dense.weight"] = torch.zeros(3, 3)


def of_text(content: dict[str, Any]) -> None:
    content["weights"]["dense.weight"] = "text"


def packed(path: Path) -> None:
    """Small on disk, and not in memory."""
    buffer = io.BytesIO()
    torch.save({"weights": torch.zeros(10**6)}, buffer)
    with (
        zipfile.ZipFile(buffer) as archive,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as small,
    ):
        for name in archive.namelist():
            small.writestr(name, archive.read(name))


GENERATORS: dict[str, Callable[[dict[str, Any]], object]] = {
    "no settings": without("settings"),
    "no weights": without("weights"),
    "no origin": without("origin"),
    "no size": without("image_size"),
    "another weight": renamed_weight,
    "a weight of another shape": other_shape,
    "a text for a weight": of_text,
    "another network": lambda content: content["settings"].update(base_channels=4),
    "a network beyond all": lambda content: content["settings"].update(latent_dim=10**9),
    "a size beyond all": lambda content: content.update(image_size=2**40),
    "a size that does not fit": lambda content: content.update(image_size=17),
    "a setting of another kind": lambda content: content["settings"].update(negative_slope="steep"),
    "a setting too many": lambda content: content["settings"].update(more=1),
    "an origin too many": lambda content: content["origin"].update(more=1),
    "a class that leaves the folder": lambda content: content["origin"].update(label=".."),
    "a class that is no text": lambda content: content["origin"].update(label=["NORMAL"]),
    "an unknown source": lambda content: content["origin"].update(source="nowhere"),
    "a training of tensors": lambda content: content["origin"].update(
        training={"batch": torch.zeros(2)}
    ),
    "one weight as many": lambda content: (
        content["settings"].update(latent_dim=10**6),
        content["weights"].update(dict.fromkeys("abcdefghij", torch.zeros(10**6))),
    ),
    "weights without memory": lambda content: (
        content["settings"].update(latent_dim=10**6),
        content["weights"].update(more=torch.empty(10**12, device="meta")),
    ),
}
FILES: dict[str, Write] = {
    "an empty file": lambda path: path.write_bytes(b""),
    "a text": lambda path: path.write_text("weights"),
    "a pickle that runs something": lambda path: path.write_bytes(pickle.dumps(Hostile(HIT))),
    "torch's file that runs something": lambda path: torch.save(Hostile(HIT), path),
    "a packed file": packed,
    "numbers alone": lambda path: torch.save(torch.zeros(3), path),
    "a list": lambda path: torch.save([1, 2], path),
    "a folder": lambda path: path.mkdir(),
    "nothing": lambda path: None,
}


@pytest.mark.parametrize("case", [*GENERATORS, *FILES, "cut"])
def test_generators(
    case: str,
    tmp_path: Path,
    tiny_settings: Settings,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (workspace, model_source):
        monkeypatch.setattr(module, "HOME", tmp_path)
    path, out = tmp_path / "generator.pt", tmp_path / "out"
    kept = out / "kept.txt"
    out.mkdir()
    kept.write_text("of somebody")
    if case in FILES:
        FILES[case](path)
    else:
        content = saved(path, tiny_settings)
        if case == "cut":
            path.write_bytes(path.read_bytes()[:-500])
        else:
            GENERATORS[case](content)
            torch.save(content, path)
    arguments = ["--model", str(path), "--count", "2", "--out", str(out)]
    assert generate.main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}")
    assert error.count("\n") == 1
    assert list(out.iterdir()) == [kept]
    kept.unlink()
    if path.is_dir():
        path.rmdir()
    saved(path, tiny_settings)
    assert generate.main(arguments) == 0  # repaired


# Statistics and arrays


def flipped(save: Callable[[Any], None], place: int) -> Write:
    """A file of which one byte is another."""

    def write(path: Path) -> None:
        buffer = io.BytesIO()
        save(buffer)
        content = bytearray(buffer.getvalue())
        content[place] ^= 0x08
        path.write_bytes(bytes(content))

    return write


def npz(**arrays: Any) -> Write:
    return lambda path: np.savez(path.with_suffix(".npz"), **arrays)


def renamed(write: Write) -> Write:
    """An .npz file with the name that is asked for."""

    def then(path: Path) -> None:
        write(path)
        path.with_suffix(".npz").rename(path)

    return then


def npy(array: Any) -> Write:
    return lambda path: np.save(path.with_suffix(".npy"), array, allow_pickle=True)


SETS: dict[str, tuple[str, Write]] = {
    "no covariance": (".npz", npz(mu=np.zeros(64))),
    "no mean": (".npz", npz(sigma=np.eye(64))),
    "another width": (".npz", npz(mu=np.zeros(9), sigma=np.eye(9))),
    "widths that differ": (".npz", npz(mu=np.zeros(64), sigma=np.eye(9))),
    "no numbers": (".npz", npz(mu=np.full(64, np.nan), sigma=np.eye(64))),
    "endless numbers": (".npz", npz(mu=np.zeros(64), sigma=np.full((64, 64), np.inf))),
    "texts": (".npz", npz(mu=np.array(["a"] * 64), sigma=np.eye(64))),
    "complex numbers": (".npz", npz(mu=np.zeros(64), sigma=np.eye(64) * 1j)),
    "objects": (".npz", npz(mu=np.array([Hostile(HIT)], dtype=object), sigma=np.eye(64))),
    "an archive for an array": (".npy", renamed(npz(a=np.eye(3)))),
    "damaged statistics": (
        ".npz",
        flipped(lambda file: np.savez_compressed(file, mu=np.zeros(64), sigma=np.eye(64)), 70),
    ),
    "statistics with a damaged head": (
        ".npz",
        flipped(lambda file: np.savez(file, mu=np.zeros(64), sigma=np.eye(64)), 126),
    ),
    "no archive": (".npz", lambda path: path.with_suffix(".npz").write_bytes(b"x")),
    "empty statistics": (".npz", lambda path: path.with_suffix(".npz").write_bytes(b"")),
    "an array of objects": (".npy", npy(np.array([Hostile(HIT)], dtype=object))),
    "an array of floats": (".npy", npy(np.full((20, 16, 16), np.nan))),
    "an array of one image": (".npy", npy(np.zeros((1, 16, 16), dtype=np.uint8))),
    "an array of no image": (".npy", npy(np.zeros((0, 16, 16), dtype=np.uint8))),
    "an array of another shape": (".npy", npy(np.zeros((16, 16), dtype=np.uint8))),
    "a cut array": (
        ".npy",
        lambda path: path.with_suffix(".npy").write_bytes(b"\x93NUMPY\x01\x00\x76\x00{'descr'"),
    ),
    "an array that says it is endless": (
        ".npy",
        lambda path: path.with_suffix(".npy").write_bytes(
            b"\x93NUMPY\x01\x00\x76\x00"
            + b"{'descr': '|u1', 'fortran_order': False, 'shape': (999999999999, 64, 64), }".ljust(
                117
            )
            + b"\n"
        ),
    ),
}


@pytest.mark.parametrize("case", SETS)
def test_statistics_and_arrays(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suffix, write = SETS[case]
    real = tmp_path / "real.npy"
    np.save(real, np.random.default_rng(1).integers(0, 256, (80, 16, 16), dtype=np.uint8))
    path = tmp_path / f"given{suffix}"
    write(path)
    options = ["--features", "pixels", "--dims", "64", "--draws", "4"]
    assert evaluate.main([str(real), str(path), *options]) == 1
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert path.name in lines[0]
    assert "Traceback" not in said.err
    assert said.out == ""
    assert evaluate.main([str(real), str(real), *options, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["frechet"]["value"] == pytest.approx(0, abs=1e-6)


def test_the_corpus_is_as_large_as_it_is_said_to_be() -> None:
    cases = [ARCHIVES, IMAGES, PARAMETERS, GENERATORS, FILES, SETS]
    count = sum(map(len, cases)) + 1  # the generator that is cut off
    told = (ROOT / "docs" / "development" / "reliability.md").read_text(encoding="utf-8")
    assert f"models, statistics, arrays | {count} |" in told
