"""The memory cache: which slot holds which entry, and what has to go when every slot is taken.

The published model appends to its cache for ever and projects all of it to keys and values again at every step. Here a
cache has a fixed number of slots, and their keys and values stay in the engine. The host decides, segment by segment,
what becomes of each slot, and tells the graph with three small arrays (`CacheWrite`); it never touches the slots.

When every slot is taken, one has to become free:

* `"oldest"`: the oldest entry is forgotten.
* `"merge"` (as in MovieChat): of all pairs of neighbours in time, the two whose memory tokens are most alike become
  their mean, weighted by the number of segments that each already stands for. So a long, even stretch of the stream
  shrinks into a few entries, and what was different keeps a slot of its own. Neighbours are entries of one stream: when
  there is no such pair, the oldest entry is forgotten.

The pair is chosen before the new segment is written, so the newest segment always has a slot of its own. Keys and
values depend affinely on what was cached, so their mean is exactly the key and value of the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from vsdk_runtimes.errors import InputError

from .entry import Counts, MemoryEntry, Vectors, merged

Eviction = Literal["merge", "oldest"]
Weights = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class CacheWrite:
    """What becomes of the cache in one step; the first three are inputs of the graph.

    Attributes:
        mix: float32 `[blocks, capacity, capacity]`: a slot's new content is the sum of the old slots, weighted by its
            row. A row is convex (what is kept or merged) or zero (what is free or about to be written).
        write: float32 `[capacity]`, one-hot: the slot that receives the new segment.
        valid: float32 `[blocks, capacity]`: 1 where, after the write, there is something to read.
        slot: The slot that receives the new segment.
        merges: Position (in time) of the entry that takes in its successor; None if none does.
        forgets: Position (in time) of the entry that is overwritten; None if none is.
    """

    mix: Weights
    write: Weights
    valid: Weights
    slot: int
    merges: int | None
    forgets: int | None


class MemoryCache:
    """The entries of a memory, in the order of time, and the rule that keeps them within the slots.

    Args:
        capacity: How many slots there are.
        blocks: Of how many blocks a slot consists: 1, or one for each frame of a segment.
        eviction: What happens when every slot is taken.

    Raises:
        InputError: An argument is out of range.
    """

    def __init__(self, capacity: int, blocks: int = 1, eviction: Eviction = "merge") -> None:
        if capacity < 1 or blocks < 1:
            raise InputError(f"a memory cache needs at least one slot and one block, not {capacity} and {blocks}")
        if eviction not in get_args(Eviction):
            raise InputError(f"unknown eviction {eviction!r}", hint=f"Use one of: {', '.join(get_args(Eviction))}")
        self.capacity = capacity
        self.blocks = blocks
        self.eviction = eviction
        self.clear()

    @property
    def entries(self) -> tuple[MemoryEntry, ...]:
        """What is remembered, oldest first."""
        return self._entries

    def clear(self) -> None:
        """Forget everything."""
        self._entries: tuple[MemoryEntry, ...] = ()
        self._directions: dict[int, Vectors] = {}

    def check(self, entries: Sequence[MemoryEntry]) -> None:
        """Whether these, oldest first, can be the entries of this cache.

        Raises:
            ValueError: They cannot have come from a cache like this one.
        """
        slots = sorted(entry.slot for entry in entries)
        if slots != list(range(len(entries))) or len(entries) > self.capacity:
            raise ValueError(f"the slots {slots} do not fit a cache of {self.capacity}")
        if any(after.first <= before.last for before, after in pairwise(entries)):
            raise ValueError("the entries are not in the order of time")
        if any(entry.blocks.shape != (self.blocks,) for entry in entries):
            raise ValueError(f"an entry does not have {self.blocks} blocks")

    def replace(self, entries: Sequence[MemoryEntry]) -> None:
        """Take over the entries of a saved cache, oldest first, after `check`."""
        self._directions = {entry.slot: _directions(entry.tokens) for entry in entries}
        self._entries = tuple(entries)

    def plan(self, blocks: Counts) -> CacheWrite:
        """What to tell the graph when the next segment comes; nothing changes before `commit`.

        Args:
            blocks: 1 for each block of the segment that is there, 0 for padding, int64 `[blocks]`.
        """
        merges = forgets = None
        slot = len(self._entries)
        if slot == self.capacity:
            merges = self._most_alike() if self.eviction == "merge" else None
            forgets = 0 if merges is None else None
            slot = self._entries[0 if merges is None else merges + 1].slot
        mix = np.zeros((self.blocks, self.capacity, self.capacity), np.float32)
        valid = np.zeros((self.blocks, self.capacity), np.float32)
        for entry in self._entries:
            if entry.slot != slot:
                mix[:, entry.slot, entry.slot] = 1
                valid[:, entry.slot] = entry.blocks > 0
        if merges is not None:
            one, other = self._entries[merges], self._entries[merges + 1]
            mix[:, one.slot, other.slot] = share = _shares(one.blocks, other.blocks)
            mix[:, one.slot, one.slot] = 1 - share
            valid[:, one.slot] = one.blocks + other.blocks > 0
        valid[:, slot] = blocks > 0
        write = np.zeros(self.capacity, np.float32)
        write[slot] = 1
        return CacheWrite(mix, write, valid, slot, merges, forgets)

    def commit(self, write: CacheWrite, entry: MemoryEntry) -> None:
        """The step went well: the plan is what is.

        Args:
            write: From `plan`, with nothing committed in between.
            entry: What was written; it gets the plan's slot.
        """
        entries = list(self._entries)
        if write.merges is not None:
            one = merged(entries[write.merges], entries.pop(write.merges + 1))
            entries[write.merges] = one
            self._directions[one.slot] = _directions(one.tokens)
        if write.forgets is not None:
            del entries[write.forgets]
        entry = replace(entry, slot=write.slot)
        self._directions[entry.slot] = _directions(entry.tokens)
        self._entries = (*entries, entry)

    def _most_alike(self) -> int | None:
        """Position of the first of the two neighbours that are most alike; the earlier pair when two are equal."""
        best, position = -np.inf, None
        for at, (one, other) in enumerate(pairwise(self._entries)):
            if one.stream == other.stream:
                # einsum, because BLAS may split a sum over threads, and then over others when a state is restored
                alike = float(np.einsum("td,td->", self._directions[one.slot], self._directions[other.slot]))
                if alike > best:
                    best, position = alike, at
        return position


def _directions(tokens: Vectors) -> Vectors:
    """Tokens of length one, so that a sum of products is a sum of cosines."""
    lengths = np.linalg.norm(tokens, axis=1, keepdims=True)
    directions: Vectors = tokens / np.maximum(lengths, np.float32(1e-12))
    return directions


def _shares(one: Counts, other: Counts) -> Weights:
    """How much of each block of the mean is the other's, by the segments in it; 0 where the other has none."""
    both = one + other
    shares: Weights = np.divide(other, both, out=np.zeros(len(one)), where=both > 0).astype(np.float32)
    return shares
