"""The features on which the nano bridge is trained: scenes, and the same scenes with a needle in them.

The encoder is frozen, so every picture is encoded once and only its patch tokens are kept, in half precision. A scene
is eight views of one place (`views.SceneRenderer`), a second apart; each of its views also exists with a needle drawn
over it. Needles in pictures of their own (spliced in) make a third set.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor

from vsdk.bench.needles import CLASSES, KINDS, Needle, Way

from .encoder import GRID, WIDTH, NanoEncoder
from .views import SceneRenderer

VIEWS = 8
"""Views of a scene, and frames of a segment."""
PATCHES = GRID * GRID
SCENES_AT_ONCE = 20
Half = npt.NDArray[np.float16]
Labels = npt.NDArray[np.int64]
Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Pool:
    """Patch tokens, float16.

    Attributes:
        scenes: `[scenes, 8, 64, 192]`.
        overlays: The same frames with a needle drawn over each.
        overlay_labels: Their classes, `[scenes, 8]`.
        splices: Needles in pictures of their own, `[splices, 64, 192]`.
        splice_labels: Their classes, `[splices]`.
    """

    scenes: Half
    overlays: Half
    overlay_labels: Labels
    splices: Half
    splice_labels: Labels


_NAMES = ("scenes", "overlays", "overlay_labels", "splices", "splice_labels")


def load_encoder(weights: Path) -> NanoEncoder:
    """The encoder in evaluation mode, channels last (twice as fast on a CPU)."""
    encoder = NanoEncoder()
    encoder.load_state_dict(load_file(weights))
    encoder.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return encoder


@torch.inference_mode()
def patch_tokens(encoder: NanoEncoder, pictures: list[Picture]) -> Half:
    """Patch tokens `[pictures, 64, 192]` of uint8 `[128, 128, 3]` pictures."""
    batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    pixels = (batch.float() * (2 / 255) - 1).contiguous(memory_format=torch.channels_last)
    tokens: Tensor = encoder(pixels)[1]
    return tokens.half().numpy()


def build_pool(
    folder: Path, weights: Path, bank: Tensor, *, scenes: int, splices: int, seed: int, first_needle: int
) -> Pool:
    """Draw and encode a pool, or load it from `folder` if it was made of the same encoder and numbers.

    Args:
        folder: Where its arrays are kept.
        weights: The encoder's.
        bank: Backdrops, uint8 `[count, 3, side, side]`.
        scenes: How many scenes.
        splices: How many needles in pictures of their own.
        seed: Of the scenes.
        first_needle: Seed of the first needle; the next ones follow, so that pools need not share any.
    """
    recipe = {
        "encoder": hashlib.sha256(weights.read_bytes()).hexdigest(), "scenes": scenes, "splices": splices,
        "seed": seed, "first_needle": first_needle,
    }  # fmt: skip
    receipt = folder / "pool.json"
    if not receipt.exists() or json.loads(receipt.read_text()) != recipe:
        folder.mkdir(parents=True, exist_ok=True)
        receipt.unlink(missing_ok=True)
        _draw_pool(folder, load_encoder(weights), SceneRenderer(bank, seed), scenes, splices, seed, first_needle)
        receipt.write_text(json.dumps(recipe))
    return Pool(**{name: np.load(folder / f"{name}.npy") for name in _NAMES})


def _draw_pool(
    folder: Path,
    encoder: NanoEncoder,
    renderer: SceneRenderer,
    scenes: int,
    splices: int,
    seed: int,
    first_needle: int,
) -> None:
    started = time.monotonic()
    arrays = _empty_arrays(folder, scenes, splices)
    rng = np.random.default_rng((seed, 1))
    needle = first_needle
    for first in range(0, scenes, SCENES_AT_ONCE):
        count = min(SCENES_AT_ONCE, scenes - first)
        pixels = renderer.batch(count, VIEWS).pixels
        frames = list((pixels * 255 + 0.5).byte().permute(0, 2, 3, 1).numpy())
        labels = rng.integers(len(CLASSES), size=len(frames))
        marked = [
            _needle(int(label), "overlay", needle + n).show(frame, rng.random())
            for n, (label, frame) in enumerate(zip(labels, frames, strict=True))
        ]
        needle += len(frames)
        place = slice(first, first + count)
        arrays["scenes"][place] = patch_tokens(encoder, frames).reshape(count, VIEWS, PATCHES, WIDTH)
        arrays["overlays"][place] = patch_tokens(encoder, marked).reshape(count, VIEWS, PATCHES, WIDTH)
        arrays["overlay_labels"][place] = labels.reshape(count, VIEWS)
        if first // SCENES_AT_ONCE % 10 == 9:
            print(f"{first + count} of {scenes} scenes, {time.monotonic() - started:.0f} s", flush=True)
    blank = np.zeros((128, 128, 3), np.uint8)
    for chunk in np.array_split(np.arange(splices), math.ceil(splices / 160)):
        labels = rng.integers(len(CLASSES), size=len(chunk))
        pictures = [
            _needle(int(label), "splice", needle + int(n)).show(blank, rng.random())
            for n, label in zip(chunk, labels, strict=True)
        ]
        arrays["splices"][chunk] = patch_tokens(encoder, pictures)
        arrays["splice_labels"][chunk] = labels
    for array in arrays.values():
        array.flush()


def _needle(label: int, way: Way, seed: int) -> Needle:
    return Needle(label, way, KINDS[seed % 2], "training", seed)


def _empty_arrays(folder: Path, scenes: int, splices: int) -> dict[str, Any]:
    shapes: dict[str, tuple[type, tuple[int, ...]]] = {
        "scenes": (np.float16, (scenes, VIEWS, PATCHES, WIDTH)),
        "overlays": (np.float16, (scenes, VIEWS, PATCHES, WIDTH)),
        "overlay_labels": (np.int64, (scenes, VIEWS)),
        "splices": (np.float16, (splices, PATCHES, WIDTH)),
        "splice_labels": (np.int64, (splices,)),
    }
    return {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, shape)
        for name, (dtype, shape) in shapes.items()
    }
