"""int8 of whole checkpoints through the command, from a video to a bundle that runs: trackers, and VideoLLaMB."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from clips import write_clip
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent.parent / "models"))

import edgetam_reference
import videollamb_checkpoint
from sam2_reference import present, video_model

import vsdk
from vsdk.cli.app import app
from vsdk.frame import Image
from vsdk.sources.opening import open_source
from vsdk_export import precision_search as search_module
from vsdk_export.parity import LIMITS
from vsdk_runtimes import load_bundle

PARTS = ["tracker_encoder", "tracker_attention", "tracker_decoder", "tracker_memory"]


def write_tracker(family: str, folder: Path) -> Path:
    """A small checkpoint of a tracker for 256 pixels."""
    if family == "sam2":
        present(video_model()).save_pretrained(folder)
    else:
        edgetam_reference.write_checkpoint(folder, present(edgetam_reference.edgetam_video_model()))
    return folder


def export(checkpoint: Path, video: Path, out: Path, *options: str) -> Any:
    command = ["export", checkpoint, "--precision", "fp32,int8", "--calibrate", video, "--out", out, *options]
    return CliRunner().invoke(app, [str(argument) for argument in command])


def pictures(video: Path) -> list[Image]:
    with open_source(str(video)) as source:
        return [frame.image for frame in source]


@pytest.mark.parametrize("family", ["sam2", "edgetam"])
def test_a_tracker(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    video, out = write_clip(tmp_path / "street.mp4", frames=12), tmp_path / "bundle"
    done = export(write_tracker(family, tmp_path / family), video, out, "--image-size", "128")
    assert done.exit_code == 0, done.output
    bundle = load_bundle(out, verify=True)
    assert list(bundle.components) == PARTS
    for name, component in bundle.components.items():
        quantised = component.spec.quantised
        assert quantised is not None
        assert quantised.share >= search_module.MIN_SHARE
        assert f"{name} at int8: {quantised.nodes} of " in done.output
        assert "12 frames of street.mp4" in quantised.calibration
        graph = onnx.load(out / component.spec.files["int8"]).graph
        assert sum(node.op_type == "QuantizeLinear" for node in graph.node) > 0
    frames = pictures(video)
    masks = []
    for precision in ("fp32", "int8"):
        with vsdk.Tracker(bundle, precision=precision, threads=1) as tracker:
            tracker.prompt(frames[0], 1, box=(20, 20, 80, 80))
            masks.append([tracker.track(frame)[0].mask for frame in frames])
    # The encoder and the decoder may each turn what they give by the angle whose cosine is the limit, and a turn by 180
    # degrees would change the sign of every pixel.
    turned = 2 * np.degrees(np.arccos(LIMITS["int8"].cosine or 1)) / 180
    assert (masks[0][0] == masks[1][0]).mean() >= 1 - turned
    assert {mask[0].any() and not mask[0].all() for mask in masks} == {True}, "not always the same one"
    assert all(mask.shape == frames[0].shape[:2] for mask in masks[1])


@pytest.mark.parametrize("mem", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_videollamb(mem: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both towers, the bridge and the projector, and then a stream through them."""
    monkeypatch.setenv("COLUMNS", "200")
    checkpoint = videollamb_checkpoint.write_checkpoint(
        tmp_path / "checkpoint", videollamb_checkpoint.checkpoint_weights(mem=mem), shards=1
    )
    video, out = write_clip(tmp_path / "street.mp4", frames=96), tmp_path / "bundle"  # twelve clips of eight
    done = export(checkpoint, video, out)
    assert done.exit_code == 0, done.output
    bundle = load_bundle(out, verify=True)
    assert list(bundle.components) == ["encoder", "video_encoder", "bridge", "projector"]
    for name, component in bundle.components.items():
        assert component.spec.quantised is not None
        assert component.spec.quantised.share >= search_module.MIN_SHARE
        assert f"{name} at int8: " in done.output
    events = tmp_path / "events.jsonl"
    command = ["run", video, "--bundle", out, "--precision", "int8", "--jsonl", events, "--quiet"]
    done = CliRunner().invoke(app, [str(argument) for argument in command])
    assert done.exit_code == 0, done.output
    kinds = [json.loads(line)["type"] for line in events.read_text().splitlines()]
    assert (kinds[0], kinds[-1]) == ("start", "end")
    assert kinds.count("memory") == kinds.count("scene") >= 1
