"""The memory on the command line: `vsdk run`, `vsdk inspect` and `vsdk bench memory`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from memory_bundles import CAPACITY, TOKENS, WIDTH, encoder_bundle, film, memory_bundle, segment
from PIL import Image

import vsdk
from vsdk.bench.memory import chosen_segments, measure_memory
from vsdk.cli.remembering import KeptMemory
from vsdk.errors import InputError, SinkError

SCENES = 2


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("film") / "pictures"
    folder.mkdir()
    for number, frame in enumerate(film(range(SCENES))):
        Image.fromarray(frame).save(folder / f"{number:04d}.png")
    return folder


def vsdk_command(*arguments: str | Path | int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vsdk", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)


def memories(path: Path) -> list[dict[str, Any]]:
    return [event for event in map(json.loads, path.read_text().splitlines()) if event["type"] == "memory"]


def test_a_run_remembers_and_a_later_one_goes_on(pictures: Path, tmp_path: Path) -> None:
    jsonl, state, sheet, video, features = (
        tmp_path / name for name in ("events.jsonl", "camera.memory", "s.png", "a.mp4", "f.npz")
    )
    outputs = ("--jsonl", jsonl, "--sheet", sheet, "--video", video, "--features", features)
    for day in range(2):
        done = vsdk_command(
            "run", pictures, "--bundle", memory_bundle(), *outputs, "--memory-state", state, "--threads", 1
        )
        assert done.returncode == 0, done.stderr
        found = memories(jsonl)
        assert [event["scene"] for event in found] == list(range(SCENES))
        assert [event["segment"] for event in found] == [day * SCENES + number for number in range(SCENES)]
        assert f"the memory holds {SCENES * (day + 1)} of at most {CAPACITY} entries" in done.stderr
        assert f"written: {state}" in done.stderr
    assert "stream 1, 0:00.0" in done.stderr
    assert all(path.stat().st_size for path in (sheet, video, features))


def test_a_bad_state_stops_the_run_before_anything_is_written(pictures: Path, tmp_path: Path) -> None:
    jsonl, state = tmp_path / "events.jsonl", tmp_path / "camera.memory"
    jsonl.write_text("what an earlier run wrote\n")
    state.write_bytes(b"no memory at all")
    done = vsdk_command("run", pictures, "--bundle", memory_bundle(), "--jsonl", jsonl, "--memory-state", state)
    assert done.returncode == 1
    assert "damaged" in done.stderr
    assert "hint:" in done.stderr
    assert jsonl.read_text() == "what an earlier run wrote\n"
    assert state.read_bytes() == b"no memory at all"


def test_without_the_memory_nothing_is_said_of_it(pictures: Path, tmp_path: Path) -> None:
    jsonl = tmp_path / "events.jsonl"
    done = vsdk_command("run", pictures, "--bundle", memory_bundle(), "--jsonl", jsonl, "--no-memory")
    assert done.returncode == 0, done.stderr
    assert memories(jsonl) == []
    assert "the memory holds" not in done.stderr


def test_a_state_needs_a_memory(pictures: Path, tmp_path: Path) -> None:
    state = tmp_path / "camera.memory"
    done = vsdk_command("run", pictures, "--bundle", encoder_bundle(), "--memory-state", state)
    assert done.returncode == 1
    assert "'bridge'" in done.stderr
    done = vsdk_command("run", pictures, "--bundle", memory_bundle(), "--memory-state", state, "--no-memory")
    assert done.returncode == 2
    assert not state.exists()


def test_the_memory_is_saved_however_the_run_ends(tmp_path: Path) -> None:
    bundle = vsdk.load(memory_bundle())
    memory, saved = vsdk.Memory(bundle, threads=1), tmp_path / "camera.memory"
    memory.remember(vsdk.Scene(0, 0, 9, 0.0, 1.0), segment(0))
    with pytest.raises(KeyboardInterrupt), KeptMemory(saved, memory):
        raise KeyboardInterrupt
    again = vsdk.Memory(bundle, threads=1)
    with KeptMemory(saved, again):
        assert again.segments == 1
    with pytest.raises(SinkError), KeptMemory(tmp_path / "no" / "folder", again):
        pass
    with pytest.raises(InputError), KeptMemory(tmp_path / "no" / "folder", again):  # the first error is reported
        raise InputError("the run failed")


def test_a_power_cut_costs_a_minute_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory, saved = vsdk.Memory(vsdk.load(memory_bundle()), threads=1), tmp_path / "camera.memory"
    with KeptMemory(saved, memory) as kept:
        memory.remember(vsdk.Scene(0, 0, 9, 0.0, 1.0), segment(0))
        kept.save_now_and_then()
        assert not saved.exists()
        monkeypatch.setattr("vsdk.cli.kept.SAVE_SECONDS", 0.0)
        kept.save_now_and_then()
        assert saved.exists()


def test_inspect_shows_what_the_memory_takes() -> None:
    done = vsdk_command("inspect", memory_bundle())
    assert done.returncode == 0, done.stderr
    for words in ("4 memory tokens", "2 x 2 tokens a frame", f"{CAPACITY} slots of 512 B", "2.3 kB in all", "merge:"):
        assert words in done.stdout
    mem = vsdk_command("inspect", memory_bundle(variant="patches")).stdout
    assert f"{CAPACITY} slots of 4.1 kB" in mem


def test_bench_memory_gives_every_figure(tmp_path: Path) -> None:
    path, png = tmp_path / "memory.json", tmp_path / "memory.png"
    done = vsdk_command(
        "bench", "memory", memory_bundle(), "--segments", 120, "--rounds", 5, "--json", path, "--png", png
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(path.read_text())
    assert [moment["segment"] for moment in report["moments"]] == [10, 30, 100, 120]
    assert report["capacity"] == CAPACITY
    fastest = [min(moment["step"]) for moment in report["moments"]]
    assert report["spread"] == pytest.approx(max(fastest) / min(fastest) - 1)
    assert all(len(moment["step"]) == len(moment["growing"]) == 5 for moment in report["moments"])
    assert len({moment["step_bytes"] for moment in report["moments"]}) == 1
    assert all(moment["growing_bytes"] == moment["segment"] * TOKENS * WIDTH * 4 for moment in report["moments"])
    assert ("too busy" in done.stdout) == report["busy"]
    with Image.open(png) as picture:
        picture.load()
        assert picture.format == "PNG"


def test_bench_memory_refuses(tmp_path: Path) -> None:
    bundle = vsdk.load(memory_bundle())
    for segments, rounds in ((99, 5), (100, 4)):
        with pytest.raises(InputError, match="at least"):
            measure_memory(bundle, segments=segments, rounds=rounds)
    done = vsdk_command(
        "bench", "memory", memory_bundle(), "--segments", 100, "--rounds", 5, "--png", tmp_path / "a" / "b"
    )
    assert done.returncode == 1
    assert "hint:" in done.stderr


@pytest.mark.parametrize(("last", "expected"), [(100, [10, 30, 100]), (1000, [10, 30, 100, 300, 1000]), (7, [7])])
def test_the_moments_that_are_measured(last: int, expected: list[int]) -> None:
    assert chosen_segments(last) == expected
