"""Rotating JSON lines: what is put aside and when, what a restart finds, and what a killed process leaves."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import logging
import mmap
import os
import random
import signal
import struct
import time
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st
from own_process import in_own_process

from vsdk.events import Event, Mask, Scene
from vsdk.sinks.rotating_jsonl import RotatingJsonLines
from vsdk.sinks.rotation import SIZES, TIMES, Rotation
from vsdk_runtimes.errors import InputError, SinkError

LINE = len('{"type":"scene","index":0,"start_frame":0,"end_frame":9,"start":0.0,"end":1.0,"depth":null}\n')
ROTATION = Rotation(size=4 * LINE)


def scene(index: int) -> Event:
    """Events with one digit make lines of one length."""
    return Scene(index, 0, 9, 0.0, 1.0)


def write(path: Path, rotation: Rotation, indices: range) -> None:
    with RotatingJsonLines(path, rotation) as sink:
        for index in indices:
            sink.write_event(scene(index))


def files(path: Path) -> list[Path]:
    """The files in the order of their names; the current one is the last."""
    return sorted(path.parent.iterdir())


def indices(path: Path) -> list[list[int]]:
    """What is in each file; every line must be whole."""
    return [[json.loads(line)["index"] for line in lines(file)] for file in files(path)]


def lines(file: Path) -> list[str]:
    text = file.read_text("utf-8")
    assert text == "" or text.endswith("\n")
    return text.splitlines()


# What a rotation may be


@pytest.mark.parametrize(
    ("text", "rotation"),
    [
        ("100MB", Rotation(size=100_000_000)),
        ("1h", Rotation(seconds=3600)),
        ("1d", Rotation(seconds=86400)),
        ("90s", Rotation(seconds=90)),
        ("15min,keep=4", Rotation(seconds=900, keep=4)),
        ("2GB,keep=10", Rotation(size=2_000_000_000, keep=10)),
        ("500kB,1d,keep=30", Rotation(size=500_000, seconds=86400, keep=30)),
        ("keep=30,1d,500kB", Rotation(size=500_000, seconds=86400, keep=30)),
    ],
)
def test_a_rotation_is_a_size_a_time_or_both(text: str, rotation: Rotation) -> None:
    assert Rotation.parse(text) == rotation


NO_SIZE_AND_NO_TIME = [
    "",
    "100",
    "MB",
    "100mb",
    "100 MB",
    "1.5h",
    "-1h",
    "0h",
    "007s",
    "1m",
    "1w",
    "1h ",
    "１h",
    "keep=3",
]
MORE_THAN_ONE = ["1h,", ",1h", "1h ", "1h,2h", "1MB,1GB", "1h,keep=3,keep=4", "1h;keep=3"]
NOTHING_TO_KEEP = ["1h,keep=", "1h,keep=0", "1h,keep=-1", "1h,keep=x", "1h,Keep=3"]


@pytest.mark.parametrize("text", NO_SIZE_AND_NO_TIME + MORE_THAN_ONE + NOTHING_TO_KEEP)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError, match="is no rotation") as caught:
        Rotation.parse(text)
    assert "100MB,1d,keep=30" in caught.value.hint


@given(st.integers(1, 10**9), st.sampled_from(sorted(SIZES)), st.integers(1, 10**6), st.sampled_from(sorted(TIMES)))
def test_units_multiply(size: int, size_unit: str, time: int, time_unit: str) -> None:
    rotation = Rotation.parse(f"{size}{size_unit},{time}{time_unit}")
    assert rotation == Rotation(size * SIZES[size_unit], time * TIMES[time_unit])


@given(st.text(st.sampled_from("0123456789kKMGBsminhd=,ep ")))
def test_a_text_is_a_rotation_or_an_error(text: str) -> None:
    with contextlib.suppress(InputError):
        rotation = Rotation.parse(text)
        assert rotation.size is not None or rotation.seconds is not None


@pytest.mark.parametrize(
    "fields", [{}, {"keep": 3}, {"size": 0}, {"seconds": -1}, {"size": 1, "keep": 0}, {"size": 1.5}]
)
def test_a_rotation_makes_sense(fields: dict[str, int]) -> None:
    with pytest.raises(InputError):
        Rotation(**fields)


# When files are put aside


def test_a_file_is_put_aside_before_it_would_grow_too_large(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write(path, ROTATION, range(10))
    assert indices(path) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert files(path)[-1] == path
    assert [file.name[:16] for file in files(path)[:-1]] == ["events.00000001-", "events.00000002-"]
    assert all(file.stat().st_size <= 4 * LINE for file in files(path))


def test_a_line_that_is_too_long_has_a_file_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write(path, Rotation(size=1), range(3))
    assert indices(path) == [[0], [1], [2]]


def test_names_say_when_the_last_line_was_written(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write(path, ROTATION, range(4))
    os.utime(path, (1_600_000_000, 1_600_000_000))
    write(path, ROTATION, range(4, 5))
    assert [file.name for file in files(path)] == ["events.00000001-20200913T122640Z.jsonl", "events.jsonl"]


def test_a_new_file_begins_with_a_new_time_span(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with RotatingJsonLines(path, Rotation(seconds=1)) as sink:
        for index in range(3):
            _wait_for_the_next_second()
            sink.write_event(scene(index))
    assert indices(path) == [[0], [1], [2]]


def _wait_for_the_next_second() -> None:
    begin = int(time.time())
    while int(time.time()) == begin:
        time.sleep(0.01)
    time.sleep(0.01)  # time stamps of files lag behind the clock by a tick


def test_time_spans_go_on_after_a_restart(tmp_path: Path) -> None:
    """The age of a file is that of its last line, whichever process wrote it."""
    path = tmp_path / "events.jsonl"
    day = Rotation(seconds=86400)
    write(path, day, range(1))
    os.utime(path, (time.time() - 86400, time.time() - 86400))
    write(path, day, range(1, 2))
    write(path, day, range(2, 3))
    assert indices(path) in ([[0], [1, 2]], [[0], [1], [2]])  # the latter at midnight


def test_only_the_newest_are_kept_and_nothing_else_is_deleted(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    others = [
        "other.jsonl",
        "events.jsonl.bak",
        "events.00000001.jsonl",
        "events.1-20200913T122640Z.jsonl",
        "events.00000000-20200913T122640Z.jsonl.gz",
        "my-events.00000000-20200913T122640Z.jsonl",
    ]
    for name in others:
        (tmp_path / name).touch()
    write(path, Rotation(size=4 * LINE, keep=2), range(10))
    write(path, Rotation(size=2 * LINE, keep=2), range(10))
    kept = [file for file in files(path) if file.name not in others]
    assert [file.name[:16] for file in kept] == ["events.00000006-", "events.00000007-", "events.jsonl"]
    assert [len(lines(file)) for file in kept] == [2, 2, 2]
    assert set(others) <= {file.name for file in files(path)}


def test_without_keep_everything_stays(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for _ in range(3):
        write(path, ROTATION, range(9))
    assert list(itertools.chain(*indices(path))) == [*range(9)] * 3


def test_numbers_rise_although_the_clock_was_set_back_and_files_were_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write(path, ROTATION, range(9))
    write(path, ROTATION, range(3))
    first, second, _ = files(path)
    first.unlink()
    os.utime(path, (0, 0))
    write(path, ROTATION, range(1))
    assert [file.name for file in files(path)] == [
        second.name,
        "events.00000003-19700101T000000Z.jsonl",
        "events.jsonl",
    ]


# What a restart finds


def test_a_restart_goes_on_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write(path, ROTATION, range(3))
    write(path, ROTATION, range(3, 6))
    assert indices(path) == [[0, 1, 2, 3], [4, 5]]


@pytest.mark.parametrize("torn", ['{"type":"sce', "{", '{"type":"start","source":"' + "x" * 200_000, "\0" * 9000])
@pytest.mark.parametrize("whole", [0, 2])
def test_an_unfinished_line_is_cut_off(torn: str, whole: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "events.jsonl"
    write(path, ROTATION, range(whole))
    with path.open("a") as file:
        file.write(torn)
    with caplog.at_level(logging.WARNING, "vsdk"):
        write(path, Rotation(size=10**6), range(whole, 4))
    assert indices(path) == [[0, 1, 2, 3]]
    assert f"{path}: an unfinished line of {len(torn)} bytes was cut off" in caplog.text


def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(b"\x01\0\0 ftypisom")
    with pytest.raises(SinkError, match=f"cannot write {path}: there is a file that does not hold JSON lines"):
        RotatingJsonLines(path, ROTATION)
    assert path.read_bytes() == b"\x01\0\0 ftypisom"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_device_is_refused() -> None:
    with pytest.raises(SinkError, match="/dev/full: only a regular file"):
        RotatingJsonLines("/dev/full", ROTATION)


def test_two_writers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with RotatingJsonLines(path, ROTATION) as sink:
        for index in range(6):  # the second file is protected like the first
            with pytest.raises(SinkError, match=f"cannot write {path}: it is being written already"):
                RotatingJsonLines(path, ROTATION)
            sink.write_event(scene(index))
    assert indices(path) == [[0, 1, 2, 3], [4, 5]]


def test_files_lie_beside_the_file_that_a_link_leads_to(tmp_path: Path) -> None:
    real = tmp_path / "disk"
    real.mkdir()
    link = tmp_path / "events.jsonl"
    link.symlink_to(real / "lines.jsonl")
    write(link, ROTATION, range(6))
    assert link.is_symlink()
    assert indices(real / "lines.jsonl") == [[0, 1, 2, 3], [4, 5]]


# What goes wrong


def test_a_folder_that_has_gone_is_named_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "disk" / "events.jsonl"
    path.parent.mkdir()
    with RotatingJsonLines(path, ROTATION) as sink:
        for index in range(4):
            sink.write_event(scene(index))
        path.parent.rename(tmp_path / "elsewhere")
        with pytest.raises(SinkError, match=f"cannot write {path}: No such file or directory"):
            sink.write_event(scene(4))
        (tmp_path / "elsewhere").rename(path.parent)
        assert indices(path) == [[0, 1, 2, 3]]
        sink.write_event(scene(5))
    assert indices(path) == [[0, 1, 2, 3], [5]]


def test_when_no_new_file_can_be_made_the_old_one_is_complete_and_writing_can_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.jsonl"
    with RotatingJsonLines(path, Rotation(size=1)) as sink:
        sink.write_event(scene(0))
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", _no_room)
            with pytest.raises(SinkError, match=f"cannot write {path}: No space left on device"):
                sink.write_event(scene(1))
            assert indices(path) == [[0]]
        sink.write_event(scene(2))
    assert indices(path) == [[0], [2]]


def _no_room(path: Path, *_: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


# What a killed process leaves

KILLS = 50
LONGEST = 40_000
"""Characters of the longest line: of lines larger than a page, a kill may leave a part."""


def test_after_fifty_kills_every_line_that_was_written_is_there_once(tmp_path: Path) -> None:
    count, unfinished = in_own_process(_kill_writers, tmp_path / "events.jsonl")
    print(f"{count} files were put aside; {unfinished} of {KILLS} kills left an unfinished line")
    assert count > 10


def _kill_writers(path: Path) -> tuple[int, int]:
    """Kill one writer after the other; how many files there are, and how often there was an unfinished line."""
    chance = random.Random(5)
    progress = mmap.mmap(-1, 8)  # the number of the last line that was written
    states: dict[Path, tuple[int, int, int]] = {}
    aside_end = end = unfinished = 0  # the number after the last one in the files put aside, and in all files
    for _ in range(KILLS):
        progress[:] = struct.pack("q", -1)
        writer = os.fork()
        if writer == 0:
            _write_until_killed(path, end, progress)
        while struct.unpack("q", progress)[0] < 0:
            time.sleep(0.0005)
        time.sleep(chance.uniform(0, 0.02))
        os.kill(writer, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(writer, 0)[1]) == -signal.SIGKILL
        for file in sorted(set(path.parent.iterdir()) - {path}):
            state = file.stat().st_ino, file.stat().st_size, file.stat().st_mtime_ns
            if file not in states:
                aside_end, rest = _read(file, aside_end)
                assert rest == b""
            assert states.setdefault(file, state) == state, "a file that was put aside is never touched again"
        end, rest = _read(path, aside_end) if path.exists() else (aside_end, b"")
        unfinished += rest != b""
        written = struct.unpack("q", progress)[0]
        assert written + 1 <= end <= written + 2, "what was written is there, and at most the line after it"
    return len(states), unfinished


def _write_until_killed(path: Path, first: int, progress: mmap.mmap) -> NoReturn:
    try:
        sink = RotatingJsonLines(path, Rotation(size=200_000))
        for number in itertools.count(first):
            counts = "0" * (number * 7919 % LONGEST if number % 4 == 0 else 9)
            sink.write_event(Mask(number, 0.0, 1, 1.0, 1.0, True, None, {"size": [1, 1], "counts": counts}))
            progress[:] = struct.pack("q", number)
    finally:
        os._exit(1)


def _read(file: Path, first: int) -> tuple[int, bytes]:
    """The number after that of the last whole line, and what follows it; lines are numbered from `first` on."""
    *whole, rest = file.read_bytes().split(b"\n")
    for number, line in enumerate(whole, first):
        assert json.loads(line)["frame"] == number
    return first + len(whole), rest
