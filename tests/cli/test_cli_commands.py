"""The other commands: inspect, doctor, bench, export, and the help of each."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

import vsdk

COMMANDS = [["run"], ["track"], ["export"], ["inspect"], ["doctor"], ["bench", "speed"], ["bench", "memory"]]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_shows_examples(command: list[str], vsdk_command: Any) -> None:
    done = vsdk_command(*command, "--help", env={**os.environ, "COLUMNS": "200"})
    assert done.returncode == 0
    assert "Examples:" in done.stdout
    assert f"vsdk {' '.join(command)}" in done.stdout


def test_version(vsdk_command: Any) -> None:
    assert vsdk_command("--version").stdout == f"vsdk {vsdk.__version__}\n"


def test_no_command_shows_the_help(vsdk_command: Any) -> None:
    done = vsdk_command()
    assert done.returncode == 2
    for command in COMMANDS:
        assert command[0] in done.stdout + done.stderr


def test_inspect_shows_what_a_person_asks(vsdk_command: Any) -> None:
    done = vsdk_command("inspect", env={**os.environ, "COLUMNS": "200"})
    assert done.returncode == 0, done.stderr
    for word in ("nano", vsdk.load().digest, "encoder", "Apache-2.0", "fp32.onnx", "cosine", "128 x 128", "batch"):
        assert word in done.stdout


def test_inspect_json_is_the_manifest_with_its_digest(vsdk_command: Any) -> None:
    bundle = vsdk.load()
    found = json.loads(vsdk_command("inspect", "--json", "--verify").stdout)
    assert found["digest"] == bundle.digest
    assert found["bytes"] == sum((bundle.folder / name).stat().st_size for name in bundle.manifest.files)
    assert found["manifest"] == bundle.manifest.model_dump(mode="json")


def test_inspect_of_something_else_says_so(tmp_path: Path, vsdk_command: Any) -> None:
    done = vsdk_command("inspect", tmp_path)
    assert done.returncode == 1
    assert str(tmp_path) in done.stderr
    assert "hint:" in done.stderr


def test_doctor_finds_that_the_default_works(vsdk_command: Any) -> None:
    done = vsdk_command("doctor", "--json")
    assert done.returncode == 0, done.stdout
    report = json.loads(done.stdout)
    assert report["works"] is True
    found = {item["name"]: item for item in report["findings"]}
    for name in ("Python", "vsdk", "numpy", "av", "pillow", "onnxruntime on cpu", "embedded bundle"):
        assert found[name]["state"] == "ok", found[name]
    assert "libavcodec" in found["av"]["detail"]
    assert found["Python"]["detail"].startswith(".".join(map(str, sys.version_info[:3])))


def test_doctor_says_how_to_get_what_is_missing(tmp_path: Path, vsdk_command: Any) -> None:
    """A module that fails to import stands in for an engine that is not installed."""
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('no engine here')\n")
    done = vsdk_command("doctor", "--json", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1
    found = {item["name"]: item for item in json.loads(done.stdout)["findings"]}
    assert found["onnxruntime on cpu"]["state"] == "broken"
    assert found["onnxruntime on cpu"]["fix"] == "pip install 'vsdk[cpu]'"
    assert found["embedded bundle"]["state"] == "broken"


def test_doctor_table_for_people(vsdk_command: Any) -> None:
    done = vsdk_command("doctor", env={**os.environ, "COLUMNS": "200"})
    assert "The default works" in done.stdout


def test_bench_speed_gives_every_figure(clip: Path, tmp_path: Path, vsdk_command: Any) -> None:
    path = tmp_path / "speed.json"
    done = vsdk_command("bench", "speed", "--source", clip, "--frames", "16", "--rounds", "5", "--json", path)
    assert done.returncode == 0, done.stderr
    report = json.loads(path.read_text())
    assert report["frames"] == 16
    assert (report["width"], report["height"]) == (192, 128)
    timings = [*report["stages"].values(), report["every_frame"], report["gated"]]
    assert all(len(item["seconds"]) == 5 and min(item["seconds"]) > 0 for item in timings)
    seconds = [sorted(item["seconds"])[2] for name, item in report["stages"].items() if name != "encode one"]
    ideal = min(1 / max(seconds), report["cores"] / sum(seconds))
    assert report["ideal"]["median"] == pytest.approx(ideal)
    share = 1 / sorted(report["every_frame"]["seconds"])[2] / ideal
    assert report["share"]["median"] == pytest.approx(share)
    assert "load average" in done.stdout
    assert ("too busy" in done.stdout) == (report["load"] > 0.5 * report["cores"])


def test_bench_speed_renders_clips_of_its_own(tmp_path: Path, vsdk_command: Any) -> None:
    path = tmp_path / "speed.json"
    done = vsdk_command("bench", "speed", "--frames", "8", "--rounds", "5", "--json", path)
    assert done.returncode == 0, done.stderr
    assert "8 frames of 1280x720" in done.stdout
    report = json.loads(path.read_text())
    assert report["still_encoded"] == 1 / 8  # the first frame of the still camera, and none after it
    assert report["encoded"] == 1


def test_bench_speed_needs_enough_frames(clip: Path, tmp_path: Path, vsdk_command: Any) -> None:
    assert vsdk_command("bench", "speed", "--source", clip, "--frames", "2").returncode == 2
    done = vsdk_command(
        "bench", "speed", "--source", clip, "--frames", "8", "--rounds", "5", "--json", tmp_path / "no" / "f"
    )
    assert done.returncode == 1
    assert "hint:" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [["export", "checkpoint"], ["export", "checkpoint", "--out", "a", "--into", "b"], ["export"]],
)
def test_export_needs_one_target(arguments: list[str], vsdk_command: Any) -> None:
    assert vsdk_command(*arguments).returncode == 2


def test_an_engine_is_built_from_a_bundle_not_from_a_checkpoint(tmp_path: Path, vsdk_command: Any) -> None:
    done = vsdk_command("export", tmp_path, "--target", "tensorrt")
    assert done.returncode == 1
    assert "is not a bundle: it has no file manifest.json" in done.stderr


def test_a_bundle_is_not_exported_again(vsdk_command: Any, tmp_path: Path) -> None:
    done = vsdk_command("export", vsdk.load().folder, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "is a bundle already" in done.stderr
    assert "--target tensorrt" in done.stderr


@pytest.mark.parametrize(
    ("target", "message"),
    [("tensorrt", "TensorRT cannot be imported"), ("tensorrt-rtx", "TensorRT for RTX cannot be imported"),
     ("openvino", "unknown target 'openvino'")],
)  # fmt: skip
def test_a_target_that_is_not_here_says_what_to_install(target: str, message: str, vsdk_command: Any) -> None:
    done = vsdk_command("export", vsdk.load().folder, "--target", target)
    assert done.returncode == 1
    assert message in done.stderr
    assert ("pip install" in done.stderr) == (target != "openvino")
    assert "Traceback" not in done.stderr


def test_export_without_the_build_side_says_what_to_install(tmp_path: Path, vsdk_command: Any) -> None:
    """A module that fails to import stands in for an environment without torch."""
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')\n")
    done = vsdk_command("export", tmp_path, "--out", tmp_path / "out", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1
    assert "pip install 'vsdk[export]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_doctor_names_a_library_of_cuda_that_is_missing(tmp_path: Path, vsdk_command: Any) -> None:
    """A package that has the provider is not enough; the provider's own library must load."""
    (tmp_path / "capi").mkdir()
    (tmp_path / "capi" / "libonnxruntime_providers_cuda.so").write_bytes(b"not a library")
    (tmp_path / "onnxruntime.py").write_text(
        "__version__ = '1.31.1'\ndef get_available_providers():\n"
        "    return ['CUDAExecutionProvider', 'CPUExecutionProvider']\n"
    )
    done = vsdk_command("doctor", "--json", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    found = {item["name"]: item for item in json.loads(done.stdout)["findings"]}
    assert found["onnxruntime on cpu"]["state"] == "ok"
    assert found["onnxruntime on cuda"]["state"] == "absent"
    assert "libonnxruntime_providers_cuda.so" in found["onnxruntime on cuda"]["detail"]
    assert "onnxruntime-gpu[cuda,cudnn]" in found["onnxruntime on cuda"]["fix"]
