"""The export itself: trace, lower the precision, write, verify, and only then put the bundle in its place."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from vsdk_runtimes import SCHEMA_VERSION, Bundle, Precision, bundle_digest
from vsdk_runtimes.errors import ExportError, InputError, UnsupportedModelError
from vsdk_runtimes.manifest import (
    ComponentSpec,
    Deviation,
    Manifest,
    Origin,
    PipelineSettings,
    Preprocessing,
    StateSpec,
)

from .graph import SINGLE_FILE_LIMIT, tensor_specs, trace, write_graph
from .half import to_half
from .network import Array, Arrays, Network
from .parity import LIMITS, measure, references
from .quantize import quantize
from .recurrent_parity import measure_recurrent
from .report import ComponentPlan, ExportReport, ParityRow
from .writer import StagedBundle, check_target

Progress = Callable[[str, float], None]
"""Called with what is being done now, and how much of the whole is done already (0 to 1)."""

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16")
RECURRENT_PRECISIONS: tuple[Precision, ...] = (*PRECISIONS, "int8")
"""Those of a memory bridge, which brings its own calibration: the states that its samples lead to."""
_LATER = {"int8": "int8 export", "tensorrt": "building TensorRT engines"}


def no_progress(description: str, fraction: float) -> None:
    """The progress callback that says nothing."""


def checked_precisions(asked: Sequence[str], available: tuple[Precision, ...] = PRECISIONS) -> tuple[Precision, ...]:
    """The precisions asked for, in a fixed order, each once.

    Raises:
        UnsupportedModelError: One that this version cannot export.
        InputError: Not a precision at all, or none.
    """
    for name in asked:
        if name in _LATER and name not in available:
            raise UnsupportedModelError(
                f"{_LATER[name]} is not available in this version of vsdk",
                hint=f"Use --precision {','.join(available)}, or one of these.",
            )
        if name not in available:
            raise InputError(f"unknown precision {name!r}", hint=f"Use one of: {', '.join(available)}")
    if not asked:
        raise InputError("no precision given", hint=f"Use one of: {', '.join(available)}")
    return tuple(name for name in available if name in asked)


def export_module(
    module: nn.Module,
    *,
    samples: Arrays,
    outputs: Sequence[str],
    origin: Origin,
    name: str = "encoder",
    role: str = "encoder",
    family: str = "custom",
    preprocessing: Preprocessing | None = None,
    pipeline: PipelineSettings | None = None,
    bundle_name: str | None = None,
    out: str | PathLike[str] | None = None,
    into: str | PathLike[str] | None = None,
    precisions: Sequence[str] = ("fp32",),
    progress: Progress = no_progress,
) -> ExportReport:
    """Export a PyTorch module of your own into a bundle; the module itself, in fp32, is the reference.

    Args:
        module: Takes one tensor for each of `samples`, in that order; gives a tensor or a tuple of tensors.
        samples: Real-looking inputs by name, at least 8 of each on the first axis (the only dynamic one).
        outputs: Names of the outputs, in order.
        origin: Where the weights come from, and their licence.
        name: Name of the component.
        role: What the pipeline uses it for.
        family: Model family, for the reader of the manifest.
        preprocessing: From image to input, where the input is pixels.
        pipeline: Settings of the stages around the encoder; None leaves the defaults (or those of `into`).
        bundle_name: Name of a new bundle; None takes the folder's.
        out: Folder of a new bundle.
        into: Existing bundle to add to. Exactly one of `out` and `into` is needed.
        precisions: Of `PRECISIONS`.
        progress: Called with a description and the fraction that is done.

    Raises:
        ExportError: The target cannot be used, or the module cannot be exported.
        ParityError: The graph does not reproduce the module.
    """
    network = Network(
        name=name, role=role, family=family, module=module, outputs=tuple(outputs), samples=samples, origin=origin,
        preprocessing=preprocessing,
    )  # fmt: skip
    target = Target(_path(out), _path(into), bundle_name, pipeline)
    return export_networks([network], target, precisions=checked_precisions(precisions), progress=progress)


@dataclass(frozen=True)
class Target:
    """Where networks go: a new bundle at `out`, or the existing one at `into`.

    A new bundle begins with everything that the bundle at `base` has, if there is one.
    """

    out: Path | None
    into: Path | None
    name: str | None = None
    pipeline: PipelineSettings | None = None
    base: Path | None = None


def export_networks(
    networks: Sequence[Network],
    target: Target,
    *,
    precisions: tuple[Precision, ...],
    progress: Progress = no_progress,
    notes: tuple[str, ...] = (),
    single_file_limit: int = SINGLE_FILE_LIMIT,
) -> ExportReport:
    """Export networks as the components of one bundle.

    Args:
        networks: What to export; names are unique.
        target: Where to.
        precisions: One typed graph is written for each.
        progress: Called with a description and the fraction that is done.
        notes: Passed on to the report.
        single_file_limit: Bytes of weights beyond which they go to a file of their own.
    """
    existing = check_target(target.out, target.into, tuple(network.name for network in networks), target.base)
    steps = _Steps(progress, len(networks) * (2 + 2 * len(precisions)))
    with StagedBundle(target.out, target.into) as staged:
        if target.base is not None:
            staged.copy(target.base)
        components = {
            network.name: _export_one(network, staged, precisions, steps, single_file_limit) for network in networks
        }
        folder = target.out or target.into
        assert folder is not None
        manifest = _manifest(target, folder, existing, components, staged, precisions)
        staged.commit(manifest)
    progress("done", 1.0)
    return ExportReport(
        folder=folder,
        name=manifest.name,
        dry_run=False,
        plan=tuple(
            ComponentPlan(name, spec.role, spec.family, spec.inputs, spec.outputs, spec.files)
            for name, spec in components.items()
        ),
        preprocessing=next((spec.preprocessing for spec in components.values() if spec.preprocessing), None),
        components=components,
        parity=tuple(
            ParityRow(name, precision, output, item, str(LIMITS[precision]))
            for name, spec in components.items()
            for precision, measured in spec.parity.items()
            for output, item in measured.items()
        ),
        digest=bundle_digest(manifest),
        files={path: entry.bytes for path, entry in manifest.files.items()},
        notes=notes,
    )


class _Steps:
    """Turns finished steps into fractions."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def begin(self, description: str) -> None:
        self._progress(description, self._done / self._total)
        self._done += 1


def _export_one(
    network: Network,
    staged: StagedBundle,
    precisions: tuple[Precision, ...],
    steps: _Steps,
    single_file_limit: int,
) -> ComponentSpec:
    """Write every graph and asset of one network and measure each graph; the entry for the manifest."""
    steps.begin(f"{network.name}: tracing")
    graph = trace(network)
    files: dict[Precision, str] = {}
    assets: dict[str, str] = {}
    for precision in precisions:
        steps.begin(f"{network.name}: writing {precision}")
        typed = _lowered(graph, network, precision)
        files[precision] = f"{network.name}/{precision}.onnx"
        written = write_graph(typed, staged.folder / files[precision], single_file_limit=single_file_limit)
        for data in written[1:]:
            assets[f"{precision}.weights"] = data.relative_to(staged.folder).as_posix()
    state = _write_state(network, staged.folder)
    for key, asset in network.assets.items():
        assets[key] = f"{network.name}/{asset.file_name}"
        (staged.folder / assets[key]).write_bytes(asset.content)
    spec = ComponentSpec(
        role=network.role,
        family=network.family,
        source=network.origin,
        files=files,
        inputs=tensor_specs(graph.graph.inputs),
        outputs=tensor_specs(graph.graph.outputs),
        state=state,
        frames_per_call=network.frames_per_call,
        look_ahead=network.look_ahead,
        layer=network.layer,
        preprocessing=network.preprocessing,
        text=network.text,
        memory=network.recurrence.memory if network.recurrence else None,
        tracker=network.tracker,
        assets=assets,
    )
    del graph, typed
    steps.begin(f"{network.name}: running the PyTorch reference")
    expected = [] if network.recurrence else references(network)  # a recurrent one runs beside the graph
    parity = {}
    for precision in precisions:
        steps.begin(f"{network.name}: verifying {precision}")
        parity[precision] = _measured(network, spec, staged, precision, expected)
    return spec.model_copy(update={"parity": parity})


def _lowered(graph: ir.Model, network: Network, precision: Precision) -> ir.Model:
    if precision == "fp16":
        return to_half(graph, network.calls(), keep_float=network.keep_float)
    if precision == "int8":
        return quantize(graph, list(network.calls()))
    return graph


def _write_state(network: Network, folder: Path) -> tuple[StateSpec, ...]:
    """The state as the manifest describes it, with a file for each tensor that does not start as zeros."""
    if network.recurrence is None:
        return ()
    state = []
    for output, name in network.recurrence.state.items():
        initial, listed = network.recurrence.initial[name], None
        if initial.any():
            listed = f"{network.name}/initial_{name.removesuffix('_in')}.npy"
            np.save(folder / listed, initial, allow_pickle=False)
        state.append(StateSpec(output=output, input=name, init=listed))
    return tuple(state)


def _measured(
    network: Network, spec: ComponentSpec, staged: StagedBundle, precision: Precision, expected: list[dict[str, Array]]
) -> dict[str, Deviation]:
    """Verify through a bundle that holds only this component: the run side's own reading of what was written."""
    manifest = Manifest(
        name=network.name, created_with={}, components={network.name: spec}, files=staged.entries()
    )  # fmt: skip
    component = Bundle(staged.folder, manifest).components[network.name]
    if network.recurrence is not None:
        return measure_recurrent(component, precision, network)
    return measure(component, precision, network, expected)


def _manifest(
    target: Target,
    folder: Path,
    existing: Manifest | None,
    components: dict[str, ComponentSpec],
    staged: StagedBundle,
    precisions: tuple[Precision, ...],
) -> Manifest:
    if existing is not None:
        taken = sorted(set(existing.files) & set(staged.entries()))
        if taken and target.base is None:
            raise ExportError(f"bundle {folder} has a file {taken[0]!r} already")
        update: dict[str, object] = {
            "components": {**existing.components, **components},
            "files": {**existing.files, **staged.entries()},
            "created_with": {**existing.created_with, **_versions()},
        }
        if target.base is not None:
            update["name"] = target.name or folder.absolute().name
        if target.pipeline is not None:
            update["pipeline"] = target.pipeline
        return Manifest.model_validate(existing.model_copy(update=update).model_dump())
    default: dict[str, Precision] = {"cpu": "fp32" if "fp32" in precisions else precisions[0]}
    if "fp16" in precisions:
        default["cuda"] = "fp16"
    return Manifest.model_validate(
        {
            "schema_version": SCHEMA_VERSION,
            "name": target.name or folder.absolute().name,
            "created_with": _versions(),
            "components": {name: spec.model_dump() for name, spec in components.items()},
            "pipeline": (target.pipeline or PipelineSettings()).model_dump(),
            "default_precision": default,
            "files": {path: entry.model_dump() for path, entry in staged.entries().items()},
        }
    )


def _versions() -> dict[str, str]:
    """Versions of everything that shapes the graphs."""
    names = ("vsdk", "transformers", "onnx", "onnx-ir", "onnxscript")
    return {"torch": torch.__version__, **{name: importlib.metadata.version(name) for name in names}}


def _path(value: str | PathLike[str] | None) -> Path | None:
    return None if value is None else Path(value)
