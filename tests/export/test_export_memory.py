"""`export_memory`: what the bundle holds, that it is repeatable, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from small_checkpoints import WIDTH, Exported
from torch import Tensor

from vsdk_export import export_memory
from vsdk_export.memory_samples import drawn_tokens, memory_samples
from vsdk_models.videollamb import BridgeConfig, MemoryStep
from vsdk_models.videollamb.adapter import bridge_adapter
from vsdk_runtimes import Precision, bundle_digest, load, load_bundle
from vsdk_runtimes.errors import ExportError, InputError, ParityError
from vsdk_runtimes.manifest import MemorySpec, Origin

# The encoder of the small checkpoints gives 16 patch tokens.
BASE = BridgeConfig(width=WIDTH, heads=4, hidden=64, memory_tokens=4, patches=16, grid=3, capacity=4, restart_every=8)
MEM = BridgeConfig(
    width=32,
    heads=2,
    hidden=64,
    memory_tokens=4,
    patches=9,
    grid=2,
    frames=3,
    capacity=2,
    variant="patches",
    positions=5,
)


def bridge(config: BridgeConfig, kind: type[MemoryStep] = MemoryStep) -> MemoryStep:
    torch.manual_seed(0)
    return kind(config)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory, exported: Callable[[str], Exported]) -> dict[str, Path]:
    """The base variant beside an encoder, and the Mem variant alone; both precisions."""
    root = tmp_path_factory.mktemp("bridges")
    torch.manual_seed(0)
    export_memory(
        bridge(BASE), projector=bridge_adapter(WIDTH, 24), encoder=exported("clip_vision").bundle, out=root / "base",
        precisions=("fp32", "fp16"), origin=Origin(checkpoint="me/bridge", license="MIT"),
    )  # fmt: skip
    export_memory(bridge(MEM), out=root / "mem", precisions=("fp32", "fp16"))
    return {"base": root / "base", "mem": root / "mem"}


def test_the_manifest_describes_the_memory(bundles: dict[str, Path]) -> None:
    base = load_bundle(bundles["base"], verify=True)
    assert sorted(base.components) == ["bridge", "encoder", "projector"]
    spec = base.component("bridge").spec
    assert spec.memory == MemorySpec(
        variant="memories", capacity=4, tokens=4, blocks=1, frames=8, grid=3, restart_every=8, eviction="merge"
    )
    assert {(item.output, item.input) for item in spec.state} == {
        ("memory_out", "memory_in"), ("keys_out", "keys_in"), ("values_out", "values_in"),
    }  # fmt: skip
    assert {item.input: item.init for item in spec.state} == {
        "memory_in": "bridge/initial_memory.npy", "keys_in": None, "values_in": None,
    }  # fmt: skip
    initial = np.load(bundles["base"] / "bridge" / "initial_memory.npy", allow_pickle=False)
    np.testing.assert_array_equal(initial[0], bridge(BASE).projector.read_memory_emb.detach().numpy())
    assert spec.source.license == "MIT"
    mem = load_bundle(bundles["mem"]).component("bridge").spec
    assert mem.memory == MemorySpec(variant="patches", capacity=2, tokens=4, blocks=3, frames=3, grid=2, positions=5)
    assert mem.inputs["position"].dtype == "int64"


def test_every_tensor_has_the_stated_fixed_shape(bundles: dict[str, Path]) -> None:
    for name, config in (("base", BASE), ("mem", MEM)):
        spec, step = load_bundle(bundles[name]).component("bridge").spec, bridge(config)
        assert {item: tensor.shape for item, tensor in spec.inputs.items()} == {
            item: step.input_shape(item) for item in step.input_names
        }
        assert {item: tensor.shape for item, tensor in spec.outputs.items()} == {
            item: step.output_shape(item) for item in step.output_names
        }
        for precision in ("fp32", "fp16"):
            model = onnx.load(bundles[name] / "bridge" / f"{precision}.onnx")
            assert model.ir_version <= 10
            assert [(item.domain, item.version) for item in model.opset_import] == [("", 18)]


def test_parity_is_measured_step_by_step_and_in_the_loop(bundles: dict[str, Path]) -> None:
    for path in bundles.values():
        spec = load_bundle(path).component("bridge").spec
        limits: dict[Precision, float] = {"fp32": 1e-4, "fp16": 1e-2}
        for precision, limit in limits.items():
            measured = spec.parity[precision]
            assert set(measured) == {f"{name}{suffix}" for name in spec.outputs for suffix in ("", " (closed loop)")}
            tokens = [item for name, item in measured.items() if name.split()[0] in ("bridged", "visual", "memory_out")]
            assert all(item.relative <= limit and item.cosine >= 0.999 for item in tokens)


def test_samples_reach_every_state_of_the_cache() -> None:
    """Segments of every length, every fill level, merges and evictions, a restart, and padding that is not zero."""
    samples = memory_samples(bridge(BASE), drawn_tokens(BASE.patches, BASE.width))
    steps = len(samples["patches"])
    assert steps >= 24
    lengths = samples["frames"].sum(axis=(1, 2))
    assert set(lengths) == set(range(1, 9))
    assert set(samples["valid"].sum(axis=(1, 2))) == {1, 2, 3, 4}
    rows = samples["mix"][:, 0]
    assert ((rows > 0) & (rows < 1)).any(axis=(1, 2)).sum() >= 4
    assert set(np.flatnonzero(samples["restart"])) == {0, 3, 8, 16}
    np.testing.assert_allclose(rows.sum(-1)[rows.any(-1)], 1, atol=1e-6)
    written = samples["write"].argmax(-1)
    assert not rows[np.arange(steps), written].any()
    assert samples["valid"][np.arange(steps), 0, written].all()
    for patches, length in zip(samples["patches"], lengths, strict=True):
        assert np.abs(patches[0, int(length) :]).min(initial=1) > 0


def test_the_same_bridge_gives_the_same_digest(bundles: dict[str, Path], tmp_path: Path) -> None:
    report = export_memory(bridge(MEM), out=tmp_path / "mem", precisions=("fp32", "fp16"))
    assert report.digest == load_bundle(bundles["mem"]).digest
    assert report.digest == bundle_digest(load_bundle(tmp_path / "mem").manifest)


def test_norms_and_softmax_are_fp32_in_the_fp16_graph(bundles: dict[str, Path]) -> None:
    """An epsilon of 1e-12 is 0 in fp16, and absent tokens have scores near the end of its range."""
    for path in bundles.values():
        graph = onnx.shape_inference.infer_shapes(onnx.load(path / "bridge" / "fp16.onnx")).graph
        types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)}
        nodes = [node for node in graph.node if node.op_type in ("LayerNormalization", "Softmax")]
        assert {node.op_type for node in nodes} == {"LayerNormalization", "Softmax"}
        assert all(types[name] == TensorProto.FLOAT for node in nodes for name in node.output if name)
        weights = [item for item in graph.initializer if len(item.dims) == 2 and min(item.dims) > 4]
        assert sum(item.data_type == TensorProto.FLOAT16 for item in weights) >= len(weights) - 1  # the pooling matrix


def test_a_long_stay_changes_no_bit_of_an_entry(bundles: dict[str, Path]) -> None:
    """An entry that is kept is copied at each step; in fp16, too, it must come out as it went in."""
    step = bridge(BASE)
    samples = memory_samples(step, drawn_tokens(BASE.patches, BASE.width))
    with load(load_bundle(bundles["base"]).component("bridge"), precision="fp16", threads=1) as session:
        state = session.new_state()
        keys = []
        for number in range(4):  # until it is full, nothing moves
            session.step({name: array[number] for name, array in samples.items()}, state)
            keys.append(state.snapshot()["keys_in"])
    first = int(samples["write"][0].argmax())
    for later in keys[1:]:
        np.testing.assert_array_equal(later[:, first], keys[0][:, first])


def test_adding_in_place_uses_the_encoder_that_is_there(exported: Callable[[str], Exported], tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(exported("clip_vision").bundle, tmp_path / "bundle"))
    small = BridgeConfig(width=WIDTH, heads=2, hidden=32, memory_tokens=2, patches=16, grid=0, frames=2, capacity=2)
    export_memory(bridge(small), into=bundle)
    assert sorted(load_bundle(bundle, verify=True).components) == ["bridge", "encoder"]
    with pytest.raises(ExportError, match="already has a component 'bridge'"):
        export_memory(bridge(small), into=bundle)


def test_an_encoder_that_does_not_fit_is_refused(exported: Callable[[str], Exported], tmp_path: Path) -> None:
    encoder = exported("clip_vision").bundle
    with pytest.raises(ExportError, match=r"gives 16 patch tokens of width 48 .* reads 9 of width 32"):
        export_memory(bridge(MEM), encoder=encoder, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


class Forgetful(MemoryStep):
    """Computes something else each time, so its graph cannot be it."""

    calls = 0

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Adds a little more to the memory at each call."""
        self.calls += 1
        bridged, visual, memory, *cache = super().forward(*tensors)
        return bridged, visual, memory + 0.01 * self.calls, *cache


def test_a_graph_that_leaves_its_reference_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="component 'bridge' at fp32: output 'memory_out"):
        export_memory(bridge(MEM, Forgetful), out=tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"heads": 3}, "does not divide into 3 attention heads"),
        ({"patches": 15}, "15 patch tokens of a frame are not a square"),
        ({"capacity": 0}, "at least one slot"),
        ({"frames": 0}, "positive sizes"),
    ],
)
def test_sizes_that_do_not_fit_together(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        BridgeConfig(**{"width": 32, "heads": 4, "hidden": 64, "patches": 16, **sizes})  # type: ignore[arg-type]


def test_the_manifest_refuses_blocks_that_contradict_the_variant(bundles: dict[str, Path]) -> None:
    path = bundles["mem"] / "manifest.json"
    content = json.loads(path.read_text())
    content["components"]["bridge"]["memory"]["blocks"] = 1
    with pytest.raises(ValueError, match="a cache of patches has 3 blocks in an entry, not 1"):
        MemorySpec.model_validate(content["components"]["bridge"]["memory"])
