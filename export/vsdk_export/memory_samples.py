"""What a memory bridge sees in use, for tracing, calibration and verification.

Segments of one frame to a whole one, every fill level of the cache from the first entry to a full one, then entries
that are merged and entries that are overwritten, in turn; a restart on the way; and padding that is anything but zero.
"""

from __future__ import annotations

import numpy as np

from vsdk_models.videollamb import MemoryStep

from .network import Array, Arrays

MIN_STEPS = 24
# Steps with a full cache, in which merging and overwriting take turns.
STEPS_FULL = 8
_RESTART = 3
_GARBAGE = 1e4


def memory_samples(step: MemoryStep, tokens: Array) -> dict[str, Array]:
    """Consecutive inputs of a bridge, without its state: name to `[steps, ...]`.

    Args:
        step: The bridge.
        tokens: Patch tokens of real-looking frames, float32 `[frames, patches, width]`, at least two.
    """
    size, rng = step.config, np.random.default_rng(20240902)
    cache = _Cache(size.slots, size.blocks)
    calls = []
    for number in range(max(MIN_STEPS, size.slots + STEPS_FULL)):
        count = number % size.frames + 1
        restarts = number in (0, _RESTART) or (size.restart_every is not None and number % size.restart_every == 0)
        present = (np.arange(size.frames) < count).astype(np.float32)
        call = {
            "patches": _segment(rng, tokens, count, size.frames)[None],
            "frames": present[None],
            "restart": np.array([restarts], np.float32),
        }
        if size.retrieval:
            call |= cache.write(present if size.blocks > 1 else np.ones(1, np.float32))
        if size.positions:
            call["position"] = np.array([min(number, size.positions - 1)], np.int64)
        calls.append(call)
    return {name: np.stack([call[name] for call in calls]) for name in calls[0]}


def drawn_tokens(patches: int, width: int, frames: int = 16) -> Array:
    """Tokens that stand in for an encoder's: frames share much, neighbours too, and channels differ in size.

    Returns:
        float32 `[frames, patches, width]`.
    """
    rng = np.random.default_rng(20240627)
    shared, places = rng.normal(size=(1, 1, width)), rng.normal(size=(1, patches, width))
    scenes, own = rng.normal(size=(frames, 1, width)), rng.normal(size=(frames, patches, width))
    sizes = np.exp(rng.normal(0, 0.4, width))
    tokens: Array = ((shared + 0.5 * places + scenes + 0.7 * own) * sizes).astype(np.float32)
    return tokens


def _segment(rng: np.random.Generator, tokens: Array, count: int, frames: int) -> Array:
    """`count` frames, each between two of those given, then garbage."""
    segment: Array = rng.normal(0, _GARBAGE, (frames, *tokens.shape[1:])).astype(np.float32)
    for frame in range(count):
        one, other = rng.choice(len(tokens), 2, replace=False)
        share = np.float32(rng.uniform(0, 0.5))
        segment[frame] = tokens[one] * (1 - share) + tokens[other] * share
    return segment


class _Cache:
    """The slots in order of time, and how many segments each block stands for: the least that writes can come from."""

    def __init__(self, capacity: int, blocks: int) -> None:
        self._capacity = capacity
        self._order: list[int] = []
        self._counts = np.zeros((blocks, capacity), np.float32)
        self._merges = False

    def write(self, present: Array) -> Arrays:
        """`mix`, `write` and `valid` of the next segment, whose blocks are `present` or not."""
        mix = np.zeros((len(present), self._capacity, self._capacity), np.float32)
        mix[:, self._order, self._order] = 1
        slot = len(self._order)
        if slot == self._capacity:
            slot = self._free(mix)
        mix[:, slot] = 0
        self._counts[:, slot] = present
        self._order.append(slot)
        write = np.zeros(self._capacity, np.float32)
        write[slot] = 1
        return {"mix": mix, "write": write, "valid": (self._counts > 0).astype(np.float32)}

    def _free(self, mix: Array) -> int:
        """Make a slot free: merge two neighbours into the earlier one, and the next time overwrite the oldest."""
        self._merges = not self._merges and self._capacity > 1
        if not self._merges:
            return self._order.pop(0)
        one, freed = self._order[0], self._order.pop(1)
        both = self._counts[:, one] + self._counts[:, freed]
        share = np.divide(self._counts[:, freed], both, out=np.zeros_like(both), where=both > 0)
        mix[:, one, freed], mix[:, one, one] = share, 1 - share
        self._counts[:, one] = both
        return freed
