"""DLPack for GPU memory: hand ours out, take others' in, by ctypes. NumPy's own DLPack knows only the host.

The structures are those of dlpack.h, version 0.8, whose capsules are called `dltensor` and are renamed when taken.
"""

from __future__ import annotations

import ctypes
import itertools
import weakref
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_int32, c_int64, c_uint8, c_uint16, c_uint64, c_void_p
from typing import Any, Final

import numpy as np

_NAME, _TAKEN = b"dltensor", b"used_dltensor"
_KINDS: Final = {"i": 0, "u": 1, "f": 2, "b": 6}


class _Device(Structure):
    _fields_ = [("type", c_int32), ("index", c_int32)]


class _Type(Structure):
    _fields_ = [("kind", c_uint8), ("bits", c_uint8), ("lanes", c_uint16)]


class _Tensor(Structure):
    _fields_ = [
        ("data", c_void_p), ("device", _Device), ("dimensions", c_int32), ("type", _Type),
        ("shape", POINTER(c_int64)), ("strides", POINTER(c_int64)), ("offset", c_uint64),
    ]  # fmt: skip


class _Managed(Structure):
    pass


_Deleter = CFUNCTYPE(None, POINTER(_Managed))
_Managed._fields_ = [("tensor", _Tensor), ("context", c_void_p), ("deleter", _Deleter)]

_python = ctypes.pythonapi
_new = _python.PyCapsule_New
_new.restype, _new.argtypes = ctypes.py_object, [c_void_p, c_char_p, c_void_p]
_pointer = _python.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = c_void_p, [ctypes.py_object, c_char_p]
_rename = _python.PyCapsule_SetName
_rename.restype, _rename.argtypes = ctypes.c_int, [ctypes.py_object, c_char_p]
# A destructor gets a capsule that has no references left; as `py_object` it would be revived.
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, c_void_p, c_char_p)(("PyCapsule_IsValid", _python))
_raw_pointer = ctypes.PYFUNCTYPE(c_void_p, c_void_p, c_char_p)(("PyCapsule_GetPointer", _python))

_handed_out: dict[int, Any] = {}
_numbers = itertools.count(1)


@_Deleter  # type: ignore[untyped-decorator]
def _delete(managed: Any) -> None:
    _handed_out.pop(managed.contents.context, None)


@ctypes.PYFUNCTYPE(None, c_void_p)  # type: ignore[untyped-decorator]
def _destroy_capsule(capsule: int) -> None:
    if _is_valid(capsule, _NAME):  # nobody has taken it
        _delete(ctypes.cast(_raw_pointer(capsule, _NAME), POINTER(_Managed)))


def to_capsule(
    address: int, shape: tuple[int, ...], dtype: np.dtype[Any], device: tuple[int, int], owner: object
) -> Any:
    """A capsule for memory in plain order; `owner` is kept alive until the consumer lets go."""
    sizes = (c_int64 * len(shape))(*shape)
    kind = _Type(_KINDS[dtype.kind], dtype.itemsize * 8, 1)
    number = next(_numbers)
    tensor = _Tensor(address, _Device(*device), len(shape), kind, sizes, None, 0)
    managed = _Managed(tensor, number, _delete)
    _handed_out[number] = (managed, sizes, owner)
    return _new(ctypes.addressof(managed), _NAME, ctypes.cast(_destroy_capsule, c_void_p))


class Taken:
    """Memory of another library, which gets it back with this object.

    Args:
        capsule: From `__dlpack__`.

    Raises:
        TypeError, ValueError: It is not such a capsule, or its elements are not in plain order or of no NumPy type.

    Attributes:
        address, shape, dtype: Of the tensor.
    """

    def __init__(self, capsule: Any) -> None:
        managed = ctypes.cast(_pointer(capsule, _NAME), POINTER(_Managed))
        tensor = managed.contents.tensor
        self.address = int(tensor.data or 0) + int(tensor.offset)
        self.shape = tuple(tensor.shape[axis] for axis in range(tensor.dimensions))
        self.dtype = _dtype(tensor.type)
        if tensor.strides:
            strides = tuple(tensor.strides[axis] for axis in range(tensor.dimensions))
            if not _is_plain(self.shape, strides):
                raise ValueError("its elements are not in plain order; pass tensor.contiguous()")
        _rename(capsule, _TAKEN)
        if managed.contents.deleter:
            weakref.finalize(self, managed.contents.deleter, managed)


def _dtype(kind: _Type) -> np.dtype[Any]:
    letter = {number: letter for letter, number in _KINDS.items()}.get(kind.kind)
    if letter is None or kind.lanes != 1:
        raise TypeError(f"vsdk has no DLPack type {kind.kind} of {kind.bits} bits and {kind.lanes} lanes")
    return np.dtype(np.bool_) if letter == "b" else np.dtype(f"{letter}{kind.bits // 8}")


def _is_plain(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    expected = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True
