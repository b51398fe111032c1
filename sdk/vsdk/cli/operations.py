"""What `vsdk run` offers for streams that run for months: files that rotate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .outputs import STANDARD_OUTPUT

if TYPE_CHECKING:
    from ..sinks.base import Sink
    from ..sinks.rotation import Rotation

JsonLinesRotation = Annotated[
    str | None,
    typer.Option(
        "--jsonl-rotate",
        help="Go on with the file of --jsonl, and begin a new one at a size, a time or both: 100MB, 1h, 1d. "
        "With keep=N only the newest N old ones stay.",
        metavar="SIZE,TIME,keep=N",
        show_default=False,
    ),
]


def check_rotation(jsonl: str | None, text: str | None) -> Rotation | None:
    """The rotation asked for."""
    from vsdk_runtimes.errors import InputError

    from ..sinks.rotation import Rotation

    if text is None:
        return None
    if jsonl is None or jsonl == STANDARD_OUTPUT:
        raise typer.BadParameter("--jsonl-rotate needs a file: --jsonl FILE")
    try:
        return Rotation.parse(text)
    except InputError as error:
        raise typer.BadParameter(f"--jsonl-rotate: {error.message}. {error.hint}") from error


def open_json_lines(jsonl: str, rotation: Rotation | None) -> Sink:
    """The sink for JSON lines."""
    from ..sinks.jsonl import JsonLines
    from ..sinks.rotating_jsonl import RotatingJsonLines

    return JsonLines(jsonl) if rotation is None else RotatingJsonLines(jsonl, rotation)
