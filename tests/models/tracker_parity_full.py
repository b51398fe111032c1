"""Parity of the published sizes at full width, which takes minutes: not collected by pytest.

    python tests/models/tracker_parity_full.py --case tiny-512 --frames 60 --half 16 --json parity.json
    python tests/models/tracker_parity_full.py --json parity.json     # only the table of what is in the file

Random weights; every frame of a real clip in a closed loop, and each step from the reference's own memories. The object
is clicked on twice. The file is written after every frame, and a case that is in it with enough frames is not run
again; `--work` keeps the exported bundles for the next run. It exits with 1 past the limits: 1e-4 of the RMS for a
step, a cosine of 0.9999 in the closed loop and of 0.999 for a step at fp16, and decisions that differ although the
reference's margin was more than ten times the error of the step on that frame.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import onnxruntime
import torch
import transformers

sys.path.insert(0, str(Path(__file__).parent))

from edgetam_reference import edgetam_video_model
from sam2_reference import FULL_WIDTH_SHARPNESS, PRESENT, present, randomised
from sam2_streaming import Seen, Streaming, bikes, cosine, relative, step_errors
from transformers import Sam2VideoModel
from transformers.models.edgetam_video.modeling_edgetam_video import EdgeTamVideoInferenceSession
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

import vsdk
import vsdk_export.build
import vsdk_export.tracker
from vsdk.tracking.networks import TrackerNetworks as Networks
from vsdk_models.sam2.edgetam_model import edgetam_networks
from vsdk_models.sam2.model import sam2_networks
from vsdk_models.sam2.published import published_config
from vsdk_models.tracking import TrackerNetworks
from vsdk_runtimes.manifest import Origin

CASES = {
    "tiny-512": ("sam2.1-tiny", 512),
    "base-plus-512": ("sam2.1-base-plus", 512),
    "edgetam-512": ("edgetam", 512),
    "tiny-1024": ("sam2.1-tiny", 1024),
}
CLICK: dict[str, Any] = {"points": [(150, 120)]}
CLICKED = (0, 3)
Rows = list[dict[str, Any]]


def reference(model: str, size: int) -> tuple[Any, TrackerNetworks, Any]:
    """transformers' model with random weights, our networks of it, and the class of its sessions."""
    if model == "edgetam":
        made: Any = edgetam_video_model(0, size, small=False)
        networks, session = edgetam_networks, cast("type[Any]", EdgeTamVideoInferenceSession)
    else:
        made = randomised(Sam2VideoModel(published_config(model, image_size=size)), 0, FULL_WIDTH_SHARPNESS)
        networks, session = sam2_networks, Sam2VideoInferenceSession
    return present(made), networks(made), session


def export(networks: TrackerNetworks, out: Path, precisions: tuple[str, ...], checked: bool) -> None:
    """Write the bundle; unchecked, without export's own comparison, which takes longer than the frames do here."""
    options: dict[str, Any] = {"origin": Origin(checkpoint="random weights"), "out": out, "precisions": precisions}
    if checked:
        vsdk_export.tracker.export_tracker(networks, **options)
        return
    with (
        patch.object(vsdk_export.build, "references", lambda _: []),
        patch.object(vsdk_export.build, "_measured", lambda *_: {}),
    ):
        vsdk_export.tracker.export_tracker(networks, **options)


def compare(tracker: vsdk.Tracker, half: Networks | None, streaming: Streaming, frames: int, half_frames: int) -> Any:
    """A row for each frame of the clip, as it comes."""
    before: Seen | None = None
    for number, picture in enumerate(bikes(frames)):
        clicked = CLICK if number in CLICKED else None
        if clicked:
            streaming.prompt(number, 1, **clicked)
            tracker.prompt(picture, 1, **clicked)
        seen = streaming.step(tracker.networks.preprocessor([picture]))[1]
        tracker.track(picture)
        assert tracker._current is not None
        found, maps = tracker._current.outputs[1].chosen, tracker._current.maps
        how: dict[str, Any] = {"prompt": clicked, "first": clicked is not None}
        step = streaming.our_step(tracker.networks, maps, 1, number, **how)
        errors = step_errors(*step, seen)
        bare, _ = streaming.our_step(tracker.networks, maps, 1, number, first=True)
        row = {
            "step": errors.logits, "step_object_score": errors.object_score, "step_iou": errors.iou,
            "object_score": seen.object_score, "margin": seen.margin,
            "presence_is_clear": errors.presence_is_clear, "best_is_clear": errors.best_is_clear,
            "loop": relative(found.logits, seen.logits), "loop_one_minus_cosine": 1 - cosine(found.logits, seen.logits),
            "presence_equal": (found.object_score > 0) == (seen.object_score > 0),
            "best_equal": seen.best in (None, found.index),
            "one_minus_cosine_without_memory": 1 - cosine(bare.logits, step[0].logits),
            "cosine_with_the_frame_before": None if before is None else cosine(seen.logits, before.logits),
        }  # fmt: skip
        if half is not None and number < half_frames:
            half_maps = half.encode(half.preprocessor.resize(picture))
            halved, _ = streaming.our_step(half, half_maps, 1, number, **how)
            row["half_one_minus_cosine"] = 1 - cosine(halved.logits, seen.logits)
            row["half_best_equal"] = halved.index == step[0].index
        before = seen
        yield row


def summary(rows: Rows) -> dict[str, Any]:
    """The figures of a case."""
    clear = [row for row in rows if row["best_is_clear"] and row["presence_is_clear"]]
    halved = [row["half_one_minus_cosine"] for row in rows if row.get("half_best_equal")]
    return {
        "frames": len(rows),
        "object_present": sum(row["object_score"] > 0 for row in rows),
        "step_worst": max(row["step"] for row in clear),
        "step_median": statistics.median(row["step"] for row in clear),
        "memory_matters_median": statistics.median(row["one_minus_cosine_without_memory"] for row in rows),
        "loop_worst": max(row["loop"] for row in clear),
        "loop_one_minus_worst_cosine": max(row["loop_one_minus_cosine"] for row in clear),
        "presence_clear": sum(row["presence_is_clear"] for row in rows),
        "presence_differs": sum(row["presence_is_clear"] and not row["presence_equal"] for row in rows),
        "best_mask_clear": len(clear),
        "best_mask_differs": sum(not row["best_equal"] for row in clear),
        "half_frames": sum("half_best_equal" in row for row in rows),
        "half_best_mask_differs": sum(row.get("half_best_equal") is False for row in rows),
        "half_one_minus_worst_cosine": max(halved, default=None),
    }


def failures(found: dict[str, Any]) -> list[str]:
    """The limits that a case is past."""
    limits = {
        "step_worst": 1e-4, "loop_one_minus_worst_cosine": 1e-4, "half_one_minus_worst_cosine": 1e-3,
        "presence_differs": 0, "best_mask_differs": 0,
    }  # fmt: skip
    return [name for name, limit in limits.items() if found[name] is not None and found[name] > limit]


def run(case: str, frames: int, half_frames: int, checked: bool, work: Path, path: Path | None) -> dict[str, Any]:
    """One case; the file is brought up to date after every frame."""
    torch.set_num_threads(1)
    name, size = CASES[case]
    model, networks, session = reference(name, size)
    precisions = ("fp32", "fp16") if half_frames else ("fp32",)
    bundle = work / f"{case}-{'-'.join(precisions)}"
    if not bundle.exists():
        export(networks, bundle, precisions, checked)
        print(f"{case}: exported", flush=True)
    conditions = {
        "model": name, "image_size": size, "objects": 1, "clip": "bikes, 320 x 240", "checked_by_export": checked,
        "weights": f"random, seed 0, sharpness {FULL_WIDTH_SHARPNESS}, object score + {PRESENT}",
        "clicked_on_frames": CLICKED, "memories": networks.spec.slots, "pointers": networks.spec.pointers,
        "versions": {"transformers": transformers.__version__, "torch": torch.__version__,
                     "onnxruntime": onnxruntime.__version__},
    }  # fmt: skip
    rows: Rows = []
    entry: dict[str, Any] = {}
    with vsdk.Tracker(bundle, threads=1) as tracker:
        half = Networks(tracker.bundle, precision="fp16", threads=1) if half_frames else None
        for row in compare(tracker, half, Streaming(model, session), frames, half_frames):
            rows.append({key: _short(value) for key, value in row.items()})
            print(f"{case} {len(rows)}: " + " ".join(f"{key}={value}" for key, value in rows[-1].items()), flush=True)
            entry = {"conditions": conditions, "summary": summary(rows)}
            if path is not None:
                path.write_text(json.dumps(_read(path) | {case: entry}, indent=1) + "\n")
    return entry


def table(cases: dict[str, Any]) -> str:
    """All cases, as in `docs/tracking.md`."""
    lines = [
        "| case | frames | step, fp32 | closed loop, 1 - cosine | decisions that differ | step, fp16: 1 - cosine |"
    ]
    lines.append("|---|---|---|---|---|---|")
    for case, entry in cases.items():
        found = entry["summary"]
        half = found["half_one_minus_worst_cosine"]
        lines.append(
            f"| {case} | {found['frames']} | {found['step_worst']:.1e} | {found['loop_one_minus_worst_cosine']:.0e} | "
            f"{found['presence_differs']} of {found['presence_clear']}, "
            f"{found['best_mask_differs']} of {found['best_mask_clear']} | "
            + ("" if half is None else f"{half:.1e} ({found['half_frames']} frames)") + " |"
        )  # fmt: skip
    return "\n".join(lines)


def _short(value: Any) -> Any:
    """Three significant digits; of a number that has no end, nothing."""
    if not isinstance(value, float) or isinstance(value, bool):
        return value
    return float(f"{value:.3g}") if math.isfinite(value) else None


def _read(path: Path | None) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text()) if path is not None and path.exists() else {}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES)
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--half", type=int, default=0, help="on how many of the frames fp16 is judged, too")
    parser.add_argument("--unchecked", action="store_true", help="leave out export's own comparison")
    parser.add_argument("--work", type=Path, help="where bundles are kept")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cases = _read(options.json)
    done = cases.get(options.case, {"summary": {"frames": 0}})["summary"]["frames"] >= options.frames
    if options.case and not done:
        with tempfile.TemporaryDirectory() as folder:
            work = options.work or Path(folder)
            entry = run(options.case, options.frames, options.half, not options.unchecked, work, options.json)
        cases[options.case] = entry
    print(table(cases))
    failed = {case: found for case, entry in cases.items() if (found := failures(entry["summary"]))}
    if failed:
        sys.exit(f"past the limit: {failed}")


if __name__ == "__main__":
    main()
