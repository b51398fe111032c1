"""One engine from one graph: profile, memory limit, timing cache, progress, and the plan as bytes."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import EngineError
from . import network as networks
from .api import Builder, IBuilderConfig, INetworkDefinition, IOptimizationProfile, ITimingCache, TensorRT
from .messages import last_words, make_logger, mapped_errors
from .profiles import AxisRange, shapes
from .progress import Progress, make_monitor
from .rtx import set_targets

if TYPE_CHECKING:
    from ..bundle import Component
    from ..engine import Precision

DEFAULT_WORKSPACE = 2**31
_REQUESTED = re.compile(r"requested size (?:was|is) (\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class BuildSettings:
    """How to build.

    Attributes:
        ranges: Sizes of the dynamic axes.
        targets: GPU architectures of an engine that is built ahead of time, as `sm86`; empty for this machine's GPU.
        workspace: Most bytes of GPU memory that a layer may use beside its tensors.
        timing_cache: What the builder measured earlier on this machine; None builds without, as is needed where there
            is no GPU: setting one makes TensorRT for RTX look for it.
        threads: Most processor threads; None leaves it to TensorRT.
    """

    ranges: Mapping[str, AxisRange]
    targets: Sequence[str] = ()
    workspace: int = DEFAULT_WORKSPACE
    timing_cache: bytes | None = None
    threads: int | None = None


@dataclass(frozen=True)
class Plan:
    """A built engine.

    Attributes:
        content: The serialized plan.
        asked: Types that the graph computes in, from `network.computed_types`.
        timing_cache: What the builder measured; empty where there was none to begin with.
        seconds: How long parsing and building took.
    """

    content: bytes
    asked: Mapping[str, int]
    timing_cache: bytes
    seconds: float

    @property
    def sha256(self) -> str:
        """Of the plan."""
        return hashlib.sha256(self.content).hexdigest()


def build(trt: TensorRT, component: Component, precision: Precision, settings: BuildSettings, report: Progress) -> Plan:
    """Build a component at one precision.

    Raises:
        BundleDamagedError, GraphError, PrecisionUnavailableError: See `network.read_graph` and `network.parse`.
        EngineError: The builder failed.
    """
    started = time.perf_counter()
    listed = component.spec.files[precision]
    content = networks.read_graph(component, listed)
    logger = make_logger(trt)
    monitor = make_monitor(trt, report)
    failing = f"{trt.__name__} {trt.__version__} cannot build {component.path(listed)}"
    with mapped_errors(failing, EngineError, logger):
        builder: Builder = trt.Builder(logger)
        if settings.threads is not None:
            builder.max_threads = settings.threads
        network, _parser = networks.parse(trt, builder, component, precision, content, logger)
        config: IBuilderConfig = builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace)
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # so that the inspector can read layers back
        if settings.targets:
            set_targets(trt, config, settings.targets)
        profile = _profile(builder, network, component, settings.ranges)
        if profile is not None:
            config.add_optimization_profile(profile)
        if settings.timing_cache is not None:
            _set_timing_cache(config, settings.timing_cache)
        config.progress_monitor = monitor
        plan = builder.build_serialized_network(network, config)
    if monitor.failure is not None:
        raise monitor.failure
    if plan is None:
        said = last_words(logger.errors)
        raise EngineError(f"{failing}: {said}", hint=_what_helps(said, settings.workspace))
    measured = b"" if settings.timing_cache is None else _serialized(config)
    return Plan(bytes(plan), networks.computed_types(trt, network), measured, time.perf_counter() - started)


def _what_helps(said: str, workspace: int) -> str:
    smaller = "smaller --shapes, as batch=1:1:2"
    if "FP32 GEMM is not supported" in said:
        return "Turing has no matrix products in fp32: leave sm75 out of --gpu, or use an fp16 graph that has none."
    requested = _REQUESTED.search(said)
    if requested and int(requested[1]) > workspace:
        allowed = workspace // 2**20
        return f"It wants more than the {allowed} MB that it may have: use --workspace {2 * allowed}, or {smaller}."
    return f"If memory ran out: {smaller}, a smaller --workspace, or close other programs."


def _profile(
    builder: Builder, network: INetworkDefinition, component: Component, ranges: Mapping[str, AxisRange]
) -> IOptimizationProfile | None:
    """A profile for the inputs whose shape the graph leaves open; None when it leaves none."""
    profile: IOptimizationProfile = builder.create_optimization_profile()
    dynamic = False
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        if -1 in tuple(tensor.shape):
            dynamic = True
            profile.set_shape(tensor.name, *shapes(component.spec.inputs[tensor.name].shape, ranges))
    return profile if dynamic else None


def _set_timing_cache(config: IBuilderConfig, measured: bytes) -> None:
    """Begin with what was measured before, or with nothing where that is damaged or of another driver."""
    for content in (measured, b""):
        cache: ITimingCache | None = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, False):
            return


def _serialized(config: IBuilderConfig) -> bytes:
    cache: ITimingCache = config.get_timing_cache()
    content: Any = cache.serialize()
    return bytes(content)
