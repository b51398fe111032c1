"""The files that `vsdk run` writes, for one source or for each of several."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from ..pipeline import FeatureHook
    from ..sinks.base import Sink
    from . import operations

STREAM = "{stream}"
"""Stands in a file name for the name of the stream."""


@dataclass(frozen=True)
class Outputs:
    """The files that were asked for; None is not wanted."""

    jsonl: str | None
    sheet: Path | None
    video: Path | None
    features: Path | None
    memory_state: Path | None

    @property
    def all(self) -> tuple[Path | str | None, ...]:
        """All of them, in the order of the options."""
        return astuple(self)

    def open_sinks(
        self, opened: contextlib.ExitStack, asked: operations.Asked
    ) -> tuple[list[Sink], FeatureHook | None]:
        """The sinks, each of which `opened` closes if the next one fails, and what takes the features."""
        sinks: list[Sink] = []
        if self.jsonl is not None:
            sinks.append(opened.enter_context(asked.open_json_lines(self.jsonl)))
        if self.sheet is not None:
            from ..sinks.contact_sheet import ContactSheet

            sinks.append(opened.enter_context(ContactSheet(self.sheet)))
        if self.video is not None:
            from ..sinks.annotated_video import AnnotatedVideo

            sinks.append(opened.enter_context(AnnotatedVideo(self.video)))
        if self.features is None:
            return sinks, None
        from ..sinks.features import FeaturesFile

        feature_sink = FeaturesFile(self.features)
        sinks.append(opened.enter_context(feature_sink))
        return sinks, feature_sink.write_features

    def check_several(self) -> None:
        """Refuse names that several streams cannot share; only JSON lines can, each of which names its stream.

        Raises:
            BadParameter: `{stream}` is missing.
        """
        for option in ("sheet", "video", "features", "memory_state"):
            path = getattr(self, option)
            if path is not None and STREAM not in str(path):
                raise typer.BadParameter(
                    f"--{option.replace('_', '-')} is a file for each of several sources: "
                    f"put {STREAM} into its name, such as {STREAM}{path.suffix}"
                )

    @property
    def shared_jsonl(self) -> str | None:
        """The file of JSON lines that all streams share, if there is one."""
        return None if self.jsonl is None or STREAM in self.jsonl else self.jsonl

    def of(self, stream: str) -> Outputs:
        """Those of one of several streams, without the shared file."""
        name = file_name(stream)
        named = {
            option: type(value)(str(value).replace(STREAM, name))
            for option, value in vars(self).items()
            if value is not None
        }
        return replace(self, **{**named, "jsonl": None if self.shared_jsonl else named.get("jsonl")})


def file_name(stream: str) -> str:
    """The name of a stream as a part of a file's name: letters, digits, `.`, `_` and `-` stay, the rest becomes `-`."""
    return re.sub(r"[^\w.]+", "-", stream).strip("-.") or "stream"


def all_files(shared: str | None, outputs: Mapping[str, Outputs]) -> list[Path | str | None]:
    """Every file of several streams once."""
    return [shared, *(path for each in outputs.values() for path in each.all)]
