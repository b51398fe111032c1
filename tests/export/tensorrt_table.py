"""Every graph of every kind of bundle through the parser and the builder of TensorRT for RTX; takes an hour or so.

    python tests/export/tensorrt_table.py --rtx-python RTX/bin/python --work FOLDER --json table.json
    python tests/export/tensorrt_table.py --json table.json --markdown      # only the table of what is in the file

Not collected by pytest; `test_tensorrt_rtx.py` does the same with what is small. RTX/bin/python has tensorrt-rtx, numpy
and pydantic. Published shapes with random weights, exported at each precision on its own and built by
`vsdk_runtimes.tensorrt.targets`, ahead of time and without a GPU, for all architectures from sm80 on. The file is
written after every graph, and what is in it is not done again; so is what is in the folder.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests" / "models"), str(Path(__file__).parent)]
ENCODERS = ("clip", "siglip", "siglip2", "dinov2", "dinov3")
BRIDGES = ("bridge base", "bridge mem")
TRACKERS = ("sam2.1 tiny 512", "edgetam 512", "sam2.1 tiny 1024")
WHAT = {
    "nano": "as it ships",
    "clip": "ViT-B/32, 224 pixels",
    "siglip": "B/16, 224 pixels",
    "siglip2": "B/16, fixed 256 pixels",
    "dinov2": "S/14, 224 pixels",
    "dinov3": "S/16, 224 pixels",
    "bridge base": "VideoLLaMB, width 1024, 32 slots of memories",
    "bridge mem": "VideoLLaMB-Mem, width 1024, 8 slots of patches",
    "sam2.1 tiny 512": "full width, 512 pixels",
    "edgetam 512": "full width, 512 pixels",
    "sam2.1 tiny 1024": "full width, 1024 pixels",
}
Rows = list[dict[str, Any]]


def encoder(name: str, folder: Path) -> None:
    """A checkpoint of a published shape, with random weights."""
    import torch
    import transformers

    library: Any = transformers
    torch.manual_seed(0)
    small: dict[str, Any] = {"hidden_size": 384, "num_attention_heads": 6}
    models: dict[str, Callable[[], Any]] = {
        "clip": lambda: library.CLIPVisionModelWithProjection(library.CLIPVisionConfig()),
        "siglip": lambda: library.SiglipVisionModel(library.SiglipVisionConfig()),
        "siglip2": lambda: library.SiglipVisionModel(library.SiglipVisionConfig(image_size=256)),
        "dinov2": lambda: library.Dinov2Model(library.Dinov2Config(**small, image_size=518, patch_size=14)),
        "dinov3": lambda: library.DINOv3ViTModel(
            library.DINOv3ViTConfig(**small, intermediate_size=1536, num_register_tokens=4)
        ),
    }
    models[name]().save_pretrained(folder)
    side = 256 if name == "siglip2" else 224
    settings: dict[str, Any] = {"size": {"height": side, "width": side}, "resample": 3}
    if name in ("clip", "dinov2"):
        settings = {"size": {"shortest_edge": side}, "crop_size": side, "resample": 3, "do_center_crop": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))


def export(name: str, precision: str, folder: Path, work: Path) -> None:
    """Export a bundle of one kind at one precision.

    Raises:
        Error: It is not possible.
    """
    from clips import write_clip

    from vsdk_export import export_checkpoint, export_memory
    from vsdk_export.tracker import export_tracker
    from vsdk_runtimes.manifest import Origin

    clip = work / "clip.mp4"
    if not clip.exists():
        write_clip(clip, size=(320, 240))
    calibrate = [str(clip)] if precision == "int8" else []
    if name in ENCODERS:
        checkpoint = work / f"{name} checkpoint"
        if not (checkpoint / "config.json").exists():
            encoder(name, checkpoint)
        export_checkpoint(str(checkpoint), out=folder, precisions=(precision,), calibrate=calibrate)
    elif name in BRIDGES:
        export_memory(bridge(name), out=folder, precisions=(precision,))
    else:
        networks = tracker(name)
        origin = Origin(checkpoint="random")
        export_tracker(networks, origin=origin, out=folder, precisions=(precision,), calibrate=calibrate)


def bridge(name: str) -> Any:
    """A memory bridge of the published width."""
    import torch

    from vsdk_models.videollamb import BridgeConfig, MemoryStep

    torch.manual_seed(0)
    return MemoryStep(BridgeConfig(variant="patches", positions=1024) if name == "bridge mem" else BridgeConfig())


def tracker(name: str) -> Any:
    """The networks of a tracker at full width."""
    from edgetam_reference import edgetam_video_model
    from sam2_reference import video_model

    from vsdk_models.sam2.edgetam_model import edgetam_networks
    from vsdk_models.sam2.model import sam2_networks

    size = int(name.rsplit(" ", 1)[1])
    if name.startswith("edgetam"):
        return edgetam_networks(edgetam_video_model(0, size, small=False))
    return sam2_networks(video_model(0, size, small=False))


def build(bundle: Path, precision: str, engines: Path, python: Path) -> Rows:
    """Build every component of a bundle in the other environment."""
    script = Path(__file__).with_name("build_engines.py")
    command = [str(python), str(script), str(engines), precision, str(bundle)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0:
        rows.append({"component": "", "precision": precision, "refused": f"it crashed: {done.stderr[-300:]}"})
    return rows


def measure(name: str, precision: str, work: Path, python: Path) -> Rows:
    """Export unless that is done, and build."""
    from vsdk_runtimes.errors import Error

    bundle = work / f"{name} {precision}"
    if name == "nano":
        import vsdk

        bundle = vsdk.load().folder
    elif not (bundle / "manifest.json").exists():
        try:
            export(name, precision, bundle, work)
        except Error as error:
            return [{"component": "", "precision": precision, "refused": f"it is not exported: {error.message}"}]
    return build(bundle, precision, work / "engines", python)


def table(rows: Rows) -> str:
    """The rows as Markdown: a line for each component, with size and time to build of the plan at each precision."""
    precisions = ("fp32", "fp16", "int8")
    lines = [f"| bundle | component | {' | '.join(precisions)} |", "|---" * 5 + "|"]
    cells = {(row["bundle"], row["component"], row["precision"]): _cell(row) for row in rows}
    for bundle, component in dict.fromkeys((row["bundle"], row["component"]) for row in rows):
        found = [cells.get((bundle, component, precision), "") for precision in precisions]
        lines.append(f"| {bundle}, {WHAT[bundle]} | {component} | {' | '.join(found)} |")
    return "\n".join(lines)


def _cell(row: dict[str, Any]) -> str:
    if "refused" in row:
        return f"refused: {' '.join(row['refused'].split())}"
    return f"{row['bytes'] / 1e6:.1f} MB, {row['seconds']:.1f} s"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--rtx-python", type=Path)
    parser.add_argument("--bundle", action="append", choices=WHAT)
    parser.add_argument("--precision", action="append", choices=("fp32", "fp16", "int8"))
    parser.add_argument("--markdown", action="store_true")
    asked = parser.parse_args(arguments)
    content = json.loads(asked.json.read_text()) if asked.json.exists() else {"rows": []}
    rows: Rows = content["rows"]
    if not asked.markdown:
        asked.work.mkdir(parents=True, exist_ok=True)
        for precision in asked.precision or ("fp32", "fp16", "int8"):
            for name in asked.bundle or WHAT:
                if any(row["bundle"] == name and row["precision"] == precision for row in rows):
                    continue
                started = time.perf_counter()
                rows += [{"bundle": name, **row} for row in measure(name, precision, asked.work, asked.rtx_python)]
                rows.sort(key=lambda row: list(WHAT).index(row["bundle"]))
                content["machine"] = f"{os.cpu_count()} processors, {platform.machine()}"
                asked.json.write_text(json.dumps(content, indent=1) + "\n")
                load = os.getloadavg()[0]
                print(f"{name} {precision}: {time.perf_counter() - started:.0f} s, load {load:.1f}", flush=True)
    print(table(rows))
    return int(any("refused" in row for row in rows))


if __name__ == "__main__":
    sys.exit(main())
