"""RepViT-M1, EdgeTAM's image encoder, under the names that timm gives its weights.

A convolutional network whose depthwise convolutions are trained as three branches (3x3, 1x1 and the input itself), each
with its batch norm. `fused` turns every group of them into one convolution, which changes rounding only. Paper: Wang et
al., "RepViT: Revisiting Mobile CNN From ViT Perspective" (CVPR 2024). The names and the arithmetic are those of timm's
`repvit_m1` with `features_only` (Apache-2.0), so that neither timm nor torchvision is needed.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (48, 96, 192, 384)
DEPTHS = (2, 2, 14, 2)
_EXPANSION = 2  # of the two pointwise convolutions that mix channels
_SQUEEZE = 4  # how much narrower the inside of a gate is, rounded to a multiple of 8


class RepVit(nn.Module):
    """From pixels to one map for each of four stages, at strides 4, 8, 16 and 32.

    Args:
        widths: Channels of each stage.
        depths: Blocks of each stage.
    """

    def __init__(self, widths: Sequence[int] = WIDTHS, depths: Sequence[int] = DEPTHS) -> None:
        super().__init__()
        self.stem = Stem(widths[0])
        before = widths[0]
        for number, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            self.add_module(f"stages_{number}", Stage(before, width, depth, shrinks=number > 0))
            before = width

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """From `[batch, 3, height, width]` to maps `[batch, channels, height, width]`, large ones first."""
        features = self.stem(pixels)
        maps = []
        for name, stage in self.named_children():
            if name != "stem":
                features = stage(features)
                maps.append(features)
        return maps


class ConvNorm(nn.Module):
    """A convolution and its batch norm."""

    def __init__(self, into: int, out: int, side: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.c = nn.Conv2d(into, out, side, stride, padding=side // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out)

    def forward(self, features: Tensor) -> Tensor:
        """From `[batch, into, height, width]` to `[batch, out, ...]`."""
        normed: Tensor = self.bn(self.c(features))
        return normed

    def kernel(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the one convolution that does the same, in double precision."""
        mean, variance, scale, shift = self.bn.running_mean, self.bn.running_var, self.bn.weight, self.bn.bias
        assert mean is not None
        assert variance is not None
        factor = scale.detach().double() / (variance.double() + self.bn.eps).sqrt()
        weight = self.c.weight.detach().double() * factor[:, None, None, None]
        return weight, shift.detach().double() - mean.double() * factor

    def fused(self) -> nn.Conv2d:
        """One convolution with a bias."""
        return _with_kernel(self.c, *self.kernel())


class TokenMixer(nn.Module):
    """A depthwise convolution in three branches."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = ConvNorm(width, width, 3, groups=width)
        self.conv1 = ConvNorm(width, width, 1, groups=width)

    def forward(self, features: Tensor) -> Tensor:
        """From `[batch, width, height, width]` to the same shape."""
        mixed: Tensor = self.conv(features) + self.conv1(features) + features
        return mixed

    def fused(self) -> nn.Conv2d:
        """One 3x3 convolution: the other two branches are kernels with only a middle."""
        weight, bias = self.conv.kernel()
        middle, more = self.conv1.kernel()
        return _with_kernel(self.conv.c, weight + F.pad(middle + 1, (1, 1, 1, 1)), bias + more)


class Gate(nn.Module):
    """Squeeze and excitation: each channel is scaled by what the means of all channels say."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = max(8, (width // _SQUEEZE + 4) // 8 * 8)
        self.fc1, self.fc2 = nn.Conv2d(width, inner, 1), nn.Conv2d(inner, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        """From `[batch, width, height, width]` to the same shape."""
        gate: Tensor = self.fc2(self.fc1(features.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return features * gate


class ChannelMixer(nn.Module):
    """Two pointwise convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(width, _EXPANSION * width, 1)
        self.conv2 = ConvNorm(_EXPANSION * width, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        """From `[batch, width, height, width]` to the same shape."""
        mixed: Tensor = self.conv2(F.gelu(self.conv1(features)))
        return mixed


class Block(nn.Module):
    """Tokens are mixed, then channels; every second block has a gate in between."""

    def __init__(self, width: int, *, gated: bool) -> None:
        super().__init__()
        self.token_mixer = TokenMixer(width)
        self.se = Gate(width) if gated else nn.Identity()
        self.channel_mixer = ChannelMixer(width)

    def forward(self, features: Tensor) -> Tensor:
        """From `[batch, width, height, width]` to the same shape."""
        features = self.se(self.token_mixer(features))
        mixed: Tensor = features + self.channel_mixer(features)
        return mixed


class Stem(nn.Module):
    """Two convolutions that halve the size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(3, width // 2, 3, stride=2)
        self.conv2 = ConvNorm(width // 2, width, 3, stride=2)

    def forward(self, pixels: Tensor) -> Tensor:
        """From `[batch, 3, height, width]` to `[batch, width, height / 4, width / 4]`."""
        features: Tensor = self.conv2(F.gelu(self.conv1(pixels)))
        return features


class Downsample(nn.Module):
    """Half the size, and the channels of the next stage."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.pre_block = Block(before, gated=False)
        self.spatial_downsample = ConvNorm(before, before, 3, stride=2, groups=before)
        self.channel_downsample = ConvNorm(before, width, 1)
        self.ffn = ChannelMixer(width)

    def forward(self, features: Tensor) -> Tensor:
        """From `[batch, before, height, width]` to `[batch, width, height / 2, width / 2]`."""
        features = self.channel_downsample(self.spatial_downsample(self.pre_block(features)))
        mixed: Tensor = features + self.ffn(features)
        return mixed


class Stage(nn.Module):
    """Blocks of one width, behind a downsampling in all stages but the first."""

    def __init__(self, before: int, width: int, depth: int, *, shrinks: bool) -> None:
        super().__init__()
        self.downsample = Downsample(before, width) if shrinks else nn.Identity()
        self.blocks = nn.Sequential(*(Block(width, gated=number % 2 == 0) for number in range(depth)))

    def forward(self, features: Tensor) -> Tensor:
        """From the map of the stage before to this one's."""
        features = self.blocks(self.downsample(features))
        return features


def fused(backbone: RepVit) -> RepVit:
    """A copy for inference: batch norms and branches are folded into single convolutions.

    Its outputs are those of the backbone in evaluation mode, up to rounding. It has other weights by other names.
    """
    with torch.no_grad():
        copied = copy.deepcopy(backbone)
        _fuse(copied)
    return copied.eval()


def _fuse(module: nn.Module) -> None:
    for name, child in list(module.named_children()):
        if isinstance(child, (ConvNorm, TokenMixer)):
            setattr(module, name, child.fused())
        else:
            _fuse(child)


def _with_kernel(like: nn.Conv2d, weight: Tensor, bias: Tensor) -> nn.Conv2d:
    """A convolution of the same geometry with this weight and bias."""
    padding = tuple(int(side) // 2 for side in like.kernel_size)
    convolution = nn.Conv2d(
        like.in_channels, like.out_channels, (weight.shape[2], weight.shape[3]), (like.stride[0], like.stride[1]),
        padding=(padding[0], padding[1]), groups=like.groups,
    )  # fmt: skip
    with torch.no_grad():
        convolution.weight.copy_(weight)
        assert convolution.bias is not None
        convolution.bias.copy_(bias)
    return convolution
