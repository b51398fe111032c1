"""From a component to a running session: what is asked for is what runs, or an error says why not."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, get_args

from .engine import Precision, Session
from .errors import InputError, PrecisionUnavailableError
from .external_data import check_external_data

if TYPE_CHECKING:
    from .bundle import Component
    from .tensorrt.library import EngineName

ENGINES = ("onnxruntime", "tensorrt", "tensorrt-rtx")
_DEVICE = re.compile(r"(cpu|cuda(:\d+)?)\Z")


def load(
    component: Component,
    *,
    precision: Precision | None = None,
    device: str = "cpu",
    engine: str = "onnxruntime",
    threads: int | None = None,
) -> Session:
    """Load a component on an engine.

    Args:
        component: From `bundle.component(role)`.
        precision: `"fp32"`, `"fp16"` or `"int8"`; None takes the bundle's default for the device, or the highest that
            the component has where it has no graph of that one.
        device: `"cpu"`, `"cuda"` or `"cuda:1"`.
        engine: One of `ENGINES`.
        threads: Most processor threads that the engine may use; None means all cores of this process.

    Raises:
        InputError: An argument is not one of those named above.
        EngineUnavailableError: The engine or the device is not there, or TensorRT has no engine that was built from it.
        PrecisionUnavailableError: The component has no graph of this precision.
        GraphError: The graph does not load, contradicts the manifest, or would open files that are not listed.
        BundleDamagedError: A file of the bundle was altered since the bundle was loaded.
    """
    if engine not in ENGINES:
        raise InputError(f"unknown engine {engine!r}", hint=f"Use one of: {', '.join(ENGINES)}")
    if not _DEVICE.match(device):
        raise InputError(f"unknown device {device!r}", hint="Use cpu, cuda, or cuda:N for the N-th GPU.")
    if threads is not None and threads < 1:
        raise InputError(f"threads must be at least 1, not {threads}")
    chosen = choose_precision(component, precision, "cpu" if device == "cpu" else "cuda")
    component.bundle.verify_unchanged()
    check_external_data(component, component.spec.files[chosen])
    from .onnxruntime_engine import OnnxRuntimeSession, available_threads

    most = threads or available_threads()
    if engine == "onnxruntime":
        return OnnxRuntimeSession(component, chosen, device, most)
    from .tensorrt.session import TensorRtSession

    name: EngineName = "tensorrt" if engine == "tensorrt" else "tensorrt-rtx"
    return TensorRtSession(component, chosen, device, most, name)


def choose_precision(component: Component, asked: Precision | None, device_kind: str) -> Precision:
    """The precision asked for, or the default for a kind of device, `"cpu"` or `"cuda"`.

    Raises:
        InputError: No such precision.
        PrecisionUnavailableError: The component has no graph of it.
    """
    files = component.spec.files
    known: tuple[Precision, ...] = get_args(Precision)
    if asked is None:
        preferred = {str(kind): value for kind, value in component.bundle.manifest.default_precision.items()}
        default = preferred.get(device_kind, "fp32")
        return default if default in files else next(precision for precision in known if precision in files)
    if asked not in known:
        raise InputError(f"unknown precision {asked!r}", hint=f"Use one of: {', '.join(known)}")
    if asked not in files:
        have = ", ".join(files)
        raise PrecisionUnavailableError(
            f"component {component.name!r} of {component.bundle.folder} has no {asked} graph (it has {have})",
            hint=f"Export it: vsdk export CHECKPOINT --precision {asked}, or choose one that is there.",
        )
    return asked
