"""Render the demo clip: an H.264 file of several scenes whose boundaries are known.

    python examples/render_demo_clip.py --out demo/clip.mp4 --truth demo/clip.json

`--kind gate` renders a still camera with sensor noise instead, for measuring what the gate spares.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track

from vsdk_models.nano.clips import Clip
from vsdk_models.nano.demo_clip import DEMO_FRAMES, GATE_FRAMES, demo_script, gate_clip, write_truth, write_video
from vsdk_models.nano.shot import Size


def size(text: str) -> Size:
    """`1280x720` as width and height."""
    width, _, height = text.partition("x")
    return int(width), int(height)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Render a clip whose scene boundaries are known, as H.264.")
    parser.add_argument("--out", type=Path, default=Path("demo/clip.mp4"), help="where to write the MP4")
    parser.add_argument("--truth", type=Path, help="also write the boundaries here, as JSON")
    parser.add_argument("--kind", choices=("demo", "gate"), default="demo")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=size, default=(1280, 720), metavar="WxH")
    parser.add_argument("--frames", type=int, help=f"length; {DEMO_FRAMES} for demo, {GATE_FRAMES} for gate")
    parser.add_argument("--crf", type=int, default=23, help="quality of libx264: lower is better and larger")
    options = parser.parse_args(arguments)
    if options.kind == "demo":
        clip = Clip.of(demo_script(options.seed, options.size, options.frames or DEMO_FRAMES), "demo")
    else:
        clip = gate_clip(options.seed, options.size, options.frames or GATE_FRAMES)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    writing = write_video(options.out, clip.open(), clip.size, crf=options.crf)
    for _ in track(writing, f"Rendering {options.out}", clip.frames, console=Console(stderr=True)):
        pass
    if options.truth is not None:
        options.truth.parent.mkdir(parents=True, exist_ok=True)
        write_truth(options.truth, clip)
    return 0


if __name__ == "__main__":
    sys.exit(main())
