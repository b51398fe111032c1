"""The files that a command writes: which may be named, and what is said of them at the end."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import typer

from .console import stderr

STANDARD_OUTPUT = "-"


def refuse_collisions(source: str, outputs: Iterable[Path | str | None]) -> None:
    """An output may be neither the source itself nor another output: opening it would destroy what is there."""
    taken = {Path(source).resolve()}
    for output in outputs:
        if output is None or output == STANDARD_OUTPUT:
            continue
        path = Path(output).resolve()
        if path in taken:
            raise typer.BadParameter(f"{output} is already the source or another output")
        taken.add(path)


def show_written(outputs: Iterable[Path | str | None]) -> None:
    """Print the names of the files."""
    for output in outputs:
        if output is not None and output != STANDARD_OUTPUT:
            stderr.print(f"written: {output}", markup=False, highlight=False, soft_wrap=True)
