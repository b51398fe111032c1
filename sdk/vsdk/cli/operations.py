"""What `vsdk run` offers for streams that run for months: files that rotate, metrics, and MQTT."""

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
    from ..sinks.jsonl import LinesFile
    from ..sinks.metrics import Metrics, StreamMetrics
    from ..sinks.rotation import Rotation

PANEL = "Operations"
MQTT_VARIABLE = "VSDK_MQTT"

JsonLinesRotation = Annotated[
    str | None,
    typer.Option(
        "--jsonl-rotate",
        help="Go on with the file of --jsonl, and begin a new one at a size, a time or both: 100MB, 1h, 1d. "
        "With keep=N only the newest N old ones stay.",
        metavar="SIZE,TIME,keep=N",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
MetricsAddress = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        help="Serve metrics for Prometheus at this port, to this machine only unless a host is named.",
        metavar="[HOST:]PORT",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
MqttUrl = Annotated[
    str | None,
    typer.Option(
        "--mqtt",
        help="Publish events at an MQTT broker, each at PREFIX/SOURCE/TYPE; mqtts:// is with TLS. "
        f"Given in the environment variable {MQTT_VARIABLE}, it does not show in the list of processes.",
        metavar="mqtt://USER:PASSWORD@HOST/PREFIX",
        envvar=MQTT_VARIABLE,
        show_envvar=False,
        show_default=False,
        rich_help_panel=PANEL,
    ),
]

Result = TypeVar("Result")


@dataclass(frozen=True)
class Asked:
    """What was asked for, checked before anything is opened."""

    rotation: Rotation | None
    metrics: str | None
    mqtt: str | None = field(default=None, repr=False)

    @classmethod
    def check(cls, jsonl: str | None, jsonl_rotate: str | None, metrics: str | None, mqtt: str | None = None) -> Asked:
        """Raise `BadParameter` for what cannot be meant."""
        from ..sinks.metrics import parse_address
        from ..sinks.mqtt_address import MqttAddress
        from ..sinks.rotation import Rotation

        if jsonl_rotate is not None and jsonl in (None, STANDARD_OUTPUT):
            raise typer.BadParameter("--jsonl-rotate needs a file: --jsonl FILE")
        _parse("--metrics", metrics, parse_address)
        _parse("--mqtt", mqtt, MqttAddress.parse)
        return cls(_parse("--jsonl-rotate", jsonl_rotate, Rotation.parse), metrics, mqtt)

    def open_json_lines(self, jsonl: str) -> LinesFile:
        """The sink for JSON lines."""
        from ..sinks.jsonl import JsonLines
        from ..sinks.rotating_jsonl import RotatingJsonLines

        return JsonLines(jsonl) if self.rotation is None else RotatingJsonLines(jsonl, self.rotation)

    def open_metrics(self, opened: contextlib.ExitStack) -> Metrics | None:
        """The port for metrics, which `opened` closes."""
        if self.metrics is None:
            return None
        from ..sinks.metrics import Metrics

        return opened.enter_context(Metrics(self.metrics))

    def open_watchers(
        self, opened: contextlib.ExitStack, source: str = "", metrics: StreamMetrics | None = None
    ) -> Watchers:
        """The sinks that others look into, each of which `opened` closes if something fails.

        Args:
            opened: See above.
            source: Name of the source.
            metrics: Its part of the port that several share; None opens the port.
        """
        watchers = Watchers()
        watchers.metrics = self.open_metrics(opened) if metrics is None else metrics
        if watchers.metrics is not None:
            watchers.sinks.append(watchers.metrics)
        if self.mqtt is not None:
            from ..sinks.mqtt import Mqtt

            watchers.sinks.append(opened.enter_context(Mqtt(self.mqtt, source)))
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
