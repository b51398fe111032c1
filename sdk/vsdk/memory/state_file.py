"""The file that a memory or a tracker is saved to: arrays and JSON, one checksum over every byte, replaced atomically.

The file is a safetensors file: eight bytes with the length of a JSON header, the header, then the arrays one after the
other. That format was chosen over .npz because nothing in it can run code, because it has one plain layout (a zip file
has two descriptions of each member, and readers differ in which they trust), because arrays are read with one copy, and
because other programs can open it. What is written here is read and written by the sixty lines below; nothing needs
to be installed for it. The header's `__metadata__` has three strings:

* `format`: says that it is ours, and of which schema version;
* `content`: JSON, everything that is not an array;
* `sha256`: of the whole file, computed with zeros in its own place.

A file is written beside the one it replaces, flushed to the disk, and renamed over it; then the folder is flushed. A
process that is killed, or a machine that loses power, leaves the old file or the new one, and nothing in between. What
a killed process left unfinished is swept away by the next one that saves there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt

from vsdk_runtimes.errors import StateDamagedError, StateNotFoundError, StateSchemaError

from ..sinks.file_sink import check_writable, sink_error

SCHEMA: Final = 1
Array = npt.NDArray[Any]

_DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "I64": np.dtype("<i8")}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_NO_SUM = "0" * 64
_LENGTH_BYTES = 8
_MOST_HEADER_BYTES = 100_000_000
_SUFFIX = ".part"
_DAMAGED = "Use an earlier copy of it, or start without it."


def write_state(
    path: str | os.PathLike[str], content: Mapping[str, Any], arrays: Mapping[str, Array], kind: str = "memory"
) -> None:
    """Save, so that at every moment there is a complete file at `path`: the one before, or this one.

    Args:
        path: The file, which is replaced. A symbolic link is followed.
        content: What can be written as JSON.
        arrays: float32, float16 or int64.
        kind: What is saved: "memory" or "tracker".

    Raises:
        SinkError: It cannot be written there; what was there before is unchanged.
    """
    header, body = _packed(content, arrays, kind)
    target = Path(path).resolve()
    try:
        _sweep(target)
        with _replacing(target) as file:
            file.write(len(header).to_bytes(_LENGTH_BYTES, "little") + header)
            for part in body:
                file.write(part)
    except OSError as error:
        raise sink_error(os.fspath(path), error) from error


def check_state_target(path: str | os.PathLike[str]) -> None:
    """Whether `write_state` will be able to write there.

    Raises:
        SinkError: It will not.
    """
    try:
        check_writable(os.fspath(path))
    except OSError as error:
        raise sink_error(os.fspath(path), error) from error


def read_state(path: str | os.PathLike[str], kind: str = "memory") -> tuple[dict[str, Any], dict[str, Array]]:
    """What `write_state` saved of this kind: the content and the arrays, which belong to the caller.

    Raises:
        StateNotFoundError: There is no such file, or it cannot be read.
        StateDamagedError: It is not such a file, or was cut short or altered.
        StateSchemaError: It has a schema version that this vsdk does not know.
    """
    try:
        with Path(path).open("rb") as file:
            return _unpacked(path, file, kind)
    except OSError as error:
        raise StateNotFoundError(
            f"cannot read the {kind} state {path}: {error.strerror}", hint="Check the path and its permissions."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise StateDamagedError(f"{path} is not a {kind} state, or is damaged: {error}", hint=_DAMAGED) from error


def _packed(content: Mapping[str, Any], arrays: Mapping[str, Array], kind: str) -> tuple[bytes, list[memoryview]]:
    """The header with its checksum, and the memory of each array."""
    tensors: dict[str, Any] = {}
    body: list[memoryview] = []
    offset = 0
    for name, array in arrays.items():
        plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        tensors[name] = {
            "dtype": _CODES[plain.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + plain.nbytes],
        }
        body.append(plain.reshape(-1).view(np.uint8).data)
        offset += plain.nbytes
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    metadata = {"format": f"vsdk {kind} {SCHEMA}", "sha256": _NO_SUM, "content": text}
    header = json.dumps({"__metadata__": metadata, **tensors}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % _LENGTH_BYTES)  # so that the arrays are aligned
    digest = hashlib.sha256(len(header).to_bytes(_LENGTH_BYTES, "little") + header)
    for part in body:
        digest.update(part)
    return header.replace(_NO_SUM.encode(), digest.hexdigest().encode(), 1), body


def _unpacked(path: str | os.PathLike[str], file: BinaryIO, kind: str) -> tuple[dict[str, Any], dict[str, Array]]:
    size = os.fstat(file.fileno()).st_size
    prefix = file.read(_LENGTH_BYTES)
    length = int.from_bytes(prefix, "little")
    if not 0 < length <= min(size - _LENGTH_BYTES, _MOST_HEADER_BYTES):
        raise ValueError("it is too short for its header")
    raw = file.read(length)
    header = json.loads(raw)
    metadata = header.pop("__metadata__")
    _check_format(path, metadata["format"], kind)
    body = memoryview(file.read())
    said: str = metadata["sha256"]
    digest = hashlib.sha256(prefix + raw.replace(said.encode(), _NO_SUM.encode(), 1))
    digest.update(body)
    if digest.hexdigest() != said:
        raise ValueError("its SHA-256 is not the one that was written with it")
    content = json.loads(metadata["content"])
    if not isinstance(content, dict):
        raise ValueError("its content is not an object")
    return content, {name: _array(described, body) for name, described in header.items()}


def _check_format(path: str | os.PathLike[str], said: str, kind: str) -> None:
    name, _, version = said.rpartition(" ")
    if name != f"vsdk {kind}":
        raise ValueError(f"its format is {said!r}")
    if version != str(SCHEMA):
        raise StateSchemaError(
            f"the {kind} state {path} has schema version {version}; this vsdk reads version {SCHEMA}",
            hint="Upgrade vsdk, or start without it.",
        )


def _array(described: Mapping[str, Any], body: memoryview) -> Array:
    first, end = described["data_offsets"]
    dtype = _DTYPES[described["dtype"]]
    array = np.frombuffer(body[first:end], dtype).reshape(described["shape"])
    return np.array(array, dtype.newbyteorder("="))


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `target`, on the disk, when the block ends well, and vanishes when it does not."""
    part, file = _opened_part(target)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            part.replace(target)
        _flush_folder(target.parent)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _opened_part(target: Path) -> tuple[Path, BinaryIO]:
    """A new file beside `target`, locked so that nobody else who saves there sweeps it away."""
    while True:
        part = target.with_name(f"{_prefix(target)}{secrets.token_hex(4)}{_SUFFIX}")
        file = part.open("xb")
        if _is_ours(file) and part.exists():
            return part, file
        file.close()  # swept away before it was locked: try again


def _is_ours(file: BinaryIO) -> bool:
    """Lock a new file; where the file system has no locks, nobody sweeps either."""
    try:
        _lock(file)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _sweep(target: Path) -> None:
    """Remove unfinished files of processes that were killed: those that nobody holds a lock on any more."""
    for part in target.parent.iterdir():
        if part.name.startswith(_prefix(target)) and part.name.endswith(_SUFFIX):
            with contextlib.suppress(OSError), part.open("rb") as file:
                _lock(file)
                part.unlink()


def _prefix(target: Path) -> str:
    return f".{target.name}."


def _lock(file: BinaryIO) -> None:
    """Hold the file until it is closed or the process dies.

    Raises:
        OSError: Somebody else holds it.
    """
    import fcntl  # not on Windows, which is not supported

    fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


def _flush_folder(folder: Path) -> None:
    """The new name of a file is on the disk only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
