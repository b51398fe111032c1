"""Every graph of a tracker at 512 pixels builds with TensorRT-RTX, ahead of time and without a GPU.

The engines are not run: there is no GPU here. It shows that the parser takes every node and that the builder finds an
implementation; the parsers of TensorRT 10.3 to 11 for Jetson are others.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "models"))

from edgetam_reference import edgetam_video_model
from sam2_reference import video_model

from vsdk_export.tracker import export_tracker
from vsdk_models.sam2.edgetam_model import edgetam_networks
from vsdk_models.sam2.model import sam2_networks
from vsdk_runtimes.manifest import Origin

VERSION = "1.7.1.116"
AXES = "batch:1:1:4,slots:1:7:10,points:1:2:16,embeddings:1:1:1"
GRAPHS = ("tracker_encoder", "tracker_attention", "tracker_decoder", "tracker_memory")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has TensorRT-RTX and nothing of ours."""
    folder = tmp_path_factory.mktemp("tensorrt-rtx")
    venv.create(folder, with_pip=True)
    found = folder / "bin" / "python"
    packages = ["wheel", "setuptools", f"tensorrt-rtx=={VERSION}"]
    done = subprocess.run(
        [str(found), "-m", "pip", "install", "--quiet", *packages], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return found


@pytest.mark.slow
@pytest.mark.install
@pytest.mark.parametrize("family", ["sam2", "edgetam"])
def test_every_graph_builds_at_512_pixels(python: Path, tmp_path: Path, family: str) -> None:
    networks = sam2_networks(video_model(0, 512)) if family == "sam2" else edgetam_networks(edgetam_video_model(0, 512))
    export_tracker(networks, origin=Origin(checkpoint="random"), out=tmp_path / "bundle", precisions=("fp32", "fp16"))
    _check_builds(python, tmp_path / "bundle")


@pytest.mark.slow
@pytest.mark.install
def test_every_graph_of_the_shipped_tracker_builds(python: Path) -> None:
    import vsdk

    _check_builds(python, vsdk.load().folder)


def _check_builds(python: Path, bundle: Path) -> None:
    graphs = [bundle / graph / f"{precision}.onnx" for graph in GRAPHS for precision in ("fp32", "fp16")]
    script = Path(__file__).with_name("tensorrt_rtx_build.py")
    arguments = [f"{graph}={AXES}" for graph in graphs if graph.exists()]
    done = subprocess.run([str(python), str(script), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(results) == len(arguments) >= len(GRAPHS)
    assert not [result for result in results if result["unsupported"] or not result["bytes"]]
