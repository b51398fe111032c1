"""Rewrites of a traced graph: the same function, in fewer and better operators, and hands off where it would not be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from vsdk_export import rewriting
from vsdk_export.graph import trace, write_graph
from vsdk_export.network import Network
from vsdk_export.rewriting.names import joined
from vsdk_runtimes.manifest import Origin

WIDTH, HEADS, TOKENS = 32, 4, 6


class Attention(nn.Module):
    """A pre-norm attention block with LayerScale, and what may be different in it."""

    def __init__(self, *, bias: bool = True, mask: bool = False, rotated: bool = False, watched: bool = False) -> None:
        super().__init__()
        self.mask, self.rotated, self.watched = mask, rotated, watched
        self.norm = nn.LayerNorm(WIDTH)
        self.q, self.k, self.v, self.out = (nn.Linear(WIDTH, WIDTH, bias=bias or n == 3) for n in range(4))
        self.scale = nn.Parameter(torch.rand(WIDTH))
        self.turn = nn.Buffer(torch.rand(TOKENS, WIDTH // HEADS))
        self.seen = nn.Buffer(torch.randn(TOKENS, TOKENS))

    def forward(self, tokens: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """`tokens [batch, 6, 32]`."""
        normed = self.norm(tokens)
        values = self.v(normed)
        q, k, v = (
            x.unflatten(2, (HEADS, -1)).transpose(1, 2)
            for x in (self.q(normed), self.k(normed), values)
        )  # fmt: skip
        if self.rotated:
            q, k = q * self.turn, k * self.turn
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=self.seen if self.mask else None)
        mixed = mixed.transpose(1, 2).flatten(2)
        result = tokens + self.scale * self.out(mixed)
        return (result, values) if self.watched else result


class Patches(nn.Module):
    """A picture cut into patches, as tokens."""

    def __init__(self, stride: int = 4, *, bias: bool = True, padding: int = 0) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, WIDTH, 4, stride=stride, padding=padding, bias=bias)

    def forward(self, pixels: Tensor) -> Tensor:
        """`pixels [batch, 3, 8, 12]`."""
        tokens: Tensor = self.patch(pixels).flatten(2).transpose(1, 2)
        return tokens * 2


class TwoReaders(nn.Module):
    """A linear layer whose output is read with its factor and without it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.scale = nn.Linear(WIDTH, WIDTH), nn.Parameter(torch.rand(WIDTH))

    def forward(self, tokens: Tensor) -> Tensor:
        """`tokens [batch, 6, 32]`."""
        found: Tensor = self.linear(tokens)
        return found * self.scale + found.relu()


class Ends(nn.Module):
    """Linear layers whose outputs are the graph's."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, 8), nn.Linear(WIDTH, 24)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """`tokens [batch, 6, 32]`."""
        return self.first(tokens), self.second(tokens)


def traced(make: Callable[[], nn.Module], shape: tuple[int, ...], outputs: int = 1) -> ir.Model:
    torch.manual_seed(3)
    module = make()
    for parameter in module.parameters():
        nn.init.normal_(parameter, 0, 0.3)
    samples = {"x": np.random.default_rng(5).normal(0, 1, (8, *shape)).astype(np.float32)}
    origin = Origin(checkpoint="made here", license="Apache-2.0")
    names = tuple(f"out{number}" for number in range(outputs))
    return trace(Network("part", "encoder", "custom", module, names, samples, origin))


def tokens(batch: int = 3) -> np.ndarray:
    return np.random.default_rng(9).normal(0, 2, (batch, TOKENS, WIDTH)).astype(np.float32)


def run(model: ir.Model, folder: Path, x: np.ndarray) -> list[np.ndarray]:
    path = write_graph(model, folder / "graph.onnx")[0]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return list(session.run(None, {"x": x}))


def operators(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph)


def both(
    make: Callable[[], nn.Module], x: np.ndarray, folder: Path, monkeypatch: pytest.MonkeyPatch, outputs: int = 1
) -> tuple[Counter[str], Counter[str]]:
    """Operators without and with the rewrites, after checking that both graphs compute the same."""
    after = traced(make, x.shape[1:], outputs)
    with monkeypatch.context() as patch:
        patch.setattr("vsdk_export.graph.rewrite", lambda model: None)
        before = traced(make, x.shape[1:], outputs)
    for wanted, found in zip(run(before, folder, x), run(after, folder, x), strict=True):
        assert np.abs(wanted - found).max() <= 1e-5 * max(1.0, np.abs(wanted).max())
    assert [value.name for value in after.graph.outputs] == [value.name for value in before.graph.outputs]
    assert [list(v.shape or ()) for v in after.graph.outputs] == [list(v.shape or ()) for v in before.graph.outputs]
    return operators(before), operators(after)


@pytest.mark.parametrize("mask", [False, True])
def test_attention_becomes_one_projection_with_a_bias_for_queries_only(
    mask: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = both(lambda: Attention(mask=mask), tokens(), tmp_path, monkeypatch)
    assert (before["MatMul"], after["MatMul"], after["Split"]) == (6, 4, 1)
    assert before["Mul"] - after["Mul"] == 1  # LayerScale
    assert before["Add"] - after["Add"] == 2  # the biases of keys and values


def test_attention_without_biases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = both(lambda: Attention(bias=False), tokens(), tmp_path, monkeypatch)
    assert (after["MatMul"], after["Add"]) == (4, before["Add"])


def test_a_bias_of_keys_that_are_rotated_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a rotation it is another one for each key."""
    before, after = both(lambda: Attention(rotated=True), tokens(), tmp_path, monkeypatch)
    assert before["Add"] - after["Add"] == 1  # only that of the values


def test_a_bias_of_values_that_are_given_out_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = both(lambda: Attention(watched=True), tokens(), tmp_path, monkeypatch, outputs=2)
    assert before["Add"] - after["Add"] == 1  # only that of the keys


def test_a_factor_stays_where_the_output_is_read_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = both(TwoReaders, tokens(), tmp_path, monkeypatch)
    assert after == before


def test_outputs_of_the_graph_keep_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, after = both(Ends, tokens(), tmp_path, monkeypatch, outputs=2)
    assert (after["MatMul"], after["Split"]) == (1, 1)


@pytest.mark.parametrize("bias", [False, True])
def test_patches_are_multiplied(bias: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(2).normal(0, 1, (3, 3, 8, 12)).astype(np.float32)
    before, after = both(lambda: Patches(bias=bias), pixels, tmp_path, monkeypatch)
    assert (before["Conv"], after["Conv"], after["MatMul"]) == (1, 0, 1)


@pytest.mark.parametrize("options", [{"stride": 2}, {"padding": 2}])
def test_windows_that_overlap_or_are_padded_stay_a_convolution(
    options: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(2).normal(0, 1, (2, 3, 8, 12)).astype(np.float32)
    before, after = both(lambda: Patches(**options), pixels, tmp_path, monkeypatch)  # type: ignore[arg-type]
    assert after == before


def test_weights_have_the_names_of_their_layers() -> None:
    products = [node for node in traced(Attention, (TOKENS, WIDTH)).graph if node.op_type == "MatMul"]
    names = [value.name for node in products for value in node.inputs if value is not None and value.is_initializer()]
    assert names == ["v+q+k.weight", "out.scaled.weight"]  # as they are computed


@pytest.mark.parametrize(
    ("names", "together"),
    [
        (["blocks.0.attention.q.weight", "blocks.0.attention.k.weight"], "blocks.0.attention.q+k.weight"),
        (["a.weight", "b.weight"], "a+b.weight"),
        (["a.b.weight", "a.c.d.weight"], "a.b+c.d.weight"),
        (["a.weight", "val_7"], "a.weight.merged"),
    ],
)
def test_names_of_weights_side_by_side(names: list[str], together: str) -> None:
    assert joined(names) == together


def test_every_rewrite_says_how_often_it_applied() -> None:
    model = traced(Attention, (TOKENS, WIDTH))
    for rewrite in (
        rewriting.fold_layer_scales, rewriting.move_attention_biases, rewriting.merge_projections,
        rewriting.multiply_patches, rewriting.name_weights,
    ):  # fmt: skip
        assert rewrite(model) == 0  # nothing is left for a second time
