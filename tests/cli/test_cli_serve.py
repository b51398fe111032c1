"""`vsdk serve`: the page comes, stays, and goes with Ctrl-C."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PATIENCE = 120.0
TOKEN = "a-token-of-twenty-six-letters"


class Serving:
    """The command in a process of its own."""

    def __init__(self, *arguments: str | Path, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "vsdk", "serve", *map(str, arguments), "--port", "0"],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        self.said = ""
        self.port = int(self.line("live page: ").rstrip().rstrip("/").rpartition(":")[2])

    def line(self, beginning: str) -> str:
        """The next line on stderr that begins like this."""
        assert self.process.stderr is not None
        while True:
            line = self.process.stderr.readline()
            self.said += line
            assert line, self.said
            if line.startswith(beginning):
                return line

    def ask(self, path: str, **headers: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def stop(self, number: signal.Signals) -> float:
        """Send a signal; seconds until the process is gone."""
        before = time.monotonic()
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=PATIENCE)
        self.said += said
        return time.monotonic() - before


@contextlib.contextmanager
def serving(*arguments: str | Path, **environment: str) -> Iterator[Serving]:
    served = Serving(*arguments, **environment)
    try:
        yield served
    finally:
        if served.process.poll() is None:
            served.process.kill()
            served.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_recording_is_read_and_the_page_stays_until_it_is_interrupted(clip: Path, number: signal.Signals) -> None:
    with serving(clip) as served:
        served.line("every source has ended; the page stays until Ctrl-C")
        status, health = served.ask("/api/health")
        assert (status, health["healthy"]) == (200, True)
        assert health["streams"][0]["name"] == clip.name
        assert health["streams"][0]["reason"] == "end"
        assert len(served.ask("/api/streams/0/scenes")[1]["scenes"]) == 2
        assert served.stop(number) < 15, "a second or two, on a machine with time for it"
        assert served.process.returncode == 130
        assert "Traceback" not in served.said


def test_an_interrupt_while_streams_run_ends_them(long_clip: Path) -> None:
    with serving(long_clip, long_clip, "--name", "a", "--name", "b", "--real-time") as served:
        deadline = time.monotonic() + PATIENCE
        while not all(stream["frames"] > 5 for stream in served.ask("/api/health")[1]["streams"]):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert [stream["name"] for stream in served.ask("/api/health")[1]["streams"]] == ["a", "b"]
        assert served.stop(signal.SIGINT) < 15, "a second or two, on a machine with time for it"
        assert served.process.returncode == 130
        assert "Traceback" not in served.said


def test_a_recording_at_its_own_pace_takes_as_long_as_it_lasts(clip: Path) -> None:
    started = time.time()
    with serving(clip, "--real-time") as served:
        served.line("every source has ended")
        (stream,) = served.ask("/api/health")[1]["streams"]
        assert stream["since"] - started >= 59 / 25
        assert stream["frames"] == 60


def test_the_token_comes_from_the_environment_and_is_not_repeated(clip: Path) -> None:
    with serving(clip, "--host", "0.0.0.0", VSDK_TOKEN=TOKEN) as served:
        assert served.ask("/api/health")[0] == 401
        assert served.ask("/api/health", Authorization=f"Bearer {TOKEN}")[0] == 200
        served.line("the first time, open http://")
        served.stop(signal.SIGTERM)
    assert TOKEN not in served.said


def test_sources_that_fail_are_named_and_the_others_go_on(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for number, size in enumerate(((64, 64), (64, 64), (32, 32))):  # the third one is smaller
        from PIL import Image

        Image.new("RGB", size, (number * 80, 40, 90)).save(tmp_path / "pictures" / f"{number}.png")
    with serving(tmp_path / "pictures", clip) as served:
        served.line("every source has ended")
        failed, well = served.ask("/api/health")[1]["streams"]
        assert (failed["reason"], well["reason"]) == ("error", "end")
        assert "32x32" in failed["message"]
    assert "pictures: " in served.said


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("--host", "0.0.0.0"), 1, "a token is needed"),
        (("--token", "short"), 1, "at least 16"),
        (("--port", "70000"), 2, "65535"),
        (("--name", "a", "--name", "b"), 2, "2 names for 1 sources"),
        (("other.mp4", "--name", "a", "--name", "a"), 2, "two sources have the same name"),
        (("-", "-"), 2, "standard input can be read only once"),
        (("--max-fps", "5"), 2, "no source is live"),
        (("--bundle", "nowhere"), 1, "nowhere"),
    ],
)
def test_what_cannot_be_served_is_refused(
    clip: Path, vsdk_command: Any, arguments: tuple[str, ...], status: int, says: str
) -> None:
    done = vsdk_command("serve", clip, "--port", "0", *arguments)
    assert done.returncode == status
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_source_that_is_not_there_is_refused_before_the_page_opens(vsdk_command: Any) -> None:
    done = vsdk_command("serve", "nowhere.mp4", "--port", "0")
    assert (done.returncode, "live page" in done.stderr) == (1, False)
    assert "nowhere.mp4 does not exist" in done.stderr


def test_without_the_libraries_it_says_what_to_install(clip: Path) -> None:
    code = "import sys; sys.modules['uvicorn'] = None; from vsdk.cli.app import app; app()"
    done = subprocess.run(
        [sys.executable, "-c", code, "serve", str(clip)], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 1
    assert "pip install 'vsdk[serve]'" in done.stderr
