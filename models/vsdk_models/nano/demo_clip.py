"""The clips that `make demo` and the benchmarks stream: written as H.264 files, with their truth beside them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.video.reformatter import ColorRange, Colorspace

from .clips import Clip, Frame, Join, Script
from .disturbances import SensorNoise
from .shot import Camera, Look, Shot, Size, Sprite

FRAME_RATE = 25
BT709 = 1
"""The number of BT.709 among colour primaries and transfer curves (ITU-T H.273, tables 2 and 3)."""
DEMO_FRAMES = 560
GATE_FRAMES = 750


def demo_script(seed: int = 0, size: Size = (1280, 720), frames: int = DEMO_FRAMES) -> Script:
    """Seven shots with cuts, one dissolve and one fade, moving objects and camera moves.

    Args:
        seed: 0 is the clip that was composed by eye; others change the places.
        size: Width and height in pixels, even.
        frames: Length; at least 140.

    Raises:
        ValueError: Too few frames for the shots.
    """
    joins = (
        Join(),
        Join("dissolve", max(8, round(frames * 0.055))),
        Join(),
        Join("fade", max(5, round(frames * 0.025)), hold=4),
        Join(),
        Join(),
    )
    left = frames - sum(join.length for join in joins)
    shares = (0.16, 0.13, 0.15, 0.16, 0.14, 0.12, 0.14)
    lengths = [int(left * share) for share in shares]
    lengths[-1] += left - sum(lengths)
    if min(lengths) < 10:
        raise ValueError(f"{frames} frames are too few for seven shots: at least 140 are needed")
    seconds = [length / FRAME_RATE for length in lengths]
    shots = (
        Shot(
            7034 + seed,
            lengths[0],
            ("landscape",),
            Camera(travel=(0.45, 0.0), lasts=seconds[0]),
            (
                Sprite("star", "white", 0.045, (0.15, 0.2), (0.10, 0.02), sway=0.03, spin=0.9),
                Sprite("disc", "orange", 0.07, (0.85, 0.72), (-0.12, 0.0), sway=0.05),
            ),
        ),
        Shot(
            7157 + seed,
            lengths[1],
            ("skyline",),
            Camera(),
            (
                Sprite("arrow", "red", 0.07, (-0.05, 0.3), (0.32, 0.03), sway=0.02),
                Sprite("crescent", "yellow", 0.05, (0.75, 0.15), (-0.03, 0.02), spin=0.3),
            ),
        ),
        Shot(
            7225 + seed,
            lengths[2],
            ("room",),
            Camera(zoom=(1.0, 0.72), begins=0.4, lasts=seconds[2]),
            (Sprite("disc", "cyan", 0.09, (0.2, 0.78), (0.13, 0.0), sway=0.09, spin=1.5, followed=False),),
        ),
        Shot(
            7348 + seed,
            lengths[3],
            ("tiles", "dead_leaves"),
            Camera(travel=(-0.9, 0.0), begins=0.2, lasts=max(seconds[3] - 0.2, 0.4)),
            (Sprite("heart", "pink", 0.13, (0.55, 0.5), (-0.04, 0.02), sway=0.05, spin=0.4),),
            Look((0.36, 0.42, 0.30), (0.20, 0.19, 0.17), 0.8),
            foreground=True,
        ),
        Shot(
            7427 + seed,
            lengths[4],
            ("landscape",),
            Camera(travel=(0.0, -0.08), zoom=(0.8, 1.0), lasts=seconds[4]),
            (
                Sprite("diamond", "purple", 0.06, (0.3, 0.3), (0.09, -0.02), spin=1.2),
                Sprite("plus", "yellow", 0.05, (0.7, 0.6), (-0.07, 0.01), spin=-0.8),
            ),
        ),
        Shot(
            7550 + seed,
            lengths[5],
            ("cells",),
            Camera(),
            (
                Sprite("ring", "white", 0.12, (0.1, 0.4), (0.25, 0.05), spin=0.5),
                Sprite("disc", "black", 0.4, (-0.3, 0.65), (0.75, 0.0), softness=0.08),
            ),
            Look((0.33, 0.38, 0.48), (0.16, 0.17, 0.20), 0.9),
        ),
        Shot(
            7673 + seed,
            lengths[6],
            ("skyline",),
            Camera(travel=(-0.3, 0.0), zoom=(0.75, 1.0), lasts=seconds[6]),
            (Sprite("star", "orange", 0.05, (0.2, 0.2), (0.15, 0.04), sway=0.04, spin=1.4),),
        ),
    )
    return Script(shots, joins, size, FRAME_RATE)


def gate_clip(seed: int = 0, size: Size = (1280, 720), frames: int = GATE_FRAMES, sigma: float = 3.0) -> Clip:
    """A still camera with sensor noise and a small moving object, one cut and one dissolve of two seconds.

    Made for measuring how many frames the gate spares: what it may spare is nearly everything here.
    """
    dissolve = min(2 * FRAME_RATE, frames // 5)
    first = (frames - dissolve) // 3
    lengths = (first, first, frames - dissolve - 2 * first)
    objects = (
        Sprite("disc", "red", 0.03, (0.2, 0.7), (0.03, 0.0), sway=0.01),
        Sprite("square", "blue", 0.03, (0.7, 0.6), (-0.03, 0.01), spin=0.2),
        Sprite("star", "yellow", 0.03, (0.3, 0.35), (0.02, 0.01), spin=0.2),
    )
    places = (("room",), ("tiles", "clouds"), ("landscape",))
    shots = tuple(
        Shot(8001 + 100 * number + seed, length, names, sprites=(thing,))
        for number, (length, names, thing) in enumerate(zip(lengths, places, objects, strict=True))
    )
    script = Script(shots, (Join(), Join("dissolve", dissolve)), size, FRAME_RATE)
    return SensorNoise(seed, sigma=sigma, shot=sigma)(Clip.of(script, "gate"))


def write_video(
    path: Path, frames: Iterable[Frame], size: Size, *, crf: int = 23, preset: str = "veryfast", threads: int = 1
) -> Iterator[int]:
    """Write frames to an H.264 MP4, 4:2:0, BT.709, limited range; gives the number of each frame once it is written.

    Nothing is written until the iterator is used; the file is complete when it is exhausted.

    Raises:
        ValueError: An odd width or height, which 4:2:0 cannot have.
    """
    width, height = size
    if width % 2 or height % 2:
        raise ValueError(f"a 4:2:0 video needs an even width and height, not {width}x{height}")
    options = {"crf": str(crf), "preset": preset, "threads": str(threads)}
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=FRAME_RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.time_base = Fraction(1, FRAME_RATE)
        context.colorspace = Colorspace.ITU709
        context.color_range = ColorRange.MPEG
        context.color_primaries = context.color_trc = BT709
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            coded = picture.reformat(
                format="yuv420p",
                src_color_range=ColorRange.JPEG,
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
            )
            coded.pts, coded.time_base = number, context.time_base
            container.mux(stream.encode(coded))
            yield number
        container.mux(stream.encode(None))


def truth(clip: Clip) -> dict[str, Any]:
    """What is known of a clip, as plain data for JSON."""
    return {
        "frames": clip.frames,
        "frame_rate": FRAME_RATE,
        "width": clip.size[0],
        "height": clip.size[1],
        "transitions": [
            {"kind": change.kind, "first": change.first, "last": change.last} for change in clip.transitions
        ],
    }


def write_truth(path: Path, clip: Clip) -> None:
    """Write `truth(clip)` as JSON."""
    path.write_text(json.dumps(truth(clip), indent=2) + "\n", encoding="utf-8")
