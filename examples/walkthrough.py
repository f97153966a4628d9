"""The library without the pipeline: load images, train, generate, judge.

Run it with `python -m examples.walkthrough [FOLDER]`, or open it as a notebook whose working
folder is the checkout: `# %%` begins a cell. FOLDER, which may be a zip archive or .npy file, has
images of one kind; without it the images that the pipeline collected are used. It takes a minute on
one core; raise EPOCHS for images worth looking at.
"""

# %% Choose
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from src.common.devices import choose_compute
from src.config.settings import load_settings
from src.data.grids import png, tile
from src.data.image_files import read_images
from src.data.patients import Patients
from src.metrics.extractors import ExtractorRequest, open_extractor
from src.metrics.features import extract_features
from src.metrics.scores import FeatureSample, score_sets
from src.metrics.thumbnails import thumbnails
from src.models.architectures import load_architecture
from src.models.networks import count_parameters
from src.models.sampling import draw_images, draw_latents
from src.training.loop import TrainingCallbacks, train

EPOCHS = 3
SIZE = 64  # pixels a side
OUT = Path("walkthrough")

settings = load_settings(Path("params.yaml"), [f"train.normal.epochs={EPOCHS}"])
compute = choose_compute(settings.compute)

# %% Load images: uint8 (n, size, size), and each one's patient
in_notebook = "ipykernel" in sys.modules  # the arguments are the kernel's there
arguments = sys.argv[1:] if not in_notebook else []
folder = Path(arguments[0] if arguments else "data/images/train/NORMAL")
if not folder.exists():
    sys.exit(f"error: there are no images, {folder}; name a folder, or run `make demo`")
loaded = read_images(folder, SIZE)
images = np.stack(loaded.images)
patients = Patients.from_names(loaded.patient_ids)
print(f"{len(images)} images of {len(set(loaded.patient_ids))} patients")

# %% Build networks
networks = settings.train.normal
classes = load_architecture(networks.architecture)
generator = classes.generator(networks.generator, SIZE)
discriminator = classes.discriminator(networks.discriminator, SIZE)
print(f"{count_parameters(generator):,} and {count_parameters(discriminator):,} parameters")

# %% Train
half = patients.half(np.random.default_rng(0))  # the others judge
others = np.setdiff1d(np.arange(len(images)), half)
trained = train(
    images[half],
    networks,
    compute,
    TrainingCallbacks(
        on_epoch=lambda losses: print(f"epoch {losses.epoch}: g {losses.loss_g:.2f}")
    ),
)

# %% Generate: image i of a seed is always the same
latents = draw_latents([0] * len(others), range(len(others)), networks.generator.noise_width)
drawn = draw_images(trained.generator.eval().cpu(), latents)
OUT.mkdir(exist_ok=True)
(OUT / "generated.png").write_bytes(png(tile(drawn[:32], 8)))
print(Image.open(OUT / "generated.png").size)

# %% Judge, each score beside its interval and floor
cpu = torch.device("cpu")
extractor, _ = open_extractor("pixels", ExtractorRequest(64, cpu))
real, fake = (extract_features(extractor, part, 50, cpu) for part in (images[others], drawn))
judged = FeatureSample(real, patients.take(others), thumbnails(images[others]))
for score in score_sets(
    judged, FeatureSample.of_singletons(fake, thumbnails(drawn)), 5, 32, seed=0
):
    floor = f", floor {score.floor.floor:.3g}" if score.floor else ""
    print(f"{score.metric}: {score.value:.3g}{floor}")
