"""The program fragments of docs/embedding.md run as they stand there, one after the other."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "embedding.md"


def test_the_fragments_run_and_do_what_the_page_says(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "video.mp4").symlink_to(clip)
    monkeypatch.chdir(tmp_path)
    fragments = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    names: dict[str, Any] = {}
    printed: list[str] = []
    before = signal.getsignal(signal.SIGTERM)
    try:
        for fragment in fragments:
            exec(compile(fragment, str(PAGE), "exec"), names)
            printed.append(capsys.readouterr().out)
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)
    push, *_, refused, stopped, _, several = printed
    assert [line.split("(")[0] for line in push.splitlines()] == ["Start", "Scene", "MemoryUpdate", "End"]
    assert "Times must increase" in refused
    assert stopped.startswith("start")
    assert several.splitlines() == ["left start", "right start"]


def test_what_the_page_refers_to_is_there() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name in set(re.findall(r"\]\(([^)#]+)", text)):
        assert (PAGE.parent / name).exists(), name
    for name in set(re.findall(r"tests/\w+/\w+(?:\.py)?", text)):
        assert (ROOT / name).exists(), name
