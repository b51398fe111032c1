"""`vsdk run` for streams that run for months: JSON lines that rotate, metrics, and MQTT."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from mqtt_broker import IN_URL, PASSWORD, TestBroker, broker  # noqa: F401  (the last is a fixture)
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from vsdk.cli.app import app


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


def test_events_are_published(clip: Path, broker: TestBroker, vsdk_command: Any) -> None:  # noqa: F811
    done = vsdk_command("--debug", "run", clip, "--mqtt", broker.url("/cameras"), "--jsonl", "-", "--no-memory")
    assert done.returncode == 0, done.stderr
    topic = "cameras/two_scenes.mp4"
    published = [message.payload.decode() for message in broker.received() if message.topic != f"{topic}/status"]
    assert published == done.stdout.splitlines()
    assert broker.received_at(f"{topic}/status") == [b"online", b"offline"]
    assert [message.topic for message in broker.received()][1:-1] == [
        f"{topic}/{json.loads(line)['type']}" for line in published
    ]
    assert PASSWORD not in done.stdout + done.stderr
    assert IN_URL not in done.stdout + done.stderr


def test_the_address_may_be_given_in_the_environment(clip: Path, broker: TestBroker, vsdk_command: Any) -> None:  # noqa: F811
    done = vsdk_command("run", clip, "--no-memory", "--quiet", env={**os.environ, "VSDK_MQTT": broker.url()})
    assert done.returncode == 0, done.stderr
    assert len(broker.received_at("test/two_scenes.mp4/scene")) == 2


def test_a_wrong_password_is_a_sentence_without_it(
    clip: Path,
    tmp_path: Path,
    broker: TestBroker,  # noqa: F811
    vsdk_command: Any,
) -> None:
    jsonl = tmp_path / "events.jsonl"
    jsonl.write_text("what an earlier run wrote\n")
    done = vsdk_command("run", clip, "--mqtt", broker.url(user="robot:hunter2"), "--jsonl", jsonl)
    assert done.returncode == 1
    assert f"mqtt://127.0.0.1:{broker.port}/test: Not authorized" in done.stderr
    assert "hint:" in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    assert jsonl.read_text() == "what an earlier run wrote\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--jsonl-rotate", "1h"], "--jsonl FILE"),
        (["--jsonl-rotate", "1h", "--jsonl", "-"], "--jsonl FILE"),
        (["--jsonl-rotate", "5 bananas", "--jsonl", "events.jsonl"], "bananas"),
        (["--metrics", "everywhere"], "everywhere"),
        (["--mqtt", "http://robot:hunter2@broker"], "mqtt://"),
        (["--mqtt", "mqtt://robot:hunter/2@broker"], "taken apart"),
    ],
)
def test_wrong_usage_exits_with_two(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["run", "video.mp4", *arguments])
    assert done.exit_code == 2
    assert says in done.output
    assert "hunter" not in done.output
    assert list(tmp_path.iterdir()) == []
