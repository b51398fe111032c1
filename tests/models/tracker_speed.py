"""A tracked frame of SAM-2 in ONNX Runtime against transformers eager: same weights, one thread each, interleaved.

    python tests/models/tracker_speed.py --frames 24 --json tracker_speed.json

Not collected by pytest. Random weights of SAM 2.1 tiny at 512 pixels; the steady state, with all memories there are.
Run it on an idle machine: the load average is printed; above 0.5 before the start the result is worthless.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers

sys.path.insert(0, str(Path(__file__).parent))

from sam2_reference import video_model
from sam2_streaming import Streaming, bikes, relative

import vsdk
from vsdk_export.tracker import export_tracker
from vsdk_models.sam2.model import sam2_networks
from vsdk_runtimes.manifest import Origin

WARM_UP = 8
PARTS = ("encoder", "attention", "decoder", "memory")


class Clock:
    """Seconds spent in each part of each frame."""

    def __init__(self) -> None:
        self.frames: list[dict[str, float]] = []

    @contextmanager
    def frame(self) -> Iterator[None]:
        self.frames.append(defaultdict(float))
        began = time.perf_counter()
        yield
        self.frames[-1]["frame"] = time.perf_counter() - began

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            result = function(*arguments, **options)
            self.frames[-1][part] += time.perf_counter() - began
            return result

        return run

    def summary(self, part: str) -> tuple[float, float]:
        """Least and median milliseconds."""
        values = [1000 * frame[part] for frame in self.frames]
        return min(values), statistics.median(values)


def measure(frames: int, size: int, conditioning_slots: int, kept: Path | None) -> dict[str, Any]:
    """Both contenders frame by frame in turn; the bundle is exported to `kept`, or taken from there."""
    torch.set_num_threads(1)
    model = video_model(0, size, small=False)
    pictures = bikes(WARM_UP + frames)
    load = os.getloadavg()[0]
    ours, theirs = Clock(), Clock()
    with tempfile.TemporaryDirectory() as folder:
        bundle = kept or Path(folder) / "bundle"
        if not bundle.exists():
            networks = sam2_networks(model, conditioning_slots)
            export_tracker(networks, origin=Origin(checkpoint="random weights"), out=bundle)
        if frames == 0:
            return {}
        tracker = vsdk.Tracker(bundle, threads=1)
        streaming = Streaming(model)
        for part, where, name in (
            ("encoder", model, "get_image_features"), ("attention", model.memory_attention, "forward"),
            ("decoder", model.mask_decoder, "forward"), ("memory", model.memory_encoder, "forward"),
        ):  # fmt: skip
            setattr(where, name, theirs.timed(part, getattr(where, name)))
        for part in PARTS:
            session = getattr(tracker.networks, part)
            session.run = ours.timed(part, session.run)
        worst = 0.0
        for number, picture in enumerate(pictures):
            pixels = tracker.networks.preprocessor([picture])
            if number == 0:
                streaming.prompt(0, 1, points=[(150, 120)])
                with ours.frame():
                    tracker.prompt(picture, 1, points=[(150, 120)])
            with theirs.frame():
                seen = streaming.step(pixels)[1]
            with ours.frame():
                tracker.track(picture)
            assert tracker._current is not None
            worst = max(worst, relative(tracker._current.outputs[1].chosen.logits, seen.logits))
            print(
                f"frame {number}: {theirs.frames[-1]['frame']:.3f} s, ours {ours.frames[-1]['frame']:.3f} s", flush=True
            )
        tracker.close()
    ours.frames, theirs.frames = ours.frames[-frames:], theirs.frames[-frames:]
    rows = {part: {"transformers": theirs.summary(part), "vsdk": ours.summary(part)} for part in ("frame", *PARTS)}
    return {
        "model": f"SAM 2.1 tiny at {size}, random weights, fp32", "frames": frames, "threads": 1,
        "conditioning_slots": conditioning_slots, "load_before": load, "relative_error": worst,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__,
                     "onnxruntime": tracker.networks.encoder.info.engine_version},
        "milliseconds_min_median": rows,
        "ratio_of_minima": {part: row["transformers"][0] / row["vsdk"][0] for part, row in rows.items()},
        "ratio_of_medians": {part: row["transformers"][1] / row["vsdk"][1] for part, row in rows.items()},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--cond-slots", type=int, default=4)
    parser.add_argument("--bundle", type=Path, help="where the exported bundle is kept; --frames 0 only exports")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result = measure(options.frames, options.size, options.cond_slots, options.bundle)
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
