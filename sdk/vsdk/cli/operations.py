"""What `vsdk run` offers for streams that run for months: files that rotate, and metrics."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from .outputs import STANDARD_OUTPUT

if TYPE_CHECKING:
    from ..pipeline import FeatureHook, Vector
    from ..sinks.base import Sink
    from ..sinks.metrics import StreamMetrics
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
MetricsAddress = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        help="Serve metrics for Prometheus at this port, to this machine only unless a host is named.",
        metavar="[HOST:]PORT",
        show_default=False,
    ),
]

Result = TypeVar("Result")


@dataclass(frozen=True)
class Asked:
    """What was asked for, checked before anything is opened."""

    rotation: Rotation | None
    metrics: str | None

    @classmethod
    def check(cls, jsonl: str | None, jsonl_rotate: str | None, metrics: str | None) -> Asked:
        """Raise `BadParameter` for what cannot be meant."""
        from ..sinks.metrics import parse_address
        from ..sinks.rotation import Rotation

        if jsonl_rotate is not None and jsonl in (None, STANDARD_OUTPUT):
            raise typer.BadParameter("--jsonl-rotate needs a file: --jsonl FILE")
        _parse("--metrics", metrics, parse_address)
        return cls(_parse("--jsonl-rotate", jsonl_rotate, Rotation.parse), metrics)

    def open_json_lines(self, jsonl: str) -> Sink:
        """The sink for JSON lines."""
        from ..sinks.jsonl import JsonLines
        from ..sinks.rotating_jsonl import RotatingJsonLines

        return JsonLines(jsonl) if self.rotation is None else RotatingJsonLines(jsonl, self.rotation)

    def open_watchers(self, opened: contextlib.ExitStack) -> Watchers:
        """The sinks that others look into, each of which `opened` closes if something fails."""
        from ..sinks.metrics import Metrics

        watchers = Watchers()
        if self.metrics is not None:
            watchers.metrics = opened.enter_context(Metrics(self.metrics))
            watchers.sinks.append(watchers.metrics)
        return watchers


@dataclass
class Watchers:
    """The sinks that others look into."""

    sinks: list[Sink] = field(default_factory=list)
    metrics: StreamMetrics | None = None

    def take_frame(self, number: int, seconds: float) -> None:
        """A frame has been taken in."""
        if self.metrics is not None:
            self.metrics.take_frame(number, seconds)

    def with_features(self, hook: FeatureHook | None) -> FeatureHook | None:
        """What takes the features: this, and the metrics."""
        if self.metrics is None:
            return hook
        if hook is None:
            return self.metrics.take_features
        metrics = self.metrics

        def both(number: int, seconds: float, cls: Vector, encoded: bool) -> None:
            hook(number, seconds, cls, encoded)
            metrics.take_features(number, seconds, cls, encoded)

        return both


def _parse(option: str, text: str | None, parse: Callable[[str], Result]) -> Result | None:
    """What the text of an option means."""
    from vsdk_runtimes.errors import InputError

    try:
        return None if text is None else parse(text)
    except InputError as error:
        raise typer.BadParameter(f"{option}: {error.message}. {error.hint}") from error
