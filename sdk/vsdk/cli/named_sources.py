"""Several sources on the command line, each with a name or none of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import typer

STANDARD_INPUT = "-"

Spec = TypeVar("Spec")


def check_sources(sources: Sequence[str], names: Sequence[str]) -> None:
    """Raise `BadParameter` for what cannot be meant, before anything is opened.

    Args:
        sources: Paths and addresses.
        names: One for each, or none at all.
    """
    if names and len(names) != len(sources):
        raise typer.BadParameter(
            f"{len(names)} names for {len(sources)} sources: give --name once for each, in their order"
        )
    if len(set(names)) < len(names):  # without the name, in which a password may stand
        raise typer.BadParameter("two sources have the same name: give each a name of its own")
    if sources.count(STANDARD_INPUT) > 1:
        raise typer.BadParameter("standard input can be read only once")


def with_names(sources: Sequence[Spec], names: Sequence[str]) -> Mapping[str, Spec] | Sequence[Spec]:
    """What `open_sources` takes: each checked source by its name, or just the sources where there are no names."""
    return dict(zip(names, sources, strict=True)) if names else sources
