"""Procedural chest phantoms: radiographs of analytic bodies by the Beer-Lambert law.

A phantom is a chest in a box of [-1, 1] across (x, to the image's right) and down (y), seen along
z from front to back by parallel rays. Every body is analytic, so the length of a ray inside it
has a closed form, without ray marching:

- an ellipsoid with semi-axes a, b, c: ``2 c sqrt(1 - (x/a)^2 - (y/b)^2)``;
- a round tube of radius r around a curve: ``2 sqrt(r^2 - d^2) / cos(slant)``, with d the distance
  to the curve's projection and the slant that of the tube to the image plane;
- a three-dimensional Gaussian density of width s: its line integral is a Gaussian of that width.

The optical depth of a ray is the sum of attenuation times length, ``I = I0 exp(-depth)`` reaches
the detector with scatter and photon noise, and the image shows the depth's logarithm as films do:
dense is white. Lengths are in units of half the field of view (about 15 cm in a child).

Pneumonia adds consolidations: densities of fluid inside the air of the lungs. An automatic
exposure control draws the mean brightness of every image from one distribution, whatever it
shows, so that brightness alone does not tell the classes apart.
"""

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from ..common.processes import available_cores, chunks, init_worker, map_in_order, process_pool
from ..common.progress import progress
from ..common.rng import Stream, numpy_stream
from ..config.data import DataSettings, PhantomSettings
from .classes import CLASSES, SPLITS
from .patients import patient_of
from .sources import ImageRecord, SourceReader, write_image

Map = NDArray[np.floating[Any]]  # (size, size), float32 throughout; NumPy's types cannot state it
# Linear attenuation at some 60 keV per unit of length (15 cm). The ratios are those of tissue:
# lung has about a quarter of soft tissue's attenuation, cortical rib bone about twice.
SOFT_TISSUE = 3.0
LUNG = 0.55
BONE = 6.5
FLUID = 3.1
PHOTONS = 6.0e4  # that reach a detector pixel without a patient
RIB_PAIRS = 10
PATIENTS_PER_TASK = 8
TASKS_AHEAD = 4  # for each worker, tasks that are under way or wait to be used
# Slope, length and radius of the vessels that leave each hilum.
VESSELS = ((-0.9, 0.30, 0.026), (0.1, 0.33, 0.024), (0.8, 0.36, 0.030), (2.0, 0.30, 0.026))


@dataclass(frozen=True)
class Anatomy:
    """One patient's chest; lengths are in half fields of view (about 15 cm)."""

    half_width: float  # of the thorax at its widest
    depth: float  # half of the thorax from front to back
    lung_top: float
    diaphragm: tuple[float, float]  # height of the left-hand and right-hand dome in the image
    lung_width: float
    heart_size: float
    heart_tilt: float  # radians
    spine_width: float
    rib_gap: float
    rib_radius: float
    rib_droop: float
    fat: float  # thickness of the wall outside the ribs
    arm: float  # how far the arms extend into the image, 0 to 1
    stomach: float  # size of the air bubble below the diaphragm, 0 for none


@dataclass(frozen=True)
class Lesion:
    """One consolidation: a Gaussian density of fluid, patchy where ``grain`` > 0."""

    x: float
    y: float
    width: float
    height: float
    density: float  # fraction of the air that fluid replaces at the centre
    grain: float


@dataclass(frozen=True)
class Exposure:
    """Pose, breath and detector, which vary between the images of one patient."""

    shift: tuple[float, float]
    angle: float  # radians
    zoom: tuple[float, float]  # across and down
    breath: float  # shift of the diaphragm downwards
    mean: float  # target brightness of the exposure control, 0 to 1
    black: float  # grey of the darkest and of the whitest pixel, before the mean is set
    white: float
    photons: float
    scatter: float  # fraction of the signal that is scattered
    blur: float  # of the focal spot, in pixels


def collect_phantoms(settings: DataSettings, root: Path, folder: Path) -> Iterator[ImageRecord]:
    """Draw the phantoms and write them below ``folder``."""
    phantom = settings.phantom
    total = len(CLASSES) * (phantom.train_per_class + phantom.test_per_class)
    for file in progress(draw_phantoms(phantom), "drawing phantoms", total, "images"):
        split, label, name, content = file
        patient = patient_of(f"{split}/{label}/{name}")
        yield write_image(folder, split, label, name, content, patient)


def draw_phantoms(settings: PhantomSettings) -> Iterator[tuple[str, str, str, bytes]]:
    """Draw every phantom of a data set, on all cores.

    A patient has one to ``images_per_patient`` images and belongs to one split and class. The
    images depend on the settings alone, not on the number of cores.

    Yields:
        (split, class, file name, PNG of one grey channel) in a fixed order.
    """
    patients = (
        patient
        for split in SPLITS
        for label in CLASSES
        for patient in _plan_patients(settings, split, label)
    )
    # Processes, since threads would wait for the interpreter's lock with arrays this small.
    workers = available_cores()
    with process_pool(workers, init_worker) as pool:
        tasks = chunks(patients, PATIENTS_PER_TASK)
        for files in map_in_order(pool, _draw_patients, tasks, TASKS_AHEAD * workers):
            yield from files


@dataclass(frozen=True)
class _Patient:
    """Everything that determines one patient's images."""

    split: str
    label: str
    number: int
    first: int  # running number of the first image within its class, for the names
    images: int
    size: int
    seed: int


def _plan_patients(settings: PhantomSettings, split: str, label: str) -> Iterator[_Patient]:
    """Distribute the images of one split and class over patients."""
    count = settings.train_per_class if split == "train" else settings.test_per_class
    indices = (SPLITS.index(split), CLASSES.index(label))
    rng = numpy_stream(Stream.PHANTOM_PATIENTS, settings.seed, *indices)
    # Numbers continue from train to test, as in the real set. A patient has at least one image, so
    # the test split can start at train_per_class.
    number = done = 0 if split == "train" else settings.train_per_class
    end = done + count
    while done < end:
        number += 1
        images = min(int(rng.integers(1, settings.images_per_patient + 1)), end - done)
        size, seed = settings.image_size, settings.seed
        yield _Patient(split, label, number, done + 1, images, size, seed)
        done += images


def _draw_patients(patients: list[_Patient]) -> list[tuple[str, str, str, bytes]]:
    """Draw all images of some patients."""
    return [file for patient in patients for file in _draw_patient(patient)]


def _draw_patient(patient: _Patient) -> list[tuple[str, str, str, bytes]]:
    """Draw all images of one patient."""
    indices = (SPLITS.index(patient.split), CLASSES.index(patient.label))
    rng = numpy_stream(Stream.PHANTOM_IMAGES, patient.seed, *indices, patient.number)
    anatomy = draw_anatomy(rng)
    is_pneumonia = patient.label == "PNEUMONIA"
    lesions = draw_lesions(rng) if is_pneumonia else ()
    cause = "bacteria" if rng.random() < 0.65 else "virus"
    files = []
    for index in range(patient.images):
        image = radiograph(anatomy, lesions, draw_exposure(rng), patient.size, rng)
        running = patient.first + index
        name = (
            f"person{patient.number}_{cause}_{running}.png"
            if is_pneumonia
            else f"IM-{patient.number:04d}-{index + 1:04d}.png"
        )
        files.append((patient.split, patient.label, name, _png(image)))
    return files


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """Draw a child's chest."""
    dome = rng.normal(0.55, 0.06)
    return Anatomy(
        half_width=rng.normal(0.79, 0.035),
        depth=rng.normal(0.52, 0.04),
        lung_top=rng.normal(-0.76, 0.05),
        diaphragm=(dome, dome + rng.normal(0.05, 0.025)),
        lung_width=rng.normal(0.315, 0.018),
        heart_size=rng.normal(1.0, 0.10),
        heart_tilt=rng.normal(0.55, 0.12),
        spine_width=rng.normal(0.105, 0.01),
        rib_gap=rng.normal(0.165, 0.010),
        rib_radius=rng.normal(0.031, 0.003),
        rib_droop=rng.normal(0.26, 0.06),
        fat=rng.uniform(0.02, 0.09),
        arm=rng.uniform(0.0, 1.0),
        stomach=max(0.0, rng.normal(0.06, 0.06)),
    )


def draw_lesions(rng: np.random.Generator) -> tuple[Lesion, ...]:
    """Draw one patient's consolidations: a lobar one, or patches in one lung or in both."""
    pattern = rng.choice(3, p=(0.35, 0.30, 0.35))
    side = float(rng.choice((-1.0, 1.0)))
    if pattern == 0:
        lobe = Lesion(
            x=side * rng.normal(0.45, 0.05),
            y=float(rng.choice((-0.30, 0.05, 0.28))) + rng.normal(0, 0.05),
            width=rng.uniform(0.16, 0.26),
            height=rng.uniform(0.14, 0.26),
            density=rng.uniform(0.55, 1.0),
            grain=rng.uniform(0.0, 0.3),
        )
        return (lobe, *(_draw_patch(rng, side) for _ in range(rng.integers(0, 2))))
    sides = (side,) if pattern == 1 else (-1.0, 1.0)
    return tuple(_draw_patch(rng, here) for here in sides for _ in range(rng.integers(2, 5)))


def _draw_patch(rng: np.random.Generator, side: float) -> Lesion:
    """Draw one patchy consolidation, more often near the hilum and the base."""
    return Lesion(
        x=side * abs(rng.normal(0.40, 0.10)),
        y=rng.normal(0.08, 0.25),
        width=rng.uniform(0.08, 0.20),
        height=rng.uniform(0.08, 0.20),
        density=rng.uniform(0.30, 0.75),
        grain=rng.uniform(0.4, 0.9),
    )


def draw_exposure(rng: np.random.Generator) -> Exposure:
    """Draw the pose, exposure and detector of one image, alike for both classes."""
    return Exposure(
        shift=(rng.normal(0, 0.03), rng.normal(0, 0.03)),
        angle=rng.normal(0, 0.045),
        zoom=(rng.normal(1.03, 0.05), rng.normal(1.0, 0.04)),
        breath=rng.normal(0, 0.03),
        mean=rng.normal(0.48, 0.055),
        black=rng.uniform(0.0, 0.12),
        white=rng.uniform(0.82, 1.0),
        photons=PHOTONS * rng.uniform(0.5, 2.0),
        scatter=rng.uniform(0.05, 0.20),
        blur=rng.uniform(0.3, 0.9),
    )


def radiograph(
    anatomy: Anatomy,
    lesions: tuple[Lesion, ...],
    exposure: Exposure,
    size: int,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """Render one image, uint8 (size, size), dense tissue white."""
    depth = optical_depth(anatomy, lesions, exposure, size, rng)
    primary = np.exp(-depth)
    spread = ndimage.gaussian_filter(primary, size / 10, mode="nearest")
    signal = (1 - exposure.scatter) * primary + exposure.scatter * spread
    signal = ndimage.gaussian_filter(signal, exposure.blur * size / 128, mode="nearest")
    # Photon noise is Poisson; at these counts a normal of the same variance equals it.
    noise = rng.standard_normal(signal.shape, dtype=np.float32)
    photons = np.maximum(exposure.photons * signal, 1.0)
    counts = np.maximum(photons + np.sqrt(photons) * noise, 1.0)
    return _expose(-np.log(counts / exposure.photons), exposure)


def _expose(film: Map, exposure: Exposure) -> NDArray[np.uint8]:
    """Map optical depth to grey with the mean brightness of the exposure, uint8 (size, size)."""
    low, high = (float(depth) for depth in np.percentile(film, (1.0, 99.0)))
    # The film's shoulder: density grows little beyond that of the abdomen.
    density = np.tanh(1.3 * np.clip((film - low) / (high - low), 0, None)) / math.tanh(1.3)
    density = np.clip(density, 1e-4, 1)
    logarithm = np.log(density[::2, ::2])  # a quarter of the pixels suffices for the mean
    # The mean falls as gamma grows, so bisection finds the gamma of the target mean.
    steep, flat = 0.25, 4.0
    for _ in range(14):
        gamma = math.sqrt(steep * flat)
        if np.exp(gamma * logarithm).mean() > exposure.mean:
            steep = gamma
        else:
            flat = gamma
    grey = exposure.black + (exposure.white - exposure.black) * density**gamma
    grey += exposure.mean - float(grey.mean())
    return np.round(np.clip(grey, 0, 1) * 255).astype(np.uint8)


def optical_depth(
    anatomy: Anatomy,
    lesions: tuple[Lesion, ...],
    exposure: Exposure,
    size: int,
    rng: np.random.Generator,
) -> Map:
    """Sum the attenuation along every pixel's ray, float32 (size, size), >= 0."""
    x, y = _coordinates(exposure, size)
    body = _body(anatomy, x, y)
    air = _lungs(anatomy, exposure, x, y)
    heart, vessels = _mediastinum(anatomy, x, y)
    air = np.maximum(air - heart, 0)  # the heart displaces the lungs with soft tissue
    depth = SOFT_TISSUE * body
    depth -= (SOFT_TISSUE - LUNG) * air
    inside = np.clip(air / 0.3, 0, 1)
    depth += SOFT_TISSUE * vessels * inside
    depth += (FLUID - LUNG) * air * _consolidation(lesions, x, y, rng)
    depth += BONE * _skeleton(anatomy, x, y) * np.clip(body / 0.2, 0, 1)
    depth -= 0.8 * SOFT_TISSUE * _stomach(anatomy, exposure, x, y)
    return np.maximum(depth, 0)


def _coordinates(exposure: Exposure, size: int) -> tuple[Map, Map]:
    """Return each pixel's position in the patient: x to the image's right, y down."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1
    column, row = np.meshgrid(axis, axis)
    cos, sin = math.cos(exposure.angle), math.sin(exposure.angle)
    column = (column - exposure.shift[0]) / exposure.zoom[0]
    row = (row - exposure.shift[1]) / exposure.zoom[1]
    return cos * column + sin * row, cos * row - sin * column


def _chord(x: Map, y: Map, a: float, b: float, c: float, angle: float = 0.0) -> Map:
    """Return each ray's length in an ellipsoid at the origin, rotated by ``angle`` radians."""
    cos, sin = math.cos(angle), math.sin(angle)
    u, v = cos * x + sin * y, cos * y - sin * x
    return 2 * c * np.sqrt(np.maximum(1 - (u / a) ** 2 - (v / b) ** 2, 0))


def _body(anatomy: Anatomy, x: Map, y: Map) -> Map:
    """Return each ray's length in the trunk (a narrowing cylinder), neck, shoulders and arms."""
    half = _wall(anatomy, y) + anatomy.fat
    trunk = 2 * anatomy.depth * np.sqrt(np.maximum(1 - (x / half) ** 2, 0))
    trunk *= np.clip((y + 1.15) / 0.35, 0.35, 1)
    neck = _chord(x, y + 1.15, 0.26, 0.45, 0.26)
    shoulders = _chord(np.abs(x) - 0.55, y + 0.78, 0.60, 0.17, 0.24, 0.42)
    reach = 1.22 - 0.2 * anatomy.arm
    arms = _chord(np.abs(x) - reach, y + 0.25, 0.15, 0.85, 0.17, -0.10)
    return np.maximum.reduce([trunk, neck, shoulders]) + arms


def _wall(anatomy: Anatomy, y: Map) -> Map:
    """Return the distance of the ribs' outer side from the midline at each height."""
    above, below = np.clip(-y - 0.1, 0, 1), np.clip(y - 0.1, 0, 1.2)
    return anatomy.half_width * (1 - 0.62 * above**1.8 - 0.06 * below**2)


def _lungs(anatomy: Anatomy, exposure: Exposure, x: Map, y: Map) -> Map:
    """Return each ray's length in the air-filled lungs, which end at the diaphragm's domes."""
    air = np.zeros_like(x)
    for side, dome in zip((-1.0, 1.0), anatomy.diaphragm, strict=True):
        floor = dome + exposure.breath
        bottom = 0.95  # the lungs continue behind the dome, which hides them
        centre = (anatomy.lung_top + bottom) / 2
        u = side * x - 0.415
        # The inner border is steeper than the outer one, and the apex leans inwards.
        lean = u - 0.10 * (y - 0.2)
        width = np.where(u < 0, 0.97, 1.03) * anatomy.lung_width
        height = (bottom - anatomy.lung_top) / 2
        shape = np.abs(lean / width) ** 2.3 + np.abs((y - centre) / height) ** 2.6
        lung = 2 * 0.80 * anatomy.depth * np.sqrt(np.maximum(1 - shape, 0))
        # The dome rises towards the middle and falls to the angle at the ribs.
        edge = floor + 1.1 * (u + 0.02) ** 2 + 0.14 * np.clip(u, 0, 1)
        air += lung * _soft_step(edge - y, 0.012)
    return air


def _mediastinum(anatomy: Anatomy, x: Map, y: Map) -> tuple[Map, Map]:
    """Return each ray's length in heart and great vessels, and in the lungs' vessels."""
    size = anatomy.heart_size
    left = _chord(x - 0.13, y - 0.28, 0.33 * size, 0.24 * size, 0.27, anatomy.heart_tilt)
    right = _chord(x + 0.08, y - 0.25, 0.17 * size, 0.25 * size, 0.20)
    trunk = _chord(x - 0.01, y + 0.22, 0.135, 0.42, 0.17)
    arch = _chord(x - 0.11, y + 0.22, 0.085, 0.10, 0.12)
    heart = np.maximum.reduce([left, right, trunk, arch])
    vessels = np.zeros_like(x)
    for side in (-1.0, 1.0):
        u, v = side * x - 0.17, y - 0.02
        for slope, reach, radius in VESSELS:
            length = math.hypot(1, slope)
            along, across = (u + slope * v) / length, (v - slope * u) / length
            taper = radius * np.clip(1 - along / reach, 0, 1) * (along > -0.03)
            vessels += 2 * np.sqrt(np.maximum(taper**2 - across**2, 0))
        vessels += _chord(u, v, 0.075, 0.13, 0.035, -0.3)  # the hilum
    return heart, vessels


def _skeleton(anatomy: Anatomy, x: Map, y: Map) -> Map:
    """Return each ray's length in bone: spine, ribs front and back, clavicles."""
    half = _wall(anatomy, y)
    width = anatomy.spine_width
    spine = 0.10 * np.sqrt(np.maximum(1 - (x / width) ** 2, 0))
    discs = 0.5 + 0.5 * np.cos(2 * np.pi * y / anatomy.rib_gap)
    bone = spine * (0.72 + 0.28 * discs)
    distance = np.abs(x)
    across = distance / half
    # Near the sides a ray runs along the rib: its length grows by 1 / cos(slant), bounded.
    slant = 1 / np.sqrt(np.maximum(1 - across**2, 0.06))
    for rib in range(RIB_PAIRS):
        start = anatomy.lung_top - 0.10 + rib * anatomy.rib_gap
        reach = min(1.0, 0.62 + 0.09 * rib)  # the upper ribs are short
        inside = (across < reach * 1.02) & (distance > 0.5 * width)
        u = np.minimum(across / reach, 1)
        back = start - 0.20 * u * (1 - u) + anatomy.rib_droop * u**2.2
        bone += _tube(y - back, anatomy.rib_radius) * slant * inside
        if 1 <= rib <= 7:
            # The front of the rib falls towards the middle and ends in invisible cartilage.
            front = start + anatomy.rib_droop + 0.42 * (1 - u) - 0.14 * (1 - u) ** 2
            seen = inside * np.clip((u - 0.42) / 0.15, 0, 1)
            bone += 0.45 * _tube(y - front, 1.15 * anatomy.rib_radius) * slant * seen
    u = np.clip((distance - 0.07) / 0.62, 0, 1)
    clavicle = anatomy.lung_top + 0.16 - 0.20 * u + 0.07 * np.sin(2 * np.pi * u)
    seen = (distance > 0.07) & (distance < 0.69)
    return bone + 1.1 * _tube(y - clavicle, 0.030) * seen


def _stomach(anatomy: Anatomy, exposure: Exposure, x: Map, y: Map) -> Map:
    """Return each ray's length in the air bubble under the dome at the image's right."""
    if anatomy.stomach < 0.02:
        return np.zeros_like(x)
    floor = anatomy.diaphragm[1] + exposure.breath
    return _chord(x - 0.45, y - floor - 0.16, 2.2 * anatomy.stomach, anatomy.stomach, 0.18)


def _consolidation(lesions: tuple[Lesion, ...], x: Map, y: Map, rng: np.random.Generator) -> Map:
    """Return the fraction of the lungs' air on each ray that is fluid, 0 to 1."""
    filled = np.zeros_like(x)
    if not lesions:
        return filled
    size = x.shape[0]
    noise = rng.standard_normal(x.shape, dtype=np.float32)
    texture = ndimage.gaussian_filter(noise, size / 26, mode="wrap")
    sparse = 1 - _soft_step(texture, float(texture.std()) / 2.2)
    for lesion in lesions:
        u, v = (x - lesion.x) / lesion.width, (y - lesion.y) / lesion.height
        blob = np.exp(-0.5 * (u**2 + v**2) ** 1.4)
        filled = 1 - (1 - filled) * (1 - lesion.density * blob * (1 - lesion.grain * sparse))
    return filled


def _tube(distance: Map, radius: float) -> Map:
    """Return each ray's length in a tube, at ``distance`` from its axis."""
    return 2 * np.sqrt(np.maximum(radius**2 - distance**2, 0))


def _soft_step(distance: Map, width: float) -> Map:
    """Return a sigmoid step from 0 to 1 at distance 0, over about ``width``."""
    return 1 / (1 + np.exp(-np.clip(distance / width, -30, 30)))


def _png(image: NDArray[np.uint8]) -> bytes:
    """Encode an image as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


PHANTOM = SourceReader(
    collect_phantoms,
    lambda settings, root: dict.fromkeys(CLASSES, settings.phantom.train_per_class),
)
