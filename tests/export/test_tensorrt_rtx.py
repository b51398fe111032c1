"""Bundles through the real parser and builder of TensorRT for RTX, ahead of time and without a GPU.

Only the run side is in that environment. The engines are not run: there is no GPU here. It shows that the parser takes
every node and that the builder finds an implementation; the parsers of TensorRT 10.3 to 11 for Jetson are others.
`tensorrt_table.py` does the same at published sizes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import write_clip
from small_checkpoints import Exported, MakeCheckpoint

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))

import bundles
from edgetam_reference import edgetam_video_model
from sam2_reference import video_model

import vsdk
from vsdk_export import export_checkpoint, export_memory
from vsdk_export.tracker import export_tracker
from vsdk_models.sam2.edgetam_model import edgetam_networks
from vsdk_models.sam2.model import sam2_networks
from vsdk_models.videollamb import BridgeConfig, MemoryStep
from vsdk_runtimes.manifest import Origin

VERSION = "1.7.1.116"
RUNTIMES = str(Path(__file__).parents[2] / "runtimes")
_CATCHING = """
import sys
from pathlib import Path
from vsdk_runtimes import load, load_bundle
from vsdk_runtimes.errors import Error
from vsdk_runtimes.tensorrt.targets import Settings, build_engines

def say(work):
    try:
        work()
    except Error as error:
        print(error.message)

"""
Build = Callable[..., list[dict[str, Any]]]

pytestmark = [pytest.mark.slow, pytest.mark.install]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has TensorRT for RTX and what the run side needs to build with it."""
    folder = tmp_path_factory.mktemp("tensorrt-rtx")
    venv.create(folder, with_pip=True)
    found = folder / "bin" / "python"
    for packages in (["wheel", "setuptools", "numpy", "pydantic>=2.6"], [f"tensorrt-rtx=={VERSION}"]):
        done = subprocess.run(
            [str(found), "-m", "pip", "install", "--quiet", *packages], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    return found


@pytest.fixture
def build(python: Path, tmp_path: Path) -> Build:
    """Builds every component of bundles at a precision; one row for each."""

    def run(precision: str, *folders: Path) -> list[dict[str, Any]]:
        script = str(Path(__file__).with_name("build_engines.py"))
        command = [str(python), script, str(tmp_path / "engines"), precision, *map(str, folders)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    return run


def check(rows: list[dict[str, Any]], precision: str, count: int) -> None:
    """Everything was built, and computes in what it is called."""
    assert [row.get("refused") for row in rows] == [None] * count
    for row in rows:
        assert row["bytes"] > 10_000
        assert row["key"]["targets"] == ["sm80", "sm86", "sm89", "sm120", "sm121"]
        assert row["layers"] is None  # read back where there is a GPU
        assert row["asked"].get(precision) or not row["asked"]
        assert row["steps"] > 3


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_encoders_and_text_towers_of_every_family(
    build: Build, exported: Callable[[str], Exported], precision: str
) -> None:
    kinds = ("clip", "siglip", "siglip2_fixed", "siglip2_naflex", "dinov2", "dinov2_registers", "dinov3")
    rows = build(precision, *(exported(kind).bundle for kind in kinds))
    check(rows, precision, len(kinds) + 4)


def test_encoders_at_int8(build: Build, make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4")
    kinds = ("clip_vision", "siglip_vision", "dinov2", "dinov3")
    for kind in kinds:
        export_checkpoint(str(make_checkpoint(kind)), out=tmp_path / kind, precisions=("int8",), calibrate=[str(clip)])
    check(build("int8", *(tmp_path / kind for kind in kinds)), "int8", len(kinds))


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_memory_bridges(build: Build, tmp_path: Path, precision: str) -> None:
    torch.manual_seed(0)
    base = BridgeConfig(width=32, heads=4, hidden=64, memory_tokens=4, patches=16, grid=3, capacity=4)
    mem = BridgeConfig(
        width=32, heads=2, hidden=64, memory_tokens=4, patches=9, grid=2, frames=3, capacity=2, variant="patches",
        positions=5,
    )  # fmt: skip
    for name, config in (("base", base), ("mem", mem)):
        export_memory(MemoryStep(config), out=tmp_path / name, precisions=(precision,))
    check(build(precision, tmp_path / "base", tmp_path / "mem"), precision, 2)


@pytest.mark.parametrize("family", ["sam2", "edgetam"])
def test_trackers_at_512_pixels(build: Build, tmp_path: Path, family: str) -> None:
    networks = sam2_networks(video_model(0, 512)) if family == "sam2" else edgetam_networks(edgetam_video_model(0, 512))
    export_tracker(networks, origin=Origin(checkpoint="random"), out=tmp_path / "bundle", precisions=("fp32", "fp16"))
    for precision in ("fp32", "fp16"):
        check(build(precision, tmp_path / "bundle"), precision, 4)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_bundle_that_ships(build: Build, precision: str) -> None:
    folder = vsdk.load().folder
    components = vsdk.load().components.values()
    check(build(precision, folder), precision, sum(precision in part.spec.files for part in components))


def test_the_graphs_of_the_conformance_suite(build: Build, tmp_path: Path) -> None:
    """So that the suite can run where the library and a GPU are."""
    folders = [bundles.encoder_bundle(tmp_path / "e"), bundles.memory_bundle(tmp_path / "m")]
    check(build("fp32", *folders, bundles.typed_bundle(tmp_path / "t")), "fp32", 3)
    check(build("fp16", folders[0]), "fp16", 1)


# --- What is refused, by the real parser ---


def test_an_unsupported_node_is_named_with_its_reason(build: Build, tmp_path: Path) -> None:
    shape: bundles.Tensors = {"x": ("float32", [1, 3, 8, 8])}
    result: bundles.Tensors = {"y": ("float32", [1, 3, 4, 4])}
    resize = bundles.node("Resize", ["x", "", "", "sizes"], ["y"], name="shrink", mode="linear", antialias=1)
    content = bundles.graph([resize], shape, result, {"sizes": np.array([1, 3, 4, 4], np.int64)})
    part = bundles.component("shrink", {"fp32": "s.onnx"}, shape, result)
    (row,) = build("fp32", bundles.write_bundle(tmp_path / "b", {"shrink": part}, {"s.onnx": content}))
    assert row["error"] == "GraphError"
    assert "nothing was built" in row["refused"]
    assert "Resize shrink: " in row["refused"]
    assert "Antialiasing is not supported" in row["refused"]


def test_a_graph_that_contradicts_the_manifest(build: Build, tmp_path: Path) -> None:
    folder = bundles.encoder_bundle(tmp_path)
    bundles.edit_manifest(
        folder, lambda manifest: manifest["components"]["encoder"]["outputs"]["cls"].update(shape=["batch", 5])
    )
    (row,) = build("fp32", folder)
    assert "output 'cls' is float32 [-1, 4] in the graph, but float32 ['batch', 5]" in row["refused"]


def test_a_graph_that_is_called_fp16_and_computes_in_fp32(build: Build, tmp_path: Path) -> None:
    folder = bundles.encoder_bundle(tmp_path)
    bundles.replace_file(folder, "encoder/fp16.onnx", bundles.encoder_graph("float32"))
    (row,) = build("fp16", folder)
    assert row["error"] == "PrecisionUnavailableError"


def test_a_file_that_is_no_graph(build: Build, tmp_path: Path) -> None:
    folder = bundles.encoder_bundle(tmp_path)
    bundles.replace_file(folder, "encoder/fp32.onnx", bundles.encoder_graph()[:-40])
    (row,) = build("fp32", folder)
    assert row["error"] == "GraphError"


@pytest.mark.parametrize(
    ("gpus", "says"),
    [
        (["sm87"], "builds nothing for 'sm87'; it knows sm75, sm80"),
        (["sm75"], "FP32 GEMM is not supported"),
    ],
)
def test_architectures_that_cannot_be_had(python: Path, tmp_path: Path, gpus: list[str], says: str) -> None:
    """Turing has no fp32 matrix products, which is why it is not among those that are built for by default."""
    source = _CATCHING + (
        "settings = Settings(['fp32'], ['readout'], gpus=sys.argv[3:], folder=Path(sys.argv[2]))\n"
        "say(lambda: build_engines(load_bundle(sys.argv[1]), 'tensorrt-rtx', settings))\n"
    )
    command = [str(python), "-c", source, str(vsdk.load().folder), str(tmp_path / "engines"), *gpus]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONPATH": RUNTIMES})
    assert says in done.stdout


def test_without_a_driver_it_says_so_instead_of_crashing(python: Path, tmp_path: Path) -> None:
    source = _CATCHING + (
        "component = load_bundle(sys.argv[1]).component('encoder')\n"
        "say(lambda: load(component, engine='tensorrt-rtx', device='cuda'))\n"
    )
    done = subprocess.run(
        [str(python), "-c", source, str(bundles.encoder_bundle(tmp_path))], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": RUNTIMES},
    )  # fmt: skip
    assert "TensorRT needs an NVIDIA GPU" in done.stdout or "there is no TensorRT for RTX engine" in done.stdout
