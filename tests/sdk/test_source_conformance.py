"""What every source that is read from beginning to end must do, whatever it reads.

Two are live sources that come to an end: a recording over HTTP, and a stream over TCP that is read once.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import PIL.Image
import pytest
from live_tools import QUICK, serve_file
from video_tools import number_of, numbered, with_display_matrix, write_numbered

from vsdk.errors import ClosedError
from vsdk.frame import Frame
from vsdk.sources.arrays import Arrays
from vsdk.sources.base import Source
from vsdk.sources.image_folder import ImageFolder
from vsdk.sources.live import LiveSource
from vsdk.sources.opening import open_source
from vsdk.sources.paced import Paced
from vsdk.sources.piped_video import PipedVideo
from vsdk.sources.raw_video import RawVideo
from vsdk.sources.video_file import VideoFile

COUNT, WIDTH, HEIGHT = 24, 96, 64


def _mp4(folder: Path) -> Source:
    return VideoFile(write_numbered(folder / "clip.mp4", COUNT))


def _matroska_with_b_frames(folder: Path) -> Source:
    return VideoFile(write_numbered(folder / "clip.mkv", COUNT, options={"bf": "3", "b-adapt": "0"}), threads=2)


def _transport_stream(folder: Path) -> Source:
    return VideoFile(write_numbered(folder / "clip.ts", COUNT), threads=1)


def _motion_jpeg_avi(folder: Path) -> Source:
    return VideoFile(write_numbered(folder / "clip.avi", COUNT, codec="mjpeg", pix_fmt="yuvj420p"))


def _raw_h264(folder: Path) -> Source:
    return VideoFile(write_numbered(folder / "clip.h264", COUNT))


def _turned_by_180_degrees(folder: Path) -> Source:
    upright = write_numbered(folder / "upright.mp4", COUNT).read_bytes()
    (folder / "turned.mp4").write_bytes(with_display_matrix(upright, -1, 0, 0, -1))
    return VideoFile(folder / "turned.mp4")


def _folder_of_png(folder: Path) -> Source:
    for index in range(COUNT):
        PIL.Image.fromarray(numbered(index)).save(folder / f"frame{index}.png")
    return ImageFolder(folder)


def _folder_of_jpeg(folder: Path) -> Source:
    for index in range(COUNT):
        PIL.Image.fromarray(numbered(index)).save(folder / f"{index}.JPG", quality=90)
    return open_source(folder)


def _paced_mp4(folder: Path) -> Source:
    return Paced(VideoFile(write_numbered(folder / "clip.mp4", COUNT)), speed=50)


def _list_of_arrays(folder: Path) -> Source:
    return Arrays([numbered(index) for index in range(COUNT)])


def _generator_that_reuses_its_memory(folder: Path) -> Source:
    def generate() -> Iterator[np.ndarray]:
        buffer = np.empty((HEIGHT, WIDTH, 3), np.uint8)
        for index in range(COUNT):
            buffer[:] = numbered(index)
            yield buffer

    return open_source(generate())


def _file_of_a_pipe(data: bytes) -> BinaryIO:
    reading, writing = os.pipe()

    def send() -> None:
        with contextlib.suppress(BrokenPipeError), os.fdopen(writing, "wb") as sender:
            sender.write(data)

    threading.Thread(target=send, daemon=True).start()
    return os.fdopen(reading, "rb")


def _y4m_through_a_pipe(folder: Path) -> Source:
    return PipedVideo(_file_of_a_pipe(write_numbered(folder / "a.y4m", COUNT, codec="wrapped_avframe").read_bytes()))


def _matroska_through_a_pipe(folder: Path) -> Source:
    return PipedVideo(_file_of_a_pipe(write_numbered(folder / "clip.mkv", COUNT).read_bytes()), threads=2)


def _mp4_in_memory(folder: Path) -> Source:
    return PipedVideo(io.BytesIO(write_numbered(folder / "clip.mp4", COUNT).read_bytes()))


def _raw_frames_through_a_pipe(folder: Path) -> Source:
    data = b"".join(numbered(index).tobytes() for index in range(COUNT))
    return RawVideo(_file_of_a_pipe(data), f"{WIDTH}x{HEIGHT}:bgr24@25")


def _recording_over_http(folder: Path) -> Source:
    port = serve_file(write_numbered(folder / "clip.mkv", COUNT), http=True)
    return open_source(f"http://127.0.0.1:{port}/clip.mkv", live=QUICK)


def _stream_over_tcp(folder: Path) -> Source:
    port = serve_file(write_numbered(folder / "clip.ts", COUNT), http=False)
    return open_source(f"tcp://127.0.0.1:{port}", live=replace(QUICK, policy="every", reconnect_for=0.0))


SOURCES = [
    _mp4,
    _matroska_with_b_frames,
    _transport_stream,
    _motion_jpeg_avi,
    _raw_h264,
    _turned_by_180_degrees,
    _folder_of_png,
    _folder_of_jpeg,
    _paced_mp4,
    _list_of_arrays,
    _generator_that_reuses_its_memory,
    _y4m_through_a_pipe,
    _matroska_through_a_pipe,
    _mp4_in_memory,
    _raw_frames_through_a_pipe,
    _recording_over_http,
    _stream_over_tcp,
]


@pytest.fixture(params=SOURCES, ids=lambda function: function.__name__.strip("_"))
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Source]:
    open_it: Callable[[Path], Source] = request.param
    with open_it(tmp_path) as source:
        yield source


def _shown(frame: Frame, source: Source) -> int:
    turned = source.info.name == "turned.mp4"
    return number_of(frame.image[::-1, ::-1] if turned else frame.image)


def test_gives_every_frame_in_order_and_then_none_for_ever(opened: Source) -> None:
    shown: list[int] = []
    while (frame := opened.read()) is not None:
        assert frame.number == len(shown)
        shown.append(_shown(frame, opened))
    assert shown == list(range(COUNT))
    assert opened.read() is None
    assert opened.read() is None
    assert opened.decode_errors == 0


def test_time_starts_at_0_and_rises_by_the_frame_rate(opened: Source) -> None:
    frames = list(opened)
    rate = opened.info.frame_rate
    assert rate == 25
    assert [frame.time for frame in frames] == [index / rate for index in range(COUNT)]
    assert all(earlier.time_ns < later.time_ns for earlier, later in itertools.pairwise(frames))
    assert all(earlier.captured_ns <= later.captured_ns for earlier, later in itertools.pairwise(frames))
    assert {frame.generation for frame in frames} == {0}


def test_stamps_agree_with_times(opened: Source) -> None:
    frames = list(opened)
    stamped = [frame for frame in frames if frame.pts is not None]
    for frame in stamped:
        assert frame.pts is not None
        assert stamped[0].pts is not None
        assert (frame.pts - stamped[0].pts) * frame.time_base == frame.time


def test_what_it_says_of_itself_is_true(opened: Source) -> None:
    early = opened.info
    assert early.name
    assert early.live == isinstance(opened, LiveSource)
    assert early.frame_count in (None, COUNT)
    frame = opened.read()
    assert frame is not None
    info = opened.info
    assert info == early or info.live  # those are opened before anything is known of them
    assert (info.width, info.height) == (WIDTH, HEIGHT) == (frame.image.shape[1], frame.image.shape[0])
    opened.read()
    assert opened.info == info


def test_pictures_are_rgb_bytes_that_stay_as_they_were(opened: Source) -> None:
    frames, copies = [], []
    for frame in opened:
        assert frame.image.dtype == np.uint8
        assert frame.image.shape == (HEIGHT, WIDTH, 3)
        frames.append(frame)
        copies.append(frame.image.copy())
    opened.close()
    for frame, copy in zip(frames, copies, strict=True):
        np.testing.assert_array_equal(frame.image, copy)
    for one, other in itertools.pairwise(frames):
        assert not np.shares_memory(one.image, other.image)


def test_writing_into_a_picture_does_not_change_the_next(opened: Source) -> None:
    for number, frame in enumerate(opened):
        assert _shown(frame, opened) == number
        frame.image[:] = 255


def test_a_closed_source_says_so(opened: Source) -> None:
    opened.read()
    opened.close()
    opened.close()
    with pytest.raises(ClosedError, match="closed"):
        opened.read()
    with pytest.raises(ClosedError):
        next(iter(opened))
    assert opened.info.width == WIDTH


def test_closes_before_the_first_frame_and_after_the_last(opened: Source) -> None:
    with opened as same:
        assert same is opened
        list(same)
    with pytest.raises(ClosedError):
        opened.read()


def test_the_context_manager_lets_errors_through_and_closes(opened: Source) -> None:
    with pytest.raises(ZeroDivisionError), opened:
        1 / 0  # noqa: B018
    with pytest.raises(ClosedError):
        opened.read()
