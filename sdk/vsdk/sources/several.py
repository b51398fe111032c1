"""Several sources at once, each with a name."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Collection, Iterable, Mapping, Sequence

from ..errors import InputError
from ..frame import Image
from .base import Source
from .credentials import redacted
from .live_settings import LiveSettings
from .opening import open_source

Spec = Source | str | os.PathLike[str] | int | Iterable[Image]
"""What names one source, see `open_source`."""


def open_sources(
    sources: Mapping[str, Spec] | Sequence[Spec], *, threads: int | None = None, live: LiveSettings | None = None
) -> dict[str, Source]:
    """Open several sources, or none: when one cannot be opened, the others are closed, those that were open included.

    Args:
        sources: What to open by its name. Without names each gets that of its source, which is without credentials,
            and a number behind it where there is another of that name.
        threads: Most threads that the decoder of a video file may use.
        live: Settings of live sources.

    Raises:
        InputError: A name is not acceptable, or this is neither a mapping nor a sequence of sources.
        SourceError: As for `open_source`.
    """
    if isinstance(sources, (str, bytes)) or not isinstance(sources, (Mapping, Sequence)):
        raise InputError(
            f"a {type(sources).__name__} is not several sources",
            hint="Give a list of sources, or names with their sources.",
        )
    names: Iterable[str | None] = sources if isinstance(sources, Mapping) else itertools.repeat(None)
    specs = sources.values() if isinstance(sources, Mapping) else sources
    opened: dict[str, Source] = {}
    with contextlib.ExitStack() as closing:
        for spec in specs:
            if isinstance(spec, Source):
                closing.callback(spec.close)
        for name, spec in zip(names, specs, strict=False):
            if name is not None:
                check_name(name, opened)
            source = closing.enter_context(open_source(spec, threads=threads, live=live))
            opened[free_name(source.info.name, opened) if name is None else name] = source
        closing.pop_all()
    return opened


def check_name(name: str, taken: Collection[str] = ()) -> None:
    """Refuse a name that is no use as one.

    Raises:
        InputError: It is empty, taken, or shows a user name or a password.
    """
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"{name!r} is not a name for a source", hint="Give each source a name of its own.")
    if redacted(name) != name:
        raise InputError(
            f"the name {redacted(name)!r} has credentials in it, and names are shown", hint="Choose another name."
        )
    if name in taken:
        raise InputError(f"two sources have the name {name!r}", hint="Give each source a name of its own.")


def free_name(name: str, taken: Collection[str]) -> str:
    """The name itself, or with the first number behind it that is free: `clip.mp4`, `clip.mp4 (2)`."""
    numbered = (f"{name} ({number})" for number in itertools.count(2))
    return next(candidate for candidate in itertools.chain([name], numbered) if candidate not in taken)
