"""SAM-2's image encoder for export: Hiera with its position embedding baked in, the neck, and the folded convolutions.

The arithmetic is that of `Sam2VisionModel` (transformers, `modeling_sam2.py`; paper: Ravi et al., "SAM 2: Segment
Anything in Images and Videos", section 4); `hiera.py` has the trunk. Two 1x1 convolutions in a row, the neck's and the
mask decoder's for high resolution, are one.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TrackerEncoder(nn.Module):
    """Pixels to the three maps that a tracker reads.

    Args:
        trunk: From pixels `[batch, 3, side, side]` to four maps `[batch, height, width, channels]`, large ones first.
        neck: A `Sam2VisionNeck` of transformers.
        decoder: A `Sam2VideoMaskDecoder`, for its two convolutions.
        no_memory: `no_memory_embedding` of the model, `[1, 1, width]`.
    """

    def __init__(self, trunk: nn.Module, neck: Any, decoder: Any, no_memory: Tensor) -> None:
        super().__init__()
        self.trunk = trunk
        lateral = list(neck.convs)[::-1]  # transformers keeps them from the deepest level up
        if sorted(neck.fpn_top_down_levels) != [2, 3] or any(conv.kernel_size != (1, 1) for conv in lateral):
            raise ValueError("the neck adds the deepest level to the third and has 1x1 convolutions")
        self.high0 = _composed(lateral[0], decoder.conv_s0)
        self.high1 = _composed(lateral[1], decoder.conv_s1)
        self.top, self.deepest = lateral[2], lateral[3]
        self.no_memory = nn.Parameter(no_memory.detach().reshape(1, -1, 1, 1).clone(), requires_grad=False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """From `pixels` to `high0`, `high1`, `top`, and `initial`, which is `top` for a frame without a memory."""
        maps = [features.permute(0, 3, 1, 2) for features in self.trunk(pixels)]
        above = F.interpolate(self.deepest(maps[3]), scale_factor=2.0, mode="nearest")
        top = self.top(maps[2]) + above
        return self.high0(maps[0]), self.high1(maps[1]), top, top + self.no_memory


def _composed(first: nn.Conv2d, second: nn.Conv2d) -> nn.Conv2d:
    """One 1x1 convolution that does what two in a row do."""
    weight, bias = first.weight.detach().double().flatten(1), first.bias
    after = second.weight.detach().double().flatten(1)
    assert bias is not None
    assert second.bias is not None
    both = nn.Conv2d(first.in_channels, second.out_channels, kernel_size=1)
    with torch.no_grad():
        both.weight.copy_((after @ weight)[..., None, None])
        assert both.bias is not None
        both.bias.copy_(after @ bias.double() + second.bias.double())
    return both
