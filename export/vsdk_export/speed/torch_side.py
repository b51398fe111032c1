"""The PyTorch side of a measurement: a component of a checkpoint as it runs there, and what its graph is to give."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vsdk.bench.contenders import Contender, Worker
from vsdk_models.checkpoint import open_checkpoint
from vsdk_models.families import load_model
from vsdk_models.nano.encoder import IMAGE_SIZE, NanoEncoder
from vsdk_models.sam2.loading import TrackerOptions, is_tracker, load_tracker_checkpoint
from vsdk_models.videollamb.checkpoint import is_videollamb
from vsdk_runtimes.errors import InputError, UnsupportedModelError
from vsdk_runtimes.manifest import ComponentSpec, Origin

from ..checkpoint import _networks, _plan
from ..frames import pixels
from ..nano import PREPROCESSING
from ..network import Array, Network
from ..tracker import tracker_networks

_UNTOUCHED = ("clip", "siglip", "dinov2", "dinov3_vit")
"""Families whose own model takes pixels as they are; of others the module that is exported is run."""


@dataclass(frozen=True)
class TorchSide:
    """One component in PyTorch.

    Attributes:
        network: As it is exported.
        module: What is run: transformers' untouched model where there is one, else the network's module.
        named: Whether the module takes its input as `pixel_values`.
        inputs: Of one call, by name.
    """

    network: Network
    module: torch.nn.Module
    named: bool
    inputs: Mapping[str, Array]

    def expected(self) -> dict[str, Array]:
        """The reference's outputs for `inputs`."""
        return self.network.expected(self.inputs)

    def call(self, device: str, *, compiled: bool) -> Callable[[Mapping[str, Array]], Any]:
        """What runs the module on arrays; its result stays where it was computed.

        Args:
            device: As PyTorch calls it.
            compiled: Through `torch.compile`.
        """
        module = self.module.eval().to(device)
        run: Any = torch.compile(module, dynamic=False) if compiled else module
        names = self.network.input_names

        def call(inputs: Mapping[str, Array]) -> Any:
            tensors = [torch.from_numpy(inputs[name]).to(device) for name in names]
            with torch.inference_mode():
                result = run(pixel_values=tensors[0]) if self.named else run(*tensors)
            if device != "cpu":
                torch.cuda.synchronize()
            return result

        return call

    def operations(self) -> int:
        """Floating-point operations of the products in one call; a multiply-add counts twice."""
        with FlopCounterMode(display=False) as counter:
            self.call("cpu", compiled=False)(self.inputs)
        return int(counter.get_total_flops())


def torch_side(checkpoint: str, name: str, spec: ComponentSpec) -> TorchSide:
    """The counterpart of a bundle's component in a checkpoint.

    Args:
        checkpoint: A folder, a hub id, or a .safetensors file of a nano encoder.
        name: Of the component.
        spec: What the bundle says of it.

    Raises:
        InputError: The checkpoint has no such component.
        CheckpointError: It cannot be read.
        UnsupportedModelError: A kind of checkpoint that cannot be compared yet.
    """
    networks, model = _load(checkpoint, spec)
    found = [network for network in networks if network.name == name]
    if not found:
        raise InputError(
            f"{checkpoint} has no {name!r} (it has: {', '.join(network.name for network in networks)})",
            hint="Name the checkpoint that the bundle was exported from.",
        )
    network = found[0]
    inputs = next(iter(network.calls()))
    shapes = {item: list(array.shape[1:]) for item, array in inputs.items()}
    stated = {item: list(tensor.shape[1:]) for item, tensor in spec.inputs.items()}
    if network.recurrence is None and not network.dynamic and shapes != stated:
        raise InputError(
            f"{name!r} takes {stated} in the bundle and {shapes} in {checkpoint}",
            hint="Name the checkpoint that the bundle was exported from.",
        )
    untouched = model if name == "encoder" and network.family in _UNTOUCHED else None
    if untouched is None:
        return TorchSide(network, network.module, False, inputs)
    return TorchSide(network, _Images(untouched) if hasattr(untouched, "text_model") else untouched, True, inputs)


class _Images(torch.nn.Module):
    """A model of two towers as its users run it on images."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Any:
        """`get_image_features`."""
        return self.model.get_image_features(pixel_values=pixel_values)


def _load(checkpoint: str, spec: ComponentSpec) -> tuple[list[Network], Any]:
    """All networks of a checkpoint, and transformers' model where it is one of an encoder."""
    path = Path(checkpoint)
    if path.suffix == ".safetensors" and path.is_file():
        return [_nano(path)], None
    source = open_checkpoint(checkpoint)
    if is_tracker(source, None):
        side = next((tensor.shape[-1] for item, tensor in spec.inputs.items() if item == "pixels"), None)
        options = TrackerOptions(side if isinstance(side, int) else None)
        return tracker_networks(load_tracker_checkpoint(source, options), source.origin()), None
    if is_videollamb(source):
        raise UnsupportedModelError(
            f"{checkpoint} is a VideoLLaMB checkpoint, which is not compared with its bundle yet",
            hint="vsdk bench memory measures the bridge in the bundle.",
        )
    plan = _plan(source, ("fp32",), spec.layer)
    model = load_model(source, plan.architecture)
    return _networks(plan, model, source.origin()), model


def _nano(weights: Path) -> Network:
    encoder = NanoEncoder()
    encoder.load_state_dict(load_file(weights))
    return Network(
        name="encoder", role="encoder", family="nano", module=encoder.eval(), outputs=("cls", "patches"),
        samples={"pixels": pixels(PREPROCESSING, (IMAGE_SIZE, IMAGE_SIZE))}, origin=Origin(checkpoint="vsdk/nano"),
    )  # fmt: skip


def ceilings(device: str, seconds: float = 0.3) -> dict[str, float]:
    """What this device can do at most, measured: operations a second of a product of matrices in fp32 (on a GPU also in
    fp16), and bytes a second of a copy (read and written)."""
    found = {}
    side = 1024 if device == "cpu" else 8192
    types = {"fp32": torch.float32} if device == "cpu" else {"fp32": torch.float32, "fp16": torch.float16}

    def best(work: Callable[[], object]) -> float:
        least, until = float("inf"), time.perf_counter() + seconds
        while time.perf_counter() < until or least == float("inf"):
            start = time.thread_time() if device == "cpu" else time.perf_counter()
            work()
            if device != "cpu":
                torch.cuda.synchronize()
            least = min(least, (time.thread_time() if device == "cpu" else time.perf_counter()) - start)
        return least

    for name, dtype in types.items():
        left, right = (torch.randn(side, side, dtype=dtype, device=device) for _ in range(2))
        result = torch.empty(side, side, dtype=dtype, device=device)
        found[name] = 2 * side**3 / best(lambda a=left, b=right, c=result: torch.mm(a, b, out=c))  # type: ignore[misc]
    source = torch.ones(64_000_000, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    found["copy"] = 2 * source.numel() / best(lambda: target.copy_(source))
    return found


class TorchWorker(Worker):
    """PyTorch, eager or compiled, in a process of its own."""

    def __init__(self, contender: Contender) -> None:
        super().__init__(contender)
        os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
        torch.set_num_threads(contender.threads)
        self._call: Callable[[Mapping[str, Array]], Any]

    def reference(self) -> tuple[Mapping[str, Array], dict[str, Array], int, dict[str, float]]:
        """Inputs, what PyTorch gives for them, operations of a call, and the ceilings of the device."""
        side = self._side()
        return side.inputs, side.expected(), side.operations(), ceilings(self.contender.device)

    def load(self) -> None:
        """See `Worker.load`."""
        self._call = self._side().call(self.contender.device, compiled=self.contender.kind == "compile")

    def run(self, inputs: Mapping[str, Array]) -> Any:
        """See `Worker.run`."""
        return self._call(inputs)

    def named(self, result: Any) -> None:
        """PyTorch is what others are compared with."""

    def versions(self) -> dict[str, str]:
        """See `Worker.versions`."""
        return {"torch": torch.__version__, "transformers": transformers.__version__}

    def _side(self) -> TorchSide:
        spec = self.bundle.components[self.contender.component].spec
        return torch_side(self.contender.checkpoint, self.contender.component, spec)
