"""The exported memory against an independent statement of the published computation."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from memory_host import Array, Host, cosine, relative, segment
from videollamb_reference import Reference, random_weights

from vsdk_export import export_memory
from vsdk_models.videollamb import BridgeConfig, MemoryStep
from vsdk_models.videollamb.pooling import pooling_matrix
from vsdk_runtimes import Bundle, Precision, Session, load, load_bundle

CONFIGS = {
    "base": BridgeConfig(width=32, heads=4, hidden=96, memory_tokens=6, patches=25, grid=3, capacity=5),
    "mem": BridgeConfig(
        width=32, heads=4, hidden=96, memory_tokens=6, patches=25, grid=3, capacity=3, variant="patches", positions=256
    ),
    "sensitive": BridgeConfig(width=32, heads=4, hidden=96, memory_tokens=6, patches=25, grid=3, capacity=5),
    "deep": BridgeConfig(
        width=32, heads=2, hidden=64, layers=3, memory_tokens=6, patches=9, grid=0, frames=4, retrieval=False
    ),
}
KINDS = ("base", "mem")
# Weights of this size make the recurrence grow its errors, in PyTorch as anywhere; each step must be right even so.
SIZES = {"sensitive": 2.6}


@dataclass(frozen=True)
class Made:
    """A bridge with the weights that it was made of, and its bundle."""

    config: BridgeConfig
    step: MemoryStep
    weights: dict[str, torch.Tensor]
    bundle: Bundle

    def session(self, precision: Precision) -> Session:
        return load(self.bundle.component("bridge"), precision=precision, threads=1)

    def reference(self) -> Reference:
        return reference_for(self.config, self.weights)


def reference_for(config: BridgeConfig, weights: dict[str, torch.Tensor]) -> Reference:
    return Reference(
        {name: tensor.double() for name, tensor in weights.items()}, config.heads, config.side, config.pooled_side,
        caches_patches=config.variant == "patches", retrieves=config.retrieval,
    )  # fmt: skip


def step_for(config: BridgeConfig, size: float = 1.0) -> tuple[MemoryStep, dict[str, torch.Tensor]]:
    weights = random_weights(
        config.width, config.hidden, config.memory_tokens, layers=config.layers, positions=config.positions,
        retrieval=config.retrieval, size=size,
    )  # fmt: skip
    step = MemoryStep(config).eval()
    step.load_state_dict({name: weights[name] for name in step.state_dict()})
    return step, weights


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    root = tmp_path_factory.mktemp("bridges")

    @functools.cache
    def make(kind: str) -> Made:
        step, weights = step_for(CONFIGS[kind], SIZES.get(kind, 1.0))
        export_memory(step, out=root / kind, precisions=("fp32", "fp16"))
        return Made(CONFIGS[kind], step, weights, load_bundle(root / kind))

    return make


def inputs_for(config: BridgeConfig, rng: np.random.Generator, count: int, number: int) -> dict[str, Array]:
    patches, frames = segment(rng, config, count)
    given = {"patches": patches, "frames": frames, "restart": np.array([number == 0], np.float32)}
    if config.positions:
        given["position"] = np.array([number], np.int64)
    return given


def read(reference: Reference, given: dict[str, Array], number: int) -> dict[str, torch.Tensor]:
    count = int(given["frames"].sum())
    bridged, visual, memory = reference.segment(torch.from_numpy(given["patches"][0, :count]).double(), number)
    return {"bridged": bridged, "visual": visual, "memory_out": memory}


def compared(found: dict[str, Array], expected: dict[str, torch.Tensor], precision: Precision) -> None:
    for name, wanted in expected.items():
        actual = found[name][0, : len(wanted)]
        if precision == "fp32":
            assert relative(actual, wanted) <= 1e-4, name
        assert cosine(actual, wanted) >= 0.999, name


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("kind", [*KINDS, "sensitive"])
def test_every_step_from_the_reference_state(kind: str, precision: Precision, made: Callable[[str], Made]) -> None:
    """Segments of 1 to 8 frames, every fill level from empty to full and on, garbage in padding and unused slots."""
    bridge, rng = made(kind), np.random.default_rng(5)
    config, reference, host = bridge.config, bridge.reference(), Host(bridge.config, rng)
    sizes, fills = set(), set()
    with bridge.session(precision) as session:
        for number in range(24):
            count = (number * 5) % config.frames + 1
            given = inputs_for(config, rng, count, number)
            state = host.state(reference)
            fills.add(len(reference.cache))
            given |= host.write(count, reference)
            expected = read(reference, given, number)
            compared(session.run({**given, **state}), expected, precision)
            sizes.add(count)
    assert sizes == set(range(1, config.frames + 1))
    assert fills == set(range(config.slots + 1))
    assert min(host.evicted.values()) > 3


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("kind", KINDS)
def test_closed_loop_over_200_segments(kind: str, precision: Precision, made: Callable[[str], Made]) -> None:
    """The error neither passes the limit nor grows, though each state comes from the one before."""
    bridge, rng = made(kind), np.random.default_rng(6)
    config, reference, host = bridge.config, bridge.reference(), Host(bridge.config, rng)
    curve = []
    with bridge.session(precision) as session:
        state = session.new_state()
        for number in range(200):
            count = int(rng.integers(1, config.frames + 1))
            given = inputs_for(config, rng, count, number)
            given |= host.write(count, reference)
            expected = read(reference, given, number)
            found = session.step(given, state, outputs=("bridged", "visual", "memory_out"))
            compared(found, expected, precision)
            curve.append(relative(found["memory_out"][0], expected["memory_out"]))
    assert max(curve) <= (1e-4 if precision == "fp32" else 2e-2)
    assert np.mean(curve[150:]) <= 2 * np.mean(curve[10:60])


def test_without_retrieval_and_with_several_layers(made: Callable[[str], Made]) -> None:
    bridge, rng = made("deep"), np.random.default_rng(7)
    reference = bridge.reference()
    with bridge.session("fp32") as session:
        assert list(session.inputs) == ["patches", "frames", "restart", "memory_in"]
        state = session.new_state()
        for number in range(12):
            given = inputs_for(bridge.config, rng, number % bridge.config.frames + 1, number)
            found = session.step(given, state, outputs=("bridged", "visual", "memory_out"))
            compared(found, read(reference, given, number), "fp32")
            np.testing.assert_array_equal(found["bridged"], found["memory_out"])


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("kind", KINDS)
def test_garbage_changes_no_bit(kind: str, precision: Precision, made: Callable[[str], Made]) -> None:
    """What is in padding frames and unused slots does not reach the tokens, and unused slots come out empty."""
    bridge = made(kind)
    config, results = bridge.config, []
    with bridge.session(precision) as session:
        for seed in (1, 2):
            rng = np.random.default_rng(8)
            reference, host = bridge.reference(), Host(config, rng)
            given = inputs_for(config, rng, 3, 0) | host.write(3, reference)
            read(reference, given, 0)
            state, used = host.state(reference), given["valid"].astype(bool)
            noise = np.random.default_rng(seed)
            for tensor in (state["keys_in"], state["values_in"]):
                tensor[~used] = noise.normal(0, 1e20, tensor[~used].shape)
            given = inputs_for(config, rng, 5, 1)
            given["patches"][0, 5:] = noise.normal(0, 1e20, given["patches"][0, 5:].shape)
            given |= host.write(5, reference)
            found = session.run({**given, **state})
            assert not found["keys_out"][given["valid"] == 0].any()
            results.append({**found, "visual": found["visual"][:, : 5 * config.frame_tokens]})
    for name, first in results[0].items():
        np.testing.assert_array_equal(first, results[1][name], err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_restart_takes_the_initial_memory_and_leaves_the_cache(kind: str, made: Callable[[str], Made]) -> None:
    bridge, rng = made(kind), np.random.default_rng(9)
    config, reference, host = bridge.config, bridge.reference(), Host(bridge.config, rng)
    with bridge.session("fp32") as session:
        state = session.new_state()
        for number in range(6):
            given = inputs_for(config, rng, 4, number) | host.write(4, reference)
            if number == 3:
                given["restart"][:] = 1
                reference.memory = None
            found = session.step(given, state, outputs=("bridged", "visual", "memory_out"))
            compared(found, read(reference, given, number), "fp32")


def test_parts_take_batches_and_give_gradients() -> None:
    """As training uses them: three segments at once, of different lengths, with caches of different lengths."""
    config = CONFIGS["base"]
    step, weights = step_for(config)
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randn(3, 4, config.patches, config.width, generator=generator)
    memory = torch.randn(3, config.memory_tokens, config.width, generator=generator)
    entries = torch.randn(3, 7, config.width, generator=generator)
    lengths, filled = (4, 1, 2), (7, 3, 1)
    present = torch.tensor([[float(frame < length) for frame in range(4)] for length in lengths])
    present = present.repeat_interleave(config.frame_tokens, dim=1)
    cached = torch.tensor([[float(slot < count) for slot in range(7)] for count in filled])
    assert step.retrieval is not None
    bridged, visual = step.projector(memory, step.pool(tokens), present)
    retrieved = step.retrieval(bridged, *step.retrieval.project(entries), cached)
    for item, (length, count) in enumerate(zip(lengths, filled, strict=True)):
        reference = reference_for(config, weights)
        reference.memory, reference.retrieves = memory[item].double(), False
        expected, expected_visual, _ = reference.segment(tokens[item, :length].double(), 0)
        context = entries[item, :count].double()
        expected_memory = reference.attention("retrieval.layers.0.crossattention", expected, context)
        with torch.no_grad():
            assert relative(bridged[item].numpy(), expected) <= 1e-4
            assert relative(visual[item, : length * config.frame_tokens].numpy(), expected_visual) <= 1e-4
            assert relative(retrieved[item].numpy(), expected_memory) <= 1e-4
    retrieved.square().mean().backward()
    assert all(parameter.grad is not None for name, parameter in step.named_parameters() if "read_memory" not in name)


@pytest.mark.parametrize(("side", "grid"), [(16, 12), (24, 14), (5, 3), (4, 6), (8, 8), (1, 1)])
def test_pooling_matrix_is_adaptive_pooling(side: int, grid: int) -> None:
    tokens = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.adaptive_avg_pool2d(tokens, grid).flatten(2)
    torch.testing.assert_close(tokens.flatten(2) @ pooling_matrix(side, grid).T, expected, rtol=1e-5, atol=1e-6)
