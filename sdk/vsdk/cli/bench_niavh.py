"""`vsdk bench niavh`: what the memory remembers, and how much of it the controls do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from .console import examples, stdout
from .measuring import progress_bar, write_figures, write_picture
from .options import PrecisionName

if TYPE_CHECKING:
    from ..bench.niavh_report import NiavhReport, Rate

EXAMPLES = examples(
    ("vsdk bench niavh --png niavh.png", "The model that ships with vsdk, on drawn videos; a heat-map of the answers."),
    ("vsdk bench niavh --haystack street.mp4 --trials 4", "Half of the videos from a file, four needles in each cell."),
    ("vsdk bench niavh --grid 10x4", "A quick look."),
)

NAMES = {
    "memory": "memory",
    "no_retrieval": "bridge without retrieval",
    "last_n": "last {window} frames",
    "mean": "{window} running means",
}


def niavh(
    bundle: Annotated[
        Path | None, typer.Option(help="Bundle folder; by default the model that ships with vsdk.", show_default=False)
    ] = None,
    grid: Annotated[str, typer.Option(help="How many lengths (1 to 320 s) x how many depths (0 to 100 %).")] = "40x12",
    trials: Annotated[int, typer.Option(min=1, help="Needles in each cell of the grid.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Another one gives other needles and other videos.")] = 0,
    haystack: Annotated[
        Path | None, typer.Option(help="A video file from which half of the videos are taken.", metavar="FILE")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Most threads; by default all cores.")] = None,
    precision: Annotated[
        PrecisionName | None, typer.Option(help="Of the bridge; by default the bundle's.", show_default=False)
    ] = None,
    encoder_precision: Annotated[
        PrecisionName | None, typer.Option(help="Of the encoder; by default the bundle's.", show_default=False)
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write all figures to this file.", metavar="FILE")] = None,
    png: Annotated[Path | None, typer.Option(help="Draw the answers as heat-maps (PNG).", metavar="FILE")] = None,
) -> None:
    """Hide needles in long videos and ask the memory for them at the end.

    A needle is shown once, for one second. Beside the memory, the same is asked of the last frames and of running means
    that take as many floats, and of the bridge without retrieval.
    """
    size = _grid(grid)
    from ..bench.niavh import measure_niavh
    from ..bench.niavh_picture import picture_of
    from ..loading import load

    loaded = load(bundle)
    with progress_bar() as progress:
        report = measure_niavh(
            loaded,
            grid=size,
            trials=trials,
            seed=seed,
            haystack=haystack,
            threads=threads,
            precision=precision.value if precision is not None else None,
            encoder_precision=encoder_precision.value if encoder_precision is not None else None,
            progress=progress,
        )
    _show(report)
    write_figures(report, json)
    write_picture(lambda: picture_of(report), png)


def _grid(text: str) -> tuple[int, int]:
    columns, _, rows = text.partition("x")
    if not (columns.isdecimal() and rows.isdecimal() and int(columns) and int(rows)):
        raise typer.BadParameter(f"{text!r} is not a number of lengths x a number of depths, such as 40x12")
    return int(columns), int(rows)


def _show(report: NiavhReport) -> None:
    table = Table("", "right", "95 % bounds", "needles", "floats kept")
    for column in table.columns[1:]:
        column.justify = "right"

    def add(name: str, rate: Rate, floats: str = "") -> None:
        low, high = rate.bounds
        share = f"{100 * rate.accuracy:.1f} %" if rate.of else "none tried"
        table.add_row(name, share, f"{100 * low:.1f} to {100 * high:.1f}", str(rate.of), floats)

    for name, title in NAMES.items():
        add(title.format(window=report.window), report.rate(name), f"{report.floats[name]:,}")
    table.add_section()
    add(f"last {report.window} frames, needle before them", report.last_n_outside)
    add(f"memory names when, to {report.when_seconds:g} s", report.when)
    stdout.print(f"{report.bundle} ({report.engine}); videos: {report.haystack}", markup=False, highlight=False)
    stdout.print(table)
    stdout.print(
        f"{report.classes} kinds of needle (a guess is right in {100 * report.chance:.1f} %), videos of "
        f"{min(report.lengths)} to {max(report.lengths)} s, the longest in training {report.trained_length} s; "
        f"with or without a needle: AUROC {report.no_needle_auroc:.3f}",
        highlight=False,
    )
