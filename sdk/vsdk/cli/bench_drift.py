"""`vsdk bench drift`: how far a memory of lower precision strays from fp32."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from .console import examples, stdout
from .measuring import progress_bar, write_figures, write_picture
from .options import PrecisionName

EXAMPLES = examples(
    ("vsdk bench drift", "The int8 memory of the model that ships with vsdk, over 200 segments."),
    ("vsdk bench drift my-bundle --precision fp16 --png drift.png", "Another bundle and precision, and a picture."),
)
ROWS = (1, 10, 50, 100, 200, 500, 1000)


def drift(
    bundle: Annotated[
        Path | None, typer.Argument(help="Bundle folder; by default the model that ships with vsdk.")
    ] = None,
    precision: Annotated[PrecisionName, typer.Option(help="Of the bridge that is compared.")] = PrecisionName.INT8,
    segments: Annotated[int, typer.Option(min=1, help="How many segments to read.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the drawn video.")] = 0,
    json: Annotated[Path | None, typer.Option(help="Write all figures to this file.", metavar="FILE")] = None,
    png: Annotated[Path | None, typer.Option(help="Draw the curve (PNG).", metavar="FILE")] = None,
) -> None:
    """Compare the memory at a lower precision with fp32 over the same long video, each on its own state."""
    from ..bench.drift import measure_drift
    from ..loading import load

    loaded = load(bundle)
    with progress_bar() as progress:
        report = measure_drift(
            loaded,
            precision=precision.value,
            segments=segments,
            seed=seed,
            progress=progress,
        )
    table = Table("segments", "mean cosine", "furthest token")
    for column in table.columns:
        column.justify = "right"
    for number in sorted({*(row for row in ROWS if row <= segments), segments}):
        table.add_row(f"{number:,}", f"{report.cosine[number - 1]:.5f}", f"{report.worst[number - 1]:.5f}")
    stdout.print(f"{report.bundle}: memory tokens at {report.precision} against fp32", markup=False, highlight=False)
    stdout.print(table)
    write_figures(report, json)
    write_picture(report.chart, png)
