"""SAM-2's image encoder for export: Hiera with its position embedding baked in, the neck, and the folded convolutions.

The arithmetic is that of `Sam2VisionModel` (transformers, `modeling_sam2.py`; paper: Ravi et al., "SAM 2: Segment
Anything in Images and Videos", section 4), written so that it exports to few operators on tensors of at most five axes:

* the position embedding for the one image size is a constant;
* queries, keys and values are projected before windows are padded, so that no padding goes through a matrix product;
  a padded token is zero before the projection, so after it, it is the bias;
* two 1x1 convolutions in a row, the neck's and the mask decoder's for high resolution, are one.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class HieraBlock(nn.Module):
    """One block of Hiera: attention in windows or over the whole map, where a stage begins with pooled queries.

    Args:
        block: A `Sam2MultiScaleBlock` of transformers.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.norm1, self.norm2 = block.layer_norm1, block.layer_norm2
        self.qkv, self.out = block.attn.qkv, block.attn.proj
        self.mlp = nn.Sequential(block.mlp.proj_in, block.mlp.activation, block.mlp.proj_out)
        self.skip = block.proj if block.dim != block.dim_out else None
        self.window = block.window_size
        self.heads = block.attn.num_attention_heads
        self.pools = block.query_stride is not None
        self.scale = block.attn.scale
        if block.mlp.layers or (self.pools and tuple(block.query_stride) != (2, 2)):
            raise ValueError("a Hiera block has two layers in its MLP and pools by 2, if at all")

    def forward(self, hidden: Tensor) -> Tensor:
        """From `[batch, height, width, channels]` to the same, or to half the size where the block pools."""
        height, width = hidden.shape[1:3]
        window = self.window or height
        normed = self.norm1(hidden)
        attended = self._attention(_windows(self._projected(normed, window), window), window)
        if self.pools:
            height, width, window = height // 2, width // 2, window // 2
        if self.skip is not None:
            hidden = _pooled(self.skip(normed)) if self.pools else self.skip(normed)
        hidden = hidden + self.out(_joined(attended, window, height, width))
        return hidden + self.mlp(self.norm2(hidden))

    def _projected(self, normed: Tensor, window: int) -> Tensor:
        """Queries, keys and values `[batch, padded height, padded width, 3 * channels]`."""
        bottom, right = -normed.shape[1] % window, -normed.shape[2] % window
        if not bottom and not right:
            return self.qkv(normed)
        return F.pad(F.linear(normed, self.qkv.weight), (0, 0, 0, right, 0, bottom)) + self.qkv.bias

    def _attention(self, windows: Tensor, side: int) -> Tensor:
        """Attention within each window, `[windows, tokens, 3 * channels]` to `[windows, tokens, channels]`."""
        query, key, value = windows.chunk(3, dim=-1)
        if self.pools:
            query = _pooled(query.unflatten(1, (side, side))).flatten(1, 2)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (query, key, value))
        mixed = F.scaled_dot_product_attention(query, key, value, scale=self.scale)
        return mixed.transpose(1, 2).flatten(2)


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


class Hiera(nn.Module):
    """The trunk.

    Args:
        model: A `Sam2HieraDetModel` of transformers.
        image_size: Side of the input in pixels.
    """

    positions: Tensor

    def __init__(self, model: Any, image_size: int) -> None:
        super().__init__()
        self.patches = model.patch_embed.projection
        side = image_size // self.patches.stride[0]
        with torch.no_grad():
            self.register_buffer("positions", model._get_pos_embed((side, side)).clone())
        self.blocks = nn.ModuleList(HieraBlock(block) for block in model.blocks)
        self.ends = tuple(model.stage_ends)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """From `[batch, 3, side, side]` to one map `[batch, height, width, channels]` for each stage."""
        hidden = self.patches(pixels).permute(0, 2, 3, 1) + self.positions
        stages = []
        for index, block in enumerate(self.blocks):
            hidden = block(hidden)
            if index in self.ends:
                stages.append(hidden)
        return stages


def _windows(hidden: Tensor, side: int) -> Tensor:
    """Cut `[batch, height, width, channels]` into `[windows, side * side, channels]`, without a sixth axis."""
    _, width, channels = hidden.shape[1:]
    rows = hidden.reshape(-1, side, width // side, side * channels)
    return rows.transpose(1, 2).reshape(-1, side * side, channels)


def _joined(windows: Tensor, side: int, height: int, width: int) -> Tensor:
    """The opposite of `_windows`, less the padding."""
    across, down, channels = -(-width // side), -(-height // side), windows.shape[-1]
    rows = windows.reshape(-1, across, side, side * channels).transpose(1, 2)
    return rows.reshape(-1, down * side, across * side, channels)[:, :height, :width]


def _pooled(hidden: Tensor) -> Tensor:
    """The largest of each 2x2 tokens, `[batch, height, width, channels]`; cheaper than to the channels and back."""
    height, width, channels = hidden.shape[1:]
    rows = hidden.reshape(-1, 2, width * channels).amax(1)
    return rows.reshape(-1, 2, channels).amax(1).reshape(-1, height // 2, width // 2, channels)


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
