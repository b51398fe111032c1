"""The pipeline through its public face, with the model that ships with vsdk."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import pytest

import vsdk
from vsdk.errors import BundleNotFoundError, ClosedError, EngineUnavailableError, InputError
from vsdk_models.nano.textures import backdrop

STEP = 40_000_000


@pytest.fixture(scope="module")
def places() -> list[np.ndarray]:
    """Four backdrops, uint8 `[220, 220, 3]`."""
    return [(backdrop(np.random.default_rng(seed), 220) * 255).astype(np.uint8) for seed in (3, 4, 5, 6)]


def panned(place: np.ndarray, frames: int, seed: int = 0) -> Iterator[np.ndarray]:
    """A slow pan over a place, with sensor noise; frames of 180 x 160."""
    rng = np.random.default_rng(seed)
    for i in range(frames):
        view = place[10 : 10 + 160, (i // 4) % 40 : (i // 4) % 40 + 180]
        yield np.clip(view + rng.normal(0, 3, view.shape), 0, 255).astype(np.uint8)


@pytest.fixture
def pipeline() -> Iterator[vsdk.Pipeline]:
    made = vsdk.Pipeline(threads=1)
    yield made
    made.close()


def film(places: list[np.ndarray], lengths: list[int]) -> list[np.ndarray]:
    return [frame for i, n in enumerate(lengths) for frame in panned(places[i % len(places)], n, i)]


def pushed(pipeline: vsdk.Pipeline, frames: list[np.ndarray], **options: str) -> list[vsdk.Event]:
    events = [e for i, frame in enumerate(frames) for e in pipeline.push(frame, i * STEP, **options)]  # type: ignore[arg-type]
    return [*events, *pipeline.flush()]


def test_scenes_tile_the_stream(pipeline: vsdk.Pipeline, places: list[np.ndarray]) -> None:
    events = pushed(pipeline, film(places, [40, 30, 50, 25]))
    start, end = events[0], events[-1]
    scenes = [event for event in events[1:-1] if isinstance(event, vsdk.Scene)]
    assert isinstance(start, vsdk.Start)
    assert start.bundle == "nano"
    assert start.digest == pipeline.bundle.digest
    assert isinstance(end, vsdk.End)
    assert (end.reason, end.frames, end.scenes) == ("end", 145, 4)
    assert len(scenes) == sum(1 for event in events[1:-1] if not isinstance(event, vsdk.MemoryUpdate))
    assert [(s.start_frame, s.end_frame) for s in scenes] == [(0, 39), (40, 69), (70, 119), (120, 144)]
    assert [s.index for s in scenes] == [0, 1, 2, 3]
    assert [s.start for s in scenes] == pytest.approx([0, 1.6, 2.8, 4.8])
    assert [s.end for s in scenes] == pytest.approx([1.6, 2.8, 4.8, 5.8])


def test_scene_carries_its_segment_and_a_picture(pipeline: vsdk.Pipeline, places: list[np.ndarray]) -> None:
    scenes = [e for e in pushed(pipeline, film(places, [40, 12])) if isinstance(e, vsdk.Scene)]
    for scene in scenes:
        assert scene.features is not None
        assert scene.features.cls.shape == (8, 192)
        assert scene.features.frames[0] == scene.start_frame
        assert scene.features.frames[-1] == scene.end_frame
        assert scene.picture is not None
        assert scene.picture.dtype == np.uint8
        assert scene.picture.shape == (160, 180, 3)


def test_bgr_views_and_rgb_give_the_same(pipeline: vsdk.Pipeline, places: list[np.ndarray]) -> None:
    frames = film(places, [30, 30])
    as_rgb = pushed(pipeline, frames)
    as_bgr = pushed(pipeline, [np.ascontiguousarray(f[..., ::-1]) for f in frames], color="bgr")
    assert as_rgb == as_bgr


@pytest.mark.parametrize("color", ["rgb", "bgr"])
def test_memory_that_was_pushed_may_be_used_again(
    color: Literal["rgb", "bgr"], pipeline: vsdk.Pipeline, places: list[np.ndarray]
) -> None:
    """Also that of pictures so small that nothing makes them smaller; and it need not be writable."""
    frames = film(places, [30, 30])
    expected = [e for e in pushed(pipeline, frames) if isinstance(e, vsdk.Scene)]
    memory = np.empty_like(frames[0])
    shown = memory.view()
    shown.flags.writeable = False
    events: list[vsdk.Event] = []
    for i, frame in enumerate(frames):
        memory[...] = frame if color == "rgb" else frame[..., ::-1]
        events += pipeline.push(shown, i * STEP, color)
        memory[...] = 77
    events += pipeline.flush()
    scenes = [e for e in events if isinstance(e, vsdk.Scene)]
    assert scenes == expected
    for scene, other in zip(scenes, expected, strict=True):
        assert scene.picture is not None
        assert other.picture is not None
        np.testing.assert_array_equal(scene.picture, other.picture)


@pytest.mark.parametrize("batch", [2, 5, 64])
def test_batches_change_nothing_but_when(batch: int, pipeline: vsdk.Pipeline, places: list[np.ndarray]) -> None:
    frames = film(places, [30, 40, 20])
    batched = vsdk.Pipeline(threads=1, batch=batch)
    expected, found = pushed(pipeline, frames), pushed(batched, frames)
    batched.close()
    assert [vsdk.events.to_dict(e) for e in found[:1] + found[-1:]] == [
        vsdk.events.to_dict(e) for e in expected[:1] + expected[-1:]
    ]
    spans = [[(s.start_frame, s.end_frame) for s in es if isinstance(s, vsdk.Scene)] for es in (expected, found)]
    assert spans[0] == spans[1]


def test_times_must_increase_and_the_pipeline_survives(pipeline: vsdk.Pipeline, places: list[np.ndarray]) -> None:
    frame = next(panned(places[0], 1))
    pipeline.push(frame, 100)
    with pytest.raises(InputError, match="frame 1 has the time 100 ns"):
        pipeline.push(frame, 100)
    pipeline.push(frame, 101)
    assert pipeline.frames == 2


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8), "picture", None],
)
def test_refuses_what_is_not_a_picture(pipeline: vsdk.Pipeline, image: object) -> None:
    with pytest.raises(InputError):
        pipeline.push(image, 0)  # type: ignore[arg-type]


def test_unknown_colour_order(pipeline: vsdk.Pipeline) -> None:
    with pytest.raises(InputError, match="'rgb' or 'bgr'"):
        pipeline.push(np.zeros((8, 8, 3), np.uint8), 0, color="gbr")  # type: ignore[arg-type]


def test_reset_forgets(pipeline: vsdk.Pipeline, places: list[np.ndarray]) -> None:
    for i, frame in enumerate(panned(places[0], 20)):
        pipeline.push(frame, i * STEP)
    pipeline.reset()
    events = pushed(pipeline, film(places, [20]))
    assert isinstance(events[0], vsdk.Start)
    assert isinstance(events[-1], vsdk.End)
    assert events[-1].frames == 20


def test_nothing_pushed_nothing_said(pipeline: vsdk.Pipeline) -> None:
    assert pipeline.flush() == []


def test_closed(places: list[np.ndarray]) -> None:
    pipeline = vsdk.Pipeline(threads=1)
    pipeline.close()
    pipeline.close()
    with pytest.raises(ClosedError):
        pipeline.push(next(panned(places[0], 1)), 0)


def test_black_leader_and_black_between_are_no_scenes(pipeline: vsdk.Pipeline, places: list[np.ndarray]) -> None:
    rng = np.random.default_rng(0)
    black = [np.clip(rng.normal(4, 3, (160, 180, 3)), 0, 255).astype(np.uint8) for _ in range(20)]
    frames = black + film(places, [40]) + black + film(places[1:], [40])
    scenes = [e for e in pushed(pipeline, frames) if isinstance(e, vsdk.Scene)]
    assert len(scenes) == 2
    assert 59 <= scenes[1].start_frame <= 81
    only_black = [e for e in pushed(pipeline, black) if isinstance(e, vsdk.Scene)]
    assert [(s.start_frame, s.end_frame) for s in only_black] == [(0, 19)]


def test_black_for_hours_does_not_pile_up_behind_a_batch(places: list[np.ndarray]) -> None:
    settled: list[int] = []
    pipeline = vsdk.Pipeline(threads=1, batch=4, on_features=lambda number, *_: settled.append(number))
    black = np.zeros((160, 180, 3), np.uint8)
    pipeline.push(next(panned(places[0], 1)), 0)
    for i in range(1, 1000):
        pipeline.push(black, i * STEP)
        assert i - len(settled) <= 250
    pipeline.close()
    assert settled == list(range(len(settled)))


def test_a_still_camera_is_mostly_spared(pipeline: vsdk.Pipeline, places: list[np.ndarray]) -> None:
    rng = np.random.default_rng(0)
    still = [np.clip(places[0] + rng.normal(0, 4, places[0].shape), 0, 255).astype(np.uint8) for _ in range(100)]
    end = pushed(pipeline, still)[-1]
    assert isinstance(end, vsdk.End)
    assert end.encoded <= 4


def test_features_of_every_frame(places: list[np.ndarray]) -> None:
    rows: list[tuple[int, float, bool]] = []
    pipeline = vsdk.Pipeline(threads=1, on_features=lambda n, t, cls, fresh: rows.append((n, t, fresh)))
    pushed(pipeline, film(places, [20]))
    pipeline.close()
    assert [n for n, _, _ in rows] == list(range(20))
    assert rows[10][1] == pytest.approx(0.4)
    assert rows[0][2]


def test_what_cannot_be_had_is_refused() -> None:
    with pytest.raises(BundleNotFoundError):
        vsdk.Pipeline("/no/such/bundle")
    with pytest.raises(EngineUnavailableError):
        vsdk.Pipeline(device="cuda:0")
    with pytest.raises(InputError, match="batch"):
        vsdk.Pipeline(batch=0)


def test_search_by_picture(pipeline: vsdk.Pipeline, places: list[np.ndarray]) -> None:
    scenes = [e for e in pushed(pipeline, film(places, [40, 30, 50, 25])) if isinstance(e, vsdk.Scene)]
    for number, place in enumerate(places):
        matches = vsdk.search(scenes, image=place[:160, 5:185])
        assert matches[0].scene.index == number
        assert matches[0].score > matches[1].score
    assert len(vsdk.search(scenes, image=places[0], top=2)) == 2


def test_search_refuses(pipeline: vsdk.Pipeline, places: list[np.ndarray]) -> None:
    scenes = [e for e in pushed(pipeline, film(places, [20])) if isinstance(e, vsdk.Scene)]
    with pytest.raises(InputError, match="either"):
        vsdk.search(scenes)
    with pytest.raises(vsdk.Error, match="text"):
        vsdk.search(scenes, text="a red car")
    with pytest.raises(InputError, match="no features"):
        vsdk.search([vsdk.Scene(0, 0, 1, 0.0, 1.0)], image=places[0])
