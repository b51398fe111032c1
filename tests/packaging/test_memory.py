"""Resident memory of a run with the model that ships with vsdk.

Linux's high-water mark of the process is read, not `ru_maxrss`, which also remembers the parent's size at the fork.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vsdk.bench.clip import render_clip

LIMIT_BYTES = 250_000_000


@pytest.mark.slow
def test_a_run_on_a_720p_file_stays_under_250_megabytes(tmp_path: Path) -> None:
    clip, events = tmp_path / "clip.mp4", tmp_path / "events.jsonl"
    render_clip(clip, 150)
    code = f"""
import re
from pathlib import Path
from vsdk.cli.app import app
try:
    app(["run", {str(clip)!r}, "--jsonl", {str(events)!r}, "--quiet"])
except SystemExit as end:
    assert not end.code
print(1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert json.loads(events.read_text().splitlines()[-1])["frames"] == 150
    assert int(done.stdout) < LIMIT_BYTES
