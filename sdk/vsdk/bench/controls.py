"""What a memory has to beat: the same number of floats, spent on the last frames or on running means.

Both controls keep patch tokens, which is what the memory reads, and are read out by a network trained like the
memory's own.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # pydantic is imported when a bundle is loaded
    from vsdk_runtimes.manifest import MemorySpec

Vectors = npt.NDArray[np.float32]

SHORTEST, LONGEST = 1.0, 512.0
"""Half-lives of the quickest and the slowest fading mean, in frames."""


def memory_floats(memory: MemorySpec, width: int) -> int:
    """How many floats a memory whose cache holds memories keeps.

    The working memory, the cache's keys and values, and the memory tokens that the host keeps of each entry (to choose
    what to merge, and to say when something was seen).
    """
    return memory.tokens * width * (1 + 3 * memory.capacity)


def frames_for(floats: int, patches: int, width: int) -> int:
    """How many frames' patch tokens take so many floats; rounded up, in favour of the control."""
    return math.ceil(floats / (patches * width))


def mean_weights(means: int, frames: int, length: int) -> Vectors:
    """How running means weigh the frames of a video.

    The first mean is of all frames; the others fade, with half-lives in geometric steps from `SHORTEST` to `LONGEST`.
    Computing them takes one update a frame and nothing but the means themselves.

    Args:
        means: How many.
        frames: How many columns to give.
        length: How many frames have been seen; later columns are 0.

    Returns:
        Float32 `[means, frames]`; each row sums to 1.
    """
    age = np.arange(length - 1, -1, -1, dtype=np.float64)
    half_lives = np.geomspace(SHORTEST, LONGEST, means - 1)
    weights = np.zeros((means, frames), np.float64)
    weights[0, :length] = 1.0
    weights[1:, :length] = 0.5 ** (age[None] / half_lives[:, None])
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)


def last_frames(patches: Vectors, window: int) -> tuple[Vectors, Vectors]:
    """The last frames of `patches [frames, tokens, width]`.

    Returns:
        `[1, window, tokens, width]`, zeros behind the frames that there are, and `[1, window]`: 1 where there is one.
    """
    kept = patches[-window:]
    frames = np.zeros((1, window, *patches.shape[1:]), np.float32)
    frames[0, : len(kept)] = kept
    return frames, (np.arange(window) < len(kept)).astype(np.float32)[None]
