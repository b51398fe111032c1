"""GPU memory through DLPack: handed out, taken in, given back; on the stand-in for the driver."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import bundles
import numpy as np
import pytest
import stand_in_tensorrt

from vsdk_runtimes import Session, load, load_bundle
from vsdk_runtimes.errors import InputError
from vsdk_runtimes.tensorrt.dlpack import Taken, to_capsule
from vsdk_runtimes.tensorrt.gpu_tensor import GpuTensor
from vsdk_runtimes.tensorrt.targets import build_engines

CUDA = (2, 0)


class Owner:
    """What keeps memory."""


@pytest.mark.parametrize("dtype", bundles.DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4)])
def test_what_is_handed_out_is_what_is_taken(dtype: str, shape: tuple[int, ...]) -> None:
    taken = Taken(to_capsule(4096, shape, np.dtype(dtype), CUDA, None))
    assert (taken.address, taken.shape, taken.dtype) == (4096, shape, np.dtype(dtype))


def test_the_owner_lives_as_long_as_the_consumer() -> None:
    owner = Owner()
    alive = weakref.ref(owner)
    taken = Taken(to_capsule(4096, (2,), np.dtype(np.float32), CUDA, owner))
    del owner
    gc.collect()
    assert alive() is not None
    del taken
    gc.collect()
    assert alive() is None


def test_a_capsule_that_nobody_takes_lets_go() -> None:
    owner = Owner()
    alive = weakref.ref(owner)
    capsule = to_capsule(4096, (2,), np.dtype(np.float32), CUDA, owner)
    del owner
    assert alive() is not None
    del capsule
    gc.collect()
    assert alive() is None


def test_a_capsule_is_taken_once() -> None:
    capsule = to_capsule(4096, (2,), np.dtype(np.float32), CUDA, None)
    Taken(capsule)
    with pytest.raises(ValueError, match="PyCapsule"):
        Taken(capsule)


def test_numpy_reads_what_lies_on_the_host() -> None:
    """The structures are those of another library."""
    array = np.arange(6, dtype=np.float32).reshape(2, 3)

    class Tensor:
        def __dlpack__(self, **options: Any) -> Any:
            return to_capsule(array.ctypes.data, (2, 3), array.dtype, (1, 0), array)

        def __dlpack_device__(self) -> tuple[int, int]:
            return (1, 0)

    np.testing.assert_array_equal(np.from_dlpack(Tensor()), array)
    taken = Taken(array.__dlpack__())
    assert (taken.address, taken.shape, taken.dtype) == (array.ctypes.data, (2, 3), array.dtype)


def test_an_order_that_is_not_plain_is_refused() -> None:
    array = np.zeros((4, 6), np.float32)
    for view in (array.T, array[:, ::2]):
        with pytest.raises(ValueError, match=r"plain order.*contiguous"):
            Taken(view.__dlpack__())
    assert Taken(array[:1, :].__dlpack__()).shape == (1, 6)


class Foreign:
    """A GPU tensor of another library, from a certain byte of some memory on."""

    def __init__(self, tensor: GpuTensor, shape: tuple[int, ...], offset: int = 0) -> None:
        self.tensor, self.shape, self.offset = tensor, shape, offset
        self.streams: list[Any] = []

    def __dlpack__(self, *, stream: Any = None) -> Any:
        self.streams.append(stream)
        return to_capsule(self.tensor.address + self.offset, self.shape, self.tensor.dtype, CUDA, self.tensor)

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    stand_in_tensorrt.install(monkeypatch)
    bundle = load_bundle(bundles.encoder_bundle(tmp_path))
    build_engines(bundle, "tensorrt")
    return load(bundle.component("encoder"), engine="tensorrt", device="cuda", precision="fp32")


def test_a_gpu_tensor_of_another_library_is_read_where_it_is(session: Session) -> None:
    pixels = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    uploaded: Any = session.upload(pixels)
    foreign = Foreign(uploaded, pixels.shape)
    found = session.run({"pixels": foreign})
    np.testing.assert_allclose(found["cls"], bundles.encoder_reference(pixels)["cls"], rtol=1e-5, atol=1e-5)
    assert foreign.streams == [session._copies.handle]  # type: ignore[attr-defined]  # which is waited for


def test_a_tensor_at_an_odd_address_is_refused(session: Session) -> None:
    uploaded: Any = session.upload(np.zeros((3, 3, 8, 8), np.float32))
    with pytest.raises(InputError, match="'pixels' begins at an address") as caught:
        session.run({"pixels": Foreign(uploaded, (2, 3, 8, 8), offset=64)})
    assert "clone" in caught.value.hint


def test_our_tensors_can_be_taken(session: Session) -> None:
    kept: Any = session.run({"pixels": np.zeros((2, 3, 8, 8), np.float32)}, to="device")["patches"]
    taken = Taken(kept.__dlpack__(stream=1))
    assert (taken.address, taken.shape, taken.dtype) == (kept.address, (2, 16, 4), np.dtype(np.float32))
    assert kept.__dlpack_device__() == CUDA
