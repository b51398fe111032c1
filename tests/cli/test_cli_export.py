"""`vsdk export` on a small CLIP made in the original format: what it prints, what it leaves, and how it ends.

The command runs in this process: importing torch once is enough.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel
from typer.testing import CliRunner

from vsdk.cli.app import app
from vsdk_export.parity import LIMITS, Limit
from vsdk_runtimes import load_bundle


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two blocks, 32 wide, for images of 32x32."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("checkpoint") / "small-clip"
    config = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_attention_heads=2, num_hidden_layers=2, image_size=32, patch_size=8
    )
    CLIPVisionModel(config).save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    return folder


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are not folded."""
    monkeypatch.setenv("COLUMNS", "200")


def vsdk(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_an_export_can_be_inspected_and_run(checkpoint: Path, clip: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    done = vsdk("export", checkpoint, "--out", bundle, "--precision", "fp32,fp16", "--layer", "-1")
    assert done.exit_code == 0, done.output
    loaded = load_bundle(bundle, verify=True)
    assert loaded.digest in done.output
    for precision, outputs in loaded.component("encoder").spec.parity.items():
        for output, measured in outputs.items():
            row = next(line for line in done.output.splitlines() if precision in line and output in line)
            assert f"{measured.relative:.2e}" in row

    inspected = json.loads(vsdk("inspect", bundle, "--json").stdout)
    assert inspected["manifest"]["components"]["encoder"]["layer"] == -1
    assert inspected["manifest"]["components"]["encoder"]["source"]["license"] == "mit"

    events = tmp_path / "events.jsonl"
    ran = vsdk("run", clip, "--bundle", bundle, "--precision", "fp16", "--jsonl", events, "--quiet")
    assert ran.exit_code == 0, ran.output
    start = json.loads(events.read_text().splitlines()[0])
    assert start["digest"] == loaded.digest
    assert "fp16" in start["engine"]


def test_a_dry_run_says_what_it_would_do_and_writes_nothing(checkpoint: Path, tmp_path: Path) -> None:
    done = vsdk("export", checkpoint, "--out", tmp_path / "bundle", "--dry-run")
    assert done.exit_code == 0, done.output
    for word in ("would export", "encoder", "clip", "[batch, 3, 32, 32]", "[batch, 16, 32]", "encoder/fp32.onnx"):
        assert word in done.output
    assert list(tmp_path.iterdir()) == []


def test_past_the_limit_the_export_fails(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LIMITS, "fp32", Limit(relative=1e-12))
    done = vsdk("export", checkpoint, "--out", tmp_path / "bundle")
    assert done.exit_code == 1
    assert "differs from PyTorch" in done.output
    assert list(tmp_path.iterdir()) == []


def test_a_pickle_is_refused_and_the_reason_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "clip_vision_model"}))
    torch.save({}, folder / "pytorch_model.bin")
    done = vsdk("export", folder, "--out", tmp_path / "bundle")
    assert done.exit_code == 1
    assert "pickle" in done.output
    assert "hint:" in done.output
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("option", "value"), [("--precision", "fp8"), ("--precision", "int8"), ("--layer", "-9"), ("--layer", "first")]
)
def test_bad_options_are_explained(option: str, value: str, checkpoint: Path, tmp_path: Path) -> None:
    done = vsdk("export", checkpoint, "--out", tmp_path / "bundle", option, value)
    assert done.exit_code == 1
    assert value in done.output
    assert "hint:" in done.output


def test_int8_asks_for_a_video_and_says_what_it_did(checkpoint: Path, clip: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    refused = vsdk("export", checkpoint, "--out", bundle, "--precision", "fp32,int8")
    assert refused.exit_code == 1
    assert "--precision fp32,int8 --calibrate VIDEO" in " ".join(refused.output.split())
    assert not bundle.exists()

    done = vsdk("export", checkpoint, "--out", bundle, "--precision", "int8", "--calibrate", clip)
    assert done.exit_code == 0, done.output
    quantised = load_bundle(bundle, verify=True).component("encoder").spec.quantised
    assert quantised is not None
    total = quantised.nodes + len(quantised.left)
    said = f"encoder at int8: {quantised.nodes} of {total} nodes with weights, {quantised.share:.1%} of their"
    assert said in done.output
    assert f"calibrated on 60 frames of {clip.name}" in done.output
    assert all(f"left in float: {name}" in done.output for name in quantised.left)
