"""What only TensorRT for RTX has: engines for GPUs that are not here, by their compute capability.

It covers desktop cards from Turing to Blackwell. There is no SM87 (Orin), SM90 (Hopper) or SM110 (Thor) among them.
Turing (SM75) is built for only when it is asked for: it has no matrix products in fp32, so no fp32 graph builds for it,
nor most fp16 graphs, which keep some sums in fp32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

from ..errors import EngineUnavailableError, InputError
from .api import IBuilderConfig, TensorRT

WITHOUT_FP32 = ("sm75",)


class RtxBuilderConfig(Protocol):
    """What `IBuilderConfig` has besides."""

    num_compute_capabilities: int

    def set_compute_capability(self, capability: Any, index: int) -> bool: ...  # noqa: D102


class TensorRTForRTX(Protocol):
    """What the module has besides; the members of `ComputeCapability` are `SM75` and so on."""

    ComputeCapability: Any


def known_targets(trt: TensorRT) -> list[str]:
    """Architectures that engines can be built for, oldest first: `sm75`, `sm80`, ..."""
    capabilities = cast(TensorRTForRTX, trt).ComputeCapability
    numbers = [int(name[2:]) for name in capabilities.__members__ if name.startswith("SM")]
    return [f"sm{number}" for number in sorted(numbers)]


def check_target(trt: TensorRT, capability: str) -> None:
    """Refuse a GPU that no engine can be built for.

    Raises:
        EngineUnavailableError: It is one.
    """
    known = known_targets(trt)
    if capability not in known:
        raise EngineUnavailableError(
            f"TensorRT for RTX {trt.__version__} does not run on this GPU ({capability}); it knows {', '.join(known)}",
            hint="Use --engine tensorrt, or --engine onnxruntime.",
        )


def chosen_targets(trt: TensorRT, asked: Sequence[str] | None) -> list[str]:
    """The architectures asked for, or all that take every graph.

    Raises:
        InputError: One is not known.
    """
    known = known_targets(trt)
    if asked is None:
        return [name for name in known if name not in WITHOUT_FP32]
    for name in asked:
        if name not in known:
            raise InputError(
                f"TensorRT for RTX {trt.__version__} builds nothing for {name!r}; it knows {', '.join(known)}",
                hint="For Jetson boards and Hopper use --target tensorrt on the machine itself.",
            )
    return [name for name in known if name in asked]


def set_targets(trt: TensorRT, config: IBuilderConfig, targets: Sequence[str]) -> None:
    """Build for these architectures."""
    capabilities = cast(TensorRTForRTX, trt).ComputeCapability
    rtx: RtxBuilderConfig = cast(RtxBuilderConfig, config)
    rtx.num_compute_capabilities = len(targets)
    for index, name in enumerate(targets):
        if not rtx.set_compute_capability(getattr(capabilities, name.upper()), index):
            raise EngineUnavailableError(f"TensorRT for RTX {trt.__version__} does not build for {name}")
