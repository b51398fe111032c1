"""`vsdk run` with several sources."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from . import remembering
from .console import stderr
from .named_sources import STANDARD_INPUT, check_sources, with_names
from .outputs import refuse_collisions, show_written
from .run_outputs import Outputs, all_files
from .streams_status import StreamsStatus

if TYPE_CHECKING:
    from vsdk_runtimes import Bundle

    from ..pipeline import FeatureHook
    from ..sinks.base import Sink
    from ..sinks.jsonl import LinesFile
    from ..sources.base import Source
    from ..sources.live_settings import LiveSettings
    from ..sources.several import Spec
    from ..streams import Streams
    from . import operations
    from .operations import Watchers


@dataclass(frozen=True)
class Several:
    """What was asked for.

    Attributes:
        sources: Paths and addresses.
        names: One for each, or none at all.
        outputs: The files to write, with `{stream}` in the names of those that are one for each.
        asked: Operations.
        live, raw: For the opening of the sources.
        quiet: Show nothing.
    """

    sources: Sequence[str]
    names: Sequence[str]
    outputs: Outputs
    asked: operations.Asked
    live: LiveSettings | None
    raw: str | None
    quiet: bool

    def check(self) -> None:
        """Raise `BadParameter` for what cannot be meant, before anything is opened."""
        check_sources(self.sources, self.names)
        if self.raw is not None and STANDARD_INPUT not in self.sources:
            raise typer.BadParameter("--raw describes frames on standard input: one of the sources is to be -")
        self.outputs.check_several()

    def open(self, threads: int | None) -> dict[str, Source]:
        """The sources by their names; `threads` is for decoders of files."""
        from ..sources.opening import open_source
        from ..sources.several import open_sources

        specs: list[Spec] = [
            open_source(source, threads=threads, live=self.live, raw=self.raw) if source == STANDARD_INPUT else source
            for source in self.sources
        ]
        return open_sources(with_names(specs, self.names), threads=threads, live=self.live)


def run_several(bundle: Bundle, several: Several, settings: Mapping[str, Any]) -> None:
    """Run them to their ends, or until Ctrl-C.

    Args:
        bundle: What to run.
        several: What was asked for; checked.
        settings: Further arguments of `Streams`.

    Raises:
        Exit: With status 1, when one of them has failed.
    """
    from ..streams import Streams

    with contextlib.ExitStack() as opened:
        sources = several.open(settings["threads"])
        for source in sources.values():
            opened.callback(source.close)
        if several.live is not None and not any(source.info.live for source in sources.values()):
            raise typer.BadParameter("no source is live, so options of live sources have no meaning")
        outputs = {name: several.outputs.of(name) for name in sources}
        files = all_files(several.outputs.shared_jsonl, outputs)
        refuse_collisions(several.sources, files)
        for each in outputs.values():
            if each.memory_state is not None:
                remembering.check_state(each.memory_state, bundle)
        sinks = _Sinks(opened, several, outputs)
        status = StreamsStatus(sources, disable=several.quiet)

        def taken(name: str, number: int, seconds: float) -> None:
            status.take(name)
            sinks.watchers[name].take_frame(number, seconds)

        streams = opened.enter_context(
            Streams(
                bundle,
                sources,
                sinks=sinks.of,
                on_frame=taken,
                on_features=sinks.take_features,
                **settings,
            )
        )
        kept = {
            name: opened.enter_context(remembering.KeptMemory(each.memory_state, streams[name].memory))
            for name, each in outputs.items()
        }
        _consume(streams, opened.enter_context(status), kept)
        failures = streams.failures
    if not several.quiet:
        status.show()
        show_written(files)
    if failures:
        raise typer.Exit(1)


def _consume(streams: Streams, status: StreamsStatus, kept: Mapping[str, remembering.KeptMemory]) -> None:
    for told in streams:
        status.tell(told)
        if told.event.type == "memory":
            kept[told.stream].save_now_and_then()
        elif told.event.type == "end" and told.event.reason == "error":
            _report(told.stream, told.event.message, streams.failures.get(told.stream))


def _report(name: str, message: str, failure: BaseException | None) -> None:
    """Why a stream has ended early; the others go on."""
    stderr.print("error:", style="bold red", end=" ")
    stderr.print(f"{name}: {message}", markup=False, highlight=False, soft_wrap=True)
    hint = getattr(failure, "hint", "")
    if hint:
        stderr.print("hint:", style="bold", end="  ")
        stderr.print(hint, markup=False, highlight=False, soft_wrap=True)


class _Sinks:
    """Opens what each stream writes to, and what all of them share.

    Args:
        opened: Closes what is shared, when all streams have ended.
        several: What was asked for.
        outputs: The files of each stream.
    """

    def __init__(self, opened: contextlib.ExitStack, several: Several, outputs: Mapping[str, Outputs]) -> None:
        self.watchers: dict[str, Watchers] = {}
        self._asked, self._outputs = several.asked, outputs
        self._hooks: dict[str, FeatureHook | None] = {}
        self._shared: LinesFile | None = None
        self._metrics = several.asked.open_metrics(opened)
        if several.outputs.shared_jsonl is not None:
            self._shared = opened.enter_context(several.asked.open_json_lines(several.outputs.shared_jsonl))

    def of(self, name: str) -> list[Sink]:
        """Those of one stream."""
        with contextlib.ExitStack() as undo:
            sinks, hook = self._outputs[name].open_sinks(undo, self._asked)
            metrics = None if self._metrics is None else self._metrics.of(name)
            watchers = self._asked.open_watchers(undo, name, metrics)
            undo.pop_all()
        self.watchers[name] = watchers
        self._hooks[name] = watchers.with_features(hook)
        shared = [] if self._shared is None else [self._shared.of(name)]
        return [*shared, *sinks, *watchers.sinks]

    def take_features(self, name: str, *features: Any) -> None:
        """A frame of this stream has been encoded, or not."""
        hook = self._hooks[name]
        if hook is not None:
            hook(*features)
