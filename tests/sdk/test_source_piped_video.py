"""Containers that arrive through something that cannot seek: nothing is lost, and damage is an error of ours."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from video_tools import flip_bits, from_planes, number_of, textured, write_numbered, write_sound, write_video

from vsdk.errors import Error, SourceEmptyError, SourceError, SourceTimeoutError, SourceUnreadableError
from vsdk.sources.piped_video import PipedVideo
from vsdk.sources.video_file import VideoFile

COUNT = 12


class Pipe:
    """Bytes that can be read once, in parts of any size."""

    def __init__(self, data: bytes, part: int = 5000) -> None:
        self._data = io.BytesIO(data)
        self._part = part

    def read(self, size: int) -> bytes:
        return self._data.read(min(size, self._part))


def y4m(folder: Path, pix_fmt: str = "yuv420p") -> bytes:
    return write_numbered(folder / "clip.y4m", COUNT, codec="wrapped_avframe", pix_fmt=pix_fmt).read_bytes()


WRITERS: dict[str, dict[str, Any]] = {
    "clip.y4m": {"codec": "wrapped_avframe"},
    "clip.ts": {},
    "clip.mkv": {},
    "clip.h264": {},
    "clip.flv": {},
    "clip.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "clip.mjpeg": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "clip.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime"}},
    "start.mp4": {"container_options": {"movflags": "faststart"}},
    "fragmented.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("part", [100, 1 << 20])
def test_every_container_that_can_be_read_forwards(tmp_path: Path, name: str, part: int) -> None:
    path = write_numbered(tmp_path / name, COUNT, **WRITERS[name])
    with PipedVideo(Pipe(path.read_bytes(), part)) as piped, VideoFile(path) as whole:
        assert piped.info.frame_rate == whole.info.frame_rate
        frames = list(piped)
        for frame, expected in zip(frames, whole, strict=True):
            assert (frame.number, frame.time, frame.pts) == (expected.number, expected.time, expected.pts)
            np.testing.assert_array_equal(frame.image, expected.image)
    assert [number_of(frame.image) for frame in frames] == list(range(COUNT))


def test_a_large_mp4_with_its_index_at_the_end(tmp_path: Path) -> None:
    data = write_video(tmp_path / "clip.mp4", textured(12), options={"qp": "10"}).read_bytes()
    assert data.index(b"mdat") < data.index(b"moov")
    with pytest.raises(SourceUnreadableError, match="my pipe is an MP4 file that cannot be read from a pipe") as caught:
        PipedVideo(Pipe(data), name="my pipe")
    assert "faststart" in caught.value.hint
    with PipedVideo(io.BytesIO(data)) as source:  # which can seek
        assert len(list(source)) == 12


# Y4M


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv444p", "gray", "yuv411p"])
def test_y4m_with_any_chroma(tmp_path: Path, pix_fmt: str) -> None:
    with PipedVideo(Pipe(y4m(tmp_path, pix_fmt))) as source:
        assert [number_of(frame.image) for frame in source] == list(range(COUNT))


@pytest.mark.parametrize(("width", "height"), [(95, 63), (1, 1), (17, 2)])
def test_y4m_of_odd_sizes(width: int, height: int) -> None:
    chroma = ((height + 1) // 2) * ((width + 1) // 2)
    frame = b"FRAME\n" + bytes([125]) * (width * height) + bytes([100]) * chroma + bytes([160]) * chroma
    with PipedVideo(Pipe(b"YUV4MPEG2 W%d H%d F25:1 C420\n" % (width, height) + frame * 3)) as source:
        for shown in source:
            assert shown.image.shape == (height, width, 3)
            assert np.ptp(shown.image.reshape(-1, 3).astype(int), axis=0).max() <= 2


@pytest.mark.parametrize(("parameter", "black", "white"), [("LIMITED", 16, 235), ("FULL", 0, 255)])
def test_the_range_of_y4m_is_honoured(parameter: str, black: int, white: int) -> None:
    frames = b"".join(b"FRAME\n" + bytes([luma]) * 64 + bytes([128]) * 128 for luma in (black, white))
    header = f"YUV4MPEG2 W8 H8 F25:1 C444 XCOLORRANGE={parameter}\n".encode()
    with PipedVideo(Pipe(header + frames)) as source:
        assert [int(frame.image.mean()) for frame in source] == [0, 255]


def test_y4m_without_a_range_is_limited() -> None:
    frames = b"".join(b"FRAME\n" + bytes([luma]) * 64 + bytes([128]) * 128 for luma in (16, 235))
    with PipedVideo(Pipe(b"YUV4MPEG2 W8 H8 F25:1 C444\n" + frames)) as source:
        assert [int(frame.image.mean()) for frame in source] == [0, 255]


@pytest.mark.parametrize(("height", "weights"), [(576, (0.299, 0.114)), (720, (0.2126, 0.0722))])
def test_the_matrix_of_y4m_goes_by_the_size(tmp_path: Path, height: int, weights: tuple[float, float]) -> None:
    red, blue = weights
    luma = 16 + 219 * (1 - red - blue)
    chroma = [128 - 112 * (1 - red - blue) / (1 - blue), 128 - 112 * (1 - red - blue) / (1 - red)]
    planes = [np.full((height, 16), round(sample), np.uint8) for sample in (luma, *chroma)]
    frame = from_planes(planes, "yuv444p")
    path = write_video(tmp_path / "green.y4m", [frame], codec="wrapped_avframe", pix_fmt="yuv444p")
    with PipedVideo(Pipe(path.read_bytes())) as source:
        shown = source.read()
    assert shown is not None
    np.testing.assert_allclose(shown.image[8, 8].astype(int), (0, 255, 0), atol=3)


def test_y4m_that_is_cut_short_ends_earlier(tmp_path: Path) -> None:
    with PipedVideo(Pipe(y4m(tmp_path)[:-100])) as source:
        assert [number_of(frame.image) for frame in source] == list(range(COUNT - 1))


# What is not a video


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", SourceEmptyError),
        (b"hello", SourceUnreadableError),
        (np.random.default_rng(0).bytes(200_000), SourceUnreadableError),
        (b"#EXTM3U\n#EXTINF:1\nhttp://admin:s3cr3t@host/x.ts\n", SourceUnreadableError),
        (b"ffconcat version 1.0\nfile 'http://admin:s3cr3t@host/x.ts'\n", SourceUnreadableError),
        (b"v=0\r\no=- 0 0 IN IP4 1\r\ns=admin:s3cr3t@host\r\nm=video 5 RTP/AVP 96\r\n", SourceUnreadableError),
        (b"YUV4MPEG2 W8 H8 F25:1 C444\n", SourceEmptyError),
        (b"YUV4MPEG2 W0 H8 F25:1 C444\nFRAME\n", SourceUnreadableError),
        (b"YUV4MPEG2 W999999 H999999 F25:1 C444\nFRAME\n", SourceUnreadableError),
        (b"YUV4MPEG2 W8 H8 F0:0 C987\nFRAME\n", SourceUnreadableError),
    ],
    ids=range(10),
)
def test_what_is_no_video(data: bytes, error: type[Error]) -> None:
    with pytest.raises(error, match="standard input") as caught:
        PipedVideo(Pipe(data), name="standard input")
    assert caught.value.hint
    shown = f"{caught.value} {caught.value.__cause__!r} {caught.value.__context__!r}"
    assert "s3cr3t" not in shown
    if data == b"hello":
        assert "1280x720:bgr24@30" in caught.value.hint


def test_sound_only(tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadableError, match="no video stream"):
        PipedVideo(Pipe(write_sound(tmp_path / "sound.wav", "pcm_s16le").read_bytes()))


def _whole(folder: Path) -> dict[str, bytes]:
    names = ("clip.y4m", "clip.ts", "clip.mkv", "clip.avi", "fragmented.mp4")
    return {name: write_numbered(folder / name, 6, 48, 32, **WRITERS[name]).read_bytes() for name in names}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return _whole(tmp_path_factory.mktemp("whole"))


def consume(data: bytes, part: int = 5000) -> int:
    """How many frames there are before the end or the first error, which is one of ours."""
    count = 0
    with contextlib.suppress(SourceError), PipedVideo(Pipe(data, part), name="pipe", threads=1) as source:
        for _ in source:
            count += 1
    return count


@settings(max_examples=150)
@given(
    name=st.sampled_from(["clip.y4m", "clip.ts", "clip.mkv", "clip.avi", "fragmented.mp4"]),
    rate=st.sampled_from([0.0, 0.0001, 0.001, 0.01, 0.1]),
    seed=st.integers(0, 1000),
    keep=st.floats(0, 1),
    extra=st.binary(max_size=40),
    part=st.sampled_from([1, 13, 4096]),
)
def test_damage_of_any_kind_is_an_error_of_ours(
    whole: dict[str, bytes], name: str, rate: float, seed: int, keep: float, extra: bytes, part: int
) -> None:
    data = whole[name]
    data = flip_bits(data, rate, seed) if rate else data
    cut = int(len(data) * keep)
    consume(data[:cut] + extra + data[cut + len(extra) :] if seed % 2 else data[:cut] + extra, part)


HEADER_WORDS = st.sampled_from(
    [
        *(b" W8", b" H8", b" W-1", b" H0", b" F25:1", b" F0:0", b" F1:0", b" Ip", b" Im", b" A0:0", b" C420"),
        *(b" C444alpha", b" Cmono16", b" C", b" C420p16", b" XCOLORRANGE=FULL", b" X" * 200),
        *(b"\n", b"FRAME\n", b"FRAME Ixyz\n"),
    ]
)


@given(words=st.lists(HEADER_WORDS | st.binary(max_size=8), max_size=12), body=st.binary(max_size=500))
def test_any_header_of_y4m_is_an_error_of_ours(words: list[bytes], body: bytes) -> None:
    consume(b"YUV4MPEG2" + b"".join(words) + b"\nFRAME\n" + body)


@given(st.binary(max_size=400))
def test_any_bytes_are_an_error_of_ours(data: bytes) -> None:
    consume(data)


# Time-outs and interruptions


def with_pipe(work: Callable[[Any, Any], None]) -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as file, open(writing, "wb", buffering=0) as sender:  # noqa: PTH123
        work(file, sender)


@pytest.mark.parametrize("sent", [0, 4000])
def test_a_sender_that_stalls_while_opening_is_given_up(tmp_path: Path, sent: int) -> None:
    data = write_numbered(tmp_path / "clip.ts", COUNT).read_bytes()[:sent]

    def work(file: Any, sender: Any) -> None:
        sender.write(data)
        started = time.monotonic()
        with pytest.raises(SourceTimeoutError, match=r"camera: nothing came for 0\.3 s"):
            PipedVideo(file, name="camera", timeout=0.3)
        assert time.monotonic() - started < 30

    with_pipe(work)


def test_a_sender_that_stalls_later_is_given_up_after_what_it_sent(tmp_path: Path) -> None:
    data = y4m(tmp_path)

    def work(file: Any, sender: Any) -> None:
        threading.Thread(target=sender.write, args=(data,)).start()
        with PipedVideo(file, timeout=3) as source:
            frames = [source.read() for _ in range(COUNT)]
            assert [number_of(frame.image) for frame in frames if frame is not None] == list(range(COUNT))
            for _ in range(2):
                with pytest.raises(SourceTimeoutError, match="nothing came for 3 s"):
                    source.read()

    with_pipe(work)


def test_ctrl_c_while_ffmpeg_waits_for_bytes() -> None:
    def work(file: Any, sender: Any) -> None:
        timer = threading.Timer(0.3, lambda: signal.raise_signal(signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            PipedVideo(file, timeout=20)

    with_pipe(work)


def test_the_file_stays_open(tmp_path: Path) -> None:
    file = io.BytesIO(y4m(tmp_path))
    with PipedVideo(file) as source:
        list(source)
    assert not file.closed
