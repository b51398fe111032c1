"""The features on which the nano bridge is trained: scenes, and the same scenes with a needle in them.

The encoder is frozen, so every picture is drawn and encoded once, and only its patch tokens are read in training, in
half precision. A scene is eight views of one place (`views.SceneRenderer`), a second apart; each of its views also
exists with a needle drawn over it. Needles in pictures of their own (spliced in) make a third set.

Pictures and features are kept in files. Another encoder needs other features of the same pictures.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor

from vsdk.bench.needles import CLASSES, KINDS, Needle, Way

from .encoder import GRID, IMAGE_SIZE, WIDTH, NanoEncoder
from .views import SceneRenderer

VIEWS = 8
"""Views of a scene, and frames of a segment."""
PATCHES = GRID * GRID
SCENES_AT_ONCE = 20
BATCH = 160
SETS = ("scenes", "overlays", "splices")
Half = npt.NDArray[np.float16]
Labels = npt.NDArray[np.int64]
Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Recipe:
    """What decides the pictures of a pool.

    Attributes:
        scenes: How many scenes.
        splices: How many needles in pictures of their own.
        seed: Of the scenes.
        first_needle: Seed of the first needle; the next ones follow, so that pools need not share any.
    """

    scenes: int
    splices: int
    seed: int
    first_needle: int


@dataclass(frozen=True)
class Pool:
    """Patch tokens, float16.

    Attributes:
        scenes: `[scenes, 8, 64, 192]`.
        overlays: The same frames with a needle drawn over each.
        splices: Needles in pictures of their own, `[splices, 64, 192]`.
        overlay_labels: Classes of the needles, `[scenes, 8]`.
        splice_labels: Classes of the needles, `[splices]`.
    """

    scenes: Half
    overlays: Half
    splices: Half
    overlay_labels: Labels
    splice_labels: Labels


def build_pool(folder: Path, weights: Path, bank: Path, recipe: Recipe) -> Pool:
    """A pool: drawn and encoded, or read from `folder` as far as it is there already.

    Args:
        folder: Where pictures and features are kept.
        weights: The encoder's, a .safetensors file.
        bank: Backdrops, a .npy file of uint8 `[count, 3, side, side]`.
        recipe: What to draw.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not _is_made_of(folder / "pictures.json", asdict(recipe)):
        _draw(folder, SceneRenderer(torch.from_numpy(np.load(bank)), recipe.seed), recipe)
        (folder / "pictures.json").write_text(json.dumps(asdict(recipe)))
        (folder / "features.json").unlink(missing_ok=True)
    encoder = {"encoder": hashlib.sha256(weights.read_bytes()).hexdigest()}
    if not _is_made_of(folder / "features.json", encoder):
        _encode(folder, load_encoder(weights))
        (folder / "features.json").write_text(json.dumps(encoder))
    features = {name: np.load(folder / f"{name}.npy") for name in SETS}
    labels = {f"{name}_labels": np.load(folder / f"{name}_labels.npy") for name in ("overlay", "splice")}
    return Pool(**features, **labels)


def load_encoder(weights: Path) -> NanoEncoder:
    """The encoder in evaluation mode, channels last (twice as fast on a CPU)."""
    encoder = NanoEncoder()
    encoder.load_state_dict(load_file(weights))
    encoder.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return encoder


@torch.inference_mode()
def patch_tokens(encoder: NanoEncoder, pictures: Picture) -> Half:
    """Patch tokens `[pictures, 64, 192]` of pictures uint8 `[pictures, 128, 128, 3]`."""
    batch = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    pixels = (batch.float() * (2 / 255) - 1).contiguous(memory_format=torch.channels_last)
    tokens: Tensor = encoder(pixels)[1]
    return tokens.half().numpy()


def _is_made_of(receipt: Path, recipe: dict[str, Any]) -> bool:
    return receipt.exists() and json.loads(receipt.read_text()) == recipe


def _draw(folder: Path, renderer: SceneRenderer, recipe: Recipe) -> None:
    """Write `SET_pictures.npy`, uint8 `[..., 128, 128, 3]`, and the labels."""
    (folder / "pictures.json").unlink(missing_ok=True)
    rng = np.random.default_rng((recipe.seed, 1))
    counts = {"scenes": (recipe.scenes, VIEWS), "overlays": (recipe.scenes, VIEWS), "splices": (recipe.splices,)}
    pictures = {
        name: np.lib.format.open_memmap(
            folder / f"{name}_pictures.npy", "w+", np.uint8, (*count, IMAGE_SIZE, IMAGE_SIZE, 3)
        )
        for name, count in counts.items()
    }
    overlay_labels = rng.integers(len(CLASSES), size=counts["overlays"])
    splice_labels = rng.integers(len(CLASSES), size=recipe.splices)
    needle = recipe.first_needle
    for first in range(0, recipe.scenes, SCENES_AT_ONCE):
        count = min(SCENES_AT_ONCE, recipe.scenes - first)
        views = (renderer.batch(count, VIEWS).pixels * 255 + 0.5).byte().permute(0, 2, 3, 1).numpy()
        pictures["scenes"][first : first + count] = views.reshape(count, VIEWS, *views.shape[1:])
        for place in np.ndindex(count, VIEWS):
            scene, view = first + place[0], place[1]
            shown = _needle(int(overlay_labels[scene, view]), "overlay", needle)
            pictures["overlays"][scene, view] = shown.show(pictures["scenes"][scene, view], rng.random())
            needle += 1
    blank = np.zeros((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    for number, label in enumerate(splice_labels):
        pictures["splices"][number] = _needle(int(label), "splice", needle + number).show(blank, rng.random())
    for array in pictures.values():
        array.flush()
    np.save(folder / "overlay_labels.npy", overlay_labels)
    np.save(folder / "splice_labels.npy", splice_labels)


def _needle(label: int, way: Way, seed: int) -> Needle:
    return Needle(label, way, KINDS[seed % 2], "training", seed)


def _encode(folder: Path, encoder: NanoEncoder) -> None:
    """Write `SET.npy`, the features of each set of pictures."""
    (folder / "features.json").unlink(missing_ok=True)
    for name in SETS:
        pictures = np.load(folder / f"{name}_pictures.npy", mmap_mode="r")
        flat = pictures.reshape(-1, *pictures.shape[-3:])
        features = np.lib.format.open_memmap(
            folder / f"{name}.npy", "w+", np.float16, (*pictures.shape[:-3], PATCHES, WIDTH)
        )
        rows = features.reshape(-1, PATCHES, WIDTH)
        for start in range(0, len(flat), BATCH):
            rows[start : start + BATCH] = patch_tokens(encoder, np.array(flat[start : start + BATCH]))
        features.flush()
