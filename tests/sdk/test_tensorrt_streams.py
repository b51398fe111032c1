"""The whole pipeline and the tracker on the session for TensorRT, with stand-ins for the GPU and the library.

The stand-in computes the graphs with ONNX Runtime, so everything around them must come out the same to the bit: scenes,
memory, masks. What a real engine computes is another question.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stand_in_tensorrt

import vsdk
from vsdk_runtimes.tensorrt.targets import Settings, build_engines

SIDE = 96


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Options of the stand-in, with the engines that nano needs built."""
    monkeypatch.setenv("VSDK_ENGINES", str(tmp_path / "engines"))
    stand_in_tensorrt.install(monkeypatch)
    bundle = vsdk.load()
    roles = [part.name for part in bundle.components.values() if part.spec.role.startswith(("encoder", "tracker"))]
    build_engines(bundle, "tensorrt", Settings(precisions=["fp32"], components=[*roles, "bridge"]))
    return {"engine": "tensorrt", "device": "cuda", "precision": "fp32", "threads": 1}


def pictures(count: int) -> list[vsdk.Image]:
    """Two scenes of blocks, and a square that moves through them."""
    frames = []
    for number in range(count):
        blocks = np.random.default_rng(number * 2 // count).integers(0, 256, (6, 6, 3), np.uint8)
        picture = np.kron(blocks, np.ones((SIDE // 6, SIDE // 6, 1), np.uint8))
        left = 10 + number
        picture[30:54, left : left + 24] = (250, 240, 20)
        frames.append(picture)
    return frames


def test_scenes_and_memories_are_those_of_onnxruntime(on_gpu: dict[str, Any]) -> None:
    events = []
    for options in (on_gpu, {"precision": "fp32", "threads": 1}):
        with closing(vsdk.Pipeline(vsdk.load(), **options)) as pipeline:
            seen = [
                event
                for number, picture in enumerate(pictures(24))
                for event in pipeline.push(picture, number * 40_000_000)
            ]
            events.append([*seen, *pipeline.flush()])
    assert any(isinstance(event, vsdk.Scene) for event in events[0])
    assert [event for event in events[0] if not isinstance(event, vsdk.Start)] == [
        event for event in events[1] if not isinstance(event, vsdk.Start)
    ]


def test_masks_are_those_of_onnxruntime(on_gpu: dict[str, Any]) -> None:
    masks = []
    for options in (on_gpu, {"precision": "fp32", "threads": 1}):
        with vsdk.Tracker(**options) as tracker:
            frames = pictures(8)
            tracker.prompt(frames[0], object_id=1, box=(10, 30, 34, 54))
            tracker.prompt(frames[0], object_id=2, points=[(80, 80)])
            masks.append([[one.mask for one in tracker.track(frame)] for frame in frames])
    for ours, theirs in zip(*masks, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other)
