"""The files that a command writes: which may be named, and what is said of them at the end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import typer

from .console import stderr

STANDARD_OUTPUT = "-"


def refuse_collisions(source: str | Sequence[str], outputs: Iterable[Path | str | None]) -> None:
    """An output may be neither a source itself nor another output: opening it would destroy what is there."""
    sources = [source] if isinstance(source, str) else source
    taken = {Path(each).resolve() for each in sources}
    for output in outputs:
        if output is None or output == STANDARD_OUTPUT:
            continue
        path = Path(output).resolve()
        if path in taken:
            raise typer.BadParameter(f"{output} is already a source or another output")
        taken.add(path)


def show_written(outputs: Iterable[Path | str | None]) -> None:
    """Print the names of the files."""
    for output in outputs:
        if output is not None and output != STANDARD_OUTPUT:
            stderr.print(f"written: {output}", markup=False, highlight=False, soft_wrap=True)
