"""`vsdk doctor`: what works on this machine, what is missing, and the command that installs it."""

from __future__ import annotations

import json as json_module
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from .console import examples, stdout

EXAMPLES = examples(
    ("vsdk doctor", "A table for people."),
    ("vsdk doctor --json", "The same for a bug report or a script; the exit status is 0 when the default works."),
)
_MARKS = {"ok": ("ok", "green"), "absent": ("not installed", "yellow"), "broken": ("BROKEN", "bold red")}


def doctor(json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False) -> None:
    """Show what this machine can run.

    Exits with 0 when the default works: decoding, and the model that ships with vsdk on the CPU.
    """
    from ..doctor import examine

    report = examine()
    if json:
        typer.echo(json_module.dumps({"works": report.works, "findings": [asdict(item) for item in report.findings]}))
    else:
        table = Table("what", "state", "found", "to get it")
        for item in report.findings:
            says, style = _MARKS[item.state]
            table.add_row(Text(item.name), Text(says, style=style), Text(item.detail), Text(item.fix, overflow="fold"))
        stdout.print(table)
        stdout.print(
            "The default works: vsdk run VIDEO" if report.works else "The default does not work; see what is BROKEN."
        )
    if not report.works:
        raise typer.Exit(1)
