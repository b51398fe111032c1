"""Which further files an ONNX graph would make an engine open.

Weights may lie outside the ONNX file, and the file says where. Older engines follow such a path through links to
anywhere, and no digest of the bundle would cover what they find. So the paths are read here, before an engine sees the
graph, and each must be a file that the manifest lists. Reading them takes a walk over the file's protobuf messages; the
`onnx` package, which could do it, does not belong on a device.
"""

from __future__ import annotations

import mmap
from collections.abc import Container, Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from .errors import GraphError

if TYPE_CHECKING:
    from .bundle import Component

# The messages of onnx.proto that lead to a TensorProto, and the numbers of the fields that do.
_LEADS_TO: Final = {
    "Model": {7: "Graph", 25: "Function"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "Entry"},
}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_KEY, _VALUE = 1, 2


def check_external_data(component: Component, listed: str) -> None:
    """Refuse a graph of a component that refers to files which the manifest does not list.

    Raises:
        GraphError: It does, or it is not an ONNX file.
    """
    external_files(component, listed)


def external_files(component: Component, listed: str) -> list[str]:
    """The further files of a graph, as the manifest lists them.

    Raises:
        GraphError: One is not listed, or the graph is not an ONNX file.
    """
    path = component.path(listed)
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            locations = sorted(set(_locations(content)))
    except (OSError, ValueError, IndexError) as error:
        raise GraphError(f"cannot read {path} as ONNX: {error}", hint="Export the bundle again.") from error
    return [_listed(component, listed, location, component.bundle.manifest.files) for location in locations]


def _listed(component: Component, listed: str, location: str, files: Container[str]) -> str:
    wanted = str(PurePosixPath(listed).parent / location)
    if wanted not in files:
        raise GraphError(
            f"{component.path(listed)} keeps weights in {location!r}, which the manifest does not list",
            hint="Export the bundle again, or do not use it if it comes from a source you do not trust.",
        )
    return wanted


def _locations(content: mmap.mmap) -> Iterator[str]:
    """The `location` of every tensor with external data."""
    waiting = [("Model", 0, len(content))]
    while waiting:
        message, start, end = waiting.pop()
        if message == "Entry":
            fields = [(field, content[at:stop]) for field, at, stop in _fields(content, start, end)]
            if (_KEY, b"location") in fields:
                yield from (value.decode() for field, value in fields if field == _VALUE)
            continue
        leads_to = _LEADS_TO[message]
        for field, at, stop in _fields(content, start, end):
            if field in leads_to:
                waiting.append((leads_to[field], at, stop))


def _fields(content: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of every field of a message that has a length of its own."""
    at = start
    while at < end:
        tag, at = _varint(content, at)
        kind = tag & 7
        if kind == _VARINT:
            _, at = _varint(content, at)
        elif kind == _BYTES:
            length, at = _varint(content, at)
            if length <= end - at:
                yield tag >> 3, at, at + length
            at += length
        elif kind in (_FIXED32, _FIXED64):
            at += 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"unknown wire type {kind} at byte {at}")
    if at != end:
        raise ValueError(f"a message ends at byte {end}, its last field at {at}")


def _varint(content: mmap.mmap, at: int) -> tuple[int, int]:
    """An integer of up to ten bytes, seven bits each, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError(f"an integer at byte {at} does not end")
