"""`vsdk bench streams`: several cameras through one process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from .console import examples, stdout
from .measuring import progress_bar, write_figures
from .options import PrecisionName, Threads

if TYPE_CHECKING:
    from ..bench.streams import StreamsReport

EXAMPLES = examples(
    ("vsdk bench streams", "Four cameras of 1280x720 at 15 frames/s, with the model that ships with vsdk."),
    ("taskset -c 0,1 vsdk bench streams --seconds 120 --json streams.json", "As on a machine with two cores."),
    ("vsdk bench streams clip-bundle --cameras 2 --rate 5", "What your bundle keeps up with."),
)

SAYS = {
    "decode": "decoding",
    "convert": "conversion to RGB",
    "resize": "resizing",
    "gate": "gate, small pictures",
    "normalise": "normalising",
    "encode": "encoder",
    "scenes": "SceneTilling",
    "memory": "memory",
    "stream": "rest of the streams",
    "other": "consumer, supervisors",
    "helpers": "threads of the engine and of FFmpeg",
}


def streams(
    bundle: Annotated[
        Path | None, typer.Argument(help="Bundle folder; by default the model that ships with vsdk.")
    ] = None,
    cameras: Annotated[int, typer.Option(min=1, help="How many.")] = 4,
    rate: Annotated[float, typer.Option(min=0.1, max=1000, help="Frames a second of each.")] = 15.0,
    seconds: Annotated[float, typer.Option(min=10, help="How long to measure.")] = 60.0,
    precision: Annotated[
        PrecisionName | None, typer.Option(help="By default the bundle's.", show_default=False)
    ] = None,
    threads: Threads = None,
    json: Annotated[Path | None, typer.Option(help="Write all figures to this file.", metavar="FILE")] = None,
) -> None:
    """Measure several cameras through one process: frames, drops, latency, and where the time goes.

    A process of its own sends a rendered clip of 1280x720 over TCP, once for each camera. It runs on the same cores.
    """
    from ..bench.streams import measure_streams
    from ..loading import load

    loaded = load(bundle)
    with progress_bar() as progress:
        report = measure_streams(
            loaded,
            cameras=cameras,
            rate=rate,
            seconds=seconds,
            precision=precision.value if precision is not None else None,
            threads=threads,
            progress=progress,
        )
    _show(report)
    write_figures(report, json)


def _show(report: StreamsReport) -> None:
    stdout.print(f"{report.bundle} ({report.engine})", markup=False, highlight=False)
    stdout.print(
        f"{len(report.cameras)} cameras of {report.width}x{report.height} at {report.rate:g} frames/s for "
        f"{report.seconds:.0f} s, {report.cores} cores, load average before the start {report.load:.2f}",
        highlight=False,
    )
    stdout.print(_cameras(report))
    stdout.print(_parts(report))
    stdout.print(
        "Latency is from capture to the delivery of a frame's events: the median, and the 95th percentile of the worst "
        "5 seconds.",
        highlight=False,
    )
    if report.busy:
        stdout.print(
            "The machine was too busy before the start for these figures to mean much: measure again when it is idle.",
            style="bold yellow",
        )


def _cameras(report: StreamsReport) -> Table:
    table = Table("camera", "frames", "frames/s", "dropped", "encoded", "latency p50", "p95")
    for column in table.columns[1:]:
        column.justify = "right"
    for number, camera in enumerate(report.cameras, 1):
        table.add_row(
            str(number),
            str(camera.frames),
            f"{camera.frames_per_second:.2f}",
            str(camera.dropped),
            f"{100 * camera.encoded:.0f} %",
            f"{1000 * camera.latency_p50:.0f} ms",
            f"{1000 * camera.latency_p95:.0f} ms",
        )
    return table


def _parts(report: StreamsReport) -> Table:
    table = Table("where the time goes", "cores", "ms a frame", "share")
    for column in table.columns[1:]:
        column.justify = "right"
    total = sum(report.parts.values())
    rate = max(report.frames_per_second, 1e-9)
    for part, cores in report.parts.items():
        table.add_row(SAYS[part], f"{cores:.3f}", f"{1000 * cores / rate:.2f}", f"{100 * cores / total:.0f} %")
    table.add_section()
    table.add_row("all of vsdk", f"{total:.3f}", f"{1000 * total / rate:.2f}", "100 %")
    table.add_row("the sender", f"{report.sender:.3f}", f"{1000 * report.sender / rate:.2f}", "")
    return table
