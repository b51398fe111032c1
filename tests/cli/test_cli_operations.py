"""`vsdk run` for streams that run for months: JSON lines that rotate, and metrics."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families


def types_in(path: Path) -> list[str]:
    return [json.loads(line)["type"] for line in path.read_text("utf-8").splitlines()]


def test_a_second_run_goes_on_with_the_file_and_a_full_one_is_put_aside(
    clip: Path, tmp_path: Path, vsdk_command: Any
) -> None:
    jsonl = tmp_path / "events.jsonl"
    done = vsdk_command("run", clip, "--jsonl", jsonl, "--jsonl-rotate", "1MB", "--no-memory", "--quiet")
    assert done.returncode == 0, done.stderr
    with jsonl.open("a") as file:
        file.write('{"type":"sc')
    padding = b'{"type":"older"}\n' * (1000 // 17)
    jsonl.write_bytes(padding + jsonl.read_bytes())
    done = vsdk_command("run", clip, "--jsonl", jsonl, "--jsonl-rotate", "1kB,keep=9", "--no-memory", "--quiet")
    assert done.returncode == 0, done.stderr
    assert "unfinished line of 11 bytes was cut off" in done.stderr
    aside, current = sorted(tmp_path.iterdir())
    assert current == jsonl
    assert types_in(aside)[len(padding) // 17 :] == ["start", "scene", "scene", "end"]
    assert types_in(current) == ["start", "scene", "scene", "end"]


def test_metrics_can_be_read_while_it_runs(long_clip: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vsdk", "run", str(long_clip), "--metrics", str(port), "--features", "f.npz"]
    browser = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    numbers: dict[str, float] = {}
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while numbers.get("vsdk_scenes_total", 0) < 1:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            with contextlib.suppress(OSError), browser.open(f"http://127.0.0.1:{port}/", timeout=10) as answer:
                families = text_string_to_metric_families(answer.read().decode())
                numbers = {sample.name: sample.value for family in families for sample in family.samples}
            time.sleep(0.05)
        process.terminate()
        process.communicate(timeout=20)
    assert process.returncode == 130
    assert 0 < numbers["vsdk_frames_encoded_total"] <= numbers["vsdk_frames_total"]
    assert numbers["vsdk_last_frame_age_seconds"] < 60


def test_a_port_in_use_is_a_sentence_and_leaves_earlier_results_alone(
    clip: Path, tmp_path: Path, vsdk_command: Any
) -> None:
    jsonl = tmp_path / "events.jsonl"
    jsonl.write_text("what an earlier run wrote\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = vsdk_command("run", clip, "--metrics", port, "--jsonl", jsonl)
    assert done.returncode == 1
    assert f"127.0.0.1:{port}: Address already in use" in done.stderr
    assert "Traceback" not in done.stderr
    assert jsonl.read_text() == "what an earlier run wrote\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--jsonl-rotate", "1h"], "--jsonl FILE"),
        (["--jsonl-rotate", "1h", "--jsonl", "-"], "--jsonl FILE"),
        (["--jsonl-rotate", "5 bananas", "--jsonl", "events.jsonl"], "bananas"),
        (["--metrics", "everywhere"], "everywhere"),
    ],
)
def test_wrong_usage_exits_with_two(
    arguments: list[str], says: str, clip: Path, tmp_path: Path, vsdk_command: Any
) -> None:
    done = vsdk_command("run", clip, *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert list(tmp_path.iterdir()) == []
