"""Several cameras in one process: what happens to one does not happen to the others."""

from __future__ import annotations

import gc
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from live_tools import PATIENCE, QUICK, STEADY, TestCamera, running_camera, shown_number, wait_until
from test_stream import no_threads_left

import vsdk
from vsdk.events import SourceState, Stats

DEATHS = 10
EVERY = replace(STEADY, policy="every")


class Seen(vsdk.Sink):
    """What one stream was given, without the pictures."""

    wants_frames = True

    def __init__(self) -> None:
        self.frames: list[tuple[int, int, int]] = []  # number, generation, number that the picture shows
        self.events: list[vsdk.Event] = []

    def write_frame(self, frame: vsdk.Frame) -> None:
        self.frames.append((frame.number, frame.generation, shown_number(frame.image)))

    def write_event(self, event: vsdk.Event) -> None:
        self.events.append(event)

    def close(self) -> None:
        pass

    @property
    def states(self) -> list[str]:
        return [event.state for event in self.events if isinstance(event, SourceState)]

    @property
    def last_stats(self) -> Stats:
        return next(event for event in reversed(self.events) if isinstance(event, Stats))

    def check_undisturbed(self) -> None:
        """Every frame of one connection came."""
        assert self.states[:2] == ["connecting", "live"]
        assert set(self.states[2:]) <= {"ended"}
        numbers, generations, shown = zip(*self.frames, strict=True)
        assert numbers == tuple(range(len(numbers)))
        assert set(generations) == {0}
        assert shown == tuple(sorted(set(shown)))
        stats = self.last_stats
        assert (stats.dropped, stats.decode_errors, stats.reconnects) == (0, 0, 0)


@pytest.fixture(scope="module")
def cameras() -> Iterator[tuple[TestCamera, TestCamera]]:
    """One that is left alone, and one to be mistreated."""
    with running_camera(15) as steady, running_camera(15) as other:
        yield steady, other


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the system does not list open files there")
def test_a_camera_that_dies_ten_times_costs_the_others_no_frame(cameras: tuple[TestCamera, TestCamera]) -> None:
    steady, dying = cameras
    seen: dict[str, Seen] = defaultdict(Seen)
    with vsdk.Streams(None, {"warm": steady.url("tcp")}, live=STEADY, memory=False) as streams:
        next(iter(streams))  # what is loaded once and for all is loaded now
    assert no_threads_left()
    gc.collect()
    descriptors = open_descriptors()
    sources = {name: vsdk.open(steady.url("tcp"), live=EVERY) for name in "abc"}
    sources["dying"] = vsdk.open(dying.url("tcp"), live=QUICK)
    counted: list[int] = []  # frames that each of the others had at a death, and again before the revival

    def frames_of_the_others() -> int:
        return min(len(seen[name].frames) for name in "abc")

    with vsdk.Streams(None, sources, sinks=lambda name: [seen[name]], memory=False, stats_every=0.5) as streams:
        for name, event in streams:
            if name != "dying" or not isinstance(event, SourceState):
                continue
            dead = len(counted) % 2 == 1
            if event.state == "live" and not dead:
                if len(counted) == 2 * DEATHS:
                    break
                counted.append(frames_of_the_others())
                dying.die()
            elif event.state == "reconnecting" and dead:
                wait_until(lambda: frames_of_the_others() > counted[-1] + 3)
                counted.append(frames_of_the_others())
                dying.revive()
    assert len(counted) == 2 * DEATHS
    for name in "abc":
        seen[name].check_undisturbed()
    stats = seen["dying"].last_stats
    assert stats.reconnects >= DEATHS
    assert stats.frames == len(seen["dying"].frames)
    numbers, generations, _ = zip(*seen["dying"].frames, strict=True)
    assert list(numbers) == sorted(set(numbers))
    assert list(generations) == sorted(generations)
    assert seen["dying"].states.count("live") >= DEATHS + 1
    assert no_threads_left()
    gc.collect()
    wait_until(lambda: open_descriptors() <= descriptors)


def test_a_camera_that_changes_its_size_disturbs_nobody(cameras: tuple[TestCamera, TestCamera]) -> None:
    steady, changing = cameras
    changing.recover()
    seen: dict[str, Seen] = defaultdict(Seen)
    sources = {
        "steady": vsdk.open(steady.url("tcp"), live=EVERY),
        "changing": vsdk.open(changing.url("tcp"), live=EVERY),
    }
    sizes = iter(([192, 96], [96, 64], [128, 64]))
    with vsdk.Streams(None, sources, sinks=lambda name: [seen[name]], memory=False, stats_every=0.2) as streams:
        generation = -1
        for name, event in streams:
            frames = seen["changing"].frames
            if name == "changing" and isinstance(event, Stats) and frames and frames[-1][1] > generation:
                generation = frames[-1][1]
                size = next(sizes, None)
                if size is None:
                    break
                changing.set("size", size)
    assert generation >= 3
    assert "error" not in {getattr(each.events[-1], "reason", None) for each in seen.values()}
    seen["steady"].check_undisturbed()


def test_silent_cameras_are_closed_within_a_second(cameras: tuple[TestCamera, TestCamera]) -> None:
    _, silent = cameras
    silent.recover()
    silent.set("silent", True)
    seen: dict[str, Seen] = defaultdict(Seen)
    sources = {str(number): silent.url(scheme) for number, scheme in enumerate(("tcp", "http", "rtsp"))}
    streams = vsdk.Streams(None, sources, live=STEADY, sinks=lambda name: [seen[name]], memory=False)
    took: list[float] = []

    def close() -> None:
        wait_until(lambda: len(seen) == 3 and all(each.states for each in seen.values()))
        started = time.monotonic()
        streams.close()
        took.append(time.monotonic() - started)

    closer = threading.Thread(target=close)
    closer.start()
    events = list(streams)
    closer.join(PATIENCE)
    assert {event.type for _, event in events} == {"start", "source"}
    assert took[0] < 2  # a second, on a machine that does other things as well
    ends = [each.events[-1] for each in seen.values()]
    assert [end.reason for end in ends if isinstance(end, vsdk.End)] == ["closed"] * 3
    silent.recover()


def test_a_camera_that_is_refused_for_good_ends_alone(cameras: tuple[TestCamera, TestCamera]) -> None:
    steady, _ = cameras
    live = replace(EVERY, reconnect_for=0.0)
    sources = {"steady": steady.url("tcp"), "locked": steady.url("rtsp", "/locked", credentials=True, password="wrong")}
    with vsdk.Streams(None, sources, live=live, memory=False, stats_every=0.5) as streams:
        ended = None
        for name, event in streams:
            if name == "locked" and isinstance(event, vsdk.End):
                ended = event
            if ended is not None and name == "steady" and isinstance(event, Stats) and event.frames > 3:
                break
        failure = streams.failures["locked"]
    assert ended is not None
    assert ended.reason == "error"
    assert "401" in ended.message
    assert "wrong" not in ended.message + str(failure)
