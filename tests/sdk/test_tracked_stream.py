"""The stream of `vsdk track` as a class: what sinks get, and that everything is closed, however it ends."""

from __future__ import annotations

from pathlib import Path

import color_tracker
import numpy as np
import pytest
from color_tracker import FRAMES, GONE, red_box

import vsdk
from vsdk.events import End, Event, Mask, Start
from vsdk.frame import Frame
from vsdk.sinks.base import Sink
from vsdk.sources.arrays import Arrays
from vsdk.tracking.tracked_stream import Prompt, TrackedStream
from vsdk_runtimes.errors import ClosedError, InputError, SinkError


class Kept(Sink):
    """Keeps what it gets, in order; may fail at one event."""

    wants_frames = True

    def __init__(self, fails_at: int | None = None) -> None:
        self.got: list[Frame | Event] = []
        self.closed = 0
        self._fails_at = fails_at

    def write_frame(self, frame: Frame) -> None:
        self.got.append(frame)

    def write_event(self, event: Event) -> None:
        if len(self.got) == self._fails_at:
            raise SinkError("full")
        self.got.append(event)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return color_tracker.write_color_tracker(tmp_path_factory.mktemp("tracker") / "bundle")


def stream(bundle: Path, *sinks: Sink, at: int = 0) -> TrackedStream:
    source = Arrays([color_tracker.picture(number) for number in range(FRAMES)])
    prompts = [Prompt(7, box=red_box(at)), Prompt(3, points=((150, 100), (5, 5)), labels=(1, 0))]
    return TrackedStream(source, vsdk.Tracker(bundle, threads=1), prompts, at=at, sinks=sinks)


def test_sinks_get_each_frame_before_its_masks(bundle: Path) -> None:
    sink = Kept()
    with stream(bundle, sink, at=2) as tracked:
        events = list(tracked)
    assert [event for event in sink.got if not isinstance(event, Frame)] == events
    assert isinstance(events[0], Start)
    assert events[-1] == End("end", FRAMES, FRAMES - 2, 0)
    kinds = [type(item) for item in sink.got]
    assert kinds == [Start, Frame, Frame, *[Frame, Mask, Mask] * (FRAMES - 2), End]
    for item in sink.got:
        if isinstance(item, Mask) and item.object == 7:
            assert item.present == (item.frame not in GONE)
            if item.present:
                assert item.mask is not None
                assert item.box == red_box(item.frame)
                assert np.count_nonzero(item.mask) == pytest.approx(1600, rel=0.01)
    assert sink.closed == 1


def test_it_can_be_left_early(bundle: Path) -> None:
    sink = Kept()
    with stream(bundle, sink) as tracked:
        for event in tracked:
            if isinstance(event, Mask) and event.frame == 4:
                break
    assert sink.got[-1] == End("closed", 5, 5, 0)
    tracked.close()
    assert sink.closed == 1
    with pytest.raises(ClosedError):
        next(iter(tracked))
    with pytest.raises(ClosedError):
        tracked.source.read()
    with pytest.raises(ClosedError):
        tracked.tracker.track(color_tracker.picture(0))


def test_a_sink_that_fails_ends_the_stream_and_the_others_are_told(bundle: Path) -> None:
    failing, other = Kept(fails_at=5), Kept()
    with pytest.raises(SinkError, match="full"), stream(bundle, other, failing) as tracked:
        list(tracked)
    end = other.got[-1]
    assert isinstance(end, End)
    assert (end.reason, end.message) == ("error", "full")
    assert failing.closed == other.closed == 1


def test_a_prompt_that_is_refused_ends_the_stream(bundle: Path) -> None:
    sink = Kept()
    source = Arrays([color_tracker.picture(0)])
    prompt = Prompt(1, box=(0, 0, 1000, 1000))
    with (
        pytest.raises(InputError, match="outside"),
        TrackedStream(source, vsdk.Tracker(bundle), [prompt], sinks=[sink]) as s,
    ):
        list(s)
    end = sink.got[-1]
    assert isinstance(end, End)
    assert end.reason == "error"
