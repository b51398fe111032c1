"""Tensors in GPU memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine import Array, DeviceTensor
from .cuda_driver import Memory, Stream
from .dlpack import to_capsule


class GpuTensor(DeviceTensor):
    """A tensor in GPU memory, in plain order.

    Args:
        owner: Whatever keeps the memory: a `Memory`, or what another library handed over.
        address: Where it is.
        shape, dtype: Of the tensor.
        device: DLPack device type and index.
        stream: For copies to and from the host; nothing is ever recorded on it.
    """

    def __init__(
        self,
        owner: object,
        address: int,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        device: tuple[int, int],
        stream: Stream,
    ) -> None:
        self.owner, self.address = owner, address
        self._shape, self._dtype = shape, dtype
        self._device, self._stream = device, stream

    @property
    def shape(self) -> tuple[int, ...]:
        """See `DeviceTensor.shape`."""
        return self._shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """See `DeviceTensor.dtype`."""
        return self._dtype

    def numpy(self) -> Array:
        """See `DeviceTensor.numpy`."""
        array = np.empty(self._shape, self._dtype)
        with self._stream.driver.current():
            self._stream.download(array.ctypes.data, self.address, array.nbytes)
            self._stream.wait()
        return array

    def overwrite(self, array: Array) -> None:
        """Copy an array of the same shape and dtype into this memory."""
        plain = np.ascontiguousarray(array)
        with self._stream.driver.current():
            self._stream.upload(self.address, plain.ctypes.data, plain.nbytes)
            self._stream.wait()

    def __dlpack__(self, **options: Any) -> Any:
        # Every run waits for its stream before it returns, so the consumer's stream, if it names one, has not to wait.
        return to_capsule(self.address, self._shape, self._dtype, self._device, self.owner)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._device


def bytes_of(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Size of a tensor."""
    return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize


def allocate(stream: Stream, shape: tuple[int, ...], dtype: np.dtype[Any], device: tuple[int, int]) -> GpuTensor:
    """A tensor in memory of its own; its content is undefined."""
    memory = Memory(stream.driver, bytes_of(shape, dtype))
    return GpuTensor(memory, memory.address, shape, dtype, device, stream)
