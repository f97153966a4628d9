import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.common.errors import UserError
from src.data.image_files import holds_images, read_images

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5


def png(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", **options)
    return buffer.getvalue()


def files() -> dict[str, bytes]:
    grey = Image.fromarray(GREY)
    deep = Image.fromarray(GREY.astype(np.uint16) * 257)
    see_through = grey.convert("RGBA")
    see_through.putalpha(255)
    turned = grey.getexif()
    turned[0x0112] = 6  # shown turned by 90 degrees to the right
    return {
        "a/grey.png": png(grey),
        "a/rgb.png": png(grey.convert("RGB")),
        "b/palette.png": png(grey.convert("P")),
        "b/alpha.png": png(see_through),
        "b/deep.png": png(deep),
        "turned.png": png(Image.fromarray(np.rot90(GREY).copy()), exif=turned),
        "notes.txt": b"not an image",
        "__MACOSX/a/._grey.png": b"what macOS puts beside it",
    }


@pytest.mark.parametrize("packed", [False, True])
def test_images_of_every_mode_become_the_same_grey(tmp_path: Path, packed: bool) -> None:
    if packed:
        path = tmp_path / "set.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files().items():
                archive.writestr(name, content)
    else:
        path = tmp_path / "set"
        for name, content in files().items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    found = read_images(path)
    assert found.skipped_files == 1
    assert len(found.images) == 6
    for image in found.images:
        np.testing.assert_allclose(image.astype(int), GREY, atol=1)


def test_names_that_tell_no_patient_are_each_of_another_one_in_any_folder(tmp_path: Path) -> None:
    for folder in ("p0", "p1"):
        (tmp_path / folder).mkdir()
        for name in ("0.png", "1.png", "person1_virus_6.png"):
            (tmp_path / folder / name).write_bytes(png(Image.fromarray(GREY)))
    patients = read_images(tmp_path).patient_ids
    assert len(patients) == 6
    assert len(set(patients)) == 5
    assert patients.count("virus-1") == 2


def test_names_tell_the_patients(tmp_path: Path) -> None:
    for name in ("person1_virus_6.png", "person1_virus_7.png", "other.png"):
        (tmp_path / name).write_bytes(png(Image.fromarray(GREY)))
    assert read_images(tmp_path).patient_ids == ["other.png", "virus-1", "virus-1"]


@pytest.mark.parametrize(
    "shape", [(3, 6, 8), (3, 6, 8, 1), (3, 6, 8, 3), (3, 1, 6, 8), (3, 3, 6, 8)]
)
def test_arrays_in_the_usual_layouts(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = np.stack([GREY, GREY // 2, GREY // 3])
    place = (
        images[:, None] if shape[1] in (1, 3) else images[..., None] if len(shape) == 4 else images
    )
    np.save(tmp_path / "x.npy", np.broadcast_to(place, shape))
    found = read_images(tmp_path / "x.npy")
    np.testing.assert_allclose(np.stack(found.images).astype(int), images, atol=1)


@pytest.mark.parametrize("name", ["x.npy", "x.NPY", "x.npz", "X.NPZ"])
def test_an_array_file_is_known_by_its_suffix_in_any_case(tmp_path: Path, name: str) -> None:
    with (tmp_path / name).open("wb") as stream:
        (np.save if name.lower().endswith("y") else np.savez)(stream, GREY[None])
    np.testing.assert_array_equal(read_images(tmp_path / name).images, GREY[None])


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"arr_0": GREY[None]}, True),
        ({"arr_0": GREY[None], "arr_1": np.array([3])}, True),  # samples with their classes
        ({"images": GREY[None]}, True),
        ({"images": GREY[None], "labels": np.array([3])}, False),
        ({"mu": GREY[0], "sigma": GREY}, False),
        ({"arr_0": GREY[None], "mu": GREY[0], "sigma": GREY}, False),
    ],
)
def test_an_array_archive_holds_images_or_statistics(
    tmp_path: Path, arrays: dict[str, np.ndarray], expected: bool
) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    assert holds_images(tmp_path / "x.npz") == expected
    if expected:
        np.testing.assert_array_equal(read_images(tmp_path / "x.npz").images, GREY[None])
    else:
        with pytest.raises(UserError, match="archive of arrays; give one of them"):
            read_images(tmp_path / "x.npz")


def test_a_damaged_array_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"no zip")
    assert not holds_images(tmp_path / "x.npz")
    with pytest.raises(UserError, match=r"x\.npz: the array cannot be read"):
        read_images(tmp_path / "x.npz")


def test_what_is_no_set_of_images_is_refused_by_name(tmp_path: Path) -> None:
    def refused(path: Path, message: str) -> None:
        with pytest.raises(UserError, match=message):
            read_images(path)

    refused(tmp_path / "absent", "absent: there is no such")
    refused(tmp_path, "there is no image in it")
    (tmp_path / "text.txt").write_text("text")
    refused(tmp_path / "text.txt", r"text\.txt: it is no folder, zip archive")
    np.save(tmp_path / "float.npy", np.zeros((2, 4, 4)))
    refused(tmp_path / "float.npy", r"float\.npy: .* must be uint8 .* not float64")
    np.save(tmp_path / "object.npy", np.array([print]), allow_pickle=True)
    refused(tmp_path / "object.npy", "the array cannot be read")
    (tmp_path / "broken.png").write_bytes(files()["a/grey.png"][:50])
    refused(tmp_path, r"broken\.png is no usable image")


def test_arrays_are_resized_as_files_are(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", GREY[None])
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(png(Image.fromarray(GREY)))
    found = [read_images(tmp_path / name, size=4).images[0] for name in ("a.npy", "a")]
    assert found[0].shape == (4, 4)
    np.testing.assert_array_equal(found[0], found[1])


def test_an_array_of_no_images_is_refused(tmp_path: Path) -> None:
    for number, array in enumerate((GREY[None].astype(float), GREY, np.empty((0, 4, 4), np.uint8))):
        np.save(tmp_path / f"{number}.npy", array)
        with pytest.raises(UserError, match="an array of images must be uint8"):
            read_images(tmp_path / f"{number}.npy")
