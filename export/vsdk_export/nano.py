"""Export of our own nano encoder, its memory and the nano tracker into the bundle that ships with the package.

    python -m vsdk_export.nano --weights encoder.safetensors --bridge bridge.safetensors \\
        --tracker tracker.safetensors --out sdk/vsdk/bundles/nano
    python -m vsdk_export.nano --tracker tracker.safetensors --into sdk/vsdk/bundles/nano

The tracker takes the place of the one that is there. int8 is calibrated on clips that are rendered for it, unless
`--calibrate` names videos; see `nano_clips.py`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from vsdk_models.nano.encoder import IMAGE_SIZE, NanoEncoder
from vsdk_models.nano.tracker.bundle import nano_networks
from vsdk_runtimes import load_bundle
from vsdk_runtimes.bundle import MANIFEST
from vsdk_runtimes.errors import CheckpointError, Error
from vsdk_runtimes.manifest import Origin, PipelineSettings, Preprocessing, Resize

from .build import Target, Video, checked_precisions, export_module, export_networks
from .frames import pixels
from .nano_clips import calibration_clips
from .nano_memory import nano_memory
from .report import ExportReport
from .tracker import export_tracker

PREPROCESSING = Preprocessing(
    resize=Resize(height=IMAGE_SIZE, width=IMAGE_SIZE, filter="bilinear", reducing_gap=1.0),
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)


def export_nano(
    weights: Path,
    out: Path,
    *,
    bridge: Path | None = None,
    tracker: Path | None = None,
    pipeline: PipelineSettings | None = None,
    precisions: tuple[str, ...] = ("fp32", "fp16"),
    calibrate: Sequence[Video] = (),
) -> ExportReport:
    """Export a trained `NanoEncoder`, and the memory that was trained for it.

    The bridge is exported at int8, too, calibrated on its own samples. Its readout has no int8, and the controls of the
    needle test are exported at fp32 only: nothing but the test uses them.

    Args:
        weights: Its parameters and buffers, a .safetensors file.
        out: Folder of the bundle.
        bridge: Bridge, readout and controls, a .safetensors file; None leaves them out.
        tracker: The tracker, a .safetensors file; None leaves it out.
        pipeline: Settings of the stages around it.
        precisions: See `export_module`.
        calibrate: See `export_module`.

    Raises:
        CheckpointError: A file is missing, damaged, not of a nano encoder or bridge, or the two do not belong together.
    """
    encoder = NanoEncoder()
    try:
        encoder.load_state_dict(load_file(weights))
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{weights} does not hold a nano encoder: {error}") from error
    pictures = pixels(PREPROCESSING, (IMAGE_SIZE, IMAGE_SIZE))
    with torch.inference_mode():
        tokens = encoder.eval()(torch.from_numpy(pictures))[1].numpy()
    memory = ([], [], []) if bridge is None else nano_memory(bridge, digest, tokens)
    report = export_module(
        encoder,
        samples={"pixels": pictures},
        outputs=("cls", "patches"),
        origin=Origin(checkpoint="vsdk/nano", sha256=digest, license="Apache-2.0"),
        family="nano",
        preprocessing=PREPROCESSING,
        pipeline=pipeline,
        bundle_name="nano",
        out=out,
        precisions=precisions,
        calibrate=calibrate,
    )
    lower = checked_precisions((*precisions, "int8"))
    floats = tuple(name for name in lower if name != "int8")
    for networks, wanted in zip(memory, (lower, floats, ("fp32",)), strict=True):
        if networks:
            report = _joined(report, export_networks(networks, Target(None, out), precisions=wanted))
    if tracker is not None:
        report = _joined(report, export_nano_tracker(tracker, into=out, precisions=precisions, calibrate=calibrate))
    return report


def export_nano_tracker(
    weights: Path,
    *,
    out: Path | None = None,
    into: Path | None = None,
    precisions: tuple[str, ...] = ("fp32", "fp16"),
    calibrate: Sequence[Video] = (),
) -> ExportReport:
    """Export a trained `NanoTracker` into a new bundle or an existing one.

    Raises:
        CheckpointError: The file is missing, damaged, or not of a nano tracker.
    """
    try:
        networks = nano_networks(weights)
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{weights} does not hold a nano tracker: {error}") from error
    origin = Origin(checkpoint="vsdk/nano-tracker", sha256=digest, license="Apache-2.0")
    return export_tracker(networks, origin=origin, out=out, into=into, precisions=precisions, calibrate=calibrate)


def replaced_tracker(
    weights: Path, bundle: Path, *, precisions: tuple[str, ...] = ("fp32", "fp16"), calibrate: Sequence[Video] = ()
) -> ExportReport:
    """Put a trained `NanoTracker` into a bundle, in the place of the tracker that it has; all or nothing.

    Raises:
        CheckpointError: The file is missing, damaged, or not of a nano tracker.
        ParityError: A graph does not reproduce its module.
    """
    manifest = load_bundle(bundle).manifest
    kept = {name: spec for name, spec in manifest.components.items() if not spec.role.startswith("tracker.")}
    listed = {path for spec in kept.values() for path in spec.paths()}
    rest = manifest.model_copy(
        update={"components": kept, "files": {path: manifest.files[path] for path in manifest.files if path in listed}}
    )
    with tempfile.TemporaryDirectory(dir=bundle.parent, prefix=".nano.") as scratch:
        work = Path(scratch) / bundle.name
        for path in listed:
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle / path, work / path)
        (work / MANIFEST).write_text(rest.model_dump_json(indent=2, exclude_none=True) + "\n", encoding="utf-8")
        report = export_nano_tracker(weights, into=work, precisions=precisions, calibrate=calibrate)
        bundle.rename(Path(scratch) / "previous")
        work.rename(bundle)
    return replace(report, folder=bundle)


def _joined(report: ExportReport, later: ExportReport) -> ExportReport:
    """What was exported into a bundle before, and what was added to it."""
    return replace(
        later,
        plan=report.plan + later.plan,
        preprocessing=report.preprocessing,
        components={**report.components, **later.components},
        parity=report.parity + later.parity,
    )


def main() -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m vsdk_export.nano", description="Export the nano encoder and its memory."
    )
    parser.add_argument("--weights", type=Path, help="the trained encoder, .safetensors")
    parser.add_argument("--bridge", type=Path, help="the memory trained for it, .safetensors")
    parser.add_argument("--tracker", type=Path, help="the trained tracker, .safetensors")
    parser.add_argument("--out", type=Path, help="folder of a new bundle, which begins with the encoder")
    parser.add_argument("--into", type=Path, help="existing bundle, to which the tracker is added")
    parser.add_argument("--pipeline", type=Path, help='JSON file with the settings {"scenes": {...}, "gate": {...}}')
    parser.add_argument("--precision", default="fp32,fp16,int8", help="fp32, fp16, int8, or several with commas")
    parser.add_argument("--calibrate", type=Path, nargs="+", help="videos for int8; by default some are rendered")
    options = parser.parse_args()
    adds = options.into is not None and options.tracker is not None and options.weights is None
    if not adds and (options.out is None or options.weights is None or options.into is not None):
        parser.error("give --weights and --out, or --tracker and --into")
    precisions = tuple(options.precision.split(","))
    try:
        settings = json.loads(options.pipeline.read_text()) if options.pipeline else {}
        pipeline = PipelineSettings.model_validate(settings)
        with tempfile.TemporaryDirectory() as folder:
            videos = options.calibrate or (calibration_clips(Path(folder)) if "int8" in precisions else ())
            if adds:
                report = replaced_tracker(options.tracker, options.into, precisions=precisions, calibrate=videos)
            else:
                report = export_nano(
                    options.weights,
                    options.out,
                    bridge=options.bridge,
                    tracker=options.tracker,
                    pipeline=pipeline,
                    precisions=precisions,
                    calibrate=videos,
                )
    except (Error, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    for row in report.parity:
        print(f"{row.component} {row.precision} {row.output}: {row.deviation} (limit: {row.limit})")
    for name, component in report.components.items():
        if component.quantised is not None:
            print(f"{name} int8: {component.quantised}")
    print(f"{report.folder}: digest {report.digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
