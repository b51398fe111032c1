"""The bank: what is remembered of each object, in arrays of fixed size.

The original keeps the memory of every frame and reads the prompted ("conditioning") frames and the last six others
(Ravi et al., "SAM 2", section 4; `_gather_memory_frame_outputs` and `_get_object_pointers` in transformers). What can
still be read is all that this bank keeps:

* memories of the newest conditioning frames, as many as `conditioning_slots`, and of the `recent_slots` frames before
  the current one, whether those were tracked or are conditioning frames that no longer count as such;
* object pointers of the same conditioning frames, and of the `recent_pointers` frames before the current one.

So the pointer of a surplus conditioning frame is forgotten once it is older than `recent_pointers` frames, where the
original would keep it for ever. Everything else is equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .networks import Array, Integers

if TYPE_CHECKING:  # pydantic is imported when a bundle is loaded
    from vsdk_runtimes.manifest import TrackerSpec

EMPTY = -1
"""Frame number of a place that holds nothing."""


class MemoryBank:
    """The memories of all objects of a stream, one row for each.

    Args:
        spec: How many places there are.
        memory_shape: Tokens of a memory and their width.
        width: Width of an object pointer.
    """

    def __init__(self, spec: TrackerSpec, memory_shape: tuple[int, int], width: int) -> None:
        self._spec = spec
        self._memories = _Places(0, spec.slots, memory_shape, spec.conditioning_slots, spec.recent_slots)
        self._pointers = _Places(0, spec.pointers, (width,), spec.conditioning_slots, spec.recent_pointers)

    def add_object(self) -> None:
        """One more row, empty."""
        self._memories.add_row()
        self._pointers.add_row()

    def remove_object(self, row: int) -> None:
        """Forget a row; those after it move up."""
        self._memories.remove_row(row)
        self._pointers.remove_row(row)

    def write(self, row: int, frame: int, conditioning: bool, memory: Array, pointer: Array) -> None:
        """Remember a frame, which must be newer than any before it."""
        if self._spec.rounding == "bfloat16":
            memory = to_bfloat16(memory)
        self._memories.write(row, frame, conditioning, memory)
        self._pointers.write(row, frame, conditioning, pointer)

    def read(self, rows: list[int], frame: int) -> dict[str, npt.NDArray[np.generic]]:
        """The inputs of `tracker.attention` for these rows on a frame that is not in the bank yet."""
        memories, ages, conditioning, valid = self._memories.read(rows, frame)
        pointers, pointer_ages, _, pointer_valid = self._pointers.read(rows, frame, everything=True)
        return {
            "memory": memories,
            "slot_age": np.where(conditioning, 0, np.where(valid, ages, 1)),
            "slot_valid": valid.astype(np.float32),
            "pointers": pointers,
            "pointer_age": np.where(pointer_valid, pointer_ages, 0).astype(np.float32),
            "pointer_valid": pointer_valid.astype(np.float32),
        }

    def frames(self, row: int) -> tuple[int, ...]:
        """Numbers of the frames whose memories a row holds, in order."""
        held = self._memories.frames[row]
        return tuple(sorted(int(frame) for frame in held if frame != EMPTY))

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return self._memories.content.nbytes + self._pointers.content.nbytes

    def snapshot(self) -> dict[str, npt.NDArray[np.generic]]:
        """All arrays by name; they belong to the caller."""
        return {
            f"{name}_{part}": array.copy()
            for name, places in (("memory", self._memories), ("pointer", self._pointers))
            for part, array in places.arrays().items()
        }

    def restore(self, arrays: Mapping[str, npt.NDArray[np.generic]], rows: int) -> None:
        """Become the bank that `snapshot` was taken of.

        Raises:
            ValueError: Arrays that do not fit; the bank is then unchanged.
        """
        parts = [
            places.checked({part: arrays[f"{name}_{part}"] for part in places.arrays()}, rows)
            for name, places in (("memory", self._memories), ("pointer", self._pointers))
        ]
        for places, checked in zip((self._memories, self._pointers), parts, strict=True):
            places.content, places.frames, places.conditioning = checked


class _Places:
    """Places for one kind of thing, `[rows, places, ...]`; as many are filled as are needed at once, from the front."""

    def __init__(self, rows: int, places: int, shape: tuple[int, ...], kept: int, recent: int) -> None:
        self.content: Array = np.zeros((rows, places, *shape), np.float32)
        self.frames: Integers = np.full((rows, places), EMPTY, np.int64)
        self.conditioning: npt.NDArray[np.bool_] = np.zeros((rows, places), np.bool_)
        self._kept, self._recent = kept, recent

    def add_row(self) -> None:
        places, shape = self.frames.shape[1], self.content.shape[2:]
        self.content = np.concatenate([self.content, np.zeros((1, places, *shape), np.float32)])
        self.frames = np.concatenate([self.frames, np.full((1, places), EMPTY, np.int64)])
        self.conditioning = np.concatenate([self.conditioning, np.zeros((1, places), np.bool_)])

    def remove_row(self, row: int) -> None:
        self.content = np.delete(self.content, row, axis=0)
        self.frames = np.delete(self.frames, row, axis=0)
        self.conditioning = np.delete(self.conditioning, row, axis=0)

    def write(self, row: int, frame: int, conditioning: bool, content: Array) -> None:
        if not conditioning and self._recent == 0:
            return  # nobody would read it
        place = self._place(row, frame, conditioning)
        self.content[row, place] = content
        self.frames[row, place], self.conditioning[row, place] = frame, conditioning

    def read(
        self, rows: list[int], frame: int, *, everything: bool = False
    ) -> tuple[Array, Integers, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Content, age in frames, whether it counts as conditioning, whether it counts at all; of the filled places."""
        whole = rows == list(range(len(self.frames)))
        chosen: list[int] | slice = slice(None) if whole else rows
        frames = self.frames[chosen]
        filled = frames.shape[1] if everything else max(1, int((frames != EMPTY).sum(1).max()))
        selected = np.stack([self._selected(row) for row in rows])[:, :filled]
        ages = frame - frames[:, :filled]
        valid = (frames[:, :filled] != EMPTY) & (selected | (ages <= self._recent))
        return self.content[chosen][:, :filled], ages, selected, valid

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        return {
            "content": self.content,
            "frames": self.frames,
            "conditioning": self.conditioning.astype(np.int64),
        }

    def checked(
        self, arrays: Mapping[str, npt.NDArray[np.generic]], rows: int
    ) -> tuple[Array, Integers, npt.NDArray[np.bool_]]:
        """These arrays, if they can be ours with so many rows."""
        for part, ours in self.arrays().items():
            if arrays[part].shape != (rows, *ours.shape[1:]) or arrays[part].dtype != ours.dtype:
                raise ValueError(f"{part} is {arrays[part].dtype} {arrays[part].shape}")
        frames = np.array(arrays["frames"], np.int64)
        return np.array(arrays["content"], np.float32), frames, np.array(arrays["conditioning"], np.bool_)

    def _place(self, row: int, frame: int, conditioning: bool) -> int:
        """Where to put something of this frame: the oldest place that is not needed from now on, or else an empty one.

        Attention reads all places up to the last filled one, so no more of them are filled than are needed at once.
        """
        frames = self.frames[row]
        newest = np.sort(frames[self.conditioning[row]])[::-1][: self._kept - conditioning]
        needed = np.isin(frames, newest) & self.conditioning[row] | (frames > frame - self._recent)
        outdated = np.flatnonzero(~needed & (frames != EMPTY))
        if len(outdated):
            return int(outdated[frames[outdated].argmin()])
        return int(np.flatnonzero(frames == EMPTY)[0])

    def _selected(self, row: int) -> npt.NDArray[np.bool_]:
        """The places of the newest conditioning frames."""
        conditioning = np.flatnonzero(self.conditioning[row] & (self.frames[row] != EMPTY))
        newest = conditioning[np.argsort(-self.frames[row, conditioning], kind="stable")][: self._kept]
        selected = np.zeros(self.frames.shape[1], np.bool_)
        selected[newest] = True
        return selected


def to_bfloat16(array: Array) -> Array:
    """Rounded to the nearest bfloat16, ties to even, and kept as float32."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded & np.uint32(0xFFFF0000)).view(np.float32)
