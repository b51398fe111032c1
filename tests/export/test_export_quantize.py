"""The int8 graph: one recipe, counted, and near to what it was made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from vsdk_export import quantize as quantize_module
from vsdk_export.channels import without_channels
from vsdk_export.graph import trace, write_graph
from vsdk_export.network import Network
from vsdk_export.quantize import check_quantised, quantize
from vsdk_runtimes.errors import ExportError, InputError
from vsdk_runtimes.manifest import Origin


class Perceptron(nn.Module):
    """Two layers, and a product of two inputs that is no layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.up, self.down = nn.Linear(32, 64), nn.Linear(64, 32)

    def forward(self, tokens: Tensor, mix: Tensor) -> Tensor:
        """`tokens [batch, 4, 32]`, `mix [batch, 4, 4]`."""
        return torch.matmul(mix, tokens + self.down(nn.functional.gelu(self.up(tokens))))


class Sum(nn.Module):
    """Nothing that int8 could do faster."""

    def forward(self, tokens: Tensor, mix: Tensor) -> Tensor:
        """Adds."""
        return tokens + mix.sum(-1, keepdim=True)


def batches(count: int = 16) -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    mix = np.eye(4, dtype=np.float32) + random.normal(0, 0.1, (count, 4, 4)).astype(np.float32)
    return {"tokens": random.normal(0, 1, (count, 4, 32)).astype(np.float32), "mix": mix}


def graph_of(module: nn.Module) -> ir.Model:
    samples = batches()
    origin = Origin(checkpoint="made here", license="Apache-2.0")
    return trace(Network("perceptron", "encoder", "custom", module, ("out",), samples, origin))


def calibration(count: int = 16) -> list[dict[str, np.ndarray]]:
    return [{name: array[i : i + 1] for name, array in batches(count).items()} for i in range(count)]


def run(model: ir.Model, folder: Path, inputs: dict[str, np.ndarray]) -> np.ndarray:
    path = write_graph(model, folder / "graph.onnx")[0]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(["out"], inputs)[0]
    return found


def test_int8_is_near_the_float_graph_and_says_what_it_did(tmp_path: Path) -> None:
    graph = graph_of(Perceptron())
    quantised = quantize(graph, calibration())
    nodes = check_quantised(quantised)
    assert (nodes.weighted, nodes.left) == (2, 1)  # the product of the two inputs has no weights
    wanted, found = run(graph, tmp_path, batches()), run(quantised, tmp_path, batches())
    cosine = (wanted * found).sum(-1) / np.linalg.norm(wanted, axis=-1) / np.linalg.norm(found, axis=-1)
    assert cosine.min() > 0.995
    assert np.abs(wanted - found).max() > 0  # it is not the float graph under another name


def test_interface_opset_and_version_stay(tmp_path: Path) -> None:
    graph = graph_of(Perceptron())
    quantised = quantize(graph, calibration())
    assert [value.name for value in quantised.graph.inputs] == ["tokens", "mix"]
    assert [value.name for value in quantised.graph.outputs] == ["out"]
    assert (quantised.opset_imports[""], quantised.ir_version) == (18, graph.ir_version)
    first, second = (write_graph(quantize(graph, calibration()), tmp_path / name)[0] for name in ("a.onnx", "b.onnx"))
    assert first.read_bytes() == second.read_bytes()


def test_a_graph_with_nothing_to_quantise_is_refused() -> None:
    with pytest.raises(ExportError, match="nothing to quantise"):
        quantize(graph_of(Sum()), calibration())
    with pytest.raises(ExportError, match="nothing to quantise"):
        check_quantised(graph_of(Sum()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda batch: {"tokens": batch["tokens"]}, "inputs"),
        (lambda batch: {**batch, "mix": batch["mix"] * np.float32("nan")}, "not finite"),
    ],
)
def test_calibration_that_does_not_fit_is_refused(change: object, message: str) -> None:
    assert callable(change)
    with pytest.raises(InputError, match=message):
        quantize(graph_of(Perceptron()), [change(batch) for batch in calibration()])


def test_too_few_batches_are_refused() -> None:
    with pytest.raises(InputError, match="at least 8"):
        quantize(graph_of(Perceptron()), calibration(7))


class Stack(nn.Module):
    """Four matrices in one tensor, as the heads that make SAM 2's masks are."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stack = nn.Parameter(torch.randn(4, 32, 16) / 32**0.5)

    def forward(self, tokens: Tensor, mix: Tensor) -> Tensor:
        """`[batch, 4, 16]`: each row goes through the matrix of its own."""
        rows = torch.matmul(tokens.transpose(0, 1), self.stack).transpose(0, 1)
        return torch.matmul(mix, rows)


class OnTheLeft(nn.Module):
    """A matrix that mixes the rows, as that of a pooling or a resampling is."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rows = nn.Parameter(torch.randn(4, 4))

    def forward(self, tokens: Tensor, mix: Tensor) -> Tensor:
        """`[batch, 4, 32]`."""
        return torch.matmul(mix, torch.matmul(self.rows, tokens))


class OneColumn(nn.Module):
    """A vector in the place of a matrix."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.column = nn.Parameter(torch.randn(32))

    def forward(self, tokens: Tensor, mix: Tensor) -> Tensor:
        """`[batch, 4]`."""
        return torch.matmul(mix, torch.matmul(tokens, self.column)[..., None])[..., 0]


class Tied(nn.Module):
    """One square matrix, read as it is and transposed."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.square = nn.Parameter(torch.randn(32, 32) / 32**0.5)
        self.bias = nn.Parameter(torch.randn(32))

    def forward(self, tokens: Tensor, mix: Tensor) -> Tensor:
        """`[batch, 32]`."""
        once = torch.matmul(tokens, self.square).mean(1)
        return nn.functional.linear(once, self.square, self.bias) + mix.mean((1, 2))[:, None]


def scales_of_weights(model: ir.Model) -> list[tuple[int, ...]]:
    """The shape of the scales of each weight in int8."""
    shapes = []
    for node in model.graph:
        weights, scale = node.inputs[:2] if node.op_type == "DequantizeLinear" else (None, None)
        if weights is not None and weights.is_initializer() and scale is not None and scale.const_value is not None:
            shapes.append(scale.const_value.numpy().shape)
    return shapes


@pytest.mark.parametrize("module", [Stack, OnTheLeft, OneColumn, Tied])
def test_weights_without_an_axis_for_their_channels_have_one_scale(module: type[nn.Module], tmp_path: Path) -> None:
    """ONNX Runtime refused a scale for each row of a stack: `b zero point is not valid`."""
    graph = graph_of(module())
    assert len(without_channels(graph)) == 1
    quantised = quantize(graph, calibration())
    assert set(scales_of_weights(quantised)) == {()}
    wanted, found = run(graph, tmp_path, batches()), run(quantised, tmp_path, batches())
    cosine = (wanted * found).sum(-1) / np.linalg.norm(wanted, axis=-1) / np.linalg.norm(found, axis=-1)
    assert cosine.min() > 0.99
    assert np.abs(wanted - found).max() > 0


def test_a_matrix_has_a_scale_for_each_column() -> None:
    graph = graph_of(Perceptron())
    assert without_channels(graph) == []
    assert sorted(scales_of_weights(quantize(graph, calibration()))) == [(32,), (64,)]


@pytest.mark.parametrize("module", [Stack, OnTheLeft])
def test_scales_along_the_sum_are_refused_and_the_guard_bites(
    module: type[nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = graph_of(module())
    monkeypatch.setattr(quantize_module, "without_channels", lambda _: [])
    with pytest.raises(ExportError, match=r"MatMul 'MatMul_\d' have a scale for each element of axis 1"):
        quantize(graph, calibration())
    if module is Stack:
        monkeypatch.setattr(quantize_module, "check_channels", lambda _: None)
        with pytest.raises(Exception, match="b zero point is not valid"):
            run(quantize(graph, calibration()), tmp_path, batches())
