"""Layers that the four networks of the nano tracker are made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Stage(nn.Module):
    """A 3x3 convolution of stride 2 and a residual block, with batch normalisation: one level of the encoder."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.norm0 = nn.BatchNorm2d(outputs)
        self.first = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """`[batch, inputs, height, width]` to `[batch, outputs, height / 2, width / 2]`."""
        x = functional.relu(self.norm0(self.down(x)))
        inner = functional.relu(self.norm1(self.first(x)))
        return functional.relu(x + self.norm2(self.second(inner)))


class Residual(nn.Module):
    """Two 3x3 convolutions beside the identity, with group normalisation: objects must not depend on one another."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """`[batch, width, height, across]` to the same shape."""
        return x + self.second(functional.relu(self.first(functional.relu(self.norm(x)))))


class Block(nn.Module):
    """A pre-norm transformer block over the cells of a feature map."""

    def __init__(self, width: int, heads: int = 4, expansion: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, expansion * width)
        self.down = nn.Linear(expansion * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """`[batch, width, g, g]` to the same shape."""
        batch, width, height, across = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        qkv = self.qkv(self.norm1(tokens)).view(batch, height * across, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.out(mixed.transpose(1, 2).reshape(batch, height * across, width))
        tokens = tokens + self.down(functional.gelu(self.up(self.norm2(tokens))))
        return tokens.transpose(1, 2).reshape(batch, width, height, across)


def double(x: Tensor) -> Tensor:
    """Twice the side, bilinearly."""
    return functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def centres(count: int, side: float) -> Tensor:
    """Where the centres of `count` cells lie along a side of that length."""
    return (torch.arange(count, dtype=torch.float32) + 0.5) * (side / count)
