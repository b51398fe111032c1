"""Small bundles with a memory, really exported: an encoder of 16 x 16 pixels, and a bridge with random weights."""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from vsdk_export import export_memory, export_module
from vsdk_models.videollamb import BridgeConfig, MemoryStep
from vsdk_runtimes.manifest import Origin, Preprocessing, Resize

EDGE, PATCH = 16, 4
PATCHES, WIDTH = (EDGE // PATCH) ** 2, 16
TOKENS, GRID, FRAMES, CAPACITY = 4, 2, 8, 4
LANGUAGE_WIDTH = 24
STEP_NS = 40_000_000
SCENE_FRAMES = 30

Array = npt.NDArray[Any]

_PREPROCESSING = Preprocessing(resize=Resize(height=EDGE, width=EDGE, filter="box"), mean=(0.5, 0.5, 0.5))


class _Encoder(nn.Module):
    """Patches through one matrix, and their mean as class token."""

    def __init__(self, width: int, *, gives_patches: bool) -> None:
        super().__init__()
        self.maps = nn.Conv2d(3, width, PATCH, PATCH)
        self.gives_patches = gives_patches

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        patches = self.maps(pixels).flatten(2).transpose(1, 2)
        cls = patches.mean(dim=1)
        return (cls, patches) if self.gives_patches else (cls,)


_KEPT: list[tempfile.TemporaryDirectory[str]] = []


@functools.cache
def _root() -> Path:
    """Where bundles are made, once each; removed when the interpreter exits."""
    folder = tempfile.TemporaryDirectory(prefix="vsdk-memory-bundles-")
    _KEPT.append(folder)
    return Path(folder.name)


@functools.cache
def encoder_bundle(width: int = WIDTH, *, gives_patches: bool = True) -> Path:
    """A bundle with nothing but the encoder; shared, do not change it."""
    torch.manual_seed(1)
    folder = _root() / f"encoder-{width}-{gives_patches}"
    export_module(
        _Encoder(width, gives_patches=gives_patches),
        samples={"pixels": np.random.default_rng(0).standard_normal((8, 3, EDGE, EDGE), np.float32)},
        outputs=("cls", "patches") if gives_patches else ("cls",),
        origin=Origin(checkpoint="tests", license="Apache-2.0"),
        preprocessing=_PREPROCESSING,
        out=folder,
    )
    return folder


@functools.cache
def memory_bundle(*, projector: bool = True, **config: Any) -> Path:
    """A bundle with that encoder and `memory_step(**config)`; shared, do not change it.

    Args:
        projector: Whether it has a projector too.
        config: Fields of `BridgeConfig` that are to differ.
    """
    name = "-".join(f"{name}={value}" for name, value in sorted(config.items()))
    folder = _root() / f"memory-{projector}-{name}"
    export_memory(
        memory_step(**config),
        projector=nn.Sequential(nn.Linear(WIDTH, LANGUAGE_WIDTH), nn.GELU()) if projector else None,
        encoder=encoder_bundle(),
        out=folder,
    )
    return folder


def memory_step(**config: Any) -> MemoryStep:
    """A bridge with random weights, the same at every call with the same sizes."""
    torch.manual_seed(2)
    sizes: dict[str, Any] = {
        "width": WIDTH,
        "heads": 2,
        "hidden": 32,
        "memory_tokens": TOKENS,
        "patches": PATCHES,
        "grid": GRID,
        "frames": FRAMES,
        "capacity": CAPACITY,
    }
    step = MemoryStep(BridgeConfig(**{**sizes, **config}))
    for parameter in step.parameters():  # far from the identity, so that every input shows in every output
        nn.init.normal_(parameter, std=0.4)
    return step.eval()


def with_other_encoder(target: Path, width: int = WIDTH, *, gives_patches: bool = True) -> Path:
    """A copy of the default memory bundle, with an encoder that its bridge was not made for."""
    other = encoder_bundle(width, gives_patches=gives_patches)
    shutil.copytree(memory_bundle(), target)
    shutil.copytree(other / "encoder", target / "encoder", dirs_exist_ok=True)
    manifest, found = (json.loads((folder / "manifest.json").read_text()) for folder in (target, other))
    manifest["components"]["encoder"] = found["components"]["encoder"]
    manifest["files"] |= found["files"]
    (target / "manifest.json").write_text(json.dumps(manifest))
    return target


def segment(number: int, frames: int = FRAMES) -> Array:
    """Patch tokens of a segment, float32 `[frames, 16, 16]`; each number has its own."""
    return np.random.default_rng(number).standard_normal((frames, PATCHES, WIDTH), np.float32)


def place(number: int) -> Array:
    """A picture of 64 x 64, uint8 RGB, of coarse blocks around one of the eight corners of the colour cube."""
    rng = np.random.default_rng(1000 + number)
    hue = np.array([50 + 155 * (number >> bit & 1) for bit in range(3)])
    blocks = np.clip(hue + rng.normal(0, 40, (16, 16, 3)), 0, 255).astype(np.uint8)
    return np.kron(blocks, np.ones((4, 4, 1), np.uint8))


def film(places: range) -> Iterator[Array]:
    """Scenes of 30 equal frames, one for each place."""
    for number in places:
        for _ in range(SCENE_FRAMES):
            yield place(number)
