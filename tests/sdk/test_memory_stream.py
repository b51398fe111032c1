"""The memory in a pipeline and a stream: events, search, tokens, and what bundles without one are spared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from memory_bundles import (
    CAPACITY,
    GRID,
    LANGUAGE_WIDTH,
    SCENE_FRAMES,
    STEP_NS,
    TOKENS,
    WIDTH,
    encoder_bundle,
    film,
    memory_bundle,
    place,
)

import vsdk
from vsdk.errors import BundleSchemaError, InputError

SCENES = 7


@pytest.fixture(scope="module")
def bundle() -> vsdk.Bundle:
    return vsdk.load(memory_bundle())


@pytest.fixture
def pipeline(bundle: vsdk.Bundle) -> Iterator[vsdk.Pipeline]:
    made = vsdk.Pipeline(bundle, threads=1)
    yield made
    made.close()


def pushed(pipeline: vsdk.Pipeline, scenes: range) -> list[vsdk.Event]:
    events = [event for i, frame in enumerate(film(scenes)) for event in pipeline.push(frame, i * STEP_NS)]
    return [*events, *pipeline.flush()]


def updates(events: list[vsdk.Event]) -> list[vsdk.MemoryUpdate]:
    return [event for event in events if isinstance(event, vsdk.MemoryUpdate)]


def remembered(pipeline: vsdk.Pipeline) -> vsdk.Memory:
    assert pipeline.memory is not None
    return pipeline.memory


def test_each_scene_is_followed_by_its_memory(pipeline: vsdk.Pipeline) -> None:
    events = pushed(pipeline, range(SCENES))
    assert [event.type for event in events] == ["start", *["scene", "memory"] * SCENES, "end"]
    for number, update in enumerate(updates(events)):
        assert (update.scene, update.segment) == (number, number)
        assert (update.entries, update.capacity) == (min(number + 1, CAPACITY), CAPACITY)
        assert (update.merged is None) == (number < CAPACITY)
        assert update.evicted is None


def test_entries_tile_the_stream(pipeline: vsdk.Pipeline) -> None:
    pushed(pipeline, range(SCENES))
    entries = remembered(pipeline).entries
    assert len(entries) == CAPACITY
    assert entries[0].first == 0
    assert entries[-1].last == SCENES - 1
    for entry in entries:
        assert entry.scene is not None
        assert entry.scene.index == entry.first
        assert entry.scene.start_frame == entry.first * SCENE_FRAMES
        assert entry.scene.end_frame == (entry.last + 1) * SCENE_FRAMES - 1
        assert entry.scene.picture is None
        assert entry.scene.features is not None
        assert len(entry.scene.features.frames) <= 8
        assert entry.scene.features.frames[0] == entry.scene.start_frame
        assert entry.scene.features.frames[-1] == entry.scene.end_frame


def test_what_the_bridge_reads_are_the_patch_tokens_of_the_segment(bundle: vsdk.Bundle) -> None:
    pipeline = vsdk.Pipeline(bundle, threads=1, gate=vsdk.GateSettings(enabled=False), batch=3)
    scene = next(event for event in pushed(pipeline, range(1)) if isinstance(event, vsdk.Scene))
    assert scene.features is not None
    frames = list(film(range(1)))
    encoder = vsdk.Encoder(bundle, threads=1, patches=True)
    patches = encoder.encode_images([frames[number] for number in scene.features.frames]).patches
    assert patches is not None
    expected = vsdk.MemoryBridge(bundle, threads=1).step(patches)
    np.testing.assert_array_equal(remembered(pipeline).entries[0].tokens, expected.bridged)
    np.testing.assert_array_equal(remembered(pipeline).visual_tokens(), expected.visual)


@pytest.mark.parametrize("batch", [1, 4, 16])
def test_batches_change_nothing(bundle: vsdk.Bundle, pipeline: vsdk.Pipeline, batch: int) -> None:
    batched = vsdk.Pipeline(bundle, threads=1, batch=batch)
    assert updates(pushed(batched, range(SCENES))) == updates(pushed(pipeline, range(SCENES)))
    np.testing.assert_allclose(remembered(batched).tokens(), remembered(pipeline).tokens(), rtol=0, atol=1e-5)


def test_search_by_picture_finds_the_entry(pipeline: vsdk.Pipeline) -> None:
    pushed(pipeline, range(SCENES))
    memory = remembered(pipeline)
    for number in range(SCENES):
        best, *others = memory.search(image=place(number))
        assert best.scene.start_frame <= number * SCENE_FRAMES <= best.scene.end_frame
        assert best.frame // SCENE_FRAMES == number
        assert best.score == pytest.approx(1, abs=1e-4)
        assert all(match.score <= best.score for match in others)
    assert len(memory.search(image=place(0), top=2)) == 2


def test_search_before_and_after_the_stream(pipeline: vsdk.Pipeline) -> None:
    memory = remembered(pipeline)
    assert memory.search(image=place(0)) == []
    pushed(pipeline, range(3))
    pipeline.close()
    assert memory.search(image=place(1))[0].scene.index == 1


def test_search_refuses(pipeline: vsdk.Pipeline) -> None:
    with pytest.raises(InputError, match="either"):
        remembered(pipeline).search()
    with pytest.raises(BundleSchemaError, match="text"):
        remembered(pipeline).search(text="a red car")


def test_tokens(pipeline: vsdk.Pipeline) -> None:
    memory = remembered(pipeline)
    assert memory.tokens().shape == (0, WIDTH)
    assert memory.visual_tokens().shape == (0, WIDTH)
    assert memory.language_tokens().shape == (0, LANGUAGE_WIDTH)
    pushed(pipeline, range(SCENES))
    assert memory.tokens().shape == (CAPACITY * TOKENS, WIDTH)
    np.testing.assert_array_equal(memory.tokens()[-TOKENS:], memory.entries[-1].tokens)
    assert memory.visual_tokens().shape == (8 * GRID**2, WIDTH)
    assert memory.language_tokens().shape == (8 * GRID**2, LANGUAGE_WIDTH)


def test_where_the_cache_holds_patches_the_language_model_gets_the_retrieved_memories() -> None:
    pipeline = vsdk.Pipeline(memory_bundle(variant="patches"), threads=1)
    pushed(pipeline, range(SCENES))
    memory = remembered(pipeline)
    expected = np.concatenate([entry.retrieved for entry in memory.entries if entry.retrieved is not None])
    np.testing.assert_array_equal(memory.tokens(), expected)
    assert memory.language_tokens().shape == (CAPACITY * TOKENS, LANGUAGE_WIDTH)


def test_each_stream_starts_anew_and_the_last_one_stays_readable(pipeline: vsdk.Pipeline) -> None:
    first = pushed(pipeline, range(SCENES))
    tokens = remembered(pipeline).tokens()
    assert len(remembered(pipeline).entries) == CAPACITY
    assert pushed(pipeline, range(SCENES)) == first
    np.testing.assert_array_equal(remembered(pipeline).tokens(), tokens)
    pipeline.push(place(0), 0)
    assert remembered(pipeline).entries == ()


def test_a_memory_across_streams_goes_on(bundle: vsdk.Bundle) -> None:
    settings = vsdk.MemorySettings(across_streams=True, eviction="oldest")
    pipeline = vsdk.Pipeline(bundle, threads=1, memory=settings)
    pushed(pipeline, range(3))
    second = updates(pushed(pipeline, range(3, 6)))
    assert [(update.scene, update.segment) for update in second] == [(0, 3), (1, 4), (2, 5)]
    assert second[-1].evicted == (1, 1)
    assert [entry.stream for entry in remembered(pipeline).entries] == [0, 1, 1, 1]


def test_streams_are_not_merged(bundle: vsdk.Bundle) -> None:
    pipeline = vsdk.Pipeline(bundle, threads=1, memory=vsdk.MemorySettings(across_streams=True))
    found = [
        update for number in range(CAPACITY + 2) for update in updates(pushed(pipeline, range(number, number + 1)))
    ]
    assert [update.merged for update in found] == [None] * (CAPACITY + 2)
    assert [update.evicted for update in found[CAPACITY:]] == [(0, 0), (1, 1)]


def test_without_a_bridge_nothing_is_different() -> None:
    pipeline = vsdk.Pipeline(encoder_bundle(), threads=1)
    asked: list[Any] = []
    run = pipeline.encoder.session.run

    def watched(inputs: Any, outputs: Any = None, **options: Any) -> Any:
        asked.append(list(outputs))
        return run(inputs, outputs, **options)

    pipeline.encoder.session.run = watched  # type: ignore[method-assign]
    events = pushed(pipeline, range(2))
    assert pipeline.memory is None
    assert [event.type for event in events] == ["start", "scene", "scene", "end"]
    assert asked
    assert all(outputs == ["cls"] for outputs in asked)


def test_the_memory_can_be_switched_off(bundle: vsdk.Bundle) -> None:
    pipeline = vsdk.Pipeline(bundle, threads=1, memory=False)
    assert pipeline.memory is None
    assert updates(pushed(pipeline, range(2))) == []


def test_a_memory_that_is_asked_for_must_be_there() -> None:
    with pytest.raises(BundleSchemaError, match="bridge"):
        vsdk.Pipeline(encoder_bundle(), memory=vsdk.MemorySettings())


def test_in_a_stream(bundle: vsdk.Bundle, pipeline: vsdk.Pipeline) -> None:
    with vsdk.Stream(bundle, film(range(SCENES)), threads=1) as stream:
        streamed = list(stream)
        assert stream.memory is not None
        assert stream.memory.search(image=place(2))[0].frame // SCENE_FRAMES == 2
    assert updates(streamed) == updates(pushed(pipeline, range(SCENES)))
    assert len(stream.memory.entries) == CAPACITY
