"""Optimisation profiles: the least, usual and largest size of each dynamic axis, which an engine is built for.

The manifest names the axes; their ranges are vsdk's defaults or the user's. An engine takes every size in its range and
is fastest at the usual one; its memory is that of the largest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from ..errors import InputError

if TYPE_CHECKING:
    from ..bundle import Component

LARGEST_BATCH = 8
LARGEST_OBJECTS = 4
LARGEST_POINTS = 16
LARGEST_EMBEDDINGS = 4
_RANGE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(\d+)(?::(\d+):(\d+))?\Z")


class AxisRange(NamedTuple):
    """Sizes of an axis."""

    least: int
    usual: int
    largest: int

    def __str__(self) -> str:
        return f"{self.least}:{self.usual}:{self.largest}"


def parse_ranges(text: str) -> dict[str, AxisRange]:
    """Ranges as they are written on the command line: `batch=1:4:16,points=2`; one number alone is all three.

    Raises:
        InputError: The text is not of that form, or a range does not ascend.
    """
    ranges = {}
    for item in text.split(","):
        found = _RANGE.match(item.strip())
        if not found:
            raise InputError(f"{item.strip()!r} is not a range", hint="Write AXIS=LEAST:USUAL:LARGEST, as batch=1:4:16")
        name, *sizes = found.groups()
        least, usual, largest = (int(size or sizes[0]) for size in sizes)
        if not 1 <= least <= usual <= largest:
            raise InputError(f"the range {item.strip()!r} does not ascend from 1 or more")
        ranges[name] = AxisRange(least, usual, largest)
    return ranges


def component_ranges(component: Component, asked: Mapping[str, AxisRange]) -> dict[str, AxisRange]:
    """The range of every dynamic axis of a component; what is not asked for has its default."""
    axes = sorted({axis for tensor in component.spec.inputs.values() for axis in tensor.dynamic_axes})
    return {axis: asked.get(axis) or _default(component, axis) for axis in axes}


def _default(component: Component, axis: str) -> AxisRange:
    role, parts = component.spec.role, component.bundle.components.values()
    if axis == "slots":
        most = max([part.spec.tracker.slots for part in parts if part.spec.tracker], default=LARGEST_BATCH)
        return AxisRange(1, most, most)
    if axis == "points":
        return AxisRange(1, 2, LARGEST_POINTS)
    if axis == "embeddings":
        return AxisRange(1, 1, LARGEST_EMBEDDINGS)
    if axis == "batch" and role == "projector":  # its batch is the tokens of all entries of the memory
        kept = [part.spec.memory for part in parts if part.spec.memory]
        most = max([spec.tokens * max(spec.capacity, 1) for spec in kept], default=LARGEST_BATCH)
        return AxisRange(1, most, most)
    # A tracker's batch is its objects, and each costs memory attention over the whole bank.
    return AxisRange(1, 1, LARGEST_OBJECTS if role.startswith("tracker.") else LARGEST_BATCH)


def shapes(shape: tuple[int | str, ...], ranges: Mapping[str, AxisRange]) -> list[tuple[int, ...]]:
    """Least, usual and largest shape of a tensor whose dynamic axes have these ranges."""
    return [
        tuple(ranges[size][choice] if isinstance(size, str) else size for size in shape)
        for choice in range(len(AxisRange._fields))
    ]
