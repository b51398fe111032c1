"""`vsdk run` for streams that run for months: JSON lines that rotate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


def types_in(path: Path) -> list[str]:
    return [json.loads(line)["type"] for line in path.read_text("utf-8").splitlines()]


def test_a_second_run_goes_on_with_the_file_and_a_full_one_is_put_aside(
    clip: Path, tmp_path: Path, vsdk_command: Any
) -> None:
    jsonl = tmp_path / "events.jsonl"
    for _ in range(2):
        done = vsdk_command("run", clip, "--jsonl", jsonl, "--jsonl-rotate", "1MB", "--no-memory", "--quiet")
        assert done.returncode == 0, done.stderr
    assert types_in(jsonl) == ["start", "scene", "scene", "end"] * 2
    with jsonl.open("a") as file:
        file.write('{"type":"sc')
    done = vsdk_command("run", clip, "--jsonl", jsonl, "--jsonl-rotate", "1kB,keep=1", "--no-memory", "--quiet")
    assert done.returncode == 0, done.stderr
    assert "unfinished line of 11 bytes was cut off" in done.stderr
    aside, current = sorted(tmp_path.iterdir())
    assert current == jsonl
    assert types_in(aside) + types_in(current) == ["start", "scene", "scene", "end"] * 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--jsonl-rotate", "1h"], "--jsonl FILE"),
        (["--jsonl-rotate", "1h", "--jsonl", "-"], "--jsonl FILE"),
        (["--jsonl-rotate", "5 bananas", "--jsonl", "events.jsonl"], "bananas"),
    ],
)
def test_wrong_usage_exits_with_two(
    arguments: list[str], says: str, clip: Path, tmp_path: Path, vsdk_command: Any
) -> None:
    done = vsdk_command("run", clip, *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert list(tmp_path.iterdir()) == []
