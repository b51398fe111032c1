"""What the host knows of a slot of the memory: which part of the stream it stands for, and what it looked like."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..events import Scene, SceneFeatures
from ..segment import SEGMENT_FRAMES, reference_positions

Vectors = npt.NDArray[np.float32]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class MemoryEntry:
    """One remembered segment, or several neighbours that became one.

    Attributes:
        slot: The slot of the cache that holds its keys and values.
        first: Number of its first segment, counted from 0 over the life of the memory.
        last: Number of its last segment, inclusive.
        stream: In which stream it was seen; a memory that is kept or restored counts its streams from 0.
        blocks: For each block of the slot, how many segments are averaged in it, int64 `[blocks]`; 0 is an empty block.
        tokens: The memory tokens that the bridge made of it, float32 `[memory tokens, width]`; of several segments,
            their mean.
        retrieved: Where the cache holds patches: the memory tokens after retrieval, averaged in the same way.
        scene: Its frames and times, from its first scene to its last, with the vectors of at most 8 frames for search;
            None when the bridge was stepped without scenes.
    """

    slot: int
    first: int
    last: int
    stream: int
    blocks: Counts
    tokens: Vectors
    retrieved: Vectors | None = None
    scene: Scene | None = None

    @property
    def segments(self) -> int:
        """How many segments it stands for."""
        return self.last - self.first + 1


def merged(one: MemoryEntry, other: MemoryEntry) -> MemoryEntry:
    """The entry that two neighbours in time become; it keeps the slot of the first.

    Each token is the mean over all segments that the two stand for.
    """
    share = np.float32(other.segments / (one.segments + other.segments))
    retrieved = None
    if one.retrieved is not None and other.retrieved is not None:
        retrieved = _mix(one.retrieved, other.retrieved, share)
    return replace(
        one,
        last=other.last,
        blocks=one.blocks + other.blocks,
        tokens=_mix(one.tokens, other.tokens, share),
        retrieved=retrieved,
        scene=_joined(one.scene, other.scene),
    )


def without_picture(scene: Scene | None) -> Scene | None:
    """A scene as an entry keeps it: its picture is for people who watch the stream, not for the memory."""
    return None if scene is None else replace(scene, picture=None)


def _mix(one: Vectors, other: Vectors, share: np.float32) -> Vectors:
    """(1 - share) * one + share * other."""
    return one + (other - one) * share


def _joined(one: Scene | None, other: Scene | None) -> Scene | None:
    """From the beginning of one scene to the end of the other, with an even choice of both scenes' vectors."""
    if one is None or other is None:
        return None
    return replace(
        one,
        end_frame=other.end_frame,
        end=other.end,
        depth=other.depth,
        features=_thinned(one.features, other.features),
    )


def _thinned(one: SceneFeatures | None, other: SceneFeatures | None) -> SceneFeatures | None:
    if one is None or other is None:
        return one or other
    chosen = reference_positions(len(one.frames) + len(other.frames), SEGMENT_FRAMES)
    frames = one.frames + other.frames
    return SceneFeatures(
        frames=tuple(frames[position] for position in chosen),
        cls=_rows(one.cls, other.cls, chosen),
        embedding=(
            None if one.embedding is None or other.embedding is None else _rows(one.embedding, other.embedding, chosen)
        ),
        bundle=one.bundle,
    )


def _rows(one: Vectors, other: Vectors, chosen: list[int]) -> Vectors:
    both: npt.NDArray[Any] = np.concatenate([one, other])
    return both[chosen]
