"""The nano encoder: a convolutional stem that turns 128x128 pixels into 8x8 tokens, then a few transformer blocks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

IMAGE_SIZE = 128
GRID = 8
WIDTH = 192
FLOOR = 0.06
"""Contrast below which a picture counts as flat, in pixel units of -1..1: noise in the dark is not blown up."""


def standardise(pixels: Tensor) -> Tensor:
    """Each picture `[batch, 3, height, width]` with mean 0 and deviation 1 over all its values, unless it is flat.

    What a change of exposure, a flicker or a fade multiplies and adds is gone before the first convolution, without
    having to be learnt; colours keep their relation to one another.
    """
    centred = pixels - _mean(pixels)
    return centred * torch.rsqrt(_mean(centred * centred) + FLOOR**2)


def _mean(pixels: Tensor) -> Tensor:
    """Mean of each picture, axis by axis: engines that add up 49,152 numbers one after the other lose three digits."""
    return pixels.mean(3, keepdim=True).mean(2, keepdim=True).mean(1, keepdim=True)


class Block(nn.Module):
    """A pre-norm transformer block (self-attention, then a GELU multilayer perceptron)."""

    def __init__(self, width: int, heads: int, expansion: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, expansion * width)
        self.down = nn.Linear(expansion * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """`[batch, count, width]` to the same shape."""
        batch, count, width = tokens.shape
        qkv = self.qkv(self.norm1(tokens)).view(batch, count, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.out(mixed.transpose(1, 2).reshape(batch, count, width))
        return tokens + self.down(nn.functional.gelu(self.up(self.norm2(tokens))))


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class NanoEncoder(nn.Module):
    """Pixels `[batch, 3, 128, 128]` float32 in -1..1 to a class token `[batch, 192]` and patches `[batch, 64, 192]`.

    Both outputs come out of the final LayerNorm; neither is of unit length. 1.8 M parameters with the default depth.
    """

    def __init__(self, width: int = WIDTH, depth: int = 4, heads: int = 3, expansion: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            _convolution(3, 32), _convolution(32, 64), _convolution(64, 128), _convolution(128, width)
        )
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.randn(1, GRID * GRID, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, heads, expansion) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        tokens = self.stem(standardise(pixels)).flatten(2).transpose(1, 2) + self.position
        tokens = torch.cat([self.class_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        return tokens[:, 0], tokens[:, 1:]
