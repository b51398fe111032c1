"""Which cached engine a component runs on: that of this graph, GPU and version, or an error that says what to type."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import EngineUnavailableError
from .cache import EngineCache, EngineKey, Sidecar, this_platform
from .library import TITLES, EngineName
from .network import graph_digest
from .rtx import WITHOUT_FP32

if TYPE_CHECKING:
    from ..bundle import Component
    from ..engine import Precision


@dataclass(frozen=True)
class Machine:
    """What an engine must have been built for: an engine and its version, and the GPU here.

    Attributes:
        engine, version: Of TensorRT.
        gpu: The GPU's name.
        capability: Its architecture, as `sm87`.
    """

    engine: EngineName
    version: str
    gpu: str
    capability: str

    def objection(self, key: EngineKey) -> str:
        """Why an engine does not run here; empty when it does."""
        title = TITLES[self.engine]
        if key.version != self.version:
            return f"is of {title} {key.version}, and this is {self.version}"
        if key.platform != this_platform():
            return f"is for {key.platform}, and this is {this_platform()}"
        if self.capability not in key.targets:
            return f"is for {', '.join(key.targets)}, and this GPU ({self.gpu}) is {self.capability}"
        if key.gpu and key.gpu != self.gpu:
            return f"was built on another GPU ({key.gpu}), and this is {self.gpu}"
        return ""


def find_engine(
    cache: EngineCache, machine: Machine, component: Component, precision: Precision
) -> tuple[Path, Sidecar]:
    """The newest engine in the cache that was built from this graph and runs here.

    Raises:
        EngineUnavailableError: There is none; the message says which others there are, the hint what to type.
    """
    objections = []
    for path, sidecar in cache.sidecars(graph_digest(component, component.spec.files[precision])):
        if sidecar.key.engine != machine.engine or sidecar.key.precision != precision:
            continue
        objection = machine.objection(sidecar.key)
        if not objection:
            return path, sidecar
        objections.append(f"{path.name} {objection}")
    label = f"component {component.name!r} ({precision}) of {component.bundle.folder}"
    found = "; ".join(objections)
    raise EngineUnavailableError(
        f"there is no {TITLES[machine.engine]} engine for {label} in {cache.folder}" + (f": {found}" if found else ""),
        hint=f"Build it here: {command(component, machine, precision)}",
    )


def command(component: Component, machine: Machine, precision: Precision) -> str:
    """What to type to build a component's engine."""
    words = ["vsdk", "export", str(component.bundle.folder), "--target", machine.engine, "--precision", precision]
    if machine.engine == "tensorrt-rtx" and machine.capability in WITHOUT_FP32:
        words += ["--gpu", machine.capability]
    return shlex.join(words)
