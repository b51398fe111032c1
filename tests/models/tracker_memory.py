"""Resident memory over a long stream, beside transformers' session on the same frames; leaves a chart.

    python tests/models/tracker_memory.py --frames 2000 --png docs/images/tracker_memory.png --json memory.json

Not collected by pytest. Reduced widths at 128 pixels, three objects, the frames of a real clip over and over. Each
contender runs in a process of its own; the reference stops when it has taken `--most` megabytes.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
import torch

sys.path.insert(0, str(Path(__file__).parent))

from sam2_reference import video_model
from sam2_streaming import Streaming, bikes

import vsdk
from vsdk.bench.chart import Axis, Curve, line_chart
from vsdk_export.tracker import export_tracker
from vsdk_models.sam2.model import sam2_networks
from vsdk_runtimes.manifest import Origin

SIDE, STEP = 128, 50
CLICKS = ((150, 120), (60, 60), (250, 200))


def ours(bundle: Path, frames: int, out: Any) -> None:
    """Memory in megabytes every `STEP` frames."""
    pictures = bikes(60)
    with vsdk.Tracker(bundle, threads=1) as tracker:
        for number, click in enumerate(CLICKS):
            tracker.prompt(pictures[0], number + 1, points=[click])
        _run(frames, out, 1e9, lambda index: tracker.track(pictures[index % 60]))


def theirs(bundle: Path, frames: int, most: float, out: Any) -> None:
    """The same of transformers' session."""
    torch.set_num_threads(1)
    pictures = bikes(60)
    with vsdk.Tracker(bundle, threads=1) as tracker:
        pixels = [tracker.networks.preprocessor([picture]) for picture in pictures]
    streaming = Streaming(video_model(0, SIDE))
    for number, click in enumerate(CLICKS):
        streaming.prompt(0, number + 1, points=[click])
    _run(frames, out, most, lambda index: streaming.step(pixels[index % 60]))


def _run(frames: int, out: Any, most: float, step: Any) -> None:
    process, start, rows = psutil.Process(), 0.0, []
    for index in range(frames):
        step(index)
        if index == 30:
            start = process.memory_info().rss / 1e6
        if index > 30 and index % STEP == 0:
            rows.append((index, process.memory_info().rss / 1e6 - start))
            if rows[-1][1] > most:
                break
    out.put(rows)


def _in_process(target: Any, *arguments: Any) -> list[tuple[int, float]]:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=target, args=(*arguments, queue))
    process.start()
    rows: list[tuple[int, float]] = queue.get()
    process.join()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--most", type=float, default=4000, help="megabytes")
    parser.add_argument("--png", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        export_tracker(sam2_networks(video_model(0, SIDE)), origin=Origin(checkpoint="random weights"), out=bundle)
        curves = {"vsdk": _in_process(ours, bundle, options.frames)}
        curves["transformers"] = _in_process(theirs, bundle, options.frames, options.most)
    for name, rows in curves.items():
        print(f"{name}: {rows[-1][1]:.1f} MB more at frame {rows[-1][0]} than at frame 30")
    if options.json:
        options.json.write_text(json.dumps(curves) + "\n")
    if options.png:
        drawn = [
            Curve(name, [row[0] for row in rows], [max(row[1], 0) for row in rows]) for name, rows in curves.items()
        ]
        chart = line_chart(
            "Resident memory while three objects are tracked",
            f"SAM-2 at {SIDE} pixels and reduced width; megabytes above frame 30, by frame",
            drawn, Axis("frame"), Axis("MB"),
        )  # fmt: skip
        chart.save(options.png)


if __name__ == "__main__":
    main()
