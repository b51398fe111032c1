"""Hiera, SAM-2's trunk, for export.

The arithmetic is that of `Sam2HieraDetModel` (transformers, `modeling_sam2.py`; paper: Ryali et al., "Hiera: A
Hierarchical Vision Transformer without the Bells-and-Whistles", ICML 2023), written so that it exports to few operators
on tensors of at most five axes. What differs changes rounding only:

* the position embedding for the one image size is a constant;
* tokens lie window by window from the patches on, and are laid out anew only where the windows change;
* in the first two stages, whose maps are large, attention never leaves a window, so they are passed through in strips:
  what one layer writes is still in the processor's cache when the next one reads it;
* only queries have a bias: that of keys adds the same to all scores of a query, which a softmax does not see, and that
  of values passes through weights whose sum is 1, so it went into the bias behind them;
* queries, keys and values are projected before windows are padded, so that no padding goes through a matrix product; a
  padded token is zero before the projection, and without a bias it is zero after it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIPS = 4
"""In so many parts the map passes through the first two stages."""


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
        self.side = side = image_size // self.patches.stride[0]
        self.ends = tuple(model.stage_ends)
        self.blocks: Any = nn.ModuleList()
        for block in model.blocks:
            self.blocks.append(HieraBlock(block, side))
            side = self.blocks[-1].side_after
        with torch.no_grad():
            self.register_buffer("positions", model._get_pos_embed((self.side, self.side)).clone())

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """From `[batch, 3, side, side]` to one map `[batch, height, width, channels]` for each stage."""
        hidden = self.patches(pixels).permute(0, 2, 3, 1) + self.positions
        layout, stages = self.blocks[0].layout, []
        hidden = laid_out(hidden.flatten(1, 2).unsqueeze(1), self.side, self.side, layout)
        strips = list(hidden.chunk(STRIPS, dim=1))
        for index, block in enumerate(self.blocks):
            if block.layout != layout or index > self.ends[1]:
                strips = [laid_out(_whole(strips), block.side, layout, block.layout)]
            strips = [block(strip) for strip in strips]
            side, layout = block.side_after, block.layout_after
            if index in self.ends:
                stages.append(laid_out(_whole(strips), side, layout, side).unflatten(2, (side, side)).squeeze(1))
        return stages


class HieraBlock(nn.Module):
    """One block of Hiera: attention in windows or over the whole map, where a stage begins with pooled queries.

    Args:
        block: A `Sam2MultiScaleBlock` of transformers.
        side: Of the map that comes in, in tokens.

    Attributes:
        layout: Side of the windows by which its tokens come; that of the map if its windows do not tile the map.
        side_after, layout_after: The same of what goes: half where the block pools.
    """

    def __init__(self, block: Any, side: int) -> None:
        super().__init__()
        self.side, self.window = side, block.window_size or side
        self.padding = -side % self.window
        self.layout = side if self.padding else self.window
        self.heads = block.attn.num_attention_heads
        self.pools = block.query_stride is not None
        shrink = 2 if self.pools else 1
        self.side_after, self.layout_after = side // shrink, self.layout // shrink
        if block.mlp.layers or (self.pools and tuple(block.query_stride) != (2, 2)):
            raise ValueError("a Hiera block has two layers in its MLP and pools by 2, if at all")
        self.norm1, self.norm2 = block.layer_norm1, block.layer_norm2
        weights, biases = block.attn.qkv.weight.detach().chunk(3), block.attn.qkv.bias.detach().chunk(3)
        self.query = _linear(block.attn.scale * weights[0], block.attn.scale * biases[0])
        self.key, self.value = _linear(weights[1]), _linear(weights[2])
        out = block.attn.proj
        self.out = _linear(out.weight.detach(), out.bias.detach() + out.weight.detach() @ biases[2])
        self.mlp = nn.Sequential(block.mlp.proj_in, block.mlp.activation, block.mlp.proj_out)
        self.skip = block.proj if block.dim != block.dim_out else None

    def forward(self, hidden: Tensor) -> Tensor:
        """From `[batch, windows, tokens, channels]` to the same, or to a quarter of the tokens if the block pools."""
        normed = self.norm1(hidden)
        parts = (self.query(normed), self.key(normed), self.value(normed))
        if self.padding:
            mixed = self._without_padding(self._attention(*(self._padded(part) for part in parts)))
        else:
            mixed = self._attention(*parts)
        if self.skip is not None:
            hidden = self.skip(normed)
        if self.pools:
            hidden = _pooled(hidden, self.layout)
        hidden = hidden + self.out(mixed)
        return hidden + self.mlp(self.norm2(hidden))

    def _attention(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attention within each window, `[batch, windows, tokens, channels]`."""
        if self.pools:
            query = _pooled(query, self.window)
        windows, tokens, channels = query.shape[1:]
        query, key, value = (self._by_head(part) for part in (query, key, value))
        mixed = (query @ key.transpose(1, 2)).softmax(dim=-1) @ value
        if self.heads > 1:
            mixed = mixed.reshape(-1, self.heads, tokens, channels // self.heads).transpose(1, 2)
        return mixed.reshape(-1, windows, tokens, channels)

    def _by_head(self, part: Tensor) -> Tensor:
        """`[batch * windows * heads, tokens, channels / heads]`."""
        tokens, channels = part.shape[2:]
        if self.heads > 1:
            part = part.reshape(-1, tokens, self.heads, channels // self.heads).transpose(1, 2)
        return part.reshape(-1, tokens, channels // self.heads)

    def _padded(self, part: Tensor) -> Tensor:
        """From the map to windows, the last of which hold zeros as well."""
        padded = F.pad(part.unflatten(2, (self.side, self.side)), (0, 0, 0, self.padding, 0, self.padding))
        side = self.side + self.padding
        return laid_out(padded.flatten(2, 3), side, side, self.window)

    def _without_padding(self, windows: Tensor) -> Tensor:
        """The opposite of `_padded`."""
        shrink = self.side // self.side_after
        padded = (self.side + self.padding) // shrink
        tokens = laid_out(windows, padded, self.window // shrink, padded).unflatten(2, (padded, padded))
        return tokens[:, :, : self.side_after, : self.side_after].flatten(2, 3)


def _whole(strips: list[Tensor]) -> Tensor:
    return torch.cat(strips, dim=1) if len(strips) > 1 else strips[0]


def laid_out(tokens: Tensor, side: int, old: int, new: int) -> Tensor:
    """Tokens of a square map in the order of other windows.

    Args:
        tokens: `[batch, windows, tokens, channels]`; both windows and the tokens of each go row by row.
        side: Of the map, in tokens.
        old: Side of the windows that they come in; that of the map is one window.
        new: Side of the windows that they are wanted in.
    """
    if old == new:
        return tokens
    channels = tokens.shape[-1]
    if old != side:
        rows = tokens.reshape(-1, side // old, old, old * channels).transpose(1, 2)
        tokens = rows.reshape(-1, 1, side * side, channels)
    if new != side:
        rows = tokens.reshape(-1, new, side // new, new * channels).transpose(1, 2)
        tokens = rows.reshape(-1, (side // new) ** 2, new * new, channels)
    return tokens


def _pooled(tokens: Tensor, window: int) -> Tensor:
    """The largest of each 2x2 tokens of windows; cheaper than to the channels and back."""
    windows, channels = tokens.shape[1], tokens.shape[-1]
    rows = tokens.reshape(-1, 2, window * channels).amax(1)
    return rows.reshape(-1, 2, channels).amax(1).reshape(-1, windows, window * window // 4, channels)


def _linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer
