"""The export itself: trace, lower the precision, write, verify, and only then put the bundle in its place."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from os import PathLike
from pathlib import Path

import onnx_ir as ir
import torch
from torch import nn

from vsdk_runtimes import SCHEMA_VERSION, Precision, bundle_digest
from vsdk_runtimes.errors import ExportError, InputError
from vsdk_runtimes.manifest import (
    ComponentSpec,
    Manifest,
    Origin,
    PipelineSettings,
    Preprocessing,
    QuantisedSpec,
)

from .calibration import CalibrationVideos
from .calibration_calls import Seen, observe
from .graph import SINGLE_FILE_LIMIT, component_spec, trace, weight_names, write_graph
from .half import to_half
from .initial_state import write_state
from .measuring import References, limit_for, measured
from .network import Arrays, Network
from .precision_search import int8_graph
from .report import ComponentPlan, ExportReport, ParityRow
from .writer import StagedBundle, check_target

Video = str | PathLike[str]
Progress = Callable[[str, float], None]
"""Called with what is being done now, and how much of the whole is done already (0 to 1)."""

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")


def no_progress(description: str, fraction: float) -> None:
    """The progress callback that says nothing."""


def checked_precisions(asked: Sequence[str]) -> tuple[Precision, ...]:
    """The precisions asked for, in a fixed order, each once.

    Raises:
        InputError: Not a precision, or none.
    """
    for name in asked:
        if name not in PRECISIONS:
            raise InputError(f"unknown precision {name!r}", hint=f"Use one of: {', '.join(PRECISIONS)}")
    if not asked:
        raise InputError("no precision given", hint=f"Use one of: {', '.join(PRECISIONS)}")
    return tuple(name for name in PRECISIONS if name in asked)


def check_calibration(precisions: Sequence[str], videos: Sequence[Video], what: str = "CHECKPOINT") -> None:
    """int8 needs videos to calibrate with, and those that are named must be there.

    Args:
        precisions: Asked for.
        videos: To calibrate with.
        what: What is exported, for the hint.

    Raises:
        InputError: There are none, or one has no end.
        SourceError: One cannot be opened.
    """
    if "int8" in precisions and not videos:
        raise InputError(
            "int8 needs a video to calibrate with: the range of every activation is measured on it, and anything else, "
            "random data above all, would give ranges that your camera does not have",
            hint=f"A few minutes of what it will see: vsdk export {what} --out DIR --precision fp32,int8 "
            "--calibrate VIDEO",
        )
    if videos:
        CalibrationVideos.of(videos).check()


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
    calibrate: Sequence[Video] = (),
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
        precisions: Of `PRECISIONS`; int8 needs `preprocessing` and `calibrate`.
        calibrate: Videos or folders of pictures like those that it will see.
        progress: Called with a description and the fraction that is done.

    Raises:
        ExportError: The target cannot be used, or the module cannot be exported.
        InputError: int8 without a video, or a video that is too short.
        SourceError: A video cannot be read.
        ParityError: The graph does not reproduce the module.
    """
    chosen = checked_precisions(precisions)
    check_calibration(chosen, calibrate)
    network = Network(
        name=name, role=role, family=family, module=module, outputs=tuple(outputs), samples=samples, origin=origin,
        preprocessing=preprocessing,
    )  # fmt: skip
    target = Target(_path(out), _path(into), bundle_name, pipeline)
    return export_networks([network], target, precisions=chosen, calibrate=calibrate, progress=progress)


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
    calibrate: Sequence[Video] = (),
    progress: Progress = no_progress,
    notes: tuple[str, ...] = (),
    single_file_limit: int = SINGLE_FILE_LIMIT,
) -> ExportReport:
    """Export networks as the components of one bundle.

    Args:
        networks: What to export; names are unique.
        target: Where to.
        precisions: One typed graph is written for each.
        calibrate: Videos that graphs of lower precision are calibrated and measured with. Without, recurrent networks
            take their own samples, and others have no int8.
        progress: Called with a description and the fraction that is done.
        notes: Passed on to the report.
        single_file_limit: Bytes of weights beyond which they go to a file of their own.
    """
    existing = check_target(target.out, target.into, tuple(network.name for network in networks), target.base)
    calibrates = bool(calibrate) and precisions != ("fp32",)
    steps = _Steps(progress, len(networks) * (2 + 2 * len(precisions)) + calibrates)
    with StagedBundle(target.out, target.into) as staged:
        if target.base is not None:
            staged.copy(target.base)
        graphs = {}
        for network in networks:
            steps.begin(f"{network.name}: tracing")
            graphs[network.name] = trace(network)
        seen = dict[str, Seen]()
        if calibrates:
            steps.begin("calibrating")
            videos = CalibrationVideos.of(calibrate, steps.still)
            seen = observe(networks, graphs, target.base or target.into, videos)
        components = {
            network.name: _export_one(
                network, graphs.pop(network.name), seen.get(network.name), staged, precisions, steps, single_file_limit
            )
            for network in networks
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
            ParityRow(name, precision, output, item, str(limit_for(spec, precision, output)))
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

    def still(self, description: str) -> None:
        """Another description of the step that has begun."""
        self._progress(description, (self._done - 1) / self._total)


def _export_one(
    network: Network,
    graph: ir.Model,
    seen: Seen | None,
    staged: StagedBundle,
    precisions: tuple[Precision, ...],
    steps: _Steps,
    single_file_limit: int,
) -> ComponentSpec:
    """Write every graph and asset of one network and measure each graph; the entry for the manifest."""
    files: dict[Precision, str] = {}
    assets: dict[str, str] = {}
    quantised = None
    for precision in precisions:
        steps.begin(f"{network.name}: writing {precision}")
        typed = graph
        if precision == "fp16":
            typed = to_half(graph, chain(network.calls(), _calls(network, seen)), keep_float=network.keep_float)
        elif precision == "int8":
            typed, quantised = _in_int8(network, graph, seen, steps)
        files[precision] = f"{network.name}/{precision}.onnx"
        written = write_graph(typed, staged.folder / files[precision], single_file_limit=single_file_limit)
        for data in written[1:]:
            assets[f"{precision}.weights"] = data.relative_to(staged.folder).as_posix()
    state = write_state(network, staged.folder)
    for key, asset in network.assets.items():
        assets[key] = f"{network.name}/{asset.file_name}"
        (staged.folder / assets[key]).write_bytes(asset.content)
    spec = component_spec(network, graph, files).model_copy(
        update={"state": state, "assets": assets, "quantised": quantised}
    )
    del graph, typed
    steps.begin(f"{network.name}: running the PyTorch reference")
    references = References(network, seen)
    parity = {}
    for precision in precisions:
        steps.begin(f"{network.name}: verifying {precision}")
        parity[precision] = measured(spec, staged.folder, staged.entries(), precision, references)
    return spec.model_copy(update={"parity": parity})


def _calls(network: Network, seen: Seen | None) -> Iterable[Arrays]:
    """The runs that a video led to: a recurrent network's state comes from running its reference."""
    if seen is None:
        return ()
    return seen.calibration if network.recurrence is None else replace(network, samples=seen.samples).calls()


def _in_int8(network: Network, graph: ir.Model, seen: Seen | None, steps: _Steps) -> tuple[ir.Model, QuantisedSpec]:
    """The int8 graph, and what the manifest says of it."""
    if network.recurrence is not None:
        calibration = held_out = list(_calls(network, seen) if seen else network.calls())
    elif seen is not None:
        calibration, held_out = list(seen.calibration), list(seen.held_out)
    elif network.preprocessing is not None or network.role.startswith("tracker."):
        raise InputError(f"component {network.name!r} cannot be exported at int8 without a video to calibrate with")
    else:  # what a memory bridge gave out
        calibration = held_out = list(network.calls())
    made = int8_graph(
        graph, calibration, held_out, component=network.name, names=weight_names(network.module, graph),
        says=lambda text: steps.still(f"{network.name}: {text}"),
    )  # fmt: skip
    return made.model, QuantisedSpec(
        nodes=made.nodes,
        share=round(made.share, 3),
        left={item.label: float(f"{item.cost:.2g}") for item in made.left},
        calibration=seen.source if seen else f"{len(calibration)} runs of its own samples",
    )


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
