"""The shipped bundle runs at all of its precisions on the oldest and the newest Python and ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from environments import environment, run
from every_precision import every_result

import vsdk_runtimes

SCRIPT = Path(__file__).with_name("every_precision.py")
NANO = Path(__file__).parents[2] / "sdk" / "vsdk" / "bundles" / "nano"
LIMITS = {"fp32": 1e-4, "fp16": 1e-2, "int8": 5e-2}
"""Most distance between two versions of ONNX Runtime, relative to the values: a few roundings of the precision."""


def distance(found: Any, expected: Any) -> float:
    """Root mean square of the difference, in units of that of what was expected."""
    difference = found.astype(np.float64) - expected.astype(np.float64)
    scale = np.sqrt(np.mean(np.square(expected, dtype=np.float64)))
    return float(np.sqrt(np.mean(np.square(difference))) / max(scale, 1e-6))


@pytest.fixture(scope="module")
def here() -> dict[str, Any]:
    """What this environment's ONNX Runtime makes of every graph."""
    return dict(every_result(str(NANO)))


def test_every_graph_of_the_manifest_was_run(here: dict[str, Any]) -> None:
    manifest = vsdk_runtimes.read_manifest(NANO)
    listed = {f"{name}/{precision}" for name, part in manifest.components.items() for precision in part.files}
    assert {name.rpartition("/")[0] for name in here} == listed
    for name, values in here.items():
        assert np.isfinite(values).all(), name


@pytest.mark.install
@pytest.mark.slow
@pytest.mark.parametrize(
    ("version", "engine", "expected"),
    [("3.10", "onnxruntime==1.23.*", "3.10 1.23."), ("3.12", "onnxruntime", "3.12 1.")],
    ids=["oldest", "newest"],
)
def test_the_shipped_bundle_runs(
    version: str, engine: str, expected: str, wheel: Path, here: dict[str, Any], tmp_path: Path
) -> None:
    """Python 3.10 can have no newer ONNX Runtime than 1.23; the newest is what pip takes without being told."""
    python = environment(version, tmp_path / "env", str(wheel), engine)
    bundle = run(python, "-c", "import vsdk; print(vsdk.load().folder)", cwd=tmp_path).strip()
    assert run(python, SCRIPT, bundle, tmp_path / "results.npz", cwd=tmp_path).startswith(expected)
    with np.load(tmp_path / "results.npz") as there:
        assert set(there.files) == set(here)
        for name in there.files:
            assert distance(there[name], here[name]) <= LIMITS[name.split("/")[1]], name
