"""Arguments and options that several commands have: one wording for each."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class PrecisionName(str, Enum):
    """Precisions that a component may have."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


SourceName = Annotated[
    str,
    typer.Argument(
        help="A video file, a folder of images, an address such as rtsp://... or camera://0, or - for standard input.",
        show_default=False,
    ),
]

SourceNames = Annotated[
    list[str],
    typer.Argument(
        help="A video file, a folder of images, an address such as rtsp://... or camera://0, or - for standard input; "
        "or several of them.",
        metavar="SOURCE",
        show_default=False,
    ),
]
StreamNames = Annotated[
    list[str] | None,
    typer.Option(
        "--name",
        help="Name of a source in events and file names; once for each, in their order. By default made of the source.",
        metavar="NAME",
        show_default=False,
    ),
]


def _checked_raw(text: str | None) -> str | None:
    """The description of raw frames, if it is one."""
    if text is not None:
        from vsdk_runtimes.errors import InputError

        from ..sources.raw_video import RawFormat

        try:
            RawFormat.parse(text)
        except InputError as error:
            raise typer.BadParameter(f"{error.message}. {error.hint}") from error
    return text


RawFrames = Annotated[
    str | None,
    typer.Option(
        "--raw",
        help="What frames on standard input look like that come without a container, such as 1280x720:bgr24@30.",
        metavar="WIDTHxHEIGHT:FORMAT@RATE",
        callback=_checked_raw,
        show_default=False,
    ),
]
BundleFolder = Annotated[
    Path | None, typer.Option(help="Bundle folder; by default the model that ships with vsdk.", show_default=False)
]
JsonLinesFile = Annotated[str | None, typer.Option(help="Write events as JSON lines; - is stdout.", metavar="FILE")]
DeviceName = Annotated[str, typer.Option(help="cpu, cuda, or cuda:N for the N-th GPU.")]
EngineName = Annotated[str, typer.Option(help="What executes the networks; see: vsdk doctor")]
Precision = Annotated[
    PrecisionName | None, typer.Option(help="By default the bundle's for the device.", show_default=False)
]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1, help="Most threads for the engine, and for the decoder; by default all cores.", show_default=False
    ),
]
Verify = Annotated[bool, typer.Option("--verify", help="Hash every file of the bundle again.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar and no table.")]
