"""A tracked frame of SAM-2 in ONNX Runtime against transformers eager: same weights, one thread each, interleaved.

    python tests/models/tracker_speed.py --frames 24 --json tracker_speed.json

Not collected by pytest. Random weights of SAM 2.1 tiny at 512 pixels, and an object that is there; the steady state,
with all memories and pointers that there ever are. Run it on an idle machine: above a load of 0.5 for each core before
the start, times say little, and processor times only somewhat more.
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

from sam2_reference import present, video_model
from sam2_streaming import Streaming, bikes, relative

import vsdk
from vsdk_export.tracker import export_tracker
from vsdk_models.sam2.model import sam2_networks
from vsdk_runtimes.manifest import Origin

WARM_UP = 16
"""Frames until transformers reads as many pointers as it ever does."""
PARTS = ("encoder", "attention", "decoder", "memory")


class Clock:
    """Milliseconds spent in each part of each frame, by the clock on the wall and by the processor."""

    def __init__(self) -> None:
        self.frames: list[dict[str, tuple[float, float]]] = []

    @contextmanager
    def frame(self) -> Iterator[None]:
        self.frames.append(defaultdict(lambda: (0.0, 0.0)))
        with self.part("frame"):
            yield

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        wall, processor = time.perf_counter(), time.thread_time()
        yield
        before = self.frames[-1][name]
        spent = time.perf_counter() - wall, time.thread_time() - processor
        self.frames[-1][name] = (before[0] + 1000 * spent[0], before[1] + 1000 * spent[1])

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            with self.part(name):
                return function(*arguments, **options)

        return run

    def summary(self, name: str) -> dict[str, float]:
        wall, processor = zip(*(frame[name] for frame in self.frames), strict=True)
        return {
            "min": min(wall), "median": statistics.median(wall),
            "processor_min": min(processor), "processor_median": statistics.median(processor),
        }  # fmt: skip


def measure(frames: int, size: int, conditioning_slots: int, kept: Path | None) -> dict[str, Any]:
    """Both contenders frame by frame in turn; the bundle is exported to `kept`, or taken from there."""
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    model = present(video_model(0, size, small=False))
    with tempfile.TemporaryDirectory() as folder:
        bundle = kept or Path(folder) / "bundle"
        if not bundle.exists():
            networks = sam2_networks(model, conditioning_slots)
            export_tracker(networks, origin=Origin(checkpoint="random weights"), out=bundle)
        if frames == 0:
            return {}
        with vsdk.Tracker(bundle, threads=1) as tracker:
            theirs, ours, errors = follow(model, tracker, WARM_UP + frames)
            engine = tracker.networks.encoder.info
    theirs.frames, ours.frames = theirs.frames[-frames:], ours.frames[-frames:]
    rows = {part: {"transformers": theirs.summary(part), "vsdk": ours.summary(part)} for part in ("frame", *PARTS)}
    return {
        "model": f"SAM 2.1 tiny at {size}, random weights, fp32", "frames": frames, "threads": 1,
        "conditioning_slots": conditioning_slots, "cores": os.cpu_count(), "load_before": load,
        "load_after": os.getloadavg()[0], "relative_error": max(errors),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__,
                     engine.engine: engine.engine_version},
        "milliseconds": rows,
        "ratio": {
            part: {how: row["transformers"][how] / row["vsdk"][how] for how in row["vsdk"]}
            for part, row in rows.items()
        },
    }  # fmt: skip


def follow(model: Any, tracker: vsdk.Tracker, frames: int) -> tuple[Clock, Clock, list[float]]:
    """One click, then every frame in both; the times of transformers and of ours, and how far the logits are apart."""
    theirs, ours, errors = Clock(), Clock(), []
    streaming = Streaming(model)
    for part, where, name in (
        ("encoder", model, "get_image_features"), ("attention", model.memory_attention, "forward"),
        ("decoder", model.mask_decoder, "forward"), ("memory", model.memory_encoder, "forward"),
    ):  # fmt: skip
        setattr(where, name, theirs.timed(part, getattr(where, name)))
    for part in PARTS:
        session = getattr(tracker.networks, part)
        session.run = ours.timed(part, session.run)
    for number, picture in enumerate(bikes(frames)):
        pixels = tracker.networks.preprocessor([picture])
        if number == 0:
            streaming.prompt(0, 1, points=[(150, 120)])
            with ours.frame():
                tracker.prompt(picture, 1, points=[(150, 120)])
        with theirs.frame():
            seen = streaming.step(pixels)[1]
        with ours.frame():
            tracked = tracker.track(picture)[0]
        assert tracker._current is not None
        if not tracked.present or seen.object_score <= 0:
            raise SystemExit(f"frame {number}: the object is absent, so there is nothing to compare")
        errors.append(relative(tracker._current.outputs[1].chosen.logits, seen.logits))
        spent = [clock.frames[-1]["frame"][0] for clock in (theirs, ours)]
        print(f"frame {number}: transformers {spent[0]:.0f} ms, vsdk {spent[1]:.0f} ms", flush=True)
    return theirs, ours, errors


def table(result: dict[str, Any]) -> str:
    """The result for people: least and median milliseconds, and the same by the processor's clock."""
    lines = []
    for clock, least, median in (("wall", "min", "median"), ("processor", "processor_min", "processor_median")):
        lines += [f"\n{clock + ' ms, least (median)':28}{'transformers':>18}{'vsdk':>18}{'ratio':>16}"]
        for part, row in result["milliseconds"].items():
            cells = [f"{row[side][least]:.1f} ({row[side][median]:.1f})" for side in ("transformers", "vsdk")]
            ratio = f"{result['ratio'][part][least]:.2f} ({result['ratio'][part][median]:.2f})"
            lines.append(f"{part:28}{cells[0]:>18}{cells[1]:>18}{ratio:>16}")
    return "\n".join(
        [
            *lines,
            f"\n{result['model']}; {result['frames']} frames, one thread each; largest difference of logits "
            f"{result['relative_error']:.1e} of their RMS",
            f"load before {result['load_before']:.2f}, after {result['load_after']:.2f}, on {result['cores']} cores",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=24, help="how many count, after those to warm up")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--cond-slots", type=int, default=4)
    parser.add_argument("--bundle", type=Path, help="where the exported bundle is kept; --frames 0 only exports")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result = measure(options.frames, options.size, options.cond_slots, options.bundle)
    if not result:
        return
    print(table(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
