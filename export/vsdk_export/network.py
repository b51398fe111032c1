"""What goes into an export: a PyTorch module together with everything that the manifest will say about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from vsdk_runtimes.errors import InputError
from vsdk_runtimes.manifest import MemorySpec, Origin, Preprocessing, TextInput, TrackerSpec

SAMPLES = 8
"""How many samples an export needs: enough for several batch sizes."""
Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]
Reference = Callable[[Arrays], Mapping[str, Array]]


@dataclass(frozen=True)
class Asset:
    """A file that travels with a component, such as a tokenizer."""

    file_name: str
    content: bytes


@dataclass(frozen=True)
class Recurrence:
    """What makes a network recurrent: outputs of one step that become inputs of the next.

    Attributes:
        state: Output to input.
        initial: What the first step gets, for every input of the state; whole tensors.
        memory: What kind of memory it is; None for any other recurrence.
    """

    state: Mapping[str, str]
    initial: Mapping[str, Array]
    memory: MemorySpec | None = None


@dataclass(frozen=True)
class Network:
    """One network to export.

    Attributes:
        name: Name of the component, and of its folder in the bundle.
        role: What the pipeline uses it for, such as `encoder` or `text`.
        family: Model family, such as `clip`.
        module: Takes one tensor for each of `samples`, in that order; gives one tensor, or a tuple of tensors, in the
            order of `outputs`. The first axis of every input and output is the batch, all others are fixed, apart from
            `shared` and `dynamic`.
        outputs: Names of the outputs.
        samples: Real-looking inputs by name, at least 8 of each on the first axis. The graph is traced, calibrated and
            verified with them, so noise will not do. For a recurrent network the inputs that are not state, of
            consecutive steps: the first axis counts the steps, the others are the whole tensor, all of fixed size.
        origin: Where the weights come from.
        reference: What the graph is compared with: from inputs to outputs, both by name. None means `module` itself in
            fp32; a checkpoint's own model, run in full, is the stronger reference.
        recurrence: For a recurrent network, whose module takes the inputs of `recurrence.initial` behind the samples.
        keep_float: Inputs whose first operations stay in fp32 in a graph of lower precision.
        shared: Inputs that all of a batch have in common: their first axis is 1.
        dynamic: For an input, the name of its second axis where that is dynamic, too.
        tracker: For the memory attention of a tracker, how its bank is kept.
    """

    name: str
    role: str
    family: str
    module: nn.Module
    outputs: tuple[str, ...]
    samples: Arrays
    origin: Origin
    reference: Reference | None = None
    layer: int | Literal["last"] | None = None
    preprocessing: Preprocessing | None = None
    text: TextInput | None = None
    assets: Mapping[str, Asset] = field(default_factory=dict)
    recurrence: Recurrence | None = None
    keep_float: tuple[str, ...] = ()
    frames_per_call: int = 1
    look_ahead: int = 0
    shared: tuple[str, ...] = ()
    dynamic: Mapping[str, str] = field(default_factory=dict)
    tracker: TrackerSpec | None = None

    def __post_init__(self) -> None:
        for name, array in self.samples.items():
            if len(array) < SAMPLES:
                raise InputError(f"component {self.name!r} needs {SAMPLES} samples of {name!r}, and got {len(array)}")

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of all inputs, in the order in which the module takes them."""
        return (*self.samples, *(self.recurrence.initial if self.recurrence else ()))

    def calls(self) -> Iterator[Arrays]:
        """All inputs of one run for each sample; a recurrent network's state comes from running its reference."""
        if self.recurrence is not None:
            yield from (inputs for inputs, _ in self.steps())
            return
        for index in range(len(next(iter(self.samples.values())))):
            yield self.batch(index, 1)

    def batch(self, start: int, size: int, *, entries: int | None = None) -> dict[str, Array]:
        """The inputs of a run on consecutive samples.

        Args:
            start: The first one.
            size: How many.
            entries: How many entries a second axis that is dynamic is to have; None means all.
        """
        return {
            name: np.ascontiguousarray(
                array[start : start + (1 if name in self.shared else size), : entries if name in self.dynamic else None]
                if array.ndim > 1
                else array[start : start + size]
            )
            for name, array in self.samples.items()
        }

    def steps(self) -> Iterator[tuple[Arrays, Arrays]]:
        """All inputs and outputs of a recurrent network's reference, step by step from the initial state."""
        assert self.recurrence is not None
        state: Arrays = self.recurrence.initial
        for index in range(len(next(iter(self.samples.values())))):
            inputs = {**{name: np.ascontiguousarray(array[index]) for name, array in self.samples.items()}, **state}
            outputs = self.expected(inputs)
            yield inputs, outputs
            state = {name: outputs[output] for output, name in self.recurrence.state.items()}

    def expected(self, batch: Arrays) -> dict[str, Array]:
        """The reference's outputs for one batch, fp32."""
        if self.reference is not None:
            return dict(self.reference(batch))
        with torch.inference_mode():
            result = self.module.eval()(
                *(torch.from_numpy(np.ascontiguousarray(batch[name])) for name in self.input_names)
            )
        tensors = result if isinstance(result, tuple) else (result,)
        return {name: tensor.numpy() for name, tensor in zip(self.outputs, tensors, strict=True)}
