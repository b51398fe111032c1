"""Bad video files: each gives an error of vsdk, or the frames that are left and then a clean end. None hangs."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import pytest
from video_tools import flip_bits, number_of, textured, without_samples, write_numbered, write_sound, write_video

from vsdk.errors import (
    Error,
    SourceChangedError,
    SourceEmptyError,
    SourceError,
    SourceNotFoundError,
    SourceUnreadableError,
)
from vsdk.frame import Frame
from vsdk.sources.video_file import VideoFile

pytestmark = pytest.mark.timeout(60)

SUFFIXES = ["mp4", "mkv", "ts", "avi", "flv"]
COUNT = 60


@pytest.fixture(scope="module")
def sound_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One clip in each container; the MP4 has its tables in front, so that a part of it can be read."""
    folder = tmp_path_factory.mktemp("sound")
    pictures = textured(COUNT)
    faststart = {"movflags": "faststart"}
    return {
        suffix: write_video(
            folder / f"clip.{suffix}", pictures, container_options=faststart if suffix == "mp4" else {}
        ).read_bytes()
        for suffix in SUFFIXES
    }


def _read_all(path: Path, threads: int | None = None) -> tuple[list[Frame], int, Error | None]:
    """The frames, the number of damaged packets and the error at the end, if there is one."""
    frames: list[Frame] = []
    try:
        with VideoFile(path, threads=threads) as source:
            try:
                frames.extend(source)
            except SourceError as error:
                return frames, source.decode_errors, error
            assert source.read() is None
            return frames, source.decode_errors, None
    except SourceError as error:
        return [], 0, error


# Files that cannot be read at all


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _text(path: Path) -> None:
    path.write_text("This is not a video.\n" * 100)


def _noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).integers(0, 256, 100_000, dtype=np.uint8).tobytes())


def _zeros(path: Path) -> None:
    path.write_bytes(bytes(100_000))


def _sound_only(path: Path) -> None:
    write_sound(path, "aac")


def _no_samples(path: Path) -> None:
    path.write_bytes(without_samples(write_numbered(path, 10).read_bytes()))


def _no_index(path: Path) -> None:
    data = write_video(path, textured(20)).read_bytes()
    path.write_bytes(data[: data.rindex(b"moov") - 4])


def _half_an_index(path: Path) -> None:
    data = write_video(path, textured(20)).read_bytes()
    at = data.rindex(b"moov") - 4
    path.write_bytes(data[: at + (len(data) - at) // 3])


def _samples_overwritten(path: Path) -> None:
    data = bytearray(write_video(path, textured(20)).read_bytes())
    start, end = data.index(b"mdat") + 4, data.rindex(b"moov") - 4
    data[start:end] = np.random.default_rng(1).integers(0, 256, end - start, dtype=np.uint8).tobytes()
    path.write_bytes(data)


def _unknown_codec(path: Path) -> None:
    path.write_bytes(write_numbered(path, 10).read_bytes().replace(b"avc1", b"xyz9"))


def _folder(path: Path) -> None:
    path.mkdir()


def _nothing(path: Path) -> None:
    pass


def _dangling_link(path: Path) -> None:
    path.symlink_to(path.with_name("gone.mp4"))


def _link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def _pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (_empty, SourceUnreadableError, "empty"),
        (_text, SourceUnreadableError, "Invalid data"),
        (_noise, SourceUnreadableError, "Invalid data"),
        (_zeros, SourceUnreadableError, "Invalid data"),
        (_sound_only, SourceUnreadableError, "no video stream"),
        (_no_samples, SourceEmptyError, "not one frame"),
        (_no_index, SourceUnreadableError, "Invalid data"),
        (_half_an_index, SourceUnreadableError, "no video stream"),
        (_samples_overwritten, SourceUnreadableError, "damaged"),
        (_unknown_codec, SourceUnreadableError, "decoder"),
        (_folder, SourceUnreadableError, "is a folder"),
        (_nothing, SourceNotFoundError, "does not exist"),
        (_dangling_link, SourceNotFoundError, "does not exist"),
        (_link_to_itself, SourceUnreadableError, "cannot be opened"),
        (_pipe, SourceUnreadableError, "neither a file nor a folder"),
    ],
)
def test_files_without_a_video(tmp_path: Path, make: Callable[[Path], None], error: type[Error], says: str) -> None:
    path = tmp_path / "clip.mp4"
    make(path)
    with pytest.raises(error) as caught:
        VideoFile(path)
    assert type(caught.value) is error
    assert says in caught.value.message
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_a_matroska_file_with_nothing_but_its_header(tmp_path: Path) -> None:
    data = write_numbered(tmp_path / "clip.mkv", 10).read_bytes()
    path = tmp_path / "header.mkv"
    path.write_bytes(data[: data.index(b"\x1f\x43\xb6\x75")])  # up to the first cluster
    with pytest.raises(SourceEmptyError, match=r"header\.mkv"):
        VideoFile(path)


@pytest.fixture
def without_privileges() -> Iterator[None]:
    """Permissions mean nothing to root; so be somebody else for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("locked", ["the file", "its folder"])
def test_a_file_that_may_not_be_read(locked: str, request: pytest.FixtureRequest) -> None:
    with tempfile.TemporaryDirectory() as name:  # not tmp_path, which lies in a folder that only its owner may enter
        path = write_numbered(Path(name) / "clip.mp4", 5)
        Path(name).chmod(0o755)
        path.chmod(0o644)
        (path if locked == "the file" else Path(name)).chmod(0)
        request.getfixturevalue("without_privileges")
        try:
            with pytest.raises(SourceUnreadableError, match="Permission denied") as caught:
                VideoFile(path)
        finally:
            if os.getuid() == 0:
                os.seteuid(0)
            Path(name).chmod(0o755)
    assert "permissions" in caught.value.hint


# Files that can be read in part


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_was_cut_short_gives_the_frames_before_the_cut(
    tmp_path: Path, sound_files: dict[str, bytes], suffix: str, threads: int
) -> None:
    data, path = sound_files[suffix], tmp_path / f"cut.{suffix}"
    path.write_bytes(data)
    whole, _, _ = _read_all(path, threads)
    assert len(whole) == COUNT
    counts = []
    for part in (0.05, 0.3, 0.5, 0.7, 0.95):
        path.write_bytes(data[: int(len(data) * part)])
        frames, _, error = _read_all(path, threads)
        counts.append(len(frames))
        if part > 0.25:
            assert error is None
        for frame, sound in zip(frames[:-4], whole, strict=False):  # the last ones may lean on what was cut off
            np.testing.assert_array_equal(frame.image, sound.image)
            assert frame.time == sound.time
    assert counts == sorted(counts)
    assert COUNT / 4 < counts[2] < COUNT * 3 / 4
    assert counts[4] >= COUNT * 0.85


@pytest.mark.parametrize("rate", [1e-5, 1e-4, 1e-3, 5e-3, 2e-2, 0.1])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_flipped_bits_never_let_a_bare_error_through(
    tmp_path: Path, sound_files: dict[str, bytes], suffix: str, rate: float
) -> None:
    path = tmp_path / f"flipped.{suffix}"
    for seed in range(6):
        path.write_bytes(flip_bits(sound_files[suffix], rate, seed))
        frames, _, _ = _read_all(path, threads=1 + seed % 3)
        assert [frame.number for frame in frames] == list(range(len(frames)))
        assert all(earlier.time_ns < later.time_ns for earlier, later in itertools.pairwise(frames))
        assert len({frame.image.shape for frame in frames}) <= 1


# Where a flipped bit falls decides what it costs: in a picture hardly ever more than that picture, in the head of a
# block of Matroska the rest of the cluster, in a table of an MP4 the rest of the file. So here it is placed by what it
# hits. A distance from the start of the file would not say: x264 does not encode to the same bytes each time (with one
# thread too, a picture now and then is some 20 bytes longer), and all that comes after such a picture lies elsewhere.

GROUP = 12
"""Frames from one key picture to the next."""

GROUPS = {"g": str(GROUP), "sc_threshold": "0", "bf": "0"}
"""Options of the encoder for groups of that length that are decoded by themselves, and in the order of showing."""

HEAD = 16
"""Bytes at the start of a picture's data, where one flipped bit costs most."""


@pytest.fixture(scope="module")
def grouped_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, pictures = tmp_path_factory.mktemp("grouped"), textured(COUNT)
    return {suffix: write_video(folder / f"clip.{suffix}", pictures, options=GROUPS) for suffix in SUFFIXES}


def _places(path: Path) -> list[tuple[int, int]]:
    """Of each picture in a sound file with groups: where its data start, and their length."""
    data = path.read_bytes()
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size and packet.pos is not None]
        assert [packet.is_keyframe for packet in packets] == [number % GROUP == 0 for number in range(COUNT)]
        return [(data.index(bytes(packet)[:HEAD], packet.pos), packet.size) for packet in packets]


def _assert_the_others_are_whole(frames: list[Frame], whole: list[Frame], group: int) -> None:
    """Nothing outside of this group may be lost, altered or displaced in time."""
    before, after = group * GROUP, (group + 1) * GROUP - COUNT
    assert COUNT - GROUP <= len(frames) <= COUNT
    others = [*frames[:before], *frames[after or COUNT :]]
    for frame, sound in zip(others, [*whole[:before], *whole[after or COUNT :]], strict=True):
        np.testing.assert_array_equal(frame.image, sound.image)
        assert frame.time == sound.time


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_few_flipped_bits_cost_only_a_few_frames(
    tmp_path: Path, grouped_files: dict[str, Path], suffix: str, threads: int
) -> None:
    sound, path = grouped_files[suffix], tmp_path / f"flipped.{suffix}"
    whole, _, _ = _read_all(sound, threads)
    places, hits, lost = _places(sound), 4, []
    for group in range(COUNT // GROUP):
        data, random = bytearray(sound.read_bytes()), np.random.default_rng(group)
        # Not the key picture; nor the last one, the stamp of which MPEG-TS may give to the picture after it.
        for number in random.choice(range(1, GROUP - 1), hits, replace=False):
            start, _ = places[group * GROUP + number]
            data[start + int(random.integers(HEAD))] ^= 1 << int(random.integers(8))
        path.write_bytes(data)
        frames, _, error = _read_all(path, threads)
        assert error is None
        _assert_the_others_are_whole(frames, whole, group)
        lost.append(COUNT - len(frames))
    # A picture that passes for another one can cost several of its group; that is rare, and most cost nothing else.
    assert 0 < np.median(lost) <= hits


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_lost_key_picture_costs_only_frames_up_to_the_next(
    tmp_path: Path, grouped_files: dict[str, Path], suffix: str, threads: int
) -> None:
    sound, path = grouped_files[suffix], tmp_path / f"overwritten.{suffix}"
    whole, _, _ = _read_all(sound, threads)
    places = _places(sound)
    for group in range(1, COUNT // GROUP):  # some containers say only in the first key picture what the frames' size is
        data, (start, size) = bytearray(sound.read_bytes()), places[group * GROUP]
        data[start : start + size] = bytes(size)
        path.write_bytes(data)
        frames, _, error = _read_all(path, threads)
        assert error is None
        assert len(frames) < COUNT
        _assert_the_others_are_whole(frames, whole, group)


def test_a_damaged_block_of_matroska_costs_the_rest_of_its_cluster(tmp_path: Path) -> None:
    # The writer would put groups as small as these into one cluster.
    duration = {"cluster_time_limit": str(GROUP * 40 - 10)}  # milliseconds
    path = write_numbered(tmp_path / "clip.mkv", COUNT, options=GROUPS, container_options=duration)
    hit = GROUP + 5
    data, (start, _) = bytearray(path.read_bytes()), _places(path)[hit]
    data[start - 6 : start - 4] = bytes(2)  # what says that a block comes, and how long it is
    path.write_bytes(data)
    frames, _, error = _read_all(path)
    assert error is None
    assert [number_of(frame.image) for frame in frames] == [*range(hit), *range(2 * GROUP, COUNT)]


def test_damaged_packets_are_skipped_and_counted(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "clip.avi", 30, codec="mjpeg", pix_fmt="yuvj420p")
    data, at = bytearray(path.read_bytes()), 0
    for number in range(30):
        at = data.index(b"\xff\xd8", at) + 2
        if number in (7, 8, 20):
            data[at : at + 200] = bytes(200)  # the tables that a JPEG cannot do without
    path.write_bytes(data)
    frames, errors, error = _read_all(path)
    assert error is None
    assert errors == 3
    assert [number_of(frame.image) for frame in frames] == [n for n in range(30) if n not in (7, 8, 20)]
    assert [frame.number for frame in frames] == list(range(27))
    assert [frame.time for frame in frames] == [Fraction(n, 25) for n in range(30) if n not in (7, 8, 20)]


@pytest.mark.parametrize("threads", [1, 3])
def test_a_new_frame_size_is_an_error_after_the_frames_before_it(tmp_path: Path, threads: int) -> None:
    small = write_numbered(tmp_path / "small.ts", 20, 96, 64).read_bytes()
    large = write_numbered(tmp_path / "large.ts", 20, 192, 128).read_bytes()
    path = tmp_path / "both.ts"
    path.write_bytes(small + large)
    frames: list[Frame] = []
    with VideoFile(path, threads=threads) as source:
        with pytest.raises(SourceChangedError) as caught:
            frames.extend(iter(source.read, None))
        with pytest.raises(SourceChangedError, match="192x128"):  # it stays so
            source.read()
    assert str(path) in caught.value.message
    assert "frame 20 is 192x128" in caught.value.message
    assert "96x64" in caught.value.message


def test_the_frames_before_a_new_size_are_all_given(tmp_path: Path) -> None:
    small = write_numbered(tmp_path / "small.ts", 20, 96, 64).read_bytes()
    large = write_numbered(tmp_path / "large.ts", 20, 192, 128).read_bytes()
    path = tmp_path / "both.ts"
    path.write_bytes(small + large)
    frames, _, error = _read_all(path)
    assert isinstance(error, SourceChangedError)
    assert [number_of(frame.image) for frame in frames] == list(range(20))


# A disk that fails while the file is read


class _FailingContainer:
    """A container whose demuxer raises after some packets."""

    def __init__(self, container: Any, after: int, error: Exception) -> None:
        self._container, self._after, self._error = container, after, error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def __enter__(self) -> _FailingContainer:
        return self

    def __exit__(self, *exception: object) -> None:
        self._container.close()

    def demux(self, *streams: Any) -> Iterator[Any]:
        for packet in self._container.demux(*streams):
            if self._after == 0:
                raise self._error
            self._after -= 1
            yield packet


def _fail(monkeypatch: pytest.MonkeyPatch, after: int, error: Exception) -> None:
    opened = av.open
    monkeypatch.setattr(av, "open", lambda *args, **how: _FailingContainer(opened(*args, **how), after, error))


def test_a_failing_disk_is_an_error_after_the_frames_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_numbered(tmp_path / "clip.mp4", 30, options={"bf": "0"})
    _fail(monkeypatch, 12, av.error.OSError(5, "Input/output error", str(path)))
    frames, _, error = _read_all(path, threads=1)
    assert type(error) is SourceUnreadableError
    assert "Input/output error" in error.message
    assert [number_of(frame.image) for frame in frames] == list(range(12))


def test_a_demuxer_that_never_recovers_is_the_end_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_numbered(tmp_path / "clip.mp4", 30)
    _fail(monkeypatch, 12, av.error.InvalidDataError(1, "Invalid data found when processing input", str(path)))
    frames, errors, error = _read_all(path)
    assert error is None
    assert errors > 0
    assert [number_of(frame.image) for frame in frames] == list(range(12))  # those that the decoder still held as well
