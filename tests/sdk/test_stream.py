"""The stream: threads, ends and failures, with real H.264 files and the model that ships with vsdk."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

import vsdk
from vsdk.errors import ClosedError, InputError, SinkError, SourceNotFoundError
from vsdk_models.nano.textures import backdrop

LENGTHS = (40, 30, 35)


def pictures(lengths: tuple[int, ...] = LENGTHS) -> Iterator[np.ndarray]:
    """A slow pan over one place after the other, uint8 `[96, 128, 3]`."""
    for number, length in enumerate(lengths):
        place = (backdrop(np.random.default_rng(30 + number), 200) * 255).astype(np.uint8)
        for i in range(length):
            yield np.ascontiguousarray(place[20:116, i : i + 128])


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scenes, 25 frames a second, H.264."""
    path = tmp_path_factory.mktemp("stream") / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for picture in pictures():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


class Recorder(vsdk.Sink):
    """Keeps what it is given; fails at the n-th event if told to."""

    def __init__(self, fail_at: int | None = None, frames: bool = False) -> None:
        self.events: list[vsdk.Event] = []
        self.numbers: list[int] = []
        self.closed = 0
        self.wants_frames = frames
        self._fail_at = fail_at

    def write_frame(self, frame: vsdk.Frame) -> None:
        self.numbers.append(frame.number)

    def write_event(self, event: vsdk.Event) -> None:
        if len(self.events) == self._fail_at:
            raise SinkError("the disk is full")
        self.events.append(event)

    def close(self) -> None:
        self.closed += 1


def end_of(sink: Recorder) -> vsdk.End:
    end = sink.events[-1]
    assert isinstance(end, vsdk.End)
    return end


def no_threads_left() -> bool:
    deadline = time.monotonic() + 10
    while any(t.name.startswith("vsdk-") for t in threading.enumerate()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_five_lines(clip: Path) -> None:
    with vsdk.Stream(vsdk.load(), clip) as stream:
        events = list(stream)
    spans = [(e.start_frame, e.end_frame) for e in events if isinstance(e, vsdk.Scene)]
    assert spans == [(0, 39), (40, 69), (70, 104)]
    assert isinstance(events[0], vsdk.Start)
    assert events[0].source.endswith("clip.mp4")
    end = events[-1]
    assert isinstance(end, vsdk.End)
    assert (end.reason, end.frames, end.scenes, end.decode_errors) == ("end", 105, 3, 0)
    assert no_threads_left()


def test_stream_of_arrays_equals_pushed_frames() -> None:
    with vsdk.Stream(None, pictures()) as stream:
        streamed = [e for e in stream if isinstance(e, vsdk.Scene)]
    pipeline = vsdk.Pipeline()
    pushed = [e for i, p in enumerate(pictures()) for e in pipeline.push(p, i * 40_000_000)] + pipeline.flush()
    pipeline.close()
    assert streamed == [e for e in pushed if isinstance(e, vsdk.Scene)]


def test_sinks_get_every_frame_and_event_and_are_closed(clip: Path) -> None:
    plain, with_frames = Recorder(), Recorder(frames=True)
    with vsdk.Stream(None, clip, sinks=[plain, with_frames]) as stream:
        events = list(stream)
    assert plain.events == with_frames.events == events
    assert (plain.numbers, with_frames.numbers) == ([], list(range(105)))
    assert plain.closed == with_frames.closed == 1


def test_close_from_another_thread_ends_within_a_second(clip: Path) -> None:
    def endless() -> Iterator[np.ndarray]:
        while True:
            yield from pictures()

    sink = Recorder()
    stream = vsdk.Stream(None, endless(), sinks=[sink])
    took: list[float] = []

    def close() -> None:
        time.sleep(0.3)
        started = time.monotonic()
        stream.close()
        took.append(time.monotonic() - started)

    closer = threading.Thread(target=close)
    closer.start()
    for _ in stream:
        pass
    closer.join()
    stream.close()
    assert took[0] < 1.0
    assert end_of(sink).reason == "closed"
    assert sink.closed == 1
    assert no_threads_left()
    with pytest.raises(ClosedError):
        iter(stream)


def test_leaving_early_tells_the_sinks(clip: Path) -> None:
    sink = Recorder()
    with vsdk.Stream(None, clip, sinks=[sink]) as stream:
        for _ in stream:
            break
    assert end_of(sink).reason == "closed"
    assert no_threads_left()


def test_a_failing_source_is_raised_in_the_consumer() -> None:
    def failing() -> Iterator[np.ndarray]:
        yield from pictures((20,))
        raise RuntimeError("the camera fell off")

    sink = Recorder()
    with pytest.raises(RuntimeError, match="fell off"), vsdk.Stream(None, failing(), sinks=[sink]) as stream:
        list(stream)
    assert end_of(sink).reason == "error"
    assert "fell off" in end_of(sink).message
    assert no_threads_left()


def test_a_bad_frame_is_raised_with_its_number() -> None:
    def odd() -> Iterator[np.ndarray]:
        yield from pictures((12,))
        yield np.zeros((96, 128), np.uint8)

    with pytest.raises(InputError, match="12"), vsdk.Stream(None, odd()) as stream:
        list(stream)


def test_a_failing_sink_does_not_take_the_others_down(clip: Path) -> None:
    failing, healthy = Recorder(fail_at=1), Recorder()
    with (
        pytest.raises(SinkError, match="disk is full"),
        vsdk.Stream(None, clip, sinks=[healthy, failing]) as stream,
    ):
        list(stream)
    assert end_of(healthy).reason == "error"
    assert healthy.closed == failing.closed == 1


def test_an_interrupted_stream_says_so(clip: Path) -> None:
    sink = Recorder()
    stream = vsdk.Stream(None, clip, sinks=[sink])
    with pytest.raises(KeyboardInterrupt), stream:  # noqa: PT012
        for _ in stream:
            raise KeyboardInterrupt
    assert end_of(sink).reason == "interrupted"


def test_what_cannot_be_opened_is_refused_at_once(clip: Path) -> None:
    with pytest.raises(SourceNotFoundError):
        vsdk.Stream(None, clip.with_name("no-such-clip.mp4"))
    with pytest.raises(vsdk.Error):
        vsdk.Stream(clip.parent, clip)
    assert no_threads_left()
