"""`vsdk bench memory`: what a step of the memory costs, early and late."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from .console import examples, size, stdout
from .measuring import progress_bar, write_figures, write_picture
from .options import PrecisionName

if TYPE_CHECKING:
    from ..bench.memory import MemoryReport

EXAMPLES = examples(
    ("vsdk bench memory", "The memory of the model that ships with vsdk, up to 1,000 segments."),
    ("vsdk bench memory my-bundle --segments 100000 --png memory.png", "A longer life, and a picture of it."),
)


def memory(
    bundle: Annotated[
        Path | None, typer.Argument(help="Bundle folder; by default the model that ships with vsdk.")
    ] = None,
    segments: Annotated[int, typer.Option(min=100, help="How many segments to read.")] = 1000,
    rounds: Annotated[int, typer.Option(min=5, help="How often to measure everything.")] = 20,
    precision: Annotated[
        PrecisionName | None, typer.Option(help="By default the bundle's.", show_default=False)
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write all figures to this file.", metavar="FILE")] = None,
    png: Annotated[Path | None, typer.Option(help="Draw the figures (PNG).", metavar="FILE")] = None,
) -> None:
    """Measure a step of the memory after 10 segments and after many, next to a cache that grows.

    The growing cache is the published model's, which projects all its memories again at every step; it runs in NumPy.
    """
    for library in ("OMP", "OPENBLAS", "MKL"):  # read when NumPy is imported: one thread for each contender
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    from ..bench.memory import measure_memory
    from ..loading import load

    loaded = load(bundle)
    with progress_bar() as progress:
        report = measure_memory(
            loaded,
            segments=segments,
            rounds=rounds,
            precision=precision.value if precision is not None else None,
            progress=progress,
        )
    _show(report)
    write_figures(report, json)
    write_picture(report.chart, png)


def _show(report: MemoryReport) -> None:
    table = Table("segments", "step", "state", "growing cache: read", "its size")
    for column in table.columns:
        column.justify = "right"
    for moment in report.moments:
        growing = f"{1e3 * min(moment.growing):.3f} ms" if moment.growing else "not measured"
        table.add_row(
            f"{moment.segment:,}",
            f"{1e3 * min(moment.step):.3f} ms",
            size(moment.step_bytes),
            growing,
            size(moment.growing_bytes),
        )
    stdout.print(f"{report.bundle} ({report.engine}), {report.capacity} slots", markup=False, highlight=False)
    stdout.print(table)
    stdout.print(
        f"fastest of {len(report.moments[0].step)} rounds, one thread; the fastest steps are "
        f"{100 * report.spread:.1f} % apart; load average before the start {report.load:.2f}",
        highlight=False,
    )
    if report.busy:
        stdout.print(
            "The machine was too busy before the start for these figures to mean much: measure again when it is idle.",
            style="bold yellow",
        )
