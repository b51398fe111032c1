"""`vsdk bench speed --against`: a bundle beside the checkpoint that it came from. Needs the build side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from .console import stdout
from .measuring import progress_bar, write_figures, write_picture

if TYPE_CHECKING:
    from vsdk_runtimes import Bundle, Precision

_OPERATORS = 12
"""How many operators of a graph are shown."""


def against(
    bundle: Bundle,
    checkpoint: str,
    *,
    source: str | None,
    rounds: int,
    precision: Precision | None,
    device: str,
    compiled: bool,
    json: Path | None,
    plot: Path | None,
) -> None:
    """Measure, show the table, and write what was asked for.

    Raises:
        ExportError: The libraries of the build side are not installed, or PyTorch cannot run the checkpoint.
    """
    speed, picture = _build_side()
    with progress_bar() as progress:
        report = speed.measure_against(
            bundle, checkpoint, precisions=() if precision is None else (precision,), device=device, rounds=rounds,
            compiled=compiled, source=source, progress=progress,
        )  # fmt: skip
    _show(report)
    write_figures(report, json)
    write_picture(lambda: picture.picture_of(report), plot)


def _build_side() -> tuple[Any, Any]:
    try:
        from vsdk_export import speed
        from vsdk_export.speed import picture
    except ImportError as error:
        from vsdk_runtimes.errors import ExportError

        raise ExportError(
            f"--against runs PyTorch, and the libraries of the build side are not all installed: {error}",
            hint="Install them: pip install 'vsdk[export]'; without --against the bundle alone is measured.",
        ) from error
    return speed, picture


def _show(report: Any) -> None:
    stdout.print(f"{report.bundle} beside {report.checkpoint} on {report.device}", markup=False, highlight=False)
    stdout.print(
        f"{report.threads} thread(s) each, in turn; {len(report.rows[0].wall.seconds)} runs; {report.cores} cores, "
        f"load average {report.load_before:.2f} before, {report.load_after:.2f} after",
        highlight=False,
    )
    stdout.print(_times(report))
    for name, why in report.skipped.items():
        stdout.print(f"not measured: {name}: {why}", markup=False, highlight=False, style="yellow")
    for component, by_precision in report.nodes.items():
        if by_precision:
            stdout.print(_nodes(component, by_precision))
    ceilings = ", ".join(
        f"{value / 1e9:.0f} GB/s copied" if name == "copy" else f"{value / 1e9:.0f} GFLOP/s in {name}"
        for name, value in report.ceilings.items()
    )
    stdout.print(f"measured ceilings of {report.device}, one product of matrices and one copy: {ceilings}")
    if report.busy:
        stdout.print(
            "The machine was too busy before the start for times on the wall to mean much. Those of the processor say "
            "more; measure again when it is idle.",
            style="bold yellow",
        )


def _times(report: Any) -> Table:
    table = Table(
        "", "contender", "ms min", "median", "p95", "frames/s", "ratio min", "median", "processor ms min", "ratio",
        "MB", "GPU MB", "of ceiling", "error", "cosine",
    )  # fmt: skip
    for column in table.columns[2:]:
        column.justify = "right"
    for component in report.components():
        for number, row in enumerate(report.of(component)):
            wall, error = row.wall, row.error
            table.add_row(
                component if number == 0 else "",
                row.contender,
                f"{1e3 * wall.least:.2f}",
                f"{1e3 * wall.median:.2f}",
                f"{1e3 * wall.p95:.2f}",
                f"{1 / wall.median:.1f}",
                f"{report.ratio(row):.2f}",
                f"{report.ratio(row, 'wall', 'median'):.2f}",
                f"{1e3 * row.processor.least:.2f}",
                f"{report.ratio(row, 'processor'):.2f}",
                f"{row.resident / 1e6:.0f}",
                "" if row.device_bytes is None else f"{row.device_bytes / 1e6:.0f}",
                "" if row.ceiling is None else f"{row.ceiling:.0%}",
                "" if error is None else f"{error.relative:.2g}",
                "" if error is None else f"{error.cosine:.6f}",
            )
        table.add_section()
    return table


def _nodes(component: str, by_precision: dict[str, list[Any]]) -> Table:
    """Operators of all precisions side by side, those first that cost most in any."""
    found = {
        precision: {item.operator: item for item in items} for precision, items in by_precision.items()
    }  # fmt: skip
    operators = sorted(
        {name for items in found.values() for name in items},
        key=lambda name: -max(items[name].milliseconds for items in found.values() if name in items),
    )
    table = Table(f"{component}: ms by operator", *found, title="ONNX Runtime, one thread, each node at its fastest")
    for column in table.columns[1:]:
        column.justify = "right"
    for operator in operators[:_OPERATORS]:
        cells = [
            f"{items[operator].milliseconds:.2f} ({items[operator].nodes})" if operator in items else ""
            for items in found.values()
        ]
        table.add_row(operator, *cells)
    rest = [
        sum(items[name].milliseconds for name in operators[_OPERATORS:] if name in items) for items in found.values()
    ]
    table.add_row("others", *(f"{value:.2f}" for value in rest))
    table.add_section()
    table.add_row("all", *(f"{sum(item.milliseconds for item in items.values()):.2f}" for items in found.values()))
    return table
