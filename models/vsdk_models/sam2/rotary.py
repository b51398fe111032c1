"""Rotary position encoding in two dimensions, by halves.

SAM-2 rotates neighbouring channels `(2i, 2i + 1)` by the token's row or column times a frequency. With the channels of
queries and keys reordered once, in the weights, the pairs become `(i, i + half)`: the scores are the same sums in
another order, and a rotation needs two contiguous halves instead of every second value.
Source: `Sam2VideoVisionRotaryEmbedding`, `rotate_pairwise` (transformers, `modeling_sam2_video.py`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def angles(channels: int, columns: int, rows: int, base: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines for a map read row by row, each `[rows * columns, channels // 2]`.

    The first half of the pairs turns with the column, the second with the row.
    """
    quarter = channels // 2
    frequencies = 1.0 / (base ** (torch.arange(0, quarter, 2, dtype=torch.float) / quarter))
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    turned = torch.cat([x.reshape(-1, 1) * frequencies, y.reshape(-1, 1) * frequencies], dim=-1)
    return turned.cos(), turned.sin()


def by_halves(projection: nn.Linear, scale: float = 1.0) -> nn.Linear:
    """A projection whose outputs come in the order that `rotate` wants, times `scale`."""
    reordered = nn.Linear(projection.in_features, projection.out_features)
    order = torch.cat([torch.arange(0, projection.out_features, 2), torch.arange(1, projection.out_features, 2)])
    with torch.no_grad():
        reordered.weight.copy_(projection.weight[order] * scale)
        reordered.bias.copy_(projection.bias[order] * scale)
    return reordered


def rotate(tokens: Tensor, cosines: Tensor, sines: Tensor) -> tuple[Tensor, Tensor]:
    """The two rotated halves of `[..., tokens, channels]`, to be joined by the caller."""
    first, second = tokens.chunk(2, dim=-1)
    return first * cosines - second * sines, second * cosines + first * sines
