from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder, fresh for each test."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """On which engines the conformance suite can run here, and on which not and why."""
    suite: Any = sys.modules.get("test_engine_conformance")
    if suite is None:
        return
    terminalreporter.section("engines")
    for engine in suite.PRESENT:
        terminalreporter.line(f"{engine}: is here")
    for engine, obstacle in suite.ABSENT.items():
        terminalreporter.line(f"{engine}: cannot run here: {obstacle.message}")
