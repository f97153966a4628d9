"""Export a network that knows chest X-rays, for `fid.extractor: module` and `--features module`.

    python -m examples.export_extractor torchxrayvision densenet121.pt2    # 1024 features
    python -m examples.export_extractor rad-dino rad_dino.pt2              # 768 features

Install the package of the network first, `pip install torchxrayvision` or `pip install
transformers`. Each downloads its weights once. The file holds the network with its own resizing and
scaling, so nothing of the package is needed afterwards.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DenseNetFeatures(nn.Module):
    """TorchXRayVision's DenseNet-121 as a function of uint8 images (n, 3, h, w), h = w.

    Cohen et al., 2022 (arXiv 2111.00595). Grey values become [-1024, 1024], images 224 pixels by
    antialiased bilinear resizing, as the package's own `fix_resolution` does.
    """

    SIZE = 224

    def __init__(self, convolutions: nn.Module) -> None:
        """Wrap the network's `features`, from (n, 1, 224, 224) to maps (n, d, rows, columns)."""
        super().__init__()
        self.convolutions = convolutions

    def forward(self, images: Tensor) -> Tensor:
        """Compute features, float32 (n, d): means of the rectified last maps."""
        x = images[:, :1].float() * (2048 / 255) - 1024  # the channels are one grey channel
        x = F.interpolate(x, (self.SIZE, self.SIZE), mode="bilinear", antialias=True)
        return self.convolutions(x).relu().mean(dim=(2, 3))


class RadDinoFeatures(nn.Module):
    """RAD-DINO as a function of uint8 images (n, 3, h, w), h = w.

    Pérez-García et al., 2025 (arXiv 2401.10815). Images are resized by the antialiased bicubic
    filter of Pillow to whole grey values, then standardised.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: nn.Module, size: int, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        """Wrap a vision transformer with the settings of its image processor.

        Args:
            network: from (n, 3, size, size) to an output with `pooler_output` (n, d), the
                embedding of the class token.
            size: pixels a side of its input.
            mean: mean of each channel, of values in [0, 1].
            std: standard deviation of each channel.
        """
        super().__init__()
        self.network, self.size = network, size
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Compute features, float32 (n, d)."""
        x = F.interpolate(images.float(), (self.size, self.size), mode="bicubic", antialias=True)
        x = (x.round().clamp(0, 255) / 255 - self.mean) / self.std
        return self.network(x).pooler_output


def torchxrayvision() -> nn.Module:
    """Load the DenseNet that was trained on all data sets of the package."""
    import torchxrayvision as xrv

    return DenseNetFeatures(xrv.models.DenseNet(weights="densenet121-res224-all").features)


def rad_dino() -> nn.Module:
    """Load RAD-DINO and the settings of its image processor."""
    from transformers import AutoImageProcessor, AutoModel

    name = "microsoft/rad-dino"
    processor = AutoImageProcessor.from_pretrained(name)
    return RadDinoFeatures(
        AutoModel.from_pretrained(name),
        processor.crop_size["height"],
        processor.image_mean,
        processor.image_std,
    )


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "torchxrayvision": torchxrayvision,
    "rad-dino": rad_dino,
}


def export(module: nn.Module, file: Path) -> None:
    """Write a module of uint8 images (n, 3, h, w), of any n, h and w, as a `.pt2` program."""
    example = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    free = dict.fromkeys((0, 2, 3), torch.export.Dim.AUTO)
    with torch.no_grad():
        program = torch.export.export(module.eval(), (example,), dynamic_shapes=(free,))
    torch.export.save(program, file)


def main(arguments: Sequence[str] | None = None) -> None:
    """Export the network that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("file", type=Path, help="to write, named *.pt2")
    chosen = parser.parse_args(arguments)
    if chosen.file.suffix != ".pt2":
        parser.error(f"{chosen.file}: the file's name must end in .pt2")
    try:
        module = NETWORKS[chosen.network]()
    except ImportError as error:
        sys.exit(f"error: {chosen.network} needs its package, see --help: {error}")
    export(module, chosen.file)
    width = module(torch.zeros(2, 3, 64, 64, dtype=torch.uint8)).shape[1]
    print(f"{chosen.file}: set fid.extractor to module, fid.dims to {width}, fid.weights to it")


if __name__ == "__main__":
    main()
