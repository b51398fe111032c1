"""Silhouettes of the objects in the tracker's clips, as functions of a point and the time.

Every silhouette returns how far inside a point is, about in units of the object's radius: positive inside, negative
outside, 0 on the outline, so that an outline is exact at any size and turns into coverage by scaling and clipping.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Random = np.random.Generator
Silhouette = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Takes u and v `[frames, height, width]`, about in -1..1 inside the object, and the time `[frames, 1, 1]`."""


def _radial(radius: Callable[[Tensor, Tensor], Tensor]) -> Silhouette:
    """The silhouette whose outline is at `radius(angle, time)`."""

    def depth(u: Tensor, v: Tensor, time: Tensor) -> Tensor:
        return radius(torch.atan2(v, u), time) - torch.sqrt(u * u + v * v + 1e-9)

    return depth


def blob(rng: Random) -> Silhouette:
    """A smooth star-shaped outline of a few Fourier terms, which may wobble."""
    orders = np.arange(2, 2 + int(rng.integers(2, 6)))
    size = rng.normal(0, 0.35, len(orders)) / orders**0.8
    phase, pulse = rng.uniform(0, 2 * np.pi, len(orders)), rng.normal(0, 0.15, len(orders)) * (rng.random() < 0.5)

    def radius(angle: Tensor, time: Tensor) -> Tensor:
        total = torch.ones_like(angle)
        for n, a, p, w in zip(orders, size, phase, pulse, strict=True):
            total = total + float(a) * torch.cos(float(n) * angle + float(p) + float(w) * time)
        return 0.8 * total.clamp(min=0.25)

    return _radial(radius)


def ellipse(rng: Random) -> Silhouette:
    """From a disc to three times as long as wide."""
    across = float(rng.uniform(0.33, 1))

    def depth(u: Tensor, v: Tensor, time: Tensor) -> Tensor:
        return (1 - torch.sqrt(u * u + (v / across) ** 2 + 1e-9)) * across

    return depth


def rectangle(rng: Random) -> Silhouette:
    """A rectangle with sharp or round corners."""
    across = float(rng.uniform(0.3, 0.95))
    corner = float(rng.choice([0.0, 0.3, 0.6])) * across

    def depth(u: Tensor, v: Tensor, time: Tensor) -> Tensor:
        x, y = u.abs() - 0.95 + corner, v.abs() - across + corner
        outside = torch.sqrt(x.clamp(min=0) ** 2 + y.clamp(min=0) ** 2)
        return corner - outside - torch.maximum(x, y).clamp(max=0)

    return depth


def polygon(rng: Random) -> Silhouette:
    """Three to eight corners around the middle, convex or not."""
    count = int(rng.integers(3, 9))
    angles = (np.arange(count) + rng.uniform(-0.3, 0.3, count)) / count * 2 * np.pi - np.pi
    radii = rng.uniform(0.55, 1.1, count)
    corners = torch.tensor(np.stack([radii * np.cos(angles), radii * np.sin(angles)], -1), dtype=torch.float32)
    edges = torch.roll(corners, -1, 0) - corners
    normals = torch.stack([edges[:, 1], -edges[:, 0]], -1)
    normals = normals / normals.norm(dim=-1, keepdim=True)
    reach = (normals * corners).sum(-1)
    bounds = torch.tensor(angles, dtype=torch.float32)

    def depth(u: Tensor, v: Tensor, time: Tensor) -> Tensor:
        edge = (torch.bucketize(torch.atan2(v, u), bounds) - 1) % count
        return reach[edge] - normals[edge, 0] * u - normals[edge, 1] * v

    return depth


def discs(rng: Random) -> Silhouette:
    """Several discs, each hung on one before, whose links swing: animals, roughly."""
    count = int(rng.integers(3, 8))
    parent = [0] + [int(rng.integers(0, i)) for i in range(1, count)]
    link, size = rng.uniform(0.35, 0.7, count), rng.uniform(0.18, 0.5, count)
    turn, swing = rng.uniform(0, 2 * np.pi, count), rng.uniform(0, 0.6, count) * (rng.random() < 0.7)
    pace, phase = rng.uniform(0.05, 0.4, count), rng.uniform(0, 2 * np.pi, count)

    def depth(u: Tensor, v: Tensor, time: Tensor) -> Tensor:
        places = [(torch.zeros_like(time), torch.zeros_like(time))]
        total = float(size[0]) - torch.sqrt(u * u + v * v + 1e-9)
        for i in range(1, count):
            angle = float(turn[i]) + float(swing[i]) * torch.sin(float(pace[i]) * time + float(phase[i]))
            x, y = places[parent[i]]
            x, y = x + float(link[i]) * torch.cos(angle), y + float(link[i]) * torch.sin(angle)
            places.append((x, y))
            total = torch.maximum(total, float(size[i]) - torch.sqrt((u - x) ** 2 + (v - y) ** 2 + 1e-9))
        return total

    return depth


def ribbon(rng: Random) -> Silhouette:
    """A thick line that turns as it goes: tails, cables, letters of no alphabet."""
    count, thick = int(rng.integers(3, 9)), float(rng.uniform(0.1, 0.28))
    turns = np.cumsum(rng.normal(rng.normal(0, 0.5), 0.5, count)) + rng.uniform(0, 2 * np.pi)
    line = np.concatenate([np.zeros((1, 2)), np.cumsum(np.stack([np.cos(turns), np.sin(turns)], -1), 0)])
    line = line - (line.min(0) + line.max(0)) / 2
    line = line * (0.95 - thick) / max(float(np.abs(line).max()), 1e-3)

    def depth(u: Tensor, v: Tensor, time: Tensor) -> Tensor:
        nearest = torch.full_like(u, 9.0)
        for (x0, y0), (x1, y1) in zip(line[:-1].tolist(), line[1:].tolist(), strict=True):
            dx, dy = x1 - x0, y1 - y0
            along = (((u - x0) * dx + (v - y0) * dy) / (dx * dx + dy * dy + 1e-9)).clamp(0, 1)
            nearest = torch.minimum(nearest, (u - x0 - along * dx) ** 2 + (v - y0 - along * dy) ** 2)
        return thick - torch.sqrt(nearest + 1e-9)

    return depth


def joined(rng: Random) -> Silhouette:
    """Two simple shapes grown together, sometimes with a third cut out."""
    simple = (blob, ellipse, rectangle, polygon)
    parts = [simple[int(rng.integers(len(simple)))](rng) for _ in range(3)]
    places = rng.uniform(-0.5, 0.5, (3, 2)).tolist()
    sizes = [*rng.uniform(0.4, 0.75, 2).tolist(), float(rng.uniform(0.25, 0.5))]
    cut = rng.random() < 0.5

    def depth(u: Tensor, v: Tensor, time: Tensor) -> Tensor:
        depths = [
            part((u - x) / size, (v - y) / size, time) * size
            for part, (x, y), size in zip(parts, places, sizes, strict=True)
        ]
        total = torch.maximum(depths[0], depths[1])
        return torch.minimum(total, -depths[2]) if cut else total

    return depth


def bar(rng: Random) -> Silhouette:
    """A long bar: what objects pass behind."""
    across = float(rng.uniform(0.06, 0.3))

    def depth(u: Tensor, v: Tensor, time: Tensor) -> Tensor:
        return torch.minimum(1 - u.abs(), across - v.abs())

    return depth


def gear(rng: Random) -> Silhouette:
    """A wheel with five to nine teeth."""
    teeth, cut = float(rng.integers(5, 10)), float(rng.uniform(0.15, 0.35))
    return _radial(lambda angle, time: 1 - cut * (torch.sin(teeth * angle) > 0).float())


def crescent(rng: Random) -> Silhouette:
    """A disc that another disc was cut out of."""
    beside, size = float(rng.uniform(0.4, 0.7)), float(rng.uniform(0.6, 0.8))

    def depth(u: Tensor, v: Tensor, time: Tensor) -> Tensor:
        return torch.minimum(1 - torch.sqrt(u * u + v * v), torch.sqrt((u - beside) ** 2 + v * v) - size)

    return depth


def star(rng: Random) -> Silhouette:
    """Five to seven spikes."""
    spikes, inner = float(rng.integers(5, 8)), float(rng.uniform(0.4, 0.6))
    return _radial(lambda a, time: inner + (1.1 - inner) * (1 - ((a * spikes / torch.pi) % 2 - 1).abs()))


def with_holes(rng: Random, solid: Silhouette) -> Silhouette:
    """The same with one or two round holes."""
    holes = [(rng.uniform(-0.4, 0.4, 2), float(rng.uniform(0.12, 0.3))) for _ in range(int(rng.integers(1, 3)))]

    def depth(u: Tensor, v: Tensor, time: Tensor) -> Tensor:
        total = solid(u, v, time)
        for (x, y), size in holes:
            total = torch.minimum(total, torch.sqrt((u - float(x)) ** 2 + (v - float(y)) ** 2 + 1e-9) - size)
        return total

    return depth


def bending(rng: Random, stiff: Silhouette) -> Silhouette:
    """The same, bent in waves that travel through it."""
    strength, waves = rng.uniform(0.03, 0.15, 2), rng.uniform(1, 3.5, 2)
    pace, phase = rng.uniform(0, 0.4, 2), rng.uniform(0, 2 * np.pi, 2)

    def depth(u: Tensor, v: Tensor, time: Tensor) -> Tensor:
        x = u + float(strength[0]) * torch.sin(float(waves[0]) * v + float(pace[0]) * time + float(phase[0]))
        y = v + float(strength[1]) * torch.sin(float(waves[1]) * u + float(pace[1]) * time + float(phase[1]))
        return stiff(x, y, time)

    return depth
