"""The Inception-v3 network that FID is defined on, and its pooled features.

Its weights are those of TensorFlow's graph of 2015-12-05, under the key names of the usual
PyTorch port. It differs from the Inception-v3 of model collections (Szegedy et al., 2016): the
average pools of the mixed blocks leave the padding out of the count, and the last block pools by
maximum.
"""

from collections import OrderedDict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..common.errors import UserError
from ..common.files import sha256_of_file
from ..common.weights import find_weights
from ..config.registry import INPUT_SCALINGS, RESIZES, load

# The features of each width are taken after: the first and the second max pooling, Mixed_6e, and
# Mixed_7c, and averaged over the map.
LAST_LAYER = {64: "pool1", 192: "pool2", 768: "Mixed_6e", 2048: "Mixed_7c"}


class ConvolutionBlock(nn.Module):
    """Convolution without bias, batch normalisation, ReLU.

    Once the weights are loaded, ``fuse`` folds the normalisation into the convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(out_channels, eps=0.001)

    def fuse(self) -> None:
        """Fold the normalisation into the convolution; the network can no longer be trained."""
        assert isinstance(self.bn, nn.BatchNorm2d)
        self.conv, self.bn = fuse_conv_bn_eval(self.conv, self.bn), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in, h, w) to (n, out, h', w')."""
        return F.relu(self.bn(self.conv(x)), inplace=True)


def _average(x: Tensor) -> Tensor:
    """Average over 3x3 pixels, without the padding in the count."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def _chain(*blocks: ConvolutionBlock) -> list[ConvolutionBlock]:
    """List the convolutions of one branch."""
    return list(blocks)


class Mixed(nn.Module):
    """Parallel branches on one input, joined along the channels.

    ``branches`` names the convolutions of each branch in order, as the weights do. The branch
    called ``pool`` starts with average pooling; ``joined_pool`` adds a bare max pooling.
    """

    def __init__(self, branches: dict[str, list[ConvolutionBlock]], joined_pool: bool) -> None:
        super().__init__()
        self._branches: list[list[str]] = []
        self._joined_pool = joined_pool
        for name, blocks in branches.items():
            suffixes = [""] if len(blocks) == 1 else [f"_{i + 1}" for i in range(len(blocks))]
            self._branches.append([f"branch{name}{suffix}" for suffix in suffixes])
            for suffix, block in zip(suffixes, blocks, strict=True):
                self.add_module(f"branch{name}{suffix}", block)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in, h, w) to (n, sum of the branches, h', w')."""
        outputs = []
        for names in self._branches:
            y = _average(x) if names[0].startswith("branch_pool") else x
            for name in names:
                y = self.get_submodule(name)(y)
            outputs.append(y)
        if self._joined_pool:
            outputs.append(F.max_pool2d(x, 3, stride=2))
        return torch.cat(outputs, 1)


def _mixed_5(inputs: int, pooled: int) -> Mixed:
    """Make a block Mixed_5: 64 + 64 + 96 + ``pooled`` channels."""
    block = ConvolutionBlock
    return Mixed(
        {
            "1x1": _chain(block(inputs, 64, 1)),
            "5x5": _chain(block(inputs, 48, 1), block(48, 64, 5, padding=2)),
            "3x3dbl": _chain(
                block(inputs, 64, 1), block(64, 96, 3, padding=1), block(96, 96, 3, padding=1)
            ),
            "_pool": _chain(block(inputs, pooled, 1)),
        },
        joined_pool=False,
    )


def _mixed_6a() -> Mixed:
    """Make the block Mixed_6a, which halves the map: 768 channels."""
    block = ConvolutionBlock
    return Mixed(
        {
            "3x3": _chain(block(288, 384, 3, stride=2)),
            "3x3dbl": _chain(
                block(288, 64, 1), block(64, 96, 3, padding=1), block(96, 96, 3, stride=2)
            ),
        },
        joined_pool=True,
    )


def _mixed_6(width: int) -> Mixed:
    """Make a block Mixed_6b to Mixed_6e: 768 channels; ``width`` are those inside its branches."""

    def across(inputs: int, outputs: int) -> ConvolutionBlock:
        return ConvolutionBlock(inputs, outputs, (1, 7), padding=(0, 3))

    def down(inputs: int, outputs: int) -> ConvolutionBlock:
        return ConvolutionBlock(inputs, outputs, (7, 1), padding=(3, 0))

    block = ConvolutionBlock
    return Mixed(
        {
            "1x1": _chain(block(768, 192, 1)),
            "7x7": _chain(block(768, width, 1), across(width, width), down(width, 192)),
            "7x7dbl": _chain(
                block(768, width, 1),
                down(width, width),
                across(width, width),
                down(width, width),
                across(width, 192),
            ),
            "_pool": _chain(block(768, 192, 1)),
        },
        joined_pool=False,
    )


def _mixed_7a() -> Mixed:
    """Make the block Mixed_7a, which halves the map: 1280 channels."""
    block = ConvolutionBlock
    return Mixed(
        {
            "3x3": _chain(block(768, 192, 1), block(192, 320, 3, stride=2)),
            "7x7x3": _chain(
                block(768, 192, 1),
                block(192, 192, (1, 7), padding=(0, 3)),
                block(192, 192, (7, 1), padding=(3, 0)),
                block(192, 192, 3, stride=2),
            ),
        },
        joined_pool=True,
    )


class Mixed7(nn.Module):
    """One of the last two blocks, whose 3x3 branches fork into a row and a column."""

    def __init__(self, inputs: int, pool_by_maximum: bool) -> None:
        super().__init__()
        block = ConvolutionBlock
        self.branch1x1 = block(inputs, 320, 1)
        self.branch3x3_1 = block(inputs, 384, 1)
        self.branch3x3_2a = block(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = block(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = block(inputs, 448, 1)
        self.branch3x3dbl_2 = block(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = block(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = block(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = block(inputs, 192, 1)
        self._pool_by_maximum = pool_by_maximum

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in, h, w) to (n, 2048, h, w)."""
        short = self.branch3x3_1(x)
        long = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, 3, stride=1, padding=1) if self._pool_by_maximum else _average(x)
        branches = [
            self.branch1x1(x),
            self.branch3x3_2a(short),
            self.branch3x3_2b(short),
            self.branch3x3dbl_3a(long),
            self.branch3x3dbl_3b(long),
            self.branch_pool(pooled),
        ]
        return torch.cat(branches, 1)


def _layers() -> "OrderedDict[str, nn.Module]":
    """Make the network's layers up to its last map, by their names in the weights."""
    block = ConvolutionBlock
    return OrderedDict(
        Conv2d_1a_3x3=block(3, 32, 3, stride=2),
        Conv2d_2a_3x3=block(32, 32, 3),
        Conv2d_2b_3x3=block(32, 64, 3, padding=1),
        pool1=nn.MaxPool2d(3, 2),
        Conv2d_3b_1x1=block(64, 80, 1),
        Conv2d_4a_3x3=block(80, 192, 3),
        pool2=nn.MaxPool2d(3, 2),
        Mixed_5b=_mixed_5(192, 32),
        Mixed_5c=_mixed_5(256, 64),
        Mixed_5d=_mixed_5(288, 64),
        Mixed_6a=_mixed_6a(),
        Mixed_6b=_mixed_6(128),
        Mixed_6c=_mixed_6(160),
        Mixed_6d=_mixed_6(160),
        Mixed_6e=_mixed_6(192),
        Mixed_7a=_mixed_7a(),
        Mixed_7b=Mixed7(1280, pool_by_maximum=False),
        Mixed_7c=Mixed7(2048, pool_by_maximum=True),
    )


class InceptionExtractor(nn.Module):
    """The FID network up to the layer that gives ``dims`` features.

    Args:
        dims: 64, 192, 768 or 2048.
        resize: key of ``registry.RESIZES``.
        scaling: key of ``registry.INPUT_SCALINGS``.
    """

    name = "inception"
    fingerprint = ""  # set with the weights

    def __init__(self, dims: int, resize: str = "pytorch-fid", scaling: str = "standard") -> None:
        super().__init__()
        self.dims = dims
        self._resize, self._scale = load(RESIZES[resize]), load(INPUT_SCALINGS[scaling])
        for name, layer in _layers().items():
            self.add_module(name, layer)
            if name == LAST_LAYER[dims]:
                break

    def forward(self, images: Tensor) -> Tensor:
        """Compute features, float32 (n, dims), of uint8 images (n, h, w), the channel repeated."""
        # Resizing one channel and repeating it is the same as resizing three equal ones.
        x = self._scale(self._resize(images.unsqueeze(1).float())).expand(-1, 3, -1, -1)
        x = x.contiguous(memory_format=torch.channels_last)
        for layer in self.children():
            x = layer(x)
        return x.mean(dim=(2, 3))


def load_inception(
    path: Path,
    dims: int,
    device: torch.device,
    resize: str = "pytorch-fid",
    scaling: str = "standard",
) -> InceptionExtractor:
    """Load the extractor with the weights of a file.

    Args:
        path: file of the usual port, or a part of it with the layers that ``dims`` needs, also
            within a checkpoint or with a wrapper's names; no code in it is run.
        dims: 64, 192, 768 or 2048.
        device: device to run on.
        resize: key of ``registry.RESIZES``.
        scaling: key of ``registry.INPUT_SCALINGS``.

    Raises:
        UserError: if the file is missing, damaged, or lacks weights that ``dims`` needs.
    """
    # Read the file.
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file of weights") from None
    except Exception as error:  # whatever a damaged or hostile file makes torch raise
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} is no file of weights: {reason}") from error
    # Load the weights. Features do not depend on the counters of batches, which old files lack.
    network = InceptionExtractor(dims, resize, scaling)
    wanted = {name for name in network.state_dict() if not name.endswith("num_batches_tracked")}
    try:
        weights = find_weights(content, wanted)
    except ValueError as error:
        raise UserError(f"{path} is no file of weights: {error}") from error
    if missing := sorted(wanted - weights.keys()):
        raise UserError(
            f"{path} lacks {len(missing)} tensors that {dims} features need, such as "
            f"{missing[0]}; use fewer dims or the full file"
        )
    try:
        network.load_state_dict({name: weights[name] for name in wanted}, strict=False)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} is of another network: {reason}") from error
    network.eval()
    network.fingerprint = f"inception {dims} {resize} {scaling} {sha256_of_file(path)}"
    return optimize_for_inference(network).to(device)


def optimize_for_inference(network: InceptionExtractor) -> InceptionExtractor:
    """Make inference fast: fold the normalisation in, and lay tensors out as channels_last.

    The network can no longer be trained.
    """
    for module in network.modules():
        if isinstance(module, ConvolutionBlock):
            module.fuse()
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
