"""Masks as run-length encodings, in the form of the COCO data sets.

The mask is read column by column; the lengths of its runs alternate between background and object and begin with
background (0 if the very first pixel is the object). From the fourth on, a length is written as its difference to the
length two before it. Each number becomes groups of five bits, lowest first, with a sixth that says that more follow;
the last group's fifth bit is the sign. A group plus 48 is a printable character.

This is the compressed form of `pycocotools.mask.encode`, character by character, which `pycocotools.mask.decode` and
what builds on it read; Lin et al., "Microsoft COCO: Common Objects in Context", 2014, and its API's `maskApi.c`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from ..errors import InputError

MaskArray = npt.NDArray[np.bool_]
"""Which pixels belong to an object, bool `[height, width]`."""

Integers = npt.NDArray[np.int64]

_BITS = 5
_GROUP = 0x1F
_SIGN = 0x10
_MORE = 0x20
_FIRST_CHARACTER = 48
_MOST_GROUPS = 13  # 64 bits


class Rle(TypedDict):
    """A mask in COCO's run-length encoding.

    Attributes:
        size: Height and width in pixels.
        counts: The lengths of the runs, compressed to printable characters.
    """

    size: list[int]
    counts: str


def encode_rle(mask: MaskArray) -> Rle:
    """The run-length encoding of a mask.

    Args:
        mask: bool `[height, width]`.
    """
    height, width = mask.shape
    return {"size": [height, width], "counts": _compressed(_run_lengths(mask))}


def decode_rle(rle: Mapping[str, Any]) -> MaskArray:
    """The mask of a run-length encoding, bool `[height, width]`.

    Args:
        rle: With `size` and `counts`, as `encode_rle` or pycocotools make it.

    Raises:
        InputError: It is not one, or its runs do not make up its size.
    """
    try:
        height, width = (int(edge) for edge in rle["size"])
        counts = rle["counts"]
        text = counts if isinstance(counts, bytes) else str(counts).encode("ascii")
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"not a run-length encoding of a mask: {error!r}",
            hint="It has a size, [height, width], and counts, a string.",
        ) from error
    lengths = _decompressed(text)
    if lengths.min(initial=0) < 0 or lengths.sum() != height * width or min(height, width) < 0:
        raise InputError(
            f"a run-length encoding says {height} x {width} pixels, but its runs make up {lengths.sum()}",
            hint="It is damaged, or its size is not [height, width].",
        )
    object_runs = np.arange(len(lengths)) % 2 == 1
    return np.ascontiguousarray(np.repeat(object_runs, lengths).reshape(width, height).T)


def _run_lengths(mask: MaskArray) -> Integers:
    """Lengths of the runs, column by column, background first."""
    height, width = mask.shape
    columns = np.flatnonzero(mask.any(axis=0))
    if not len(columns):
        return np.array([height * width])
    # Only the columns that the object touches are turned round.
    left, right = int(columns[0]), int(columns[-1]) + 1
    flat = np.zeros((right - left) * height + 2, np.bool_)
    flat[1:-1].reshape(right - left, height)[...] = mask[:, left:right].T
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + left * height
    runs: Integers = np.diff(changes, prepend=0, append=height * width)
    return runs if runs[-1] else runs[:-1]  # the last pixel of all may be the object's


def _compressed(lengths: Integers) -> str:
    rest = lengths.astype(np.int64)
    rest[3:] -= lengths[1:-2]
    groups: list[npt.NDArray[np.uint8]] = []
    written: list[MaskArray] = []
    open_ = np.ones(len(rest), np.bool_)
    while open_.any():
        group = rest & _GROUP
        rest >>= _BITS
        written.append(open_)
        open_ = open_ & (rest != np.where(group & _SIGN, -1, 0))
        groups.append((group + np.where(open_, _MORE, 0) + _FIRST_CHARACTER).astype(np.uint8))
    return np.stack(groups, axis=1)[np.stack(written, axis=1)].tobytes().decode("ascii")


def _decompressed(text: bytes) -> Integers:
    characters = np.frombuffer(text, np.uint8).astype(np.int64) - _FIRST_CHARACTER
    last = np.flatnonzero(characters & _MORE == 0)
    if not len(characters) or characters.min() < 0 or characters.max() > 0x3F or last[-1:].tolist() != [len(text) - 1]:
        raise InputError("the counts of a run-length encoding are cut short or have characters that it cannot have")
    first = np.concatenate([[0], last[:-1] + 1])
    groups = last - first + 1
    if groups.max() > _MOST_GROUPS - 1:
        raise InputError("the counts of a run-length encoding have a number of more than 60 bits")
    place = np.arange(len(characters)) - np.repeat(first, groups)
    values = np.add.reduceat((characters & _GROUP) << (_BITS * place), first)
    values -= np.where(characters[last] & _SIGN, 1 << (_BITS * groups), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
