"""`vsdk bench`: measurements of this machine with a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from .bench_drift import EXAMPLES as DRIFT_EXAMPLES
from .bench_drift import drift
from .bench_memory import EXAMPLES as MEMORY_EXAMPLES
from .bench_memory import memory
from .bench_niavh import EXAMPLES as NIAVH_EXAMPLES
from .bench_niavh import niavh
from .bench_streams import EXAMPLES as STREAMS_EXAMPLES
from .bench_streams import streams
from .bench_track import EXAMPLES as TRACK_EXAMPLES
from .bench_track import track
from .console import examples, stdout
from .measuring import progress_bar, write_figures
from .options import PrecisionName

if TYPE_CHECKING:
    from vsdk_runtimes import Precision

    from ..bench.speed import SpeedReport, Timing

EXAMPLES = examples(
    ("vsdk bench speed", "The model that ships with vsdk, on a rendered clip."),
    ("vsdk bench speed clip-bundle --source video.mp4 --json speed.json", "Your bundle and your video, all figures."),
    ("taskset -c 0,1 vsdk bench speed", "As on a machine with two cores."),
    ("vsdk bench speed clip-bundle --against openai/clip-vit-base-patch32", "Beside PyTorch, each precision."),
)

app = typer.Typer(help="Measure this machine with a bundle.", no_args_is_help=True)


@app.callback()
def _bench() -> None:
    """Measure this machine with a bundle."""


@app.command("speed", epilog=EXAMPLES)
def speed(
    bundle: Annotated[
        Path | None, typer.Argument(help="Bundle folder; by default the model that ships with vsdk.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="A video file or a folder of images; by default a rendered clip.")
    ] = None,
    frames: Annotated[int, typer.Option(min=8, help="How many of its frames to use.")] = 200,
    rounds: Annotated[int, typer.Option(min=5, help="How often to measure everything.")] = 20,
    precision: Annotated[
        PrecisionName | None, typer.Option(help="By default the bundle's.", show_default=False)
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            help="Checkpoint that the bundle came from: measures it beside PyTorch, which must be installed.",
            metavar="CHECKPOINT",
            show_default=False,
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="With --against: cpu or cuda.")] = "cpu",
    compiled: Annotated[bool, typer.Option("--compile/--no-compile", help="With --against: torch.compile too.")] = True,
    json: Annotated[Path | None, typer.Option(help="Write all figures to this file.", metavar="FILE")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="With --against: draw the ratios into this PNG.", metavar="FILE")
    ] = None,
) -> None:
    """Measure every stage alone and the stream end to end.

    Each contender has one thread; rounds are interleaved. The ideal is the smaller of the slowest stage's rate and
    cores / sum of the stages' seconds a frame. With --against each component is measured beside PyTorch instead.
    """
    from ..bench.speed import measure_speed
    from ..loading import load

    loaded = load(bundle)
    chosen: Precision | None = precision.value if precision is not None else None
    if against is not None:
        from .bench_against import against as measure_against

        measure_against(
            loaded, against, source=source, rounds=rounds, precision=chosen, device=device, compiled=compiled,
            json=json, plot=plot,
        )  # fmt: skip
        return
    if plot is not None or device != "cpu":
        raise typer.BadParameter("--plot and --device go with --against")
    with progress_bar() as progress:
        report = measure_speed(
            loaded,
            source,
            frames=frames,
            rounds=rounds,
            precision=chosen,
            progress=progress,
        )
    _show(report)
    write_figures(report, json)


app.command("niavh", epilog=NIAVH_EXAMPLES)(niavh)
app.command("memory", epilog=MEMORY_EXAMPLES)(memory)
app.command("drift", epilog=DRIFT_EXAMPLES)(drift)
app.command("track", epilog=TRACK_EXAMPLES)(track)
app.command("streams", epilog=STREAMS_EXAMPLES)(streams)


def _show(report: SpeedReport) -> None:
    table = Table("", "ms a frame, median", "minimum", "frames/s, median", "best")
    for column in table.columns[1:]:
        column.justify = "right"

    def add(name: str, timing: Timing) -> None:
        rates = (f"{1 / timing.median:.0f}", f"{1 / timing.best:.0f}")
        table.add_row(name, f"{timing.median * 1e3:.3f}", f"{timing.best * 1e3:.3f}", *rates)

    for name, timing in report.stages.items():
        add(name, timing)
    table.add_section()
    add("end to end, every frame", report.every_frame)
    add(f"end to end, gated ({100 * report.encoded:.0f} % encoded)", report.gated)
    if report.still is not None:
        add(f"end to end, gated, still camera ({100 * report.still_encoded:.0f} % encoded)", report.still)
    stdout.print(f"{report.bundle} ({report.engine}) on {report.source}", markup=False, highlight=False)
    stdout.print(
        f"{report.frames} frames of {report.width}x{report.height}, {report.rounds} rounds, {report.cores} cores, "
        f"load average before the start {report.load:.2f}",
        highlight=False,
    )
    stdout.print(table)
    stdout.print(
        f"ideal {report.ideal():.0f} frames/s (medians); end to end reaches {100 * report.share():.0f} % of it, "
        f"and {100 * report.share(lambda timing: timing.best):.0f} % by the best rounds",
        highlight=False,
    )
    if report.busy:
        stdout.print(
            "The machine was too busy before the start for these figures to mean much: measure again when it is idle.",
            style="bold yellow",
        )
