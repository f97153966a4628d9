"""Decoder of image files: allowed formats, size limits, conversion to 8-bit grey."""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from ..common.errors import DISK_ERRORS, UserError
from ..config.registry import EQUALIZATIONS, FITS, load

MAX_PIXELS = 100_000_000  # of one image; more counts as a decompression bomb
# Pillow warns above its limit and refuses twice as much; ``open_image`` refuses all above it.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS

# What Pillow warns of in files is refused here, or does not matter.
warnings.filterwarnings("ignore", module=r"PIL\.")

# Pillow knows more formats, but some of them start programs, as EPS does.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
# By which files are taken for images, in any letter case.
SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp"),
    *(".pgm", ".ppm", ".pnm"),
)


@contextmanager
def open_image(source: Path | IO[bytes]) -> Iterator[ImageFile]:
    """Open an image file with its header read; any failure of its decoder is a ``ValueError``.

    Raises:
        ValueError: if it is damaged, is not an image in one of ``FORMATS``, or has more than
            ``MAX_PIXELS`` pixels.
        OSError: if the disk or its permissions fail, or if there is no such file.
    """
    try:
        with Image.open(source, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels are too many")
            yield image
    except UnidentifiedImageError as error:
        if isinstance(source, Path) and source.stat().st_size == 0:
            raise ValueError(
                "it is empty; if fetch could not read it, fetch has said why"
            ) from error
        known = ", ".join(FORMATS)
        raise ValueError(
            f"it cannot be identified as an image of a kind that is read ({known})"
        ) from error
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged file may raise any error of its decoder
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise  # the disk failed, not the image
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


# A JPEG may be decoded at a half, quarter or eighth of its size; twice the target keeps what the
# resize filter needs.
DRAFT_MARGIN = 2
WHITE = 65535  # in an image of 16 bits
MIN_WHITE = 4096  # an image of 16 bits whose maximum is lower was scaled to 12 bits or fewer
# Of a raw mode, whose values Pillow reduces to their upper 8 bits.
REDUCED = re.compile(r"(RGB|RGBA|RGBa|RGBX|LA|CMYK);16[BLN]")
SCALES = "bring them to 8 bits, or to the whole range of 16"
BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF 6.0
WHITE_IS_ZERO, SIGNED = 0, 2  # values of the last two
PNG_LEVEL = 1  # of zlib's 1 to 9: X-rays become 15 % larger than by 6, in a quarter of the time
ORIENTATION = ExifTags.Base.Orientation
TRANSPOSE_BY_ORIENTATION: dict[object, Image.Transpose] = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_grey(
    source: Path | IO[bytes],
    min_side: int = 1,
    size: int | None = None,
    resampling: Image.Resampling = Image.Resampling.BICUBIC,
    fit: str = "stretch",
    equalize: str = "none",
) -> NDArray[np.uint8]:
    """Decode an image as grey uint8, (h, w) or resized to (size, size).

    The EXIF orientation is applied; one that cannot be read means upright. Transparent pixels are
    blended over black. Images of more than 8 bits keep the upper 8 of 16 bits, but for those that
    are equalized.

    Args:
        source: an image file or its stream.
        min_side: minimum width and height, in pixels.
        size: width and height of the result; None keeps those of the image.
        resampling: filter for the resize.
        fit: what becomes of an image that is not square, a name in ``FITS``.
        equalize: what becomes of its contrast before that, a name in ``EQUALIZATIONS``.

    Raises:
        ValueError: if the image cannot be decoded, is too small or large, has signed values, or has
            more than 8 bits but does not use the 16-bit scale.
        UserError: if the file is missing.
        OSError: if the disk or its permissions fail.
    """
    try:
        with open_image(source) as image:
            if min(image.size) < min_side:
                raise ValueError(
                    f"{image.width} x {image.height} is smaller than {min_side} pixels"
                )
            if size is not None and equalize == "none":  # else the whole original counts
                image.draft("L", (DRAFT_MARGIN * size, DRAFT_MARGIN * size))
            grey = load(EQUALIZATIONS[equalize])(_upright_pixels(image))
            if size is None:
                return np.asarray(grey, dtype=np.uint8)
            resized = load(FITS[fit])(Image.fromarray(grey), size, resampling)
            return np.asarray(resized, dtype=np.uint8)
    except FileNotFoundError as error:
        raise UserError(f"{source} is missing; `dvc repro` fetches the images again") from error


def decode_pixels(content: bytes) -> NDArray[Any]:
    """Decode the bytes of an image file as grey (h, w): uint8, or uint16 for a deep grey image.

    Nothing but the pixels is kept. The orientation is applied, and transparency blended, as by
    ``decode_grey``, which makes the same image of the file and of a PNG file with these pixels.

    Raises:
        ValueError: as ``decode_grey``.
    """
    with open_image(io.BytesIO(content)) as image:
        return _upright_pixels(image)


def encode_png(pixels: NDArray[Any]) -> bytes:
    """Encode grey pixels (h, w), uint8 or uint16, as a PNG file that holds nothing else."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", compress_level=PNG_LEVEL)
    return stream.getvalue()


def _upright_pixels(image: ImageFile) -> NDArray[Any]:
    """Decode an opened image as grey (h, w), uint8 or uint16, with its orientation applied."""
    is_reduced = any(REDUCED.search(str(tile.args)) for tile in image.tile)
    image.load()  # this rotates a TIFF and removes its orientation
    grey = Image.fromarray(_to_grey(image, is_reduced))
    method = TRANSPOSE_BY_ORIENTATION.get(_orientation(image))
    return np.asarray(grey if method is None else grey.transpose(method))


def stretch(image: Image.Image, size: int, resampling: Image.Resampling) -> Image.Image:
    """Resize an image to (size, size), whatever its shape."""
    return image.resize((size, size), resampling)


def crop(image: Image.Image, size: int, resampling: Image.Resampling) -> Image.Image:
    """Cut an image about its centre to a square, and resize it to (size, size)."""
    return ImageOps.fit(image, (size, size), resampling)


def pad(image: Image.Image, size: int, resampling: Image.Resampling) -> Image.Image:
    """Resize an image to fit into (size, size), and fill the rest with black."""
    return ImageOps.pad(image, (size, size), resampling)


def _orientation(image: Image.Image) -> object:
    """Return the EXIF orientation of an image, or None if it has none that can be read."""
    try:
        return image.getexif().get(ORIENTATION)
    except Exception:  # any error of the parsers; what stands beside the picture is damaged, not it
        return None


def _to_grey(image: Image.Image, is_reduced: bool) -> NDArray[Any]:
    """Convert an image of any mode to grey (h, w): uint16 if it is grey of 16 bits, else uint8.

    Args:
        image: a decoded image.
        is_reduced: whether its values are the upper 8 bits of 16.

    Raises:
        ValueError: if the scale of its values is not known.
    """
    tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
    if SIGNED in tags.get(SAMPLE_FORMAT, ()) and max(tags[BITS_PER_SAMPLE]) < 32:
        raise ValueError(f"its values are signed; {SCALES}")
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.asarray(image, dtype=np.float64)
        if not np.isfinite(values).all():
            raise ValueError("it holds values that are not finite")
        _check_range(values.min(), values.max())
        if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:  # which Pillow minds for up to 8 bits
            values = WHITE - values
        return values.astype(np.uint16)
    if is_reduced:
        highest = dict(zip(image.getbands(), np.max(image.getextrema(), axis=1), strict=True))
        alpha = highest.pop("A", WHITE // 256)
        _check_range(0, 256 * min(alpha, max(highest.values())))
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        black = Image.new("RGBA", coloured.size, (0, 0, 0, 255))
        return np.asarray(Image.alpha_composite(black, coloured).convert("L"))
    return np.asarray(image.convert("L"))


def _check_range(lowest: float, highest: float) -> None:
    """Refuse values that do not use the scale of 16 bits."""
    if lowest < 0 or not MIN_WHITE <= highest <= WHITE:
        raise ValueError(
            f"its values are {lowest:g} to {highest:g}, where white would be {WHITE}; {SCALES}"
        )
