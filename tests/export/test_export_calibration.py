"""What trackers and memories are calibrated on: states that occur in a long run over the videos, and all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from clips import write_clip

import vsdk
from vsdk.loading import EMBEDDED
from vsdk.tracking.networks import ABSENT, BOTTOM_RIGHT, FOREGROUND, TOP_LEFT
from vsdk_export import export_memory
from vsdk_export.calibration import CalibrationVideos
from vsdk_export.calibration_calls import Seen
from vsdk_export.calibration_tracker import WINDOW, WINDOWS, follow, observe_tracker
from vsdk_export.memory_samples import MIN_STEPS
from vsdk_models.videollamb import BridgeConfig, MemoryStep
from vsdk_models.videollamb.adapter import bridge_adapter
from vsdk_runtimes.errors import InputError, UnsupportedModelError


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "street.mp4", frames=2 * WINDOW)


@pytest.fixture(scope="module")
def seen(video: Path) -> dict[str, Seen]:
    return observe_tracker(vsdk.load(), CalibrationVideos.of([video]))


def test_every_graph_of_a_tracker_is_calibrated_and_measured(seen: dict[str, Seen]) -> None:
    bundle = vsdk.load()
    assert set(seen) == {f"tracker_{part}" for part in ("encoder", "attention", "decoder", "memory")}
    for name, item in seen.items():
        inputs = set(bundle.components[name].spec.inputs)
        assert len(item.calibration) >= 8
        assert len(item.held_out) >= 4
        assert all(set(call) == inputs for call in (*item.calibration, *item.held_out))
        assert "street.mp4" in item.source
    pixels = {call["pixels"].tobytes() for call in seen["tracker_encoder"].calibration}
    assert pixels.isdisjoint({call["pixels"].tobytes() for call in seen["tracker_encoder"].held_out})


def test_banks_of_every_fill_are_among_them(seen: dict[str, Seen]) -> None:
    spec = vsdk.load().component("tracker.attention").spec.tracker
    assert spec is not None
    calls = seen["tracker_attention"].calibration
    fills = {int(row.sum()) for call in calls for row in call["slot_valid"]}
    assert fills >= set(range(1, spec.recent_slots + 2)), "a prompted frame, and up to all recent ones"
    pointers = {int(row.sum()) for call in calls for row in call["pointer_valid"]}
    assert max(pointers) >= spec.recent_pointers
    assert any((call["slot_age"] == 0).sum(axis=1).max() > 1 for call in calls), "prompted a second time"


def test_prompts_of_every_kind_are_among_them(seen: dict[str, Seen]) -> None:
    calls = seen["tracker_decoder"].calibration
    kinds = {tuple(row[row >= 0].tolist()) for call in calls for row in call["labels"]}
    assert kinds >= {(), (FOREGROUND,), (TOP_LEFT, BOTTOM_RIGHT), (FOREGROUND, 0)}
    assert not any((call["labels"] == ABSENT).any() for call in calls)
    assert any(call["mask_given"].any() for call in calls)


def test_the_same_video_gives_the_same_calls(tmp_path: Path) -> None:
    short = CalibrationVideos.of([write_clip(tmp_path / "short.mp4", frames=12)])
    first, second = (observe_tracker(vsdk.load(), short) for _ in range(2))
    for name, item in first.items():
        for one, other in zip(item.calibration, second[name].calibration, strict=True):
            assert all(np.array_equal(one[key], other[key]) for key in one)


def test_following_ends_with_the_window_and_is_bounded(video: Path) -> None:
    frames = CalibrationVideos.of([video] * 3).windows(lambda image: image, WINDOW, WINDOWS)
    assert [len(window) for window in frames] == [WINDOW] * WINDOWS
    with vsdk.Tracker(threads=1) as tracker:
        masks = follow(tracker, frames[0][:4], 1)
    assert [sorted(found) for found in masks] == [[1, 2, 3]] * 4


def test_a_video_too_short_for_a_tracker(tmp_path: Path) -> None:
    short = write_clip(tmp_path / "short.mp4", frames=5)
    with pytest.raises(InputError, match="at least 8 consecutive frames"):
        observe_tracker(vsdk.load(), CalibrationVideos.of([short]))
    longer = write_clip(tmp_path / "longer.mp4", frames=11)
    with pytest.raises(InputError, match="have 11 frames to follow something through, and at least 12"):
        observe_tracker(vsdk.load(), CalibrationVideos.of([short, longer]))


SMALL = BridgeConfig(width=192, heads=4, hidden=64, memory_tokens=4, patches=64, grid=2, frames=2, capacity=3)


def test_a_memory_is_calibrated_on_the_scenes_of_a_video(video: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    report = export_memory(
        MemoryStep(SMALL), projector=bridge_adapter(192, 24), encoder=EMBEDDED, name="other", role="bridge.other",
        out=tmp_path / "bundle", precisions=("fp32", "fp16", "int8"), calibrate=[video],
    )  # fmt: skip
    spec = report.components["other"]
    assert spec.quantised is not None
    assert spec.quantised.share == 1.0
    steps, _, segments = spec.quantised.calibration.partition(" steps over ")
    assert int(steps) >= MIN_STEPS
    assert int(segments.split()[0]) >= 2, "the video has two scenes"
    projector = report.components["projector"].quantised
    assert projector is not None
    assert (projector.share, projector.calibration) == (1.0, spec.quantised.calibration)
    closed = {name: item for name, item in spec.parity["int8"].items() if name.endswith("(closed loop)")}
    assert closed
    assert all(item.cosine >= 0.98 for item in closed.values())


def test_a_memory_without_an_encoder_cannot_read_a_video(video: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="without the encoder that reads it"):
        export_memory(MemoryStep(SMALL), out=tmp_path / "bundle", precisions=("int8",), calibrate=[video])
    assert not list(tmp_path.iterdir())
