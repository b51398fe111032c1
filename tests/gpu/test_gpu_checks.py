"""The GPU checks on a CPU: their parts in small, their time budget, and what they say is to be carried."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import checks
import gpu_carry
import pytest
from gpu_budget import Budget
from hypothesis import given
from hypothesis import strategies as st

NAMES = ("nano", "CLIP ViT-B/32", "DINOv2-S", "VideoLLaMB bridge", "SAM 2.1 tiny", "EdgeTAM")
QUICK = ("nano", "DINOv2-S", "VideoLLaMB bridge")
"""What runs in the test: a tracker, an encoder and a bridge; exporting the other trackers takes a minute each."""


@pytest.mark.slow
def test_every_bundle_can_be_made() -> None:
    import torch
    from gpu_networks import recipes

    torch.set_num_threads(1)
    made = {recipe.name: [network.name for network in recipe.networks()] for recipe in recipes(quick=True)}
    tracker = ["tracker_encoder", "tracker_attention", "tracker_decoder", "tracker_memory"]
    assert tuple(made) == NAMES
    assert made["nano"] == ["encoder", *tracker]
    assert made["SAM 2.1 tiny"] == made["EdgeTAM"] == tracker
    assert made["CLIP ViT-B/32"] == made["DINOv2-S"] == ["encoder"]


@pytest.mark.slow
def test_everything_runs_in_small_on_a_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = checks.main(
        ["--device", "cpu", "--quick", "--only", ",".join(QUICK), "--out", str(tmp_path), "--minutes", "9"]
    )
    shown = capsys.readouterr().out
    assert status == 0, shown
    content = json.loads((tmp_path / "checks.json").read_text())
    assert content["wrong"] == []
    assert content["skipped"] == [f"{name}: not among --only" for name in NAMES if name not in QUICK]
    assert content["conformance"]["status"] == 0
    subjects = {row["network"].split("/")[0] for row in content["parity"]}
    assert subjects == set(QUICK)
    raced = {row["network"] for row in content["speed"]}
    assert raced == {row["network"] for row in content["parity"]}
    assert {row["contender"] for row in content["speed"]} == {
        "torch eager", "onnxruntime", "vsdk, host", "vsdk, device"
    }  # fmt: skip
    assert {row["bundle"] for row in content["drift"]} == {"nano", "VideoLLaMB bridge"}
    assert {row["bundle"] for row in content["overlap"]} == {"nano"}
    assert (tmp_path / "drift.png").read_bytes().startswith(b"\x89PNG")
    assert shown.rstrip().splitlines()[-1].startswith("nano tracker ")


def test_what_is_wrong_is_in_the_exit_status_and_in_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(self: checks.Checks) -> None:
        with self._part("something", 0):
            raise RuntimeError("the GPU is lost")

    monkeypatch.setattr(checks.Checks, "run", run)
    assert checks.main(["--device", "cpu", "--quick", "--out", str(tmp_path)]) == 1
    assert json.loads((tmp_path / "checks.json").read_text())["wrong"] == ["something: RuntimeError: the GPU is lost"]
    assert "WRONG something: RuntimeError: the GPU is lost" in capsys.readouterr().out


def test_what_does_not_fit_into_the_time_is_skipped_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert checks.main(["--device", "cpu", "--quick", "--out", str(tmp_path), "--minutes", "0"]) == 0
    skipped = json.loads((tmp_path / "checks.json").read_text())["skipped"]
    assert [line.split(":")[0] for line in skipped] == ["conformance", "ceilings", *NAMES]
    shown = capsys.readouterr().out
    for line in skipped:
        assert f"SKIPPED {line}" in shown


def test_the_budget_counts_from_its_start(capsys: pytest.CaptureFixture[str]) -> None:
    now = [100.0]
    budget = Budget(10, clock=lambda: now[0])
    assert budget.allows("first", 10)
    now[0] = 107.0
    assert (budget.spent, budget.left) == (7, 3)
    assert budget.allows("second", 3)
    assert not budget.allows("third", 4)
    now[0] = 200.0
    assert budget.left == 0
    assert budget.skipped == ["third: needs about 4 s, 3 s are left"]
    assert capsys.readouterr().out == "SKIPPED third: needs about 4 s, 3 s are left\n"


def test_what_is_under_way_when_the_time_is_over_is_broken_off(capsys: pytest.CaptureFixture[str]) -> None:
    budget = Budget(0.05, grace=0)
    reached = False
    with budget.enforced():
        with contextlib.suppress(Exception):
            time.sleep(30)
        reached = True
    assert not reached
    assert budget.spent < 20
    assert len(budget.skipped) == 1
    with budget.enforced():  # once more: it ends at once
        time.sleep(30)
    assert budget.spent < 20


def test_an_output_beyond_its_limit_or_not_finite_is_wrong() -> None:
    import gpu_accuracy

    good: dict[str, Any] = {"cls": {"relative": 5e-4, "cosine": 1.0}}
    assert gpu_accuracy.within("fp32", good)
    assert not gpu_accuracy.within("fp32", {**good, "patches": {"relative": 2e-3, "cosine": 1.0}})
    for precision in ("fp32", "fp16", "int8"):
        assert not gpu_accuracy.within(precision, {"cls": {"relative": float("nan"), "cosine": 1.0}})


# --- What is to be carried ---


@given(st.dictionaries(st.text("abc", min_size=1, max_size=5), st.integers(0, 100), max_size=30))
def test_every_file_is_in_one_part_and_no_part_is_too_large(sizes: dict[str, int]) -> None:
    found = gpu_carry.parts(sizes, 100)
    assert sorted(name for part in found for name in part) == sorted(sizes)
    for part in found:
        assert sum(sizes[name] for name in part) <= 100
    assert sum(sum(sizes[name] for name in part) <= 50 for part in found) <= 1


def test_a_large_file_is_cut_and_put_together_again(tmp_path: Path) -> None:
    whole = bytes(range(256)) * 10
    (tmp_path / "large.whl").write_bytes(whole)
    (tmp_path / "small.whl").write_bytes(b"small")
    gpu_carry.cut(tmp_path, 1000)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "large.whl.piece00", "large.whl.piece01", "large.whl.piece02", "small.whl"
    ]  # fmt: skip
    assert max(path.stat().st_size for path in tmp_path.iterdir()) == 1000
    said = gpu_carry.describe(tmp_path, 1000)
    assert said.count("\npart") + said.startswith("part") == 3
    assert "--join" in said
    assert [path.name for path in gpu_carry.join(tmp_path)] == ["large.whl"]
    assert (tmp_path / "large.whl").read_bytes() == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large.whl", "small.whl"]
