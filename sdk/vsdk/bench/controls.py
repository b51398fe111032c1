"""What a memory has to beat: the same number of floats, spent on the last frames or on running means.

Both controls keep patch tokens, which is what the memory reads, and are read out by a network of the bridge's size that
is trained like the memory.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # pydantic is imported when a bundle is loaded
    from vsdk_runtimes.manifest import MemorySpec

Vectors = npt.NDArray[np.float32]


def memory_floats(memory: MemorySpec, width: int) -> int:
    """How many floats a memory whose cache holds memories keeps.

    The working memory, the cache's keys and values, and the memory tokens that the host keeps of each entry (to choose
    what to merge, and to say when something was seen).
    """
    return memory.tokens * width * (1 + 3 * memory.capacity)


def frames_for(floats: int, patches: int, width: int) -> int:
    """How many frames' patch tokens take so many floats; rounded up, in favour of the control."""
    return math.ceil(floats / (patches * width))


def stretch(means: int, length: int) -> int:
    """How many frames go into each mean after `length` frames: a power of two.

    The video so far is kept as at most `means` means of equal stretches. While there is room each frame is one of its
    own; whenever there is none left, neighbours become one.
    """
    frames = 1
    while length > means * frames:
        frames *= 2
    return frames


def running_means(patches: Vectors, means: int) -> tuple[Vectors, Vectors]:
    """The means of a video `patches [frames, tokens, width]`.

    Returns:
        `[1, means, tokens, width]`, zeros behind the means that there are, and `[1, means]`: 1 where there is one.
    """
    size = stretch(means, len(patches))
    kept = [patches[start : start + size].mean(0) for start in range(0, len(patches), size)]
    return last_frames(np.stack(kept), means)


def last_frames(patches: Vectors, window: int) -> tuple[Vectors, Vectors]:
    """The last frames of `patches [frames, tokens, width]`.

    Returns:
        `[1, window, tokens, width]`, zeros behind the frames that there are, and `[1, window]`: 1 where there is one.
    """
    kept = patches[-window:]
    frames = np.zeros((1, window, *patches.shape[1:]), np.float32)
    frames[0, : len(kept)] = kept
    return frames, (np.arange(window) < len(kept)).astype(np.float32)[None]
