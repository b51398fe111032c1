"""Several streams in one process: they give what separate ones give, and do not disturb each other."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_tools import PATIENCE, wait_until
from test_stream import Recorder, end_of, no_threads_left, pictures
from video_tools import write_video

import vsdk
from vsdk.errors import ClosedError, InputError, SinkError, SourceNotFoundError
from vsdk.frame import Image
from vsdk.sources.arrays import Arrays

LENGTHS = ((20, 15, 20), (12, 25), (18, 18))
FRAMES = [sum(lengths) for lengths in LENGTHS]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three clips of two or three scenes, H.264."""
    folder = tmp_path_factory.mktemp("streams")
    return {
        str(lengths): write_video(folder / f"{number}.mp4", pictures(lengths), rate=25)
        for number, lengths in enumerate(LENGTHS)
    }


def sorted_out(events: Iterable[vsdk.StreamEvent]) -> dict[str, list[vsdk.Event]]:
    """The events of each stream."""
    found: dict[str, list[vsdk.Event]] = defaultdict(list)
    for name, event in events:
        found[name].append(event)
    return dict(found)


def comparable(events: Sequence[vsdk.Event]) -> list[object]:
    """Events without the last digits, which on some machines depend on what is encoded together."""
    return [
        (event.index, event.start_frame, event.end_frame, event.start, event.end, pytest.approx(event.depth, abs=1e-4))
        if isinstance(event, vsdk.Scene)
        else event
        for event in events
    ]


def test_each_stream_gives_what_it_gives_alone(clips: dict[str, Path]) -> None:
    with vsdk.Streams(vsdk.load(), clips) as streams:
        together = sorted_out(streams)
        memories = {name: streams[name].memory for name in streams.names}
        assert streams.failures == {}
    assert list(memories) == list(clips)
    for name, path in clips.items():
        with vsdk.Stream(vsdk.load(), path) as stream:
            alone = list(stream)
        assert comparable(together[name]) == comparable(alone)
        for ours, theirs in zip(together[name], alone, strict=True):
            if isinstance(ours, vsdk.Scene) and isinstance(theirs, vsdk.Scene):
                assert ours.features is not None
                assert theirs.features is not None
                np.testing.assert_allclose(ours.features.cls, theirs.features.cls, atol=1e-4)
        memory = memories[name]
        assert memory is not None
        assert stream.memory is not None
        assert len(memory.entries) == len(stream.memory.entries) == sum(e.type == "scene" for e in alone)
        np.testing.assert_allclose(memory.tokens(), stream.memory.tokens(), atol=1e-3)
    assert no_threads_left()


def endless() -> Iterator[Image]:
    while True:
        yield from pictures()


def falling_off(count: int) -> Iterator[Image]:
    yield from pictures((count,))
    raise RuntimeError("the camera fell off")


def losing_colour(count: int) -> Iterator[Image]:
    yield from pictures((count,))
    yield np.zeros((96, 128), np.uint8)


class Closing(Arrays):
    """A source that notes that it was closed."""

    closed = False

    def close(self) -> None:
        super().close()
        self.closed = True


def test_names_are_made_of_the_sources(clips: dict[str, Path], tmp_path: Path) -> None:
    first, second = list(clips.values())[:2]
    with vsdk.Streams(None, [first, second, first, pictures((20,))], memory=False) as streams:
        names = streams.names
        events = sorted_out(streams)
    assert names[:3] == (first.name, second.name, f"{first.name} (2)")
    assert set(events) == set(names)
    assert comparable(events[names[0]]) == comparable(events[names[2]])
    assert {stream[0].type for stream in events.values()} == {"start"}
    assert {stream[-1].type for stream in events.values()} == {"end"}


@pytest.mark.parametrize("name", ["", " ", "rtsp://viewer:secret@10.0.0.7/main"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InputError) as refused:
        vsdk.Streams(None, {name: pictures()})
    assert "secret" not in str(refused.value)


def test_one_source_is_not_several() -> None:
    with pytest.raises(InputError, match="several"):
        vsdk.Streams(None, "clip.mp4")
    with pytest.raises(InputError, match="several"):
        vsdk.Streams(None, pictures())  # type: ignore[arg-type]


def test_when_one_source_is_missing_nothing_is_left_open(clips: dict[str, Path], tmp_path: Path) -> None:
    before, after = Closing(pictures()), Closing(pictures())
    asked: list[str] = []

    def sinks(name: str) -> list[vsdk.Sink]:
        asked.append(name)
        return []

    with pytest.raises(SourceNotFoundError):
        vsdk.Streams(None, {"a": before, "b": tmp_path / "missing.mp4", "c": after}, sinks=sinks)
    assert before.closed
    assert after.closed
    assert asked == []


def test_when_a_sink_cannot_be_opened_the_others_are_closed() -> None:
    sources = {name: Closing(pictures()) for name in "abc"}
    made: list[Recorder] = []

    def sinks(name: str) -> list[Recorder]:
        if name == "c":
            raise SinkError("no room for this one")
        made.append(Recorder())
        return [made[-1]]

    with pytest.raises(SinkError, match="no room"):
        vsdk.Streams(None, sources, sinks=sinks, memory=False)
    assert [sink.closed for sink in made] == [1, 1]
    assert all(source.closed for source in sources.values())
    assert no_threads_left()


def test_a_stream_that_fails_ends_alone(clips: dict[str, Path]) -> None:
    name, clip = next(iter(clips.items()))
    sources: dict[str, Any] = {"broken": falling_off(15), name: clip, "odd": losing_colour(10)}
    sinks = {each: Recorder() for each in sources}
    with vsdk.Streams(None, sources, sinks=lambda each: [sinks[each]], memory=False) as streams:
        events = sorted_out(streams)
        failures = streams.failures
    for broken, says in (("broken", "fell off"), ("odd", "array 10")):
        end = events[broken][-1]
        assert isinstance(end, vsdk.End)
        assert end.reason == "error"
        assert says in end.message
        assert says in str(failures[broken])
    assert set(failures) == {"broken", "odd"}
    whole = events[name][-1]
    assert isinstance(whole, vsdk.End)
    assert (whole.reason, whole.frames, whole.scenes) == ("end", FRAMES[0], 3)
    assert {each: sink.events for each, sink in sinks.items()} == events
    assert {sink.closed for sink in sinks.values()} == {1}
    assert no_threads_left()


def test_a_failing_sink_ends_its_stream_alone(clips: dict[str, Path]) -> None:
    healthy, failing = list(clips)[:2]
    sinks = {healthy: [Recorder(frames=True)], failing: [Recorder(), Recorder(fail_at=1)]}
    chosen = {name: clips[name] for name in sinks}
    with vsdk.Streams(None, chosen, sinks=sinks.__getitem__, memory=False) as streams:
        events = sorted_out(streams)
        assert isinstance(streams.failures[failing], SinkError)
    assert events[healthy] == sinks[healthy][0].events
    assert sinks[healthy][0].numbers == list(range(FRAMES[0]))
    assert end_of(sinks[healthy][0]).reason == "end"
    assert end_of(sinks[failing][0]).reason == "error"
    assert [sink.closed for sink in (*sinks[healthy], *sinks[failing])] == [1, 1, 1]


def test_a_sink_that_cannot_be_finished_is_reported() -> None:
    class Unfinished(Recorder):
        def close(self) -> None:
            super().close()
            raise SinkError("the last page is missing")

    streams = vsdk.Streams(None, {"a": pictures((20,))}, sinks=lambda name: [Unfinished()], memory=False)
    events = [event for _, event in streams]
    assert events[-1].type == "end"
    assert isinstance(streams.failures["a"], SinkError)
    with pytest.raises(SinkError, match="last page"):
        streams.close()
    streams.close()


def test_callbacks_get_the_name(clips: dict[str, Path]) -> None:
    frames: dict[str, list[int]] = defaultdict(list)
    features: dict[str, list[int]] = defaultdict(list)
    with vsdk.Streams(
        None,
        clips,
        memory=False,
        on_frame=lambda name, number, seconds: frames[name].append(number),
        on_features=lambda name, number, seconds, cls, encoded: features[name].append(number),
    ) as streams:
        for _ in streams:
            pass
    counts = {str(lengths): list(range(sum(lengths))) for lengths in LENGTHS}
    assert frames == features == counts


def closed_within_a_second(streams: vsdk.Streams, consume: Callable[[], object]) -> None:
    """Close from another thread while this one consumes."""
    took: list[float] = []

    def close() -> None:
        time.sleep(0.3)
        started = time.monotonic()
        streams.close()
        took.append(time.monotonic() - started)

    closer = threading.Thread(target=close)
    closer.start()
    consume()
    closer.join(PATIENCE)
    assert took[0] < 2  # a second, on a machine that does other things as well


def test_close_from_another_thread_ends_the_iteration() -> None:
    sinks = {name: Recorder() for name in "abc"}
    sources = {name: endless() for name in sinks}
    streams = vsdk.Streams(None, sources, sinks=lambda name: [sinks[name]], memory=False)
    closed_within_a_second(streams, lambda: list(streams))
    assert {end_of(sink).reason for sink in sinks.values()} == {"closed"}
    assert {sink.closed for sink in sinks.values()} == {1}
    assert streams.failures == {}
    assert no_threads_left()
    with pytest.raises(ClosedError):
        iter(streams)
    with pytest.raises(ClosedError):
        streams.add("d", pictures())


def test_close_frees_streams_whose_events_nobody_takes() -> None:
    sink = Recorder()
    streams = vsdk.Streams(None, {"a": endless()}, sinks=lambda name: [sink], memory=False, stats_every=1e-9)
    iterator = iter(streams)
    next(iterator)
    wait_until(lambda: len(sink.events) > 16)
    blocked = 0
    while blocked < len(sink.events):
        blocked = len(sink.events)
        assert blocked < 24  # 16 wait, and a frame may bring several: then it waits for the consumer
        time.sleep(0.2)
    closed_within_a_second(streams, lambda: None)
    assert end_of(sink).reason == "closed"
    assert no_threads_left()


def test_close_does_not_wait_for_an_engine_that_takes_its_time() -> None:
    sinks = {name: Recorder() for name in "ab"}
    streams = vsdk.Streams(None, {name: endless() for name in sinks}, sinks=lambda name: [sinks[name]], memory=False)
    session = streams.engines.encoder.session
    really, begun, go_on = session.run, threading.Event(), threading.Event()

    def run(*arguments: Any, **options: Any) -> Any:
        begun.set()
        assert go_on.wait(PATIENCE)
        return really(*arguments, **options)

    setattr(session, "run", run)  # noqa: B010 - mypy does not let a method be replaced
    iterator = iter(streams)
    next(iterator)
    assert begun.wait(PATIENCE)
    closed_within_a_second(streams, lambda: list(iterator))
    assert {end_of(sink).reason for sink in sinks.values()} == {"closed"}
    assert {sink.closed for sink in sinks.values()} == {1}
    ends = [len(sink.events) for sink in sinks.values()]
    go_on.set()
    assert no_threads_left()
    assert [len(sink.events) for sink in sinks.values()] == ends


def test_streams_that_never_ran_are_closed() -> None:
    sink, source = Recorder(), Closing(pictures())
    with vsdk.Streams(None, {"a": source}, sinks=lambda name: [sink], memory=False):
        pass
    assert end_of(sink).reason == "closed"
    assert source.closed
    assert no_threads_left()


@pytest.mark.parametrize(("error", "reason"), [(KeyboardInterrupt, "interrupted"), (ValueError, "error")])
def test_sinks_learn_why_the_block_was_left(error: type[BaseException], reason: str) -> None:
    sinks = {name: Recorder() for name in "ab"}
    streams = vsdk.Streams(None, {name: endless() for name in sinks}, sinks=lambda name: [sinks[name]], memory=False)
    with pytest.raises(error), streams:  # noqa: PT012
        for _ in streams:
            raise error
    assert {end_of(sink).reason for sink in sinks.values()} == {reason}
    assert no_threads_left()


def test_a_source_without_end_does_not_hold_up_the_others(clips: dict[str, Path]) -> None:
    name, clip = next(iter(clips.items()))
    with vsdk.Streams(None, {"endless": endless(), name: clip}, batch=4, memory=False) as streams:
        for stream, event in streams:
            if stream == name and event.type == "end":
                break
        assert isinstance(event, vsdk.End)
        assert event.frames == FRAMES[0]


def test_streams_come_and_go_while_others_run(clips: dict[str, Path]) -> None:
    name, clip = next(iter(clips.items()))
    sinks: dict[str, Recorder] = defaultdict(Recorder)
    with vsdk.Streams(None, {"endless": endless()}, sinks=lambda each: [sinks[each]], memory=False) as streams:
        seen: dict[str, list[vsdk.Event]] = defaultdict(list)
        for stream, event in streams:
            seen[stream].append(event)
            if stream == "endless" and event.type == "start":
                streams.add(name, clip)
                with pytest.raises(InputError, match="endless"):
                    streams.add("endless", clip)
            elif stream == name and event.type == "end":
                streams.remove("endless")
                with pytest.raises(KeyError):
                    streams.remove("endless")
        assert streams.names == (name,)
        with pytest.raises(ClosedError):
            streams.add("late", clip)
    with vsdk.Stream(None, clip, memory=False) as alone:
        assert comparable(seen[name]) == comparable(list(alone))
    assert seen["endless"] == sinks["endless"].events
    assert end_of(sinks["endless"]).reason == "closed"
    assert sinks["endless"].closed == 1
    assert no_threads_left()
