"""What goes into an export: a PyTorch module together with everything that the manifest will say about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from vsdk_runtimes.errors import InputError
from vsdk_runtimes.manifest import Origin, Preprocessing, TextInput

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
class Network:
    """One network to export.

    Attributes:
        name: Name of the component, and of its folder in the bundle.
        role: What the pipeline uses it for, such as `encoder` or `text`.
        family: Model family, such as `clip`.
        module: Takes one tensor for each of `samples`, in that order; gives one tensor, or a tuple of tensors, in the
            order of `outputs`. The first axis of every input and output is the batch, all others are fixed.
        outputs: Names of the outputs.
        samples: Real-looking inputs by name, at least 8 of each on the first axis. The graph is traced, calibrated and
            verified with them, so noise will not do.
        origin: Where the weights come from.
        reference: What the graph is compared with: from inputs to outputs, both by name. None means `module` itself in
            fp32; a checkpoint's own model, run in full, is the stronger reference.
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

    def __post_init__(self) -> None:
        for name, array in self.samples.items():
            if len(array) < SAMPLES:
                raise InputError(f"component {self.name!r} needs {SAMPLES} samples of {name!r}, and got {len(array)}")

    def expected(self, batch: Arrays) -> dict[str, Array]:
        """The reference's outputs for one batch, fp32."""
        if self.reference is not None:
            return dict(self.reference(batch))
        with torch.inference_mode():
            result = self.module.eval()(*(torch.from_numpy(np.ascontiguousarray(batch[name])) for name in self.samples))
        tensors = result if isinstance(result, tuple) else (result,)
        return {name: tensor.numpy() for name, tensor in zip(self.outputs, tensors, strict=True)}
