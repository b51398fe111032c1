"""`vsdk export BUNDLE --target ...`: engines for every component of a bundle, checked before the first build starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from ..engine import Precision
from ..errors import GraphError, InputError, PrecisionUnavailableError
from ..loading import choose_precision
from .api import ICudaEngine, Runtime, TensorRT
from .builder import DEFAULT_WORKSPACE, BuildSettings, Plan, build
from .cache import EngineCache, EngineKey, Sidecar
from .cuda_driver import CudaDriver
from .inspection import compare, read_back
from .library import MODULES, EngineName, import_tensorrt
from .messages import last_words, make_logger, mapped_errors
from .network import graph_digest, read_graph, unsupported_nodes
from .profiles import AxisRange, component_ranges
from .rtx import chosen_targets

if TYPE_CHECKING:
    from ..bundle import Bundle, Component

_MOST_NAMED = 10
Report = Callable[[str, str, float], None]
"""Called with the graph (`encoder fp16`), what is being done, and which part of it is done."""


@dataclass(frozen=True)
class BuiltEngine:
    """One engine.

    Attributes:
        component, precision: What it runs.
        path: The plan; the JSON file beside it says the rest.
        sidecar: What it is.
        fresh: Whether it was built now; otherwise it was in the cache.
        remarks: What could not be checked.
    """

    component: str
    precision: Precision
    path: Path
    sidecar: Sidecar
    fresh: bool
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Settings:
    """How to build.

    Attributes:
        precisions: Graphs to build; None takes each component's default for GPUs.
        components: Names of components; None takes all.
        ranges: Sizes of dynamic axes; what is not named has its default.
        gpus: Of TensorRT for RTX: architectures as `sm86`; None takes all that take every graph.
        workspace: Most bytes of GPU memory that a layer may use beside its tensors.
        threads: Most processor threads.
        folder: Where engines are kept; None takes the user's.
        dry_run: Look for unsupported nodes only.
    """

    precisions: Sequence[Precision] | None = None
    components: Sequence[str] | None = None
    ranges: Mapping[str, AxisRange] = field(default_factory=dict)
    gpus: Sequence[str] | None = None
    workspace: int = DEFAULT_WORKSPACE
    threads: int | None = None
    folder: Path | None = None
    dry_run: bool = False


def build_engines(
    bundle: Bundle, target: str, settings: Settings | None = None, report: Report = lambda graph, says, done: None
) -> list[BuiltEngine]:
    """Build engines of a bundle and keep them in the cache.

    Args:
        bundle: A loaded bundle.
        target: `tensorrt`, on the machine that will run it, or `tensorrt-rtx`, anywhere.
        settings: See `Settings`.
        report: Told how far it is.

    Raises:
        InputError: A target, component, axis or architecture that is not known.
        EngineUnavailableError: The library is not here, or for `tensorrt` no GPU.
        PrecisionUnavailableError: No component has such a graph.
        BundleDamagedError: A graph was edited since the bundle was verified.
        GraphError: Nodes are not supported (all are named, before anything is built), or an engine is not of the
            precision of its graph.
        EngineError: The builder fails, or the folder of engines cannot be used.
    """
    settings = settings or Settings()
    engine = _engine(target)
    trt = import_tensorrt(engine)
    driver = CudaDriver() if engine == "tensorrt" else None
    wanted = _wanted(bundle, settings)
    cache = EngineCache(settings.folder)
    work = _Work(trt, engine, driver, cache, settings)
    work.refuse_unsupported(wanted, report)
    if settings.dry_run:
        return []
    return [work.engine_for(component, precision, report) for component, precision in wanted]


class _Work:
    """One target on one machine."""

    def __init__(
        self, trt: TensorRT, engine: EngineName, driver: CudaDriver | None, cache: EngineCache, settings: Settings
    ) -> None:
        self._trt, self._engine, self._driver, self._cache, self._settings = trt, engine, driver, cache, settings
        if driver is None:
            self._targets = tuple(chosen_targets(trt, settings.gpus))
        elif settings.gpus is not None:
            raise InputError("--gpu goes with --target tensorrt-rtx; --target tensorrt builds for the GPU that is here")
        else:
            self._targets = (driver.capability,)

    def refuse_unsupported(self, wanted: Sequence[tuple[Component, Precision]], report: Report) -> None:
        """Ask the parser about every graph.

        Raises:
            GraphError: It does not take one; every node is named with its reason.
        """
        refused = []
        for component, precision in wanted:
            report(f"{component.name} {precision}", "checking", 0.0)
            listed = component.spec.files[precision]
            content = read_graph(component, listed)
            nodes = unsupported_nodes(self._trt, content, str(component.path(listed)), make_logger(self._trt))
            shown = nodes[:_MOST_NAMED] + ([f"and {len(nodes) - _MOST_NAMED} more"] if len(nodes) > _MOST_NAMED else [])
            refused += [f"{component.path(listed)}: {node}" for node in shown]
        if refused:
            name = f"{self._trt.__name__} {self._trt.__version__}"
            raise GraphError(
                f"{name} does not take these graphs; nothing was built:\n" + "\n".join(f"  {node}" for node in refused),
                hint="docs/benchmarks.md says which nodes are known not to build, and what mends them.",
            )

    def engine_for(self, component: Component, precision: Precision, report: Report) -> BuiltEngine:
        """The engine of a graph, from the cache or built now."""
        settings = self._settings
        ranges = component_ranges(component, settings.ranges)
        key = EngineKey(
            engine=self._engine,
            version=self._trt.__version__,
            gpu=self._driver.name if self._driver else "",
            targets=self._targets,
            graph=graph_digest(component, component.spec.files[precision]),
            precision=precision,
            profile={axis: tuple(sizes) for axis, sizes in ranges.items()},
        )
        path = self._cache.plan_path(component.name, key)
        known = self._cache.sidecar(path)
        if known is not None and known.key == key:
            return BuiltEngine(component.name, precision, path, known, fresh=False)
        timing = self._cache.timing_cache(self._engine, key.version, self._targets[0])
        graph = f"{component.name} {precision}"
        plan = build(
            self._trt,
            component,
            precision,
            BuildSettings(
                ranges=ranges,
                targets=() if self._driver else self._targets,
                workspace=settings.workspace,
                timing_cache=self._cache.read_timing_cache(timing) if self._driver else None,
                threads=settings.threads,
            ),
            lambda says, done: report(graph, says, done),
        )
        layers, remarks = self._layers(plan, f"{component.path(component.spec.files[precision])}")
        sidecar = Sidecar(
            component=component.name,
            key=key,
            bytes=len(plan.content),
            sha256=plan.sha256,
            asked=dict(plan.asked),
            layers=layers,
            driver=self._driver.version if self._driver else 0,
            seconds=round(plan.seconds, 2),
        )
        written = self._cache.write(sidecar, plan.content)
        if plan.timing_cache:
            self._cache.write_timing_cache(timing, plan.timing_cache)
        report(graph, "built", 1.0)
        return BuiltEngine(component.name, precision, written, sidecar, fresh=True, remarks=tuple(remarks))

    def _layers(self, plan: Plan, label: str) -> tuple[dict[str, int] | None, list[str]]:
        """Types of a fresh engine's layers, held against its graph; None where there is no GPU to load it."""
        if self._driver is None:
            return None, []
        trt = self._trt
        logger = make_logger(trt)
        with self._driver.current(), mapped_errors(f"the engine of {label} cannot be loaded", GraphError, logger):
            runtime: Runtime = trt.Runtime(logger)
            engine: ICudaEngine | None = runtime.deserialize_cuda_engine(plan.content)
            if engine is None:
                raise GraphError(f"the engine of {label} cannot be loaded: {last_words(logger.errors)}")
            layers = read_back(trt, engine)
        return layers, compare(plan.asked, layers, f"the engine of {label}")


def _engine(target: str) -> EngineName:
    if target not in MODULES:
        raise InputError(f"unknown target {target!r}", hint=f"Use one of: {', '.join(MODULES)}")
    found: EngineName = "tensorrt" if target == "tensorrt" else "tensorrt-rtx"
    return found


def _wanted(bundle: Bundle, settings: Settings) -> list[tuple[Component, Precision]]:
    """Which graphs to build."""
    parts = bundle.components
    names = list(parts) if settings.components is None else list(settings.components)
    for name in names:
        if name not in parts:
            raise InputError(f"bundle {bundle.folder} has no component {name!r}; it has {', '.join(parts)}")
    axes = {axis for name in names for tensor in parts[name].spec.inputs.values() for axis in tensor.dynamic_axes}
    for axis in settings.ranges:
        if axis not in axes:
            raise InputError(f"no component has the dynamic axis {axis!r}, only {', '.join(sorted(axes)) or 'none'}")
    if settings.precisions is None:
        return [(parts[name], choose_precision(parts[name], None, "cuda")) for name in names]
    for precision in settings.precisions:
        if precision not in get_args(Precision):
            raise InputError(f"unknown precision {precision!r}", hint=f"Use: {', '.join(get_args(Precision))}")
    wanted = [
        (parts[name], precision)
        for name in names
        for precision in settings.precisions
        if precision in parts[name].spec.files
    ]
    if not wanted:
        raise PrecisionUnavailableError(
            f"bundle {bundle.folder} has no {' or '.join(settings.precisions)} graph",
            hint="`vsdk inspect` shows what it has; `vsdk export CHECKPOINT --precision ...` makes others.",
        )
    return wanted
