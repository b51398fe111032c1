"""`vsdk run`: a video becomes scenes."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from . import live_options, operations, remembering
from .console import examples, stderr
from .frame_progress import FrameProgress
from .live_status import LiveStatus
from .options import (
    BundleFolder,
    DeviceName,
    EngineName,
    JsonLinesFile,
    Precision,
    Quiet,
    RawFrames,
    SourceNames,
    StreamNames,
    Threads,
    Verify,
)
from .outputs import refuse_collisions, show_written
from .run_outputs import Outputs
from .run_several import Several, run_several

if TYPE_CHECKING:
    from vsdk_runtimes import Bundle

    from ..events import End, Scene
    from ..gate import GateSettings
    from ..sources.base import Source
    from ..sources.live_settings import LiveSettings

EXAMPLES = examples(
    ("vsdk run video.mp4", "Find the scenes of a video with the model that ships with vsdk."),
    ("vsdk run video.mp4 --jsonl events.jsonl --sheet scenes.png", "Keep the events, and one picture a scene."),
    ("vsdk run pictures/ --bundle clip-bundle --features cls.npz", "A folder of images, your own bundle, its vectors."),
    ("vsdk run video.mp4 --jsonl - --quiet | jq .", "Events to another program."),
    ("vsdk run video.mp4 --jsonl events.jsonl --jsonl-rotate 1d,keep=30", "A file a day, of the last month."),
    ("vsdk run rtsp://10.0.0.7/main --jsonl -", "A camera, until Ctrl-C; its name and password go before the host."),
    ("my-camera --bgr | vsdk run - --raw 1280x720:bgr24@30", "Frames from another program, here without a container."),
    ("vsdk run rtsp://10.0.0.7/main rtsp://10.0.0.8/main --name door --name yard --jsonl -", "Two cameras at once."),
    ("vsdk run *.mp4 --jsonl '{stream}.jsonl' --sheet '{stream}.png'", "Several files, each with outputs of its own."),
    ("vsdk run monday.mp4 --memory-state camera.memory", "Remember; a later run with the same file goes on from it."),
)
ROWS = 30
"""Most scenes that the closing table shows."""


def run(
    sources: SourceNames,
    name: StreamNames = None,
    bundle: BundleFolder = None,
    jsonl: JsonLinesFile = None,
    jsonl_rotate: operations.JsonLinesRotation = None,
    metrics: operations.MetricsAddress = None,
    mqtt: operations.MqttUrl = None,
    sheet: Annotated[
        Path | None, typer.Option(help="Write a contact sheet, one picture a scene (PNG).", metavar="FILE")
    ] = None,
    video: Annotated[Path | None, typer.Option(help="Write an annotated video (MP4).", metavar="FILE")] = None,
    features: Annotated[
        Path | None, typer.Option(help="Write every frame's class token (NPZ).", metavar="FILE")
    ] = None,
    device: DeviceName = "cpu",
    engine: EngineName = "onnxruntime",
    precision: Precision = None,
    threads: Threads = None,
    gate: Annotated[
        bool, typer.Option("--gate/--no-gate", help="Skip the encoder while the picture does not change.")
    ] = True,
    memory: Annotated[
        bool, typer.Option("--memory/--no-memory", help="Remember scenes, where the bundle has a memory.")
    ] = True,
    memory_state: Annotated[
        Path | None,
        typer.Option(
            help="Go on from the memory saved here, if there is one; save it every minute and at the end.",
            metavar="FILE",
        ),
    ] = None,
    raw: RawFrames = None,
    verify: Verify = False,
    transport: live_options.Transport = None,
    policy: live_options.Policy = None,
    max_fps: live_options.MaxFps = None,
    connect_timeout: live_options.ConnectTimeout = None,
    read_timeout: live_options.ReadTimeout = None,
    reconnect_for: live_options.ReconnectFor = None,
    no_reconnect: live_options.NoReconnect = False,
    no_verify_tls: live_options.NoVerifyTls = False,
    stats_every: live_options.StatsEvery = None,
    quiet: Quiet = False,
) -> None:
    """Find the scenes of a video, or of a live source until Ctrl-C; or of several at once.

    Without any output file the scenes are only shown as a table. With several sources, each line of the events names
    its stream, and {stream} in the name of a file stands for the stream's name.
    """
    from ..loading import load
    from ..memory.memory import MemorySettings
    from ..stream import Stream

    if memory_state is not None and not memory:
        raise typer.BadParameter("--memory-state needs the memory; leave out --no-memory")
    asked = operations.Asked.check(jsonl, jsonl_rotate, metrics, mqtt)
    live = live_options.live_settings(
        transport=transport,
        policy=policy,
        max_fps=max_fps,
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        reconnect_for=reconnect_for,
        no_reconnect=no_reconnect,
        no_verify_tls=no_verify_tls,
    )
    outputs = Outputs(jsonl, sheet, video, features, memory_state)
    several: Several | None = None
    if name or len(sources) > 1:
        several = Several(sources, name or (), outputs, asked, live, raw, quiet)
        several.check()
    else:
        refuse_collisions(sources, outputs.all)
    loaded = load(bundle, verify=verify)
    settings: dict[str, Any] = {
        "device": device,
        "engine": engine,
        "precision": precision.value if precision is not None else None,
        "threads": threads,
        "gate": None if gate else _always_open(loaded),
        "memory": MemorySettings() if memory_state is not None else memory,
        "stats_every": stats_every,
    }
    if several is not None:
        run_several(loaded, several, settings)
        return
    (source,) = sources
    if memory_state is not None:
        remembering.check_state(memory_state, loaded)
    frames = _open(source, threads, live, raw)
    summary = _Summary()
    progress: FrameProgress | LiveStatus
    if frames.info.live:
        progress = LiveStatus(frames, disable=quiet)
    else:
        progress = FrameProgress(frames.info.name, frames.info.frame_count, "scenes", disable=quiet)

    def taken(number: int, seconds: float) -> None:
        progress.take(summary.scenes)
        watchers.take_frame(number, seconds)

    with contextlib.ExitStack() as opened:
        opened.callback(frames.close)
        watchers = asked.open_watchers(opened, frames.info.name)
        sinks, on_features = outputs.open_sinks(opened, asked)
        stream = Stream(
            loaded,
            frames,
            sinks=[*sinks, *watchers.sinks],
            on_features=watchers.with_features(on_features),
            on_frame=taken,
            **settings,
        )
        opened.pop_all()  # from here on the stream owns the source and the sinks
    with progress, stream, remembering.KeptMemory(memory_state, stream.memory) as kept:
        for event in stream:
            if event.type == "scene":
                summary.add(event)
            elif event.type == "memory":
                kept.save_now_and_then()
            elif event.type == "end":
                summary.end = event
                progress.finish(summary.scenes)
            if isinstance(progress, LiveStatus):
                progress.tell(event)
    if not quiet:
        summary.show(progress.seconds)
        if stream.memory is not None:
            remembering.show(stream.memory)
        show_written(outputs.all)


def _open(source: str, threads: int | None, live: LiveSettings | None, raw: str | None) -> Source:
    from ..sources.opening import open_source

    opened = open_source(source, threads=threads, live=live, raw=raw)
    if live is not None and not opened.info.live:
        opened.close()
        raise typer.BadParameter(f"{opened.info.name} is not live, so options of live sources have no meaning")
    return opened


def _always_open(bundle: Bundle) -> GateSettings:
    """The bundle's own gate settings, but open for every frame."""
    from ..settings import gate_settings

    return replace(gate_settings(bundle), enabled=False)


class _Summary:
    """What the closing table says; holds the first scenes only, and none of their arrays."""

    def __init__(self) -> None:
        self.scenes = 0
        self.end: End | None = None
        self._rows: list[tuple[str, str, str, str]] = []

    def add(self, scene: Scene) -> None:
        """Count a scene."""
        from ..sinks.drawing import clock, duration

        self.scenes += 1
        if len(self._rows) < ROWS:
            times = f"{clock(scene.start)} - {clock(scene.end)}"
            frames = f"{scene.start_frame} - {scene.end_frame}"
            self._rows.append((str(scene.index), times, frames, duration(scene.end - scene.start)))

    def show(self, seconds: float) -> None:
        """Print the table and a line with the counts."""
        table = Table("scene", "time", "frames", "length")
        for column in table.columns:
            column.justify = "right"
        for row in self._rows:
            table.add_row(*row)
        if self.scenes > ROWS:
            table.add_row("...", f"{self.scenes - ROWS} more", "", "")
        stderr.print(table)
        if self.end is not None:
            share = 100 * self.end.encoded / max(self.end.frames, 1)
            skipped = f"; {self.end.decode_errors} damaged pictures skipped" if self.end.decode_errors else ""
            stderr.print(
                f"{self.end.scenes} scenes in {self.end.frames} frames, {seconds:.1f} s "
                f"({self.end.frames / seconds:.0f} frames/s); the encoder ran on {share:.0f} % of the frames{skipped}",
                highlight=False,
            )
