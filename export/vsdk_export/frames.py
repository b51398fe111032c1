"""Real-looking frames to trace, calibrate and verify with, drawn by procedure: the same ones on every machine.

Noise will not do: it inflates some activations, never reaches others, and so hides errors that pictures show.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from vsdk_models.nano.textures import backdrop
from vsdk_runtimes.manifest import Preprocessing

from .network import SAMPLES

_DRAWN = 256


def pictures(*, height: int = _DRAWN, width: int = _DRAWN) -> npt.NDArray[np.uint8]:
    """RGB pictures `[SAMPLES, height, width, 3]`: composed scenes, then an almost black and an almost white one."""
    rng = np.random.default_rng(20240917)
    drawn = [backdrop(rng, _DRAWN) for _ in range(SAMPLES - 2)]
    noise = rng.random((_DRAWN, _DRAWN, 3), np.float32)
    drawn += [0.02 * noise, 0.98 + 0.02 * noise]
    images = [Image.fromarray(np.round(picture * np.float32(255)).astype(np.uint8)) for picture in drawn]
    return np.stack([np.asarray(image.resize((width, height), Image.Resampling.BICUBIC)) for image in images])


def pixels(preprocessing: Preprocessing, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Encoder input `[SAMPLES, 3, height, width]`: the pictures at the input's `size`, scaled and normalised."""
    height, width = size
    scaled = pictures(height=height, width=width).astype(np.float32) * np.float32(preprocessing.scale)
    mean, std = np.array(preprocessing.mean, np.float32), np.array(preprocessing.std, np.float32)
    return np.ascontiguousarray(((scaled - mean) / std).transpose(0, 3, 1, 2))
