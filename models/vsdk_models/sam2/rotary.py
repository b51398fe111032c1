"""Rotary position encoding in two dimensions, by halves.

SAM-2 rotates neighbouring channels `(2i, 2i + 1)` by the token's row or column times a frequency. With the channels of
queries and keys reordered once, in the weights, the pairs become `(i, i + half)`: the scores are the same sums in
another order, and each half is a projection of its own instead of every second value.
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


class RotaryProjection(nn.Module):
    """A projection of tokens whose outputs turn by where each token is.

    Args:
        projection: What comes before the rotation.
        turns: Cosines and sines of the tokens, each `[tokens, channels // 2]`.
        scale: What all outputs are multiplied by.
    """

    cosines: Tensor
    sines: Tensor

    def __init__(self, projection: nn.Linear, turns: tuple[Tensor, Tensor], scale: float = 1.0) -> None:
        super().__init__()
        self.first, self.second = (_every_second(projection, start, scale) for start in range(2))
        self.register_buffer("cosines", turns[0])
        self.register_buffer("sines", turns[1])

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The two halves of the channels, from `[..., tokens, channels]`; the caller joins them."""
        first, second = self.in_place(tokens)
        return first * self.cosines - second * self.sines, second * self.cosines + first * self.sines

    def in_place(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The same for tokens that are nowhere, so that nothing turns."""
        return self.first(tokens), self.second(tokens)


def _every_second(projection: nn.Linear, start: int, scale: float) -> nn.Linear:
    """The first or the second channel of each pair, times `scale`."""
    half = nn.Linear(projection.in_features, projection.out_features // 2)
    with torch.no_grad():
        half.weight.copy_(projection.weight[start::2] * scale)
        half.bias.copy_(projection.bias[start::2] * scale)
    return half
