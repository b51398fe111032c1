"""SAM-2 in a bundle against transformers' streaming session, on frames of a real clip and with random weights.

The reference is that of transformers 5.23, its rounding of memories to bfloat16 included. Every case is judged twice:
each step from the reference's own memories, and in a closed loop. There, decisions have to be equal wherever the
reference's margin is more than ten times the error of the step on that frame.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sam2_reference import video_model
from sam2_streaming import HEIGHT, WIDTH, Seen, Streaming, bikes, cosine, relative, step_errors

import vsdk
from vsdk_export.tracker import export_tracker
from vsdk_models.sam2.model import sam2_networks
from vsdk_runtimes.manifest import Origin

FRAMES = 60
SURPLUS = "more prompted frames than slots"
SLOTS = 3
MASK = np.zeros((HEIGHT, WIDTH), np.bool_)
MASK[60:180, 80:200] = True


@dataclass(frozen=True)
class Prompted:
    """A prompt on a frame; `after` is one that corrects a frame which was tracked already."""

    frame: int
    object_id: int = 1
    after: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)


def _at(frame: int, object_id: int = 1, *, after: bool = False, **arguments: Any) -> Prompted:
    return Prompted(frame, object_id, after, arguments)


CASES: dict[str, tuple[Prompted, ...]] = {
    "one click": (_at(0, points=[(150, 120)]),),
    "three clicks": (_at(0, points=[(150, 120), (200, 80), (20, 20)], labels=[1, 1, 0]),),
    "box": (_at(0, box=(60, 40, 220, 200)),),
    "box and click": (_at(0, box=(60, 40, 220, 200), points=[(100, 100)], labels=[0]),),
    "mask": (_at(0, mask=MASK),),
    "two objects": (_at(0, points=[(150, 120)]), _at(0, 2, box=(10, 10, 90, 120))),
    "five objects": (
        _at(0, 5, points=[(150, 120)]), _at(0, 2, box=(10, 10, 90, 120)), _at(0, 3, mask=MASK),
        _at(4, 4, points=[(40, 200)]), _at(9, 1, box=(200, 100, 300, 220)),
    ),
    "second click mid-stream": (_at(0, points=[(150, 120)]), _at(20, points=[(180, 100)])),
    "correction of a tracked frame": (
        _at(0, points=[(150, 120)]), _at(0, 2, box=(10, 10, 90, 120)), _at(12, after=True, points=[(180, 100)]),
        _at(25, after=True, points=[(180, 100), (30, 30)], labels=[1, 0]),
    ),
    SURPLUS: tuple(_at(frame, points=[(150, 120)]) for frame in (0, 2, 5, 7, 9, 11)),
}  # fmt: skip


@pytest.fixture(scope="module")
def model() -> Any:
    """The reference; what it makes of a frame is kept, because every case shows the same frames."""
    model = video_model(0, 256, max_cond_frame_num=SLOTS)
    encode, kept = model.get_image_features, {}

    def remembered(pixels: torch.Tensor, **options: Any) -> Any:
        key = pixels.numpy().tobytes()
        if key not in kept:
            kept[key] = encode(pixels, **options)
        return copy.copy(kept[key])

    model.get_image_features = remembered
    return model


@pytest.fixture(scope="module")
def bundle(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tracker") / "bundle"
    export_tracker(
        sam2_networks(model, SLOTS), origin=Origin(checkpoint="random"), out=folder, precisions=("fp32", "fp16")
    )
    return folder


@pytest.fixture(scope="module")
def tracker(bundle: Path) -> Iterator[vsdk.Tracker]:
    with vsdk.Tracker(bundle, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def half(bundle: Path) -> Iterator[vsdk.Tracker]:
    with vsdk.Tracker(bundle, threads=1, precision="fp16") as opened:
        yield opened


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    return bikes(FRAMES)


def _follow(
    tracker: vsdk.Tracker, model: Any, frames: Any, prompts: tuple[Prompted, ...], check: Callable[..., None]
) -> None:
    """Both through the clip side by side; `check` sees the reference's answers before our bank moves on."""
    tracker.reset()
    streaming = Streaming(model)
    for number, frame in enumerate(frames):
        pixels = tracker.networks.preprocessor([frame])
        now = [item for item in prompts if item.frame == number]
        for item in (item for item in now if not item.after):
            streaming.prompt(number, item.object_id, **item.arguments)
            tracker.prompt(frame, item.object_id, **item.arguments)
        if not streaming.session.obj_ids:
            continue
        seen = streaming.step(pixels)
        tracker.track(frame)
        for item in (item for item in now if item.after):
            streaming.prompt(number, item.object_id, **item.arguments)
            seen = streaming.step(pixels, number)
            tracker.prompt(frame, item.object_id, **item.arguments)
        check(streaming, number, seen, {item.object_id: item for item in now})


def _check_object(
    tracker: vsdk.Tracker, streaming: Streaming, number: int, object_id: int, expected: Seen, said: Prompted | None
) -> tuple[bool, bool]:
    """One object on one frame: the step, then the closed loop; whether presence and best mask were beyond doubt.

    The step's errors are bounded themselves, or large ones would leave nothing to compare.
    """
    where = (number, object_id)
    assert tracker._current is not None
    found, maps = tracker._current.outputs[object_id].chosen, tracker._current.maps
    if said is not None and "mask" in said.arguments:  # is the answer itself
        assert cosine(found.logits, expected.logits) >= 0.9999, where
        return True, True
    arguments, first = (None, False) if said is None else (said.arguments, not said.after)
    step, iou = streaming.our_step(tracker.networks, maps, object_id, number, prompt=arguments, first=first)
    errors = step_errors(step, iou, expected)
    assert errors.object_score <= 1e-5, where
    assert errors.iou <= 1e-5, where
    if errors.presence_is_clear:
        assert (found.object_score > 0) == (expected.object_score > 0), where
    if errors.best_is_clear and errors.presence_is_clear:
        assert expected.best in (None, found.index), where
        assert errors.logits <= 1e-4, where
        assert cosine(found.logits, expected.logits) >= 0.9999, where
    return errors.presence_is_clear, errors.best_is_clear


@pytest.mark.parametrize("case", CASES)
def test_steps_and_closed_loop(tracker: vsdk.Tracker, model: Any, frames: Any, case: str) -> None:
    decided = compared = shown = 0

    def check(streaming: Streaming, number: int, seen: Mapping[int, Seen], now: Mapping[int, Prompted]) -> None:
        nonlocal decided, compared, shown
        assert set(seen) == set(tracker._current.outputs)  # type: ignore[union-attr]
        for object_id, expected in seen.items():
            presence, best = _check_object(tracker, streaming, number, object_id, expected, now.get(object_id))
            decided, compared, shown = decided + presence, compared + best, shown + 1

    # Beyond this age the reference still has pointers that ours has forgotten: see the test of surplus pointers.
    clip = frames[: tracker.networks.spec.recent_pointers + 1] if case == SURPLUS else frames
    _follow(tracker, model, clip, CASES[case], check)
    assert shown >= len(clip)
    assert decided >= 0.99 * shown
    assert compared >= 0.99 * shown


@pytest.mark.parametrize("case", ["one click", "five objects", SURPLUS])
def test_each_step_at_half_precision(half: vsdk.Tracker, model: Any, frames: Any, case: str) -> None:
    """With a fixed margin: the error of a step that decides otherwise is at least half of the margin it had."""
    steps = 0

    def check(streaming: Streaming, number: int, seen: Mapping[int, Seen], now: Mapping[int, Prompted]) -> None:
        nonlocal steps
        assert half._current is not None
        for object_id in set(seen) - set(now):
            found, _ = streaming.our_step(half.networks, half._current.maps, object_id, number)
            expected = seen[object_id]
            if expected.margin > 1e-3 and abs(expected.object_score) > 1e-2:
                assert cosine(found.logits, expected.logits) >= 0.999, (number, object_id)
                steps += 1

    _follow(half, model, frames[:16], CASES[case], check)
    assert steps >= 9


def test_an_object_that_disappears_and_returns(frames: Any, tmp_path: Path) -> None:
    """With random weights nothing is recognised, so the object score is shifted until it changes its sign."""
    shifted = video_model(3, 256, max_cond_frame_num=SLOTS)
    streaming = Streaming(shifted)
    streaming.prompt(0, 1, points=[(150, 120)])
    dark = [frame if number // 8 % 2 == 0 else frame // 6 for number, frame in enumerate(frames[:40])]
    prepare = vsdk.Preprocessor(sam2_networks(shifted, SLOTS).preprocessing)
    scores = [streaming.step(prepare([frame]))[1].object_score for frame in dark]
    with torch.no_grad():
        shifted.mask_decoder.pred_obj_score_head.proj_out.bias.sub_(float(np.median(scores[1:])))
    export_tracker(sam2_networks(shifted, SLOTS), origin=Origin(checkpoint="random"), out=tmp_path / "bundle")
    presence: list[bool] = []
    with vsdk.Tracker(tmp_path / "bundle", threads=1) as shown:

        def check(streaming: Streaming, number: int, seen: Mapping[int, Seen], now: Mapping[int, Prompted]) -> None:
            clear, _ = _check_object(shown, streaming, number, 1, seen[1], now.get(1))
            if clear:
                presence.append(seen[1].object_score > 0)

        _follow(shown, shifted, dark, (_at(0, points=[(150, 120)]),), check)
    assert len(presence) >= 38
    changes = sum(a != b for a, b in itertools.pairwise(presence))
    assert changes >= 2, presence


def test_surplus_pointers_are_forgotten(tracker: vsdk.Tracker, model: Any, frames: Any) -> None:
    """The reference keeps the pointers of all prompted frames; ours are those of a reference that forgets as well."""
    prompted = (0, 1, 2, 3, 4)
    worst = 1.0

    def check(streaming: Streaming, number: int, seen: Mapping[int, Seen], now: Mapping[int, Prompted]) -> None:
        nonlocal worst
        if not now:
            found = tracker._current.outputs[1].chosen  # type: ignore[union-attr]
            worst = min(worst, cosine(found.logits, seen[1].logits))
        kept = streaming.session.output_dict_per_obj[0]["cond_frame_outputs"]
        for surplus in sorted(kept)[:-SLOTS]:
            if number + 1 - surplus > tracker.networks.spec.recent_pointers:
                del kept[surplus]

    prompts = tuple(_at(frame, points=[(150, 120)]) for frame in prompted)
    _follow(tracker, model, frames[:40], prompts, check)
    assert worst >= 0.9999


def test_masks_are_resized_as_the_reference_does(tracker: vsdk.Tracker, frames: Any) -> None:
    rng = np.random.default_rng(2)
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    for _ in range(6):
        x, y, side = rng.integers(0, 200), rng.integers(0, 150), rng.integers(10, 80)
        mask[y : y + side, x : x + side] = True
    tracker.reset()
    tracker.prompt(frames[0], 1, mask=mask)
    found = tracker._current.outputs[1].mask  # type: ignore[union-attr]
    large = torch.nn.functional.interpolate(
        torch.from_numpy(mask).float()[None, None], (256, 256), mode="bilinear", antialias=True
    )
    assert found is not None
    assert (found == (large >= 0.5).float()[0].numpy()).mean() > 0.9999


def test_an_embedding_stands_behind_the_sparse_prompts(tracker: vsdk.Tracker, model: Any, frames: Any) -> None:
    """As Sa2VA puts its [SEG] token: two padding points, then the vector; the best of three masks, nothing else."""
    vector = np.random.default_rng(4).normal(0, 1, model.hidden_dim).astype(np.float32)
    tracker.reset()
    plain = tracker.prompt(frames[0], 2, points=[(150, 120)])
    tracker.prompt(frames[0], 1, embedding=vector)
    assert tracker._current is not None
    found = tracker._current.outputs[1].chosen
    with torch.inference_mode():
        features = model.get_image_features(
            torch.from_numpy(tracker.networks.preprocessor([frames[0]])), return_dict=True
        )
        maps = [
            flat.permute(1, 2, 0).view(1, -1, *size)
            for flat, size in zip(features.fpn_hidden_states, model.backbone_feature_sizes, strict=True)
        ]
        sparse, dense = model.prompt_encoder(torch.zeros(1, 1, 1, 2), -torch.ones(1, 1, 1, dtype=torch.int), None, None)
        sparse = torch.cat([sparse, torch.from_numpy(vector).reshape(1, 1, 1, -1)], dim=2)
        masks, iou, _, score = model.mask_decoder(
            maps[2] + model.no_memory_embedding.reshape(1, -1, 1, 1), model.get_image_wide_positional_embeddings(),
            sparse, dense, True, maps[:2],
        )  # fmt: skip
    best = int(iou[0, 0].argmax())
    assert found.index == best + 1
    assert score.item() > 0
    assert relative(found.logits, masks[0, 0, best].numpy()) <= 1e-4
    assert not np.allclose(found.logits, tracker._current.outputs[2].chosen.logits)
    assert plain.present
