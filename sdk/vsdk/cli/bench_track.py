"""`vsdk bench track`: how well a tracker follows objects, and how fast."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from .console import examples, stdout
from .measuring import progress_bar, write_figures, write_picture
from .options import PrecisionName

if TYPE_CHECKING:
    from ..bench.track_report import TrackReport
    from ..bench.track_sequence import TrackSequence

EXAMPLES = examples(
    ("vsdk bench track", "The model that ships with vsdk, on 30 rendered sequences."),
    ("vsdk bench track --rendered 5 --seed 7 --strip strip.png", "A quick look, at other sequences, with pictures."),
    ("vsdk bench track --davis DAVIS --json davis.json", "The validation set of DAVIS 2017, if you have it."),
    ("vsdk bench track --bundle my-tracker --threads 1", "Your bundle, on one thread."),
)
RENDERED = 30


def track(
    bundle: Annotated[
        Path | None, typer.Option(help="Bundle folder; by default the model that ships with vsdk.", show_default=False)
    ] = None,
    davis: Annotated[
        Path | None, typer.Option(help="A folder in the format of DAVIS 2017.", metavar="FOLDER", show_default=False)
    ] = None,
    davis_set: Annotated[
        str | None,
        typer.Option(help="Which of its sets; by default val, or all sequences.", metavar="NAME", show_default=False),
    ] = None,
    rendered: Annotated[
        int | None, typer.Option(min=1, help=f"How many rendered sequences ({RENDERED}).", show_default=False)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Another one renders other sequences (0).", show_default=False)
    ] = None,
    precision: Annotated[
        PrecisionName | None, typer.Option(help="By default the bundle's.", show_default=False)
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Most threads; by default all cores.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write all figures to this file.", metavar="FILE")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw J&F over frames (PNG).", metavar="FILE")] = None,
    strip: Annotated[Path | None, typer.Option(help="Draw frames with masks (PNG).", metavar="FILE")] = None,
) -> None:
    """Score a tracker on sequences with masks (J, F and J&F), and time it.

    Every object is prompted with its mask on the first frame, which does not count; nor does the last frame with
    --davis, as usual there. The first mask, left where it was, and a template that is looked for are scored beside it.
    """
    if davis is not None and (rendered is not None or seed is not None):
        raise typer.BadParameter("--davis and --rendered (or --seed) exclude each other")
    if davis is None and davis_set is not None:
        raise typer.BadParameter("--davis-set needs --davis")
    from ..bench.track import measure_track
    from ..bench.track_picture import strip_of
    from ..loading import load
    from ..tracking.tracker import Tracker

    loaded = load(bundle)
    sequences, source = _sequences(davis, davis_set, rendered or RENDERED, seed or 0)
    with Tracker(loaded, precision=precision.value if precision is not None else None, threads=threads) as tracker:
        with progress_bar() as progress:
            report = measure_track(tracker, sequences, source=source, progress=progress)
        _show(report)
        write_figures(report, json)
        write_picture(report.chart, plot)
        write_picture(lambda: strip_of(tracker, sequences, report), strip)


def _sequences(davis: Path | None, davis_set: str | None, rendered: int, seed: int) -> tuple[list[TrackSequence], str]:
    """The sequences, and what they are."""
    from ..bench.davis import davis_sequences
    from ..bench.rendered_sequences import rendered_sequences

    if davis is None:
        return [*rendered_sequences(rendered, seed)], f"{rendered} rendered sequences (seed {seed})"
    found = davis_sequences(davis, davis_set)
    return [*found], f"{len(found)} sequences of {davis.absolute().name}"


def _show(report: TrackReport) -> None:
    from ..bench.track_report import CONTENDERS

    table = Table("", "J", "F", "J&F")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, says in CONTENDERS.items():
        score = report.score(name)
        table.add_row(says, f"{score.j:.3f}", f"{score.f:.3f}", f"{score.jf:.3f}")
    stdout.print(f"{report.bundle} ({report.engine}) on {report.source}", markup=False, highlight=False)
    stdout.print(
        f"{report.objects} objects, {report.frames} frames, {report.cores} cores, "
        f"load average before the start {report.load:.2f}",
        highlight=False,
    )
    stdout.print(table)
    parts = ", ".join(f"{name} {1e3 * seconds:.1f}" for name, seconds in report.components.items())
    stdout.print(
        f"{report.fps:.1f} frames/s, median {1e3 * report.median_seconds:.1f} ms a frame; "
        f"{report.fps_of_components:.1f} if only the networks took time (ms, medians: {parts})",
        highlight=False,
    )
    if report.rss_mb_start is not None and report.rss_mb_end is not None:
        stdout.print(
            f"memory {report.rss_mb_start:.0f} MB after 100 frames, {report.rss_mb_end:.0f} MB at the end",
            highlight=False,
        )
    if report.busy:
        stdout.print(
            "The machine was too busy before the start for the speed to mean much: measure again when it is idle.",
            style="bold yellow",
        )
