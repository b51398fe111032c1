"""`vsdk bench drift`: how far a memory or a tracker of lower precision strays from fp32."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from .console import examples, stdout
from .measuring import progress_bar, write_figures, write_picture
from .options import PrecisionName

if TYPE_CHECKING:
    from vsdk_runtimes import Bundle

EXAMPLES = examples(
    ("vsdk bench drift", "The int8 memory of the model that ships with vsdk, over 200 segments."),
    ("vsdk bench drift my-bundle --precision fp16 --png drift.png", "Another bundle and precision, and a picture."),
    ("vsdk bench drift --tracker --sequences 10", "The int8 tracker, over 200 frames of ten rendered sequences."),
)
ROWS = (1, 10, 50, 100, 200, 500, 1000)


def drift(
    bundle: Annotated[
        Path | None, typer.Argument(help="Bundle folder; by default the model that ships with vsdk.")
    ] = None,
    tracker: Annotated[bool, typer.Option("--tracker", help="Compare the tracker instead of the memory.")] = False,
    precision: Annotated[PrecisionName, typer.Option(help="What is compared with fp32.")] = PrecisionName.INT8,
    segments: Annotated[int, typer.Option(min=1, help="Segments to read, or frames to track.")] = 200,
    sequences: Annotated[
        int | None, typer.Option(min=1, help="With --tracker: how many sequences (5).", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn.")] = 0,
    json: Annotated[Path | None, typer.Option(help="Write all figures to this file.", metavar="FILE")] = None,
    png: Annotated[Path | None, typer.Option(help="Draw the curve (PNG).", metavar="FILE")] = None,
) -> None:
    """Compare the memory, or the tracker, at a lower precision with fp32: the same video, each on its own state."""
    if sequences is not None and not tracker:
        raise typer.BadParameter("--sequences goes with --tracker; a memory reads one drawn video")
    from ..loading import load

    loaded = load(bundle)
    if tracker:
        _tracker(loaded, precision, segments, 5 if sequences is None else sequences, seed, json, png)
    else:
        _memory(loaded, precision, segments, seed, json, png)


def _memory(
    bundle: Bundle, precision: PrecisionName, segments: int, seed: int, json: Path | None, png: Path | None
) -> None:
    from ..bench.drift import measure_drift

    with progress_bar() as progress:
        report = measure_drift(bundle, precision=precision.value, segments=segments, seed=seed, progress=progress)
    table = _table("segments", "mean cosine", "furthest token")
    for number in _rows(segments):
        table.add_row(f"{number:,}", f"{report.cosine[number - 1]:.5f}", f"{report.worst[number - 1]:.5f}")
    stdout.print(f"{report.bundle}: memory tokens at {report.precision} against fp32", markup=False, highlight=False)
    stdout.print(table)
    write_figures(report, json)
    write_picture(report.chart, png)


def _tracker(
    bundle: Bundle, precision: PrecisionName, frames: int, sequences: int, seed: int, json: Path | None,
    png: Path | None,
) -> None:  # fmt: skip
    from ..bench.tracker_drift import measure_tracker_drift

    with progress_bar() as progress:
        report = measure_tracker_drift(
            bundle, precision=precision.value, frames=frames, sequences=sequences, seed=seed, progress=progress
        )
    table = _table("frames", f"{report.precision} and fp32", "fp32 and truth", f"{report.precision} and truth")
    for number in _rows(frames):
        means = (sum(part[:number]) / number for part in (report.agreement, report.true, report.true_lower))
        table.add_row(f"{number:,}", *(f"{mean:.4f}" for mean in means))
    stdout.print(
        f"{report.bundle}: intersection over union of masks, mean up to each frame, over {sequences} sequences",
        markup=False,
        highlight=False,
    )
    stdout.print(table)
    write_figures(report, json)
    write_picture(report.chart, png)


def _table(*columns: str) -> Table:
    table = Table(*columns)
    for column in table.columns:
        column.justify = "right"
    return table


def _rows(count: int) -> list[int]:
    return sorted({*(row for row in ROWS if row <= count), count})
