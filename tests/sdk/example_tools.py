"""Examples as programs and as modules, and what a pipeline says of a clip when it is simply pushed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import av
import numpy as np

import vsdk
from vsdk.frame import Image

EXAMPLES = Path(__file__).parents[2] / "examples"
RATE = 25
"""Frames a second of the clips."""


def run_example(name: str, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, env={**os.environ, **environment}
    )


def load_example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pictures_of(clip: Path) -> list[Image]:
    """All frames, BGR."""
    with av.open(str(clip)) as container:
        return [np.asarray(frame.to_ndarray(format="bgr24"), np.uint8) for frame in container.decode(video=0)]


def pushed(pictures: list[Image], begin_ns: int = 0) -> list[vsdk.Event]:
    """What a pipeline says of these pictures."""
    pipeline = vsdk.Pipeline(source="image")
    events: list[vsdk.Event] = []
    for number, picture in enumerate(pictures):
        events += pipeline.push(picture, begin_ns + number * 1_000_000_000 // RATE, "bgr")
    events += pipeline.flush()
    pipeline.close()
    return events
