"""Drift: two precisions of a memory over the same long video."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from memory_bundles import CAPACITY, FRAMES, GRID, PATCHES, TOKENS, WIDTH, encoder_bundle, memory_bundle
from PIL import Image

import vsdk
from vsdk.bench.drift import measure_drift
from vsdk.bench.tracker_drift import measure_tracker_drift
from vsdk.errors import Error, InputError
from vsdk_export import export_memory
from vsdk_models.videollamb import BridgeConfig, MemoryStep


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = BridgeConfig(
        width=WIDTH, heads=2, hidden=32, memory_tokens=TOKENS, patches=PATCHES, grid=GRID, frames=FRAMES,
        capacity=CAPACITY,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("bundles") / "int8"
    export_memory(MemoryStep(config), encoder=encoder_bundle(), out=folder, precisions=("fp32", "int8"))
    return folder


def test_a_memory_does_not_stray_from_itself() -> None:
    report = measure_drift(vsdk.load(memory_bundle()), precision="fp32", segments=12)
    assert len(report.cosine) == len(report.worst) == 12
    assert min(report.worst) > 1 - 1e-6


def test_int8_stays_near_but_is_not_fp32(bundle: Path) -> None:
    report = measure_drift(vsdk.load(bundle), segments=60)
    assert 0.98 < min(report.cosine) < 1 - 1e-6
    assert all(worst <= mean for worst, mean in zip(report.worst, report.cosine, strict=True))
    assert report == measure_drift(vsdk.load(bundle), segments=60)


def test_a_precision_that_is_not_there_and_no_segments_are_refused() -> None:
    with pytest.raises(Error, match="int8"):
        measure_drift(vsdk.load(memory_bundle()), segments=5)
    with pytest.raises(InputError, match="at least one"):
        measure_drift(vsdk.load(memory_bundle()), precision="fp32", segments=0)


def test_the_command_writes_figures_and_a_picture(bundle: Path, tmp_path: Path) -> None:
    figures, picture = tmp_path / "drift.json", tmp_path / "drift.png"
    arguments = ["bench", "drift", str(bundle), "--segments", "12", "--json", str(figures), "--png", str(picture)]
    done = subprocess.run([sys.executable, "-m", "vsdk", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "int8 against fp32" in done.stdout
    assert len(json.loads(figures.read_text())["cosine"]) == 12
    with Image.open(picture) as opened:
        assert opened.format == "PNG"


def test_a_tracker_does_not_stray_from_itself() -> None:
    report = measure_tracker_drift(vsdk.load(), precision="fp32", frames=4, sequences=1)
    assert report.agreement == (1.0,) * 4
    assert report.true == report.true_lower
    assert min(report.true) > 0.5, "it is the object that is followed"


def test_the_command_compares_trackers(tmp_path: Path) -> None:
    figures, picture = tmp_path / "drift.json", tmp_path / "drift.png"
    arguments = ["bench", "drift", "--tracker", "--precision", "int8", "--segments", "4", "--sequences", "1"]
    command = [sys.executable, "-m", "vsdk", *arguments, "--json", str(figures), "--png", str(picture)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(figures.read_text())
    assert found["precision"] == "int8"
    assert found["agreement"] != [1.0] * 4
    assert min(found["agreement"]) > 0.9
    with Image.open(picture) as opened:
        assert opened.format == "PNG"


def test_sequences_are_for_trackers() -> None:
    command = [sys.executable, "-m", "vsdk", "bench", "drift", "--sequences", "2"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "--tracker" in done.stderr
    with pytest.raises(InputError, match="at least one"):
        measure_tracker_drift(vsdk.load(), frames=0)
