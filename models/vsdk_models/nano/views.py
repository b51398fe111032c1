"""Batches of views: several frames of each of many scenes, as a camera could have seen them.

A scene is a backdrop with a few sprites that belong to it. Its views differ in camera position, in where the sprites
are, in light, noise, blur and compression, and now and then something large passes in front. Views of one scene are
to be mapped close together, views of different scenes far apart.

All drawing is done on whole batches with `grid_sample`, so that two CPU threads draw faster than they train.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .encoder import GRID, IMAGE_SIZE
from .sprites import COLOURS, SHAPES, shape_mask

NOTHING = -1


@dataclass(frozen=True)
class ViewBatch:
    """`pixels [scenes * views, 3, 128, 128]` in 0..1 with, for each patch token, what sprite covers it (-1: none)."""

    pixels: Tensor
    scene: Tensor
    shape: Tensor
    colour: Tensor


def uniform(shape: tuple[int, ...], low: float, high: float, random: torch.Generator) -> Tensor:
    """Uniform numbers in low..high."""
    return torch.rand(shape, generator=random) * (high - low) + low


def chance(count: int, probability: float, random: torch.Generator) -> Tensor:
    """`count` booleans, each true with this probability."""
    return torch.rand(count, generator=random) < probability


def affine_grid(centre: Tensor, scale: Tensor, angle: Tensor, size: int = IMAGE_SIZE) -> Tensor:
    """Sampling grid that looks at a square of half-width `scale` around `centre` (both in -1..1), turned by `angle`."""
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    theta = torch.stack([cosine, -sine, centre[:, 0], sine, cosine, centre[:, 1]], dim=1).view(-1, 2, 3)
    return torch.nn.functional.affine_grid(theta, [len(theta), 1, size, size], align_corners=False)


def sample(images: Tensor, grid: Tensor, padding: str = "reflection") -> Tensor:
    """Sample each of `images [n, c, h, w]` with `grid [n * views, size, size, 2]`: the views of one image lie in a row.

    The views of an image are stacked in its grid's height, which spares copies of the image.
    """
    count, views = len(images), len(grid) // len(images)
    stacked = grid.reshape(count, views * grid.shape[1], grid.shape[2], 2)
    drawn = torch.nn.functional.grid_sample(images, stacked, mode="bilinear", padding_mode=padding, align_corners=False)
    return drawn.view(count, -1, views, grid.shape[1], grid.shape[2]).transpose(1, 2).flatten(0, 1)


class SceneRenderer:
    """Draws `ViewBatch`es from a bank of backdrops, uint8 `[count, 3, size, size]`."""

    def __init__(self, bank: Tensor, seed: int, sprites: int = 3) -> None:
        self.bank = bank
        self.sprites = sprites
        self.random = torch.Generator().manual_seed(seed)
        self.masks = torch.from_numpy(np.stack([shape_mask(name) for name in SHAPES]))[:, None]
        self.colours = torch.tensor(list(COLOURS.values()))
        rows = torch.arange(8.0)
        dct = torch.cos((2 * rows[None] + 1) * rows[:, None] * torch.pi / 16) * 0.5
        dct[0] /= 2**0.5
        self.dct = dct
        # Quantisation grows with frequency, as in every block codec.
        self.steps = (1 + (rows[None] + rows[:, None])) / 8

    def batch(self, scenes: int, views: int) -> ViewBatch:
        """`views` views of each of `scenes` new scenes."""
        owner = torch.arange(scenes).repeat_interleave(views)
        pixels = self._backdrops(scenes, owner)
        shape = torch.full((len(owner), GRID * GRID), NOTHING)
        colour = shape.clone()
        for slot in range(self.sprites):
            pixels = self._add_sprite(pixels, scenes, owner, shape, colour, presence=0.75 - 0.15 * slot)
        pixels = self._add_occluder(pixels, shape, colour)
        return ViewBatch(self._photograph(pixels), owner, shape, colour)

    def _backdrops(self, scenes: int, owner: Tensor) -> Tensor:
        """The place itself, seen by a camera that pans, zooms, rolls and shakes."""
        r, count = self.random, len(owner)
        # In some batches each place is the setting of four scenes, one in each corner: real edits cut to and fro
        # within a place, and its colours and materials alone must not make two shots one scene.
        share = 4 if torch.rand((), generator=r) < 0.4 else 1
        chosen = self.bank[torch.randint(len(self.bank), (-(-scenes // share),), generator=r)].float() / 255
        mirrored = chance(len(chosen), 0.5, r)
        chosen[mirrored] = chosen[mirrored].flip(-1)
        chosen = self._recolour(chosen).repeat_interleave(share, dim=0)[:scenes]
        neighbours = share > 1
        corner = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])[torch.arange(scenes) % 4]
        size = uniform((scenes,), 0.32, 0.42, r) if neighbours else uniform((scenes,), 0.4, 0.75, r)
        zoom = size[owner] * torch.exp(uniform((count,), -0.18, 0.18, r))
        reach = (1 - zoom).clamp(min=0)
        home = corner if neighbours else uniform((scenes, 2), -1, 1, r)
        step = uniform((scenes,), 0.05, 0.3 if neighbours else 0.5, r)
        pan = uniform((count, 2), -1, 1, r) * (zoom * step[owner])[:, None]
        grid = affine_grid(home[owner] * reach[:, None] + pan, zoom, uniform((count,), -0.12, 0.12, r))
        bend = torch.randn((count, 2, 4, 4), generator=r) * 0.03 * chance(count, 0.4, r)[:, None, None, None]
        bend = torch.nn.functional.interpolate(bend, size=grid.shape[1:3], mode="bicubic", align_corners=False)
        return sample(chosen, grid + bend.permute(0, 2, 3, 1))

    def _recolour(self, images: Tensor) -> Tensor:
        """Saturation from nearly grey (as most real video is) to vivid; at times the whole batch is grey."""
        r, count = self.random, len(images)
        saturation = uniform((count, 1, 1, 1), 0.05, 1.0, r)
        if torch.rand((), generator=r) < 0.15:
            saturation = torch.zeros_like(saturation)
        order = torch.stack([torch.randperm(3, generator=r) for _ in range(count)])
        images = images.gather(1, order[:, :, None, None].expand_as(images))
        grey = images.mean(1, keepdim=True)
        images = grey + (images - grey) * saturation
        if torch.rand((), generator=r) < 0.25:  # one look for all scenes: colour alone must not tell them apart
            images = images - images.mean((2, 3), keepdim=True) + images.mean((0, 2, 3), keepdim=True)
        return images.clamp(0, 1)

    def _add_sprite(
        self, pixels: Tensor, scenes: int, owner: Tensor, shape: Tensor, colour: Tensor, presence: float
    ) -> Tensor:
        """One sprite for each scene, elsewhere in each of its views; records what covers each patch token."""
        r, count = self.random, len(owner)
        kind = torch.randint(len(SHAPES), (scenes,), generator=r)
        tint = torch.randint(len(COLOURS), (scenes,), generator=r)
        there = (chance(scenes, presence, r)[owner] & chance(count, 0.85, r)).float()
        radius = uniform((scenes,), 0.16, 0.5, r)[owner] * torch.exp(uniform((count,), -0.2, 0.2, r))
        place = uniform((count, 2), -0.9, 0.9, r)
        turn = uniform((scenes,), -0.4, 0.4, r)[owner] + uniform((count,), -0.3, 0.3, r)
        texture = self.bank[torch.randint(len(self.bank), (scenes,), generator=r)][:, :, 64:128, 64:128].float() / 255
        texture = (texture.mean(1, keepdim=True) - 0.5) * uniform((scenes, 1, 1, 1), 0, 0.4, r)
        body = torch.cat(
            [(self.colours[tint][:, :, None, None] + texture).clamp(0, 1) * self.masks[kind], self.masks[kind]], dim=1
        )
        zoom = 1 / radius
        grid = affine_grid(-place * zoom[:, None], zoom, torch.zeros(count))
        cosine, sine = torch.cos(turn)[:, None, None], torch.sin(turn)[:, None, None]
        grid = torch.stack(
            [grid[..., 0] * cosine - grid[..., 1] * sine, grid[..., 0] * sine + grid[..., 1] * cosine], -1
        )
        drawn = sample(body, grid, padding="zeros")
        alpha = drawn[:, 3:] * there[:, None, None, None]
        covered = torch.nn.functional.avg_pool2d(alpha, IMAGE_SIZE // GRID).flatten(1) > 0.3
        shape[covered] = kind[owner][:, None].expand_as(shape)[covered]
        colour[covered] = tint[owner][:, None].expand_as(colour)[covered]
        # The sampled colour is premultiplied by its coverage: divide it out, then blend.
        body_colour = drawn[:, :3] / drawn[:, 3:].clamp(min=1e-3)
        return pixels.lerp_(body_colour.clamp_(0, 1), alpha)

    def _add_occluder(self, pixels: Tensor, shape: Tensor, colour: Tensor) -> Tensor:
        """In some views something large and near hides up to two thirds of the picture."""
        r = self.random
        views = chance(len(pixels), 0.15, r).nonzero()[:, 0]
        if len(views) == 0:
            return pixels
        texture = self.bank[torch.randint(len(self.bank), (len(views),), generator=r)].float() / 255
        texture = sample(
            texture,
            affine_grid(
                uniform((len(views), 2), -0.4, 0.4, r), uniform((len(views),), 0.2, 0.5, r), torch.zeros(len(views))
            ),
        )
        line = torch.linspace(-1, 1, IMAGE_SIZE)
        angle = uniform((len(views), 1, 1), 0, 6.2832, r)
        distance = line[None, None, :] * torch.cos(angle) + line[None, :, None] * torch.sin(angle)
        edge, band = uniform((len(views), 1, 1), -0.25, 0.8, r), uniform((len(views), 1, 1), 0.3, 1.2, r)
        alpha = ((distance > edge) & (distance < edge + band)).float()[:, None]
        pixels = pixels.clone()
        pixels[views] = torch.lerp(pixels[views], texture, alpha)
        hidden = torch.nn.functional.avg_pool2d(alpha, IMAGE_SIZE // GRID).flatten(1) > 0.5
        shape[views] = torch.where(hidden, NOTHING, shape[views])
        colour[views] = torch.where(hidden, NOTHING, colour[views])
        return pixels

    def _photograph(self, pixels: Tensor) -> Tensor:
        """Light, lens, sensor and codec: exposure, gamma, white balance, blur, noise, block quantisation."""
        r, count = self.random, len(pixels)
        one = (count, 1, 1, 1)
        gain = torch.exp(torch.randn(one, generator=r) * 0.45) * self._light_field(count)
        flash = chance(count, 0.06, r)[:, None, None, None]
        gain = torch.where(flash, uniform(one, 2, 5, r), gain)
        cast = torch.exp(torch.randn((count, 3, 1, 1), generator=r) * 0.06)
        lift = uniform(one, -0.06, 0.12, r)
        pixels = (pixels.clamp(1e-4, 1) ** torch.exp(torch.randn(one, generator=r) * 0.25) * gain * cast + lift).clamp(
            0, 1
        )
        blurred = chance(count, 0.3, r).nonzero()[:, 0]
        width = int(torch.randint(2, 5, (), generator=r))
        small = torch.nn.functional.avg_pool2d(pixels[blurred], width)
        pixels[blurred] = torch.nn.functional.interpolate(small, size=IMAGE_SIZE, mode="bilinear", align_corners=False)
        strength = uniform(one, 0, 0.1, r) * chance(count, 0.6, r)[:, None, None, None]
        pixels = pixels + torch.randn(pixels.shape, generator=r) * strength
        coded = chance(count, 0.4, r).nonzero()[:, 0]
        pixels[coded] = self._quantise_blocks(pixels[coded], uniform((len(coded), 1, 1, 1, 1, 1), 0.05, 0.5, r))
        return pixels.clamp(0, 1)

    def _light_field(self, count: int) -> Tensor:
        """Light that falls in from one side, in every other view: `[count, 1, 128, 128]`, a factor."""
        r = self.random
        slope = torch.randn((count, 2, 1, 1, 1), generator=r) * 0.3 * chance(count, 0.5, r)[:, None, None, None, None]
        line = torch.linspace(-1, 1, IMAGE_SIZE)
        return torch.exp(slope[:, 0] * line[None, None, None, :] + slope[:, 1] * line[None, None, :, None])

    def _quantise_blocks(self, pixels: Tensor, strength: Tensor) -> Tensor:
        count, side = len(pixels), IMAGE_SIZE // 8
        blocks = pixels.view(count, 3, side, 8, side, 8).permute(0, 1, 2, 4, 3, 5)
        step = strength * self.steps
        coded = torch.round(self.dct @ blocks @ self.dct.T / step) * step
        return (self.dct.T @ coded @ self.dct).permute(0, 1, 2, 4, 3, 5).reshape(count, 3, IMAGE_SIZE, IMAGE_SIZE)
