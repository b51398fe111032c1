"""The fp16 graphs: nothing overflows, nothing is clamped in silence, and networks of one's own export, too."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from safetensors.torch import save_file
from torch import Tensor, nn

from vsdk_export import export_module
from vsdk_export.nano import PREPROCESSING, export_nano
from vsdk_models.nano.encoder import NanoEncoder
from vsdk_runtimes import load, load_bundle
from vsdk_runtimes.errors import CheckpointError, ExportError, InputError, ParityError
from vsdk_runtimes.manifest import Origin, PipelineSettings

ORIGIN = Origin(checkpoint="test", license="Apache-2.0")


def samples(width: int = 16, count: int = 8) -> dict[str, npt.NDArray[np.float32]]:
    return {"values": np.random.default_rng(3).normal(size=(count, width)).astype(np.float32)}


def export_both(module: nn.Module, folder: Path) -> tuple[onnx.ModelProto, npt.NDArray[np.float32]]:
    """Export at both precisions; gives the fp16 graph and its outputs on the samples, through the run side."""
    export_module(module, samples=samples(), outputs=["result"], origin=ORIGIN, out=folder, precisions=("fp32", "fp16"))
    with load(load_bundle(folder).component("encoder"), precision="fp16", threads=1) as session:
        return onnx.load(folder / "encoder" / "fp16.onnx"), session.run(samples())["result"]


def weight_types(graph: onnx.ModelProto) -> dict[int, int]:
    """How many weight tensors (two axes or more) there are of each type."""
    found: dict[int, int] = {}
    for item in graph.graph.initializer:
        if len(item.dims) >= 2:
            found[item.data_type] = found.get(item.data_type, 0) + 1
    return found


class Scaled(nn.Module):
    """Two linear layers with a factor between them and its inverse behind."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.factor = nn.Linear(16, 16), nn.Linear(16, 16), factor

    def forward(self, values: Tensor) -> Tensor:
        result: Tensor = self.second(self.first(values) * self.factor) / self.factor
        return result


def test_ordinary_networks_are_half_precision_throughout(tmp_path: Path) -> None:
    graph, _ = export_both(nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16)), tmp_path / "bundle")
    assert weight_types(graph) == {TensorProto.FLOAT16: 2}


def test_activations_beyond_the_range_stay_in_single_precision(tmp_path: Path) -> None:
    """A plain conversion of this network gives nothing but NaN."""
    module = Scaled(3e6)
    graph, found = export_both(module, tmp_path / "bundle")
    with torch.inference_mode():
        expected = module(torch.from_numpy(samples()["values"])).numpy()
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, expected, atol=0.01 * np.abs(expected).max())
    assert weight_types(graph) == {TensorProto.FLOAT16: 1, TensorProto.FLOAT: 1}


@pytest.mark.parametrize("magnitude", [1e6, 1e-9])
def test_weights_beyond_the_range_are_kept_and_not_clamped(magnitude: float, tmp_path: Path) -> None:
    module = nn.Linear(16, 16, bias=False)
    with torch.no_grad():
        module.weight.mul_(magnitude)
    graph, found = export_both(nn.Sequential(module), tmp_path / "bundle")
    with torch.inference_mode():
        expected = module(torch.from_numpy(samples()["values"])).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    kept = [numpy_helper.to_array(item) for item in graph.graph.initializer if len(item.dims) == 2]
    exact = module.weight.detach().numpy()
    assert any(np.array_equal(array, exact) or np.array_equal(array, exact.T) for array in kept)


def test_normalisations_run_in_single_precision(tmp_path: Path) -> None:
    graph, _ = export_both(nn.Sequential(nn.Linear(16, 16), nn.LayerNorm(16), nn.Linear(16, 8)), tmp_path / "bundle")
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in onnx.shape_inference.infer_shapes(graph).graph.value_info
    }
    norms = [node for node in graph.graph.node if node.op_type == "LayerNormalization"]
    assert norms
    assert all(types[name] == TensorProto.FLOAT for node in norms for name in node.output)


class Restless(nn.Module):
    """Gives another result at every call, so no graph can reproduce it."""

    def __init__(self) -> None:
        super().__init__()
        self.factors: Iterator[int] = iter(range(1, 1000))

    def forward(self, values: Tensor) -> Tensor:
        return values * float(next(self.factors))


def test_a_graph_that_differs_from_its_module_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="output 'result' differs from PyTorch"):
        export_module(Restless(), samples=samples(), outputs=["result"], origin=ORIGIN, out=tmp_path / "bundle")
    assert not list(tmp_path.iterdir())


def test_a_failed_export_keeps_the_bundle_that_was_there(tmp_path: Path) -> None:
    def export(module: nn.Module) -> str:
        report = export_module(module, samples=samples(), outputs=["result"], origin=ORIGIN, out=tmp_path / "bundle")
        return report.digest

    first = export(nn.Linear(16, 2))
    with pytest.raises(ParityError):
        export(Restless())
    assert load_bundle(tmp_path / "bundle", verify=True).digest == first
    second = export(nn.Linear(16, 3))
    assert load_bundle(tmp_path / "bundle", verify=True).digest == second != first
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_full_disk_is_an_export_error_and_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(ExportError, match="cannot write the bundle") as caught:
            export_module(
                nn.Linear(1024, 512), samples=samples(1024), outputs=["result"], origin=ORIGIN, out=tmp_path / "bundle"
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert isinstance(caught.value.__cause__, OSError)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_hold_a_bundle(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ExportError, match="cannot write to"):
        export_module(
            nn.Linear(16, 2), samples=samples(), outputs=["result"], origin=ORIGIN, out=tmp_path / "file" / "bundle"
        )


class Exploding(nn.Module):
    """Infinite on ordinary inputs."""

    def forward(self, values: Tensor) -> Tensor:
        return torch.exp(values * 1000)


def test_a_network_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="output 'result' is not finite"):
        export_module(Exploding(), samples=samples(), outputs=["result"], origin=ORIGIN, out=tmp_path / "bundle")


class Branching(nn.Module):
    """Decides by a value, which a graph cannot."""

    def forward(self, values: Tensor) -> Tensor:
        return values if values.sum() > 0 else -values


def test_a_module_that_cannot_be_traced_is_an_export_error(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="PyTorch cannot export component 'encoder'") as caught:
        export_module(Branching(), samples=samples(), outputs=["result"], origin=ORIGIN, out=tmp_path / "bundle")
    assert caught.value.__cause__ is not None
    assert not list(tmp_path.iterdir())


def test_a_batch_that_is_not_dynamic_is_refused(tmp_path: Path) -> None:
    class Fixed(nn.Module):
        def forward(self, values: Tensor) -> Tensor:
            return values.sum(dim=0, keepdim=True)

    with pytest.raises(ExportError, match="only the first axis may be dynamic"):
        export_module(Fixed(), samples=samples(), outputs=["result"], origin=ORIGIN, out=tmp_path / "bundle")


def test_too_few_samples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs 8 samples of 'values', and got 3"):
        export_module(
            nn.Linear(16, 2), samples=samples(count=3), outputs=["result"], origin=ORIGIN, out=tmp_path / "bundle"
        )


@pytest.fixture(scope="module")
def nano_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A nano encoder whose batch norms have seen something, so that folding them matters."""
    torch.manual_seed(5)
    encoder = NanoEncoder(depth=4)
    with torch.no_grad():
        for _ in range(3):
            encoder(torch.randn(4, 3, 128, 128))
    path = tmp_path_factory.mktemp("nano") / "encoder.safetensors"
    save_file(encoder.state_dict(), path)
    return path


def test_the_nano_encoder_exports(nano_weights: Path, tmp_path: Path) -> None:
    settings = {"scenes": {"floor": 0.25}, "gate": {"mean": 1.5}}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    command = [
        sys.executable, "-m", "vsdk_export.nano", "--weights", str(nano_weights), "--out", str(tmp_path / "nano"),
        "--pipeline", str(tmp_path / "settings.json"), "--precision", "fp32,fp16",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    bundle = load_bundle(tmp_path / "nano", verify=True)
    spec = bundle.component("encoder").spec
    assert bundle.digest in done.stdout
    assert bundle.manifest.name == "nano"
    assert bundle.manifest.pipeline == PipelineSettings.model_validate(settings)
    assert spec.preprocessing == PREPROCESSING
    assert {name: item.shape for name, item in spec.outputs.items()} == {
        "cls": ("batch", 192), "patches": ("batch", 64, 192),
    }  # fmt: skip
    operators = [node.op_type for node in onnx.load(tmp_path / "nano" / "encoder" / "fp32.onnx").graph.node]
    assert "BatchNormalization" not in operators
    assert operators.count("Shape") <= 1, "only the class token needs to know the batch"
    assert spec.parity["fp32"]["patches"].relative <= 1e-4


def test_other_weights_are_not_a_nano_encoder(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    for name in ("other.safetensors", "absent.safetensors"):
        with pytest.raises(CheckpointError, match="does not hold a nano encoder"):
            export_nano(tmp_path / name, tmp_path / "nano")
