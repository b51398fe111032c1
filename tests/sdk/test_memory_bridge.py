"""The bridge on an engine: what a step does, what it refuses, and that it costs the same for ever."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from memory_bundles import (
    CAPACITY,
    FRAMES,
    GRID,
    PATCHES,
    TOKENS,
    WIDTH,
    Array,
    encoder_bundle,
    memory_bundle,
    memory_step,
    segment,
    with_other_encoder,
)

import vsdk
from vsdk.errors import BundleSchemaError, ClosedError, InputError
from vsdk.memory.bridge import BridgeStep, MemoryBridge, memory_bytes
from vsdk.memory.cache import Eviction

SEGMENTS, CYCLE = 100_000, 16


@pytest.fixture(scope="module")
def bundle() -> vsdk.Bundle:
    return vsdk.load(memory_bundle())


def opened(bundle: vsdk.Bundle, **options: Any) -> MemoryBridge:
    return vsdk.MemoryBridge(bundle, threads=1, **options)


def same(one: BridgeStep, other: BridgeStep) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("bridged", "visual", "memory"))


@pytest.mark.parametrize("count", range(1, FRAMES + 1))
def test_shapes(bundle: vsdk.Bundle, count: int) -> None:
    bridge = opened(bundle)
    step = bridge.step(segment(0, count))
    assert step.number == 0
    assert step.bridged.shape == step.memory.shape == (TOKENS, WIDTH)
    assert step.visual.shape == (count * GRID**2, WIDTH)
    assert {step.bridged.dtype, step.visual.dtype, step.memory.dtype} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(bridge.memory, step.memory)
    assert bridge.segments == 1


def test_padding_leaves_no_trace(bundle: vsdk.Bundle) -> None:
    """A short segment gives the same after a long one has filled the buffer as in a new bridge."""
    used, new = opened(bundle), opened(bundle)
    used.step(segment(1, FRAMES))
    used.reset()
    assert same(used.step(segment(2, 3)), new.step(segment(2, 3)))


def test_what_was_seen_changes_what_comes_after(bundle: vsdk.Bundle) -> None:
    one, other = opened(bundle), opened(bundle)
    one.step(segment(1))
    other.step(segment(2))
    after = [bridge.step(segment(3)) for bridge in (one, other)]
    assert not same(*after)


def test_the_cache_fills_and_then_makes_room(bundle: vsdk.Bundle) -> None:
    bridge = opened(bundle, eviction="oldest")
    for number in range(CAPACITY + 3):
        step = bridge.step(segment(number))
        assert step.merged is None
        assert step.evicted == (None if number < CAPACITY else (number - CAPACITY, number - CAPACITY))
        assert len(bridge.entries) == min(number + 1, CAPACITY)
        np.testing.assert_array_equal(bridge.entries[-1].tokens, step.bridged)


def test_the_bundles_own_rule_is_the_default(bundle: vsdk.Bundle) -> None:
    bridge = opened(bundle)
    for number in range(CAPACITY):
        bridge.step(segment(number if number < 2 else 9))  # the third and the fourth are alike
    tokens = [entry.tokens for entry in bridge.entries]
    step = bridge.step(segment(10))
    assert step.evicted is None
    assert step.merged is not None
    first, last = step.merged
    assert last == first + 1
    np.testing.assert_allclose(bridge.entries[first].tokens, (tokens[first] + tokens[last]) / 2, rtol=1e-5, atol=1e-6)


def test_what_was_forgotten_is_not_read_any_more(bundle: vsdk.Bundle) -> None:
    """With the oldest forgotten, retrieval depends on the last segments alone, once the memory tokens are the same."""
    one, other = (opened(bundle, eviction="oldest") for _ in range(2))
    one.step(segment(100))
    other.step(segment(200))
    for number in range(CAPACITY):
        for bridge in (one, other):
            bridge.state.restore({**bridge.state.snapshot(), "memory_in": np.ones((1, TOKENS, WIDTH), np.float32)})
            bridge.step(segment(number))
    np.testing.assert_array_equal(one.memory, other.memory)


@pytest.mark.parametrize("variant", ["memories", "patches"])
@pytest.mark.parametrize("eviction", ["merge", "oldest"])
def test_host_and_graph_together_are_the_recurrence(variant: str, eviction: Eviction) -> None:
    """Against the modules of the model and a list that keeps every segment: means are taken from scratch."""
    model = memory_step(variant=variant)
    assert model.retrieval is not None
    bridge = opened(vsdk.load(memory_bundle(variant=variant)), eviction=eviction)
    memory = model.projector.read_memory_emb[None]
    kept: list[torch.Tensor] = []
    for number, count in enumerate([8, 3, 1, 8, 5, 8, 2, 8, 8, 4, 7, 8]):
        patches = segment(number, count)
        found = bridge.step(patches)
        with torch.no_grad():
            bridged, visual = model.projector(memory, model.pool(torch.from_numpy(patches)[None]))
            kept.append((visual if variant == "patches" else bridged)[0])
            context = torch.cat([mean_of(kept[entry.first : entry.last + 1]) for entry in bridge.entries])[None]
            memory = model.retrieval(bridged, *model.retrieval.project(context))
        for expected, seen in ((bridged, found.bridged), (visual, found.visual), (memory, found.memory)):
            np.testing.assert_allclose(seen, expected[0].numpy(), rtol=0, atol=1e-4)
    assert len(bridge.entries) == CAPACITY


def mean_of(segments: list[torch.Tensor]) -> torch.Tensor:
    """The mean of what segments left, place by place, over those that have the place."""
    longest = max(len(tokens) for tokens in segments)
    return torch.stack(
        [torch.stack([tokens[place] for tokens in segments if place < len(tokens)]).mean(0) for place in range(longest)]
    )


def test_restart_reads_the_segment_as_if_it_were_the_first() -> None:
    bridge = opened(vsdk.load(memory_bundle(restart_every=3)))
    steps = [bridge.step(segment(0)) for _ in range(7)]
    for number in (3, 6):
        np.testing.assert_array_equal(steps[number].bridged, steps[0].bridged)
        assert not np.array_equal(steps[number].memory, steps[0].memory)  # the cache is read back
    assert not np.array_equal(steps[1].bridged, steps[0].bridged)


def test_patches_in_the_cache() -> None:
    bundle = vsdk.load(memory_bundle(variant="patches"))
    bridge = opened(bundle)
    for number, count in enumerate([8, 1, 5, 8, 2, 7, 3]):
        step = bridge.step(segment(number, count))
        entry = bridge.entries[-1]
        assert entry.retrieved is not None
        np.testing.assert_array_equal(entry.retrieved, step.memory)
        np.testing.assert_array_equal(entry.blocks, np.arange(FRAMES) < count)
    assert sum(entry.segments for entry in bridge.entries) == 7
    assert memory_bytes(bundle.component("bridge")).slot == 2 * FRAMES * GRID**2 * WIDTH * 4


def test_a_bridge_without_retrieval_has_no_entries() -> None:
    bridge = opened(vsdk.load(memory_bundle(retrieval=False)))
    for number in range(3):
        step = bridge.step(segment(number))
        np.testing.assert_array_equal(step.memory, step.bridged)
    assert bridge.entries == ()
    assert bridge.segments == 3


def test_more_segments_than_positions() -> None:
    """All segments past the last embedding share it."""
    bundle = vsdk.load(memory_bundle(variant="patches", positions=4, restart_every=1))
    bridge = opened(bundle)
    seen = [bridge.step(segment(0)).bridged for _ in range(7)]
    for number in range(3):
        assert not np.array_equal(seen[number], seen[number + 1])
    for later in seen[4:]:
        np.testing.assert_array_equal(later, seen[3])


@pytest.mark.parametrize(
    "patches",
    [
        np.zeros((0, PATCHES, WIDTH), np.float32),
        np.zeros((FRAMES + 1, PATCHES, WIDTH), np.float32),
        np.zeros((2, PATCHES, WIDTH + 1), np.float32),
        np.zeros((PATCHES, WIDTH), np.float32),
        np.zeros((2, PATCHES, WIDTH), np.float64),
        np.full((2, PATCHES, WIDTH), np.nan, np.float32),
        [[0.0]],
    ],
    ids=["empty", "too many", "width", "axes", "float64", "nan", "list"],
)
def test_a_wrong_segment_is_refused_and_changes_nothing(bundle: vsdk.Bundle, patches: Any) -> None:
    bridge, other = opened(bundle), opened(bundle)
    for each in (bridge, other):
        each.step(segment(1))
    with pytest.raises(InputError, match="segment"):
        bridge.step(patches)
    assert bridge.segments == 1
    assert same(bridge.step(segment(2)), other.step(segment(2)))


def test_closed(bundle: vsdk.Bundle) -> None:
    bridge = opened(bundle)
    bridge.step(segment(0))
    bridge.close()
    bridge.close()
    with pytest.raises(ClosedError):
        bridge.step(segment(1))
    assert len(bridge.entries) == 1


def test_a_bundle_without_a_bridge_says_so() -> None:
    with pytest.raises(BundleSchemaError, match="bridge"):
        opened(vsdk.load(encoder_bundle()))


@pytest.mark.parametrize(
    ("encoder", "says"),
    [({"width": 12}, "16 patch tokens of width 12"), ({"gives_patches": False}, "no patch tokens")],
    ids=["width", "no patches"],
)
def test_an_encoder_that_does_not_fit_is_refused(tmp_path: Path, encoder: dict[str, Any], says: str) -> None:
    with pytest.raises(BundleSchemaError, match=says):
        opened(vsdk.load(with_other_encoder(tmp_path / "other", **encoder)))


@pytest.mark.slow
def test_a_step_is_the_same_after_100_000_segments(bundle: vsdk.Bundle) -> None:
    """Shapes, engine calls, buffers and allocations of a step at segment 10, 1,000 and 100,000."""
    bridge = opened(bundle)
    pool = [segment(number, 1 + number % FRAMES) for number in range(CYCLE)]
    seen = []
    for start in (10, 1000, SEGMENTS):
        while bridge.segments < start:
            bridge.step(pool[bridge.segments % CYCLE])
        seen.append((calls_of_steps(bridge, pool), allocations_of_steps(bridge, pool)))
    assert bridge.segments >= SEGMENTS
    assert len(bridge.entries) == CAPACITY
    early, middle, late = seen
    assert len(early[0]) == CYCLE
    assert early[0] == middle[0] == late[0]
    assert min(early[1]) > 1000
    # Python itself may find a few small objects of its own in its free lists, or not.
    allocated = [early[1], middle[1], late[1]]
    assert np.ptp(allocated, axis=0).max() < 1000, allocated


def calls_of_steps(bridge: MemoryBridge, pool: list[Array]) -> list[Any]:
    """What the engine is asked in one cycle: the inputs and results of every call, and where the state lies."""
    calls: list[Any] = []
    session = bridge.session
    step = session.step

    def watched(inputs: Any, state: Any, outputs: Any = None) -> dict[str, Array]:
        results = step(inputs, state, outputs)
        named = [*inputs.items(), *results.items()]
        calls.append([(name, array.shape, array.dtype) for name, array in named])
        calls[-1] += [(name, id(tensor), tensor.shape) for name, tensor in state.tensors.items()]
        return results

    session.step = watched  # type: ignore[method-assign]
    for patches in pool:
        bridge.step(patches)
    del session.step
    return calls


def allocations_of_steps(bridge: MemoryBridge, pool: list[Array]) -> list[int]:
    """The most bytes that each step of a cycle holds at a time, beyond what there was before it.

    Of several cycles the least counts: what else Python has to allocate once in a while can only add to a step.
    """
    gc.collect()
    gc.disable()
    tracemalloc.start()
    for patches in pool:  # so that what the next cycles free was traced, too
        bridge.step(patches)
    cycles: list[list[int]] = []
    for _ in range(5):
        cycles.append([])
        for patches in pool:
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            bridge.step(patches)
            cycles[-1].append(tracemalloc.get_traced_memory()[1] - before)
    tracemalloc.stop()
    gc.enable()
    return [min(held) for held in zip(*cycles, strict=True)]
