"""A stream of a live source: events in order, statistics, and latency that does not grow."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from live_tools import PATIENCE, QUICK, STEADY, TestCamera, running_camera, serve_file, shown_number, wait_until
from video_tools import write_numbered

import vsdk
from vsdk.errors import ClosedError, SourceError
from vsdk.events import SourceState, Stats


@pytest.fixture(scope="module")
def shared_camera() -> Iterator[TestCamera]:
    with running_camera(30) as camera:
        yield camera


@pytest.fixture
def camera(shared_camera: TestCamera) -> TestCamera:
    shared_camera.recover()
    return shared_camera


class Slow(vsdk.Sink):
    """A sink that takes its time for each frame, and notes everything in order."""

    wants_frames = True

    def __init__(self, seconds: float = 0.0) -> None:
        self.items: list[vsdk.Frame | vsdk.Event] = []
        self._seconds = seconds

    def write_frame(self, frame: vsdk.Frame) -> None:
        time.sleep(self._seconds)
        self.items.append(frame)

    def write_event(self, event: vsdk.Event) -> None:
        self.items.append(event)

    def close(self) -> None:
        pass

    @property
    def events(self) -> list[vsdk.Event]:
        return [item for item in self.items if not isinstance(item, vsdk.Frame)]

    @property
    def frames(self) -> list[vsdk.Frame]:
        return [item for item in self.items if isinstance(item, vsdk.Frame)]


def test_states_stand_between_the_frames_before_and_after_them(camera: TestCamera) -> None:
    sink = Slow()
    with vsdk.Stream(None, camera.url("tcp"), live=QUICK, sinks=[sink], stats_every=0.2, memory=False) as stream:
        drops = seen = 0
        for event in stream:
            if isinstance(event, SourceState):
                seen = event.generation
            # Only a connection that has given frames is cut: one that is still being made would begin no generation.
            elif isinstance(event, Stats) and seen >= drops and event.frames >= 5 * (drops + 1):
                if drops == 2:
                    break
                camera.drop()
                drops += 1
    assert isinstance(sink.events[0], vsdk.Start)
    assert isinstance(sink.events[-1], vsdk.End)
    assert isinstance(sink.events[-2], Stats)
    expected_frame = generation = 0
    for item in sink.items:
        if isinstance(item, vsdk.Frame):
            assert item.number >= expected_frame
            assert item.generation == generation
            expected_frame = item.number + 1
        elif isinstance(item, SourceState):
            assert item.frame >= expected_frame
            assert item.generation in (generation, generation + 1)
            expected_frame, generation = item.frame, item.generation
    states = [event.state for event in sink.events if isinstance(event, SourceState)]
    assert states[:2] == ["connecting", "live"]
    assert states.count("reconnecting") >= 2
    assert generation >= 2


def test_statistics_add_up(camera: TestCamera) -> None:
    sink = Slow(0.1)
    stats: list[Stats] = []
    with vsdk.Stream(None, camera.url("tcp"), live=STEADY, sinks=[sink], stats_every=0.5, memory=False) as stream:
        for event in stream:
            if isinstance(event, Stats):
                stats.append(event)
                if len(stats) == 4:
                    break
    last = sink.events[-2]
    assert isinstance(last, Stats)
    assert last.frames == len(sink.frames)
    # Every frame that was decoded has a number: it was given, dropped, or was on its way when the stream ended.
    assert 0 <= last.frames + last.dropped - 1 - sink.frames[-1].number <= 30
    for earlier, later in itertools.pairwise(stats):
        assert later.seconds - earlier.seconds >= 0.5
        rate = (later.frames - earlier.frames) / (later.seconds - earlier.seconds)
        assert later.frames_per_second == pytest.approx(rate)
        assert later.dropped >= earlier.dropped
    assert last.dropped > 0


def test_latency_stays_under_two_processing_intervals(camera: TestCamera) -> None:
    """30 frames a second into a pipeline slowed to 10; `live_latency.py` does it for ten minutes, and looks at p95."""
    interval = 0.1
    sink = Slow(interval)
    with vsdk.Stream(None, camera.url("tcp"), live=STEADY, sinks=[sink], stats_every=1.5, memory=False) as stream:
        stats = []
        for event in stream:
            if isinstance(event, Stats):
                stats.append(event)
                if len(stats) == 4:
                    break
    for told in stats[1:]:
        assert told.latency_p50 is not None
        # What the pipeline really took for a frame here and now, on a machine that may do other things as well.
        taken = max(interval, 1 / told.frames_per_second)
        assert interval <= told.latency_p50 < 2 * taken


def test_a_recording_over_http_is_read_to_its_end(tmp_path: Path) -> None:
    port = serve_file(write_numbered(tmp_path / "clip.mkv", 40), http=True)
    with vsdk.Stream(None, f"http://127.0.0.1:{port}/clip.mkv", live=STEADY, memory=False) as stream:
        events = list(stream)
    end = events[-1]
    assert isinstance(end, vsdk.End)
    assert (end.reason, end.frames) == ("end", 40)
    assert [event.state for event in events if isinstance(event, SourceState)] == ["connecting", "live", "ended"]


def test_what_ends_the_source_is_raised_after_its_events(camera: TestCamera) -> None:
    sink = Slow()
    live = replace(STEADY, reconnect_for=0.0)
    with (
        pytest.raises(SourceError, match="401"),
        vsdk.Stream(None, camera.url("rtsp", "/locked"), live=live, sinks=[sink]) as stream,
    ):
        list(stream)
    kinds = [event.type for event in sink.events]
    assert kinds == ["start", "source", "source", "stats", "end"]
    end = sink.events[-1]
    assert isinstance(end, vsdk.End)
    assert end.reason == "error"
    assert "401" in end.message
    told = sink.events[-2]
    assert isinstance(told, Stats)
    assert (told.frames, told.latency_p50, told.frames_per_second) == (0, None, 0)


def test_a_silent_camera_does_not_silence_the_statistics(camera: TestCamera) -> None:
    camera.set("silent", True)
    with vsdk.Stream(None, camera.url("tcp"), live=STEADY, stats_every=0.1, memory=False) as stream:
        stats = []
        for event in stream:
            if isinstance(event, Stats):
                stats.append(event)
                if len(stats) == 3:
                    break
    assert {told.frames for told in stats} == {0}


def test_closing_from_another_thread_ends_a_silent_stream(camera: TestCamera) -> None:
    camera.set("silent", True)
    sink = Slow()
    stream = vsdk.Stream(None, camera.url("http"), live=STEADY, sinks=[sink], memory=False)
    took: list[float] = []

    def close() -> None:
        wait_until(lambda: len(sink.events) >= 2)
        started = time.monotonic()
        stream.close()
        took.append(time.monotonic() - started)

    closer = threading.Thread(target=close)
    closer.start()
    events = list(stream)
    closer.join(PATIENCE)
    assert [event.type for event in events][:2] == ["start", "source"]
    assert took[0] < 2  # a second, on a machine that does other things as well
    assert isinstance(sink.events[-1], vsdk.End)
    with pytest.raises(ClosedError):
        iter(stream)


def test_files_have_no_statistics_unless_asked(tmp_path: Path) -> None:
    clip = write_numbered(tmp_path / "clip.mp4", 30)
    with vsdk.Stream(None, clip, memory=False) as stream:
        assert not [event for event in stream if event.type in ("stats", "source")]
    with vsdk.Stream(None, clip, memory=False, stats_every=1e-9) as stream:
        events = list(stream)
    stats = [event for event in events if isinstance(event, Stats)]
    assert events[-2] is stats[-1]
    assert stats[-1].frames == 30
    assert {told.latency_p50 for told in stats} == {None}


def test_every_frame_of_a_live_source_if_asked(camera: TestCamera) -> None:
    sink = Slow(0.06)  # slower than the camera
    live = replace(STEADY, policy="every")
    with vsdk.Stream(None, camera.url("tcp"), live=live, sinks=[sink], memory=False) as stream:
        for _ in stream:
            if len(sink.frames) >= 25:
                break
        assert stream.source.dropped == 0
    assert [frame.number for frame in sink.frames] == list(range(len(sink.frames)))
    numbers = [shown_number(frame.image) for frame in sink.frames]
    assert numbers == sorted(set(numbers))
