"""What an engine is: the interface between a component and whatever executes it.

A `Session` is a component loaded on one engine, at one precision, on one device. It may be shared by threads and by
streams. A `State` holds the recurrent tensors of one stream and lives where the engine runs. The conformance suite
`tests/runtimes/test_engine_conformance.py` says in code what this page says in words; a new engine is one that
passes it.

The checks of names, shapes and dtypes are here, once for every engine. An engine implements `_run_to_host`,
`_run_to_device`, `new_state` and `_advance`, and gets tensors that are known to be right.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, overload, runtime_checkable

import numpy as np
import numpy.typing as npt

from .errors import ClosedError, GraphError, InputError

if TYPE_CHECKING:
    from .bundle import Component
    from .manifest import TensorSpec

Array = npt.NDArray[Any]
Precision = Literal["fp32", "fp16", "int8"]

# Device types of the DLPack standard.
_DLPACK_CPU, _DLPACK_CUDA = 1, 2
_DLPACK_HOST = (_DLPACK_CPU, 3)  # 3: page-locked host memory
_DLPACK_NAMES = {_DLPACK_CPU: "cpu", _DLPACK_CUDA: "cuda"}


@runtime_checkable
class DLPackTensor(Protocol):
    """Anything that hands out its memory through DLPack: NumPy, PyTorch, CuPy arrays, and our device tensors."""

    def __dlpack__(self, *, stream: Any = None) -> Any: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...


class DeviceTensor(abc.ABC):
    """An output that stayed where the engine runs: feed it to a session there, or read it through DLPack."""

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Size of each axis."""

    @property
    @abc.abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""

    @abc.abstractmethod
    def numpy(self) -> Array:
        """A copy on the host that belongs to the caller."""

    @abc.abstractmethod
    def __dlpack__(self, **options: Any) -> Any: ...

    @abc.abstractmethod
    def __dlpack_device__(self) -> tuple[int, int]: ...


Tensor = Array | DeviceTensor | DLPackTensor
Axes = dict[str, int]


class State(abc.ABC):
    """The recurrent tensors of one stream. Made by `Session.new_state()`, advanced by `Session.step()`."""

    def __init__(self, session: Session) -> None:
        self.session = session

    @property
    @abc.abstractmethod
    def tensors(self) -> dict[str, DeviceTensor]:
        """The current tensors where the engine keeps them, by the name of the input that they will feed.

        Any session on the device takes them; they are valid until this state's next step.
        """

    @abc.abstractmethod
    def snapshot(self) -> dict[str, Array]:
        """Copies of the current tensors on the host that belong to the caller."""

    def restore(self, tensors: Mapping[str, Array]) -> None:
        """Set every tensor from a snapshot.

        Raises:
            InputError: A tensor is missing, unknown, or of the wrong shape or dtype; the state is then unchanged.
        """
        self._overwrite(self.session._checked_state(tensors))

    def reset(self) -> None:
        """Back to the initial tensors, in the buffers already allocated."""
        self._overwrite(self.session._initial_state)

    @abc.abstractmethod
    def _overwrite(self, tensors: Mapping[str, Array]) -> None:
        """Copy these tensors, which are right, into the buffers that the next step reads."""


@dataclass(frozen=True)
class SessionInfo:
    """What really runs; equal to what was asked for, or the session would not exist."""

    engine: str
    engine_version: str
    device: str
    precision: Precision
    threads: int


class Session(abc.ABC):
    """A component that is ready to run.

    Args:
        component: What is run.
        info: On what it is run.
    """

    def __init__(self, component: Component, info: SessionInfo) -> None:
        self.component = component
        self.info = info
        self._closed = False
        self._label = f"component {component.name!r} ({info.precision}, {info.engine} on {info.device})"
        kind, _, index = info.device.partition(":")
        self._dlpack_device = (_DLPACK_CPU if kind == "cpu" else _DLPACK_CUDA, int(index or 0))
        spec = component.spec
        self._dtypes = {name: np.dtype(tensor.dtype) for name, tensor in (*spec.inputs.items(), *spec.outputs.items())}
        self._state_outputs = {item.output: item.input for item in spec.state}
        recurrent = set(self._state_outputs.values())
        self._stream_inputs = {name: tensor for name, tensor in spec.inputs.items() if name not in recurrent}
        self._state_inputs = {name: tensor for name, tensor in spec.inputs.items() if name in recurrent}
        self._initial_state = {item.input: self._initial_tensor(item.input, item.init) for item in spec.state}

    @property
    def inputs(self) -> Mapping[str, TensorSpec]:
        """Input tensors by name."""
        return self.component.spec.inputs

    @property
    def outputs(self) -> Mapping[str, TensorSpec]:
        """Output tensors by name."""
        return self.component.spec.outputs

    @overload
    def run(
        self, inputs: Mapping[str, Tensor], outputs: Sequence[str] | None = ..., *, to: Literal["host"] = ...
    ) -> dict[str, Array]: ...

    @overload
    def run(
        self, inputs: Mapping[str, Tensor], outputs: Sequence[str] | None = ..., *, to: Literal["device"]
    ) -> dict[str, DeviceTensor]: ...

    def run(
        self,
        inputs: Mapping[str, Tensor],
        outputs: Sequence[str] | None = None,
        *,
        to: Literal["host", "device"] = "host",
    ) -> dict[str, Array] | dict[str, DeviceTensor]:
        """Run once.

        Args:
            inputs: One tensor for each input, of exactly the stated dtype and shape.
            outputs: Which outputs to compute; None means all.
            to: `"host"` gives fresh NumPy arrays that belong to the caller. `"device"` gives DLPack tensors where the
                engine runs, valid until this session's next run with `to="device"`.

        Raises:
            InputError: A name, shape or dtype is wrong.
            EngineRunError: The engine failed.
            ClosedError: The session is closed.
        """
        self._check_open()
        names = self._checked_outputs(outputs, self.outputs)
        if not names:
            raise InputError(f"{self._label}: a run needs at least one output; it has {', '.join(self.outputs)}")
        tensors, axes = self._checked_inputs(inputs, self.inputs)
        if to == "host":
            return self._run_to_host(tensors, axes, names)
        if to == "device":
            return self._run_to_device(tensors, axes, names)
        raise InputError(f"{self._label}: cannot run to {to!r}", hint="Use to='host' or to='device'.")

    def upload(self, array: Array) -> Array | DeviceTensor:
        """An array where this session runs, for an input that is the same in many runs.

        Any session on the device takes it, and it is not sent again with each run. Where there is nothing to send it
        is the array itself; so do not change it afterwards.
        """
        return array

    def step(
        self, inputs: Mapping[str, Tensor], state: State, outputs: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """Run once with the state's tensors as further inputs and let the new ones replace them.

        Args:
            inputs: The inputs that are not state.
            state: Advanced in place. When the call raises, it is unchanged.
            outputs: Outputs to return as host arrays that belong to the caller; None means all that are not state.

        Raises:
            InputError: As for `run`, or the state belongs to another session.
            EngineRunError: The engine failed.
            ClosedError: The session is closed.
        """
        self._check_open()
        if not isinstance(state, State) or state.session is not self:
            raise InputError(
                f"{self._label}: this state belongs to another session", hint="Make it with session.new_state()."
            )
        names = self._checked_outputs(outputs, (name for name in self.outputs if name not in self._state_outputs))
        tensors, axes = self._checked_inputs(inputs, self._stream_inputs)
        return self._advance(tensors, axes, state, names)

    @abc.abstractmethod
    def new_state(self) -> State:
        """A fresh state with its initial tensors; allocates all that `step` will ever need for it.

        Raises:
            InputError: The component is not recurrent.
            ClosedError: The session is closed.
        """

    def close(self) -> None:
        """Free the engine. Idempotent; later calls of `run`, `step` and `new_state` raise `ClosedError`."""
        self._closed = True

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _checked_state(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """These tensors, if they can be a state of this session.

        Raises:
            InputError: One is missing, unknown, or of the wrong shape or dtype.
        """
        checked, _ = self._checked_inputs(tensors, self._state_inputs)
        return {name: tensor if isinstance(tensor, np.ndarray) else tensor.numpy() for name, tensor in checked.items()}

    @abc.abstractmethod
    def _run_to_host(
        self, tensors: Mapping[str, Array | DeviceTensor], axes: Axes, names: Sequence[str]
    ) -> dict[str, Array]:
        """`run(to="host")` on checked tensors; `axes` has the size of each dynamic axis."""

    @abc.abstractmethod
    def _run_to_device(
        self, tensors: Mapping[str, Array | DeviceTensor], axes: Axes, names: Sequence[str]
    ) -> dict[str, DeviceTensor]:
        """`run(to="device")` on checked tensors."""

    @abc.abstractmethod
    def _advance(
        self, tensors: Mapping[str, Array | DeviceTensor], axes: Axes, state: State, names: Sequence[str]
    ) -> dict[str, Array]:
        """`step` on checked tensors and a state of this session."""

    @abc.abstractmethod
    def _from_device(self, name: str, tensor: Tensor) -> DeviceTensor:
        """Take over a tensor on this session's GPU without a copy.

        Raises:
            InputError: It cannot be read.
        """

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"the session of {self._label} is closed")

    def _check_recurrent(self) -> None:
        if not self._state_inputs:
            raise InputError(f"{self._label} is not recurrent: it has no state", hint="Use run() instead of step().")

    def _output_shape(self, name: str, axes: Axes) -> tuple[int, ...]:
        return tuple(axes[size] if isinstance(size, str) else size for size in self.outputs[name].shape)

    def _checked_outputs(self, names: Sequence[str] | None, default: Iterable[str]) -> list[str]:
        if names is None:
            return list(default)
        if isinstance(names, str):
            raise InputError(f"{self._label}: outputs={names!r} is not a list of names", hint=f"Use [{names!r}].")
        for name in names:
            if name not in self.outputs:
                raise InputError(f"{self._label} has no output {name!r}; it has {', '.join(self.outputs)}")
        return list(names)

    def _checked_inputs(
        self, given: Mapping[str, Tensor], expected: Mapping[str, TensorSpec]
    ) -> tuple[dict[str, Array | DeviceTensor], Axes]:
        """Tensors of exactly the stated dtype and shape, in plain order, and the size of each dynamic axis."""
        if given.keys() != expected.keys():
            missing = [name for name in expected if name not in given]
            unknown = [name for name in given if name not in expected]
            problem = f"needs the input {missing[0]!r}" if missing else f"has no input {unknown[0]!r}"
            raise InputError(f"{self._label} {problem}; it takes {', '.join(expected) or 'none'}")
        axes: Axes = {}
        checked = {name: self._checked_input(name, given[name], spec.shape, axes) for name, spec in expected.items()}
        return checked, axes

    def _checked_input(
        self, name: str, value: Tensor, expected: Sequence[int | str], axes: Axes
    ) -> Array | DeviceTensor:
        tensor = value if isinstance(value, np.ndarray) else self._from_dlpack(name, value)
        if tensor.dtype != self._dtypes[name]:
            raise InputError(
                f"{self._label}: input {name!r} has dtype {tensor.dtype}, expected {self._dtypes[name]}",
                hint=f"Convert it: array.astype('{self._dtypes[name]}')",
            )
        agreed = axes.copy()
        if not _fits(tensor.shape, expected, axes):
            known = ", ".join(f"{axis}={size}" for axis, size in agreed.items())
            raise InputError(
                f"{self._label}: input {name!r} has shape {list(tensor.shape)}, expected {list(expected)}"
                + (f" with {known}" if known else "")
            )
        if isinstance(tensor, np.ndarray) and not (tensor.flags.c_contiguous and tensor.flags.aligned):
            return tensor.copy(order="C")
        return tensor

    def _from_dlpack(self, name: str, value: Tensor) -> Array | DeviceTensor:
        """A tensor that is not a NumPy array: read where it is, never moved between devices unasked."""
        if not hasattr(value, "__dlpack_device__"):
            raise InputError(
                f"{self._label}: input {name!r} is a {type(value).__name__}",
                hint="Pass a NumPy array or a tensor with __dlpack__.",
            )
        try:
            kind, index = map(int, value.__dlpack_device__())
            here = (kind, index) == self._dlpack_device
            if kind in _DLPACK_HOST and not (here and isinstance(value, DeviceTensor)):
                return np.from_dlpack(value)
        except (BufferError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"{self._label}: input {name!r} cannot be read through DLPack: {error}") from error
        if here:
            return self._from_device(name, value)
        place = f"{_DLPACK_NAMES.get(kind, f'DLPack device type {kind}')}:{index}"
        raise InputError(
            f"{self._label}: input {name!r} lives on {place}",
            hint="Copy it to the host first, or load the component on that device.",
        )

    def _initial_tensor(self, name: str, listed: str | None) -> Array:
        """What a state tensor starts from: its .npy file in the bundle, or zeros."""
        shape = tuple(size for size in self.inputs[name].shape if isinstance(size, int))
        if len(shape) != len(self.inputs[name].shape):
            raise GraphError(f"{self._label}: state {name!r} has a dynamic axis; states need fixed shapes")
        if listed is None:
            return np.zeros(shape, self._dtypes[name])
        path = self.component.path(listed)
        try:
            with path.open("rb") as stream:
                array: Array = np.lib.format.read_array(stream, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise GraphError(
                f"cannot read the initial state {path}: {error}", hint="Export the bundle again."
            ) from error
        if array.shape != shape or array.dtype != self._dtypes[name]:
            raise GraphError(
                f"the initial state {path} is {array.dtype} {list(array.shape)}, but the input {name!r} is "
                f"{self._dtypes[name]} {list(shape)}",
                hint="Export the bundle again.",
            )
        return array.copy(order="C")


def _fits(shape: Sequence[int], expected: Sequence[int | str], axes: Axes) -> bool:
    """Whether a shape is the expected one; dynamic axes take the size of their first use, which is kept in `axes`."""
    if len(shape) != len(expected):
        return False
    for size, want in zip(shape, expected, strict=True):
        if isinstance(want, str):
            want = axes.setdefault(want, size)
        if size != want or size == 0:
            return False
    return True
