"""`vsdk track`: objects that are pointed out on one frame are followed through a video."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from . import prompting
from .console import examples, stderr
from .frame_progress import FrameProgress
from .kept import Kept
from .options import (
    BundleFolder,
    DeviceName,
    EngineName,
    JsonLinesFile,
    Precision,
    Quiet,
    RawFrames,
    SourceName,
    Threads,
    Verify,
)
from .outputs import refuse_collisions, show_written

if TYPE_CHECKING:
    from ..events import End, Mask
    from ..sinks.base import Sink

EXAMPLES = examples(
    ("vsdk track video.mp4 --box 40,60,120,200 --video out.mp4", "Follow what is in the box on the first frame."),
    ("vsdk track video.mp4 --point 80,130 --negative 60,190", "A click on the object, and one beside it."),
    ("vsdk track video.mp4 --box 40,60,120,200 --box 300,80,360,220", "Two objects: 1 and 2."),
    ("vsdk track video.mp4 --mask mask.png --at 25 --jsonl -", "A mask for frame 25; masks as JSON lines."),
    ("vsdk track monday.mp4 --box 40,60,120,200 --state cup.tracker", "Remember the object when the video ends ..."),
    ("vsdk track tuesday.mp4 --state cup.tracker", "... and go on following it."),
)
ROWS = 30
"""Most objects that the closing table shows."""


def track(
    source: SourceName,
    bundle: BundleFolder = None,
    box: Annotated[
        list[str] | None,
        typer.Option(help="A box around an object, in pixels; may be repeated.", metavar="X0,Y0,X1,Y1"),
    ] = None,
    point: Annotated[
        list[str] | None, typer.Option(help="A place on the object; may be repeated.", metavar="X,Y")
    ] = None,
    negative: Annotated[
        list[str] | None, typer.Option(help="A place that is not on the object; may be repeated.", metavar="X,Y")
    ] = None,
    mask: Annotated[
        list[Path] | None,
        typer.Option(
            help="A picture as large as a frame, not black where an object is; may be repeated.", metavar="FILE"
        ),
    ] = None,
    at: Annotated[int, typer.Option(min=0, help="The frame that is prompted, and where tracking begins.")] = 0,
    jsonl: JsonLinesFile = None,
    video: Annotated[Path | None, typer.Option(help="Write a video with the masks (MP4).", metavar="FILE")] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            help="Go on with the objects saved here, if there are any; save them every minute and at the end.",
            metavar="FILE",
        ),
    ] = None,
    device: DeviceName = "cpu",
    engine: EngineName = "onnxruntime",
    precision: Precision = None,
    threads: Threads = None,
    raw: RawFrames = None,
    verify: Verify = False,
    quiet: Quiet = False,
) -> None:
    """Follow objects through a video.

    Each --box is an object, then each --mask; they are numbered 1, 2, ... in this order. Points say more of the one
    object that has a box; without boxes and masks, all points together are one object.
    """
    from ..loading import load
    from ..memory.state_file import check_state_target
    from ..sources.opening import open_source
    from ..tracking.tracked_stream import TrackedStream
    from ..tracking.tracker import Tracker

    asked = prompting.parse(box or [], point or [], negative or [], mask or [])
    prompting.check_with_state(asked, state)
    outputs = (jsonl, video, state)
    refuse_collisions(source, [*outputs, *(mask or [])])
    loaded = load(bundle, verify=verify)
    if state is not None:
        check_state_target(state)
    prompts = asked.read()
    frames = open_source(source, threads=threads, raw=raw)
    summary = _Summary()
    progress = FrameProgress(frames.info.name, frames.info.frame_count, "objects in sight", disable=quiet)
    with contextlib.ExitStack() as opened:
        opened.callback(frames.close)
        tracker = opened.enter_context(
            Tracker(
                loaded,
                device=device,
                engine=engine,
                precision=precision.value if precision is not None else None,
                threads=threads,
            )
        )
        if state is not None and state.exists():
            tracker.restore(state)
        kept = Kept(state, tracker.save, wanted=lambda: bool(tracker.object_ids))
        sinks = _open_sinks(opened, jsonl, video)
        stream = TrackedStream(
            frames, tracker, prompts, at=at, sinks=sinks, on_frame=lambda frame: progress.take(summary.in_sight)
        )
        opened.pop_all()  # from here on the stream owns the source, the tracker and the sinks
    with progress, stream, kept:
        for event in stream:
            if event.type == "mask":
                summary.add(event)
                kept.save_now_and_then()
            elif event.type == "end":
                summary.end = event
                progress.finish(summary.in_sight)
    if not quiet:
        summary.show(progress.seconds)
        show_written(outputs)


def _open_sinks(opened: contextlib.ExitStack, jsonl: str | None, video: Path | None) -> list[Sink]:
    """The sinks asked for, each of which `opened` closes if the next one fails."""
    sinks: list[Sink] = []
    if jsonl is not None:
        from ..sinks.jsonl import JsonLines

        sinks.append(opened.enter_context(JsonLines(jsonl)))
    if video is not None:
        from ..sinks.tracked_video import TrackedVideo

        sinks.append(opened.enter_context(TrackedVideo(video)))
    return sinks


class _Summary:
    """What the bar and the closing table say, and none of the masks."""

    def __init__(self) -> None:
        self.end: End | None = None
        self._frame = -1
        self._present: set[int] = set()
        self._frames: dict[int, int] = {}
        self._scores: dict[int, float] = {}

    @property
    def in_sight(self) -> int:
        """How many objects are present on the newest frame."""
        return len(self._present)

    def add(self, mask: Mask) -> None:
        """Count an object on a frame."""
        if mask.frame != self._frame:
            self._frame = mask.frame
            self._present.clear()
        self._frames.setdefault(mask.object, 0)
        if mask.present:
            self._present.add(mask.object)
            self._frames[mask.object] += 1
            self._scores[mask.object] = self._scores.get(mask.object, 0.0) + mask.score

    def show(self, seconds: float) -> None:
        """Print the table and a line with the counts."""
        if self.end is None:
            return
        table = Table("object", "frames in sight", "of all", "mean score")
        for column in table.columns:
            column.justify = "right"
        for number, frames in list(self._frames.items())[:ROWS]:
            score = f"{self._scores[number] / frames:.2f}" if frames else ""
            table.add_row(str(number), str(frames), f"{100 * frames / max(self.end.encoded, 1):.0f} %", score)
        if len(self._frames) > ROWS:
            table.add_row("...", f"{len(self._frames) - ROWS} more objects", "", "")
        stderr.print(table)
        skipped = f"; {self.end.decode_errors} damaged pictures skipped" if self.end.decode_errors else ""
        stderr.print(
            f"{len(self._frames)} objects followed through {self.end.encoded} of {self.end.frames} frames, "
            f"{seconds:.1f} s ({self.end.frames / seconds:.1f} frames/s){skipped}",
            highlight=False,
        )
