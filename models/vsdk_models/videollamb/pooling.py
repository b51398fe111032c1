"""Adaptive average pooling as a constant matrix: its bins overlap where sizes do not divide, which no engine likes."""

from __future__ import annotations

import torch
from torch import Tensor


def pooling_matrix(side: int, pooled: int) -> Tensor:
    """What PyTorch's `AdaptiveAvgPool2d(pooled)` does to a square.

    Args:
        side: Side of the square of tokens.
        pooled: Side of the square that it becomes.

    Returns:
        float32 `[pooled * pooled, side * side]`, to be multiplied with tokens in row order.
    """
    line = torch.zeros(pooled, side, dtype=torch.float64)
    for bin_number in range(pooled):
        start, end = bin_number * side // pooled, -(-(bin_number + 1) * side // pooled)
        line[bin_number, start:end] = 1 / (end - start)
    return torch.kron(line, line).to(torch.float32)
