"""Any sequence of calls on a tracker: what is refused and what is saved in between changes nothing."""

from __future__ import annotations

import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import color_tracker
import numpy as np
import pytest
from color_tracker import BLUE_BOX, FRAMES, HEIGHT, WIDTH, red_box
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from test_tracker import BAD

import vsdk
from vsdk.frame import Frame
from vsdk_runtimes.errors import InputError

OBJECTS = st.integers(0, 3)
Found = tuple[Any, ...]


def frame(number: int) -> Frame:
    picture = color_tracker.picture(number % FRAMES)
    return Frame(picture, number, Fraction(number, 25), None, Fraction(1, 25), 0)


def good_prompt(kind: str, number: int) -> dict[str, Any]:
    box = red_box(number % FRAMES)
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[box[1] : box[3], box[0] : box[2]] = True
    prompts: dict[str, dict[str, Any]] = {
        "box": {"box": box},
        "other box": {"box": BLUE_BOX},
        "points": {"points": [(150, 100), (10, 10)], "labels": [1, 0]},
        "box and point": {"box": box, "points": [(box[0] + 9, box[1] + 9)]},
        "mask": {"mask": mask},
        "embedding": {"embedding": np.ones(3, np.float32)},
    }
    return prompts[kind]


GOOD = ("box", "other box", "points", "box and point", "mask", "embedding")


def all_of(found: vsdk.TrackedObject) -> Found:
    """Everything that a tracker says of an object, to be compared."""
    assert found.mask.shape == (HEIGHT, WIDTH)
    assert found.mask.dtype == np.bool_
    assert np.isfinite([found.score, found.presence]).all()
    return found.object_id, found.score, found.presence, found.present, found.box, found.mask.tobytes()


class Calls(RuleBasedStateMachine):
    """Two trackers get the same calls, but one of them bad ones as well, and it is saved and restored now and then."""

    trackers: ClassVar[tuple[vsdk.Tracker, vsdk.Tracker, vsdk.Tracker]]

    @initialize()
    def begin(self) -> None:
        self.plain, self.tried, self.spare = self.trackers
        for tracker in (self.plain, self.tried):
            tracker.reset()
        self.newest = -1  # the last frame that was given
        self.waiting = False  # it was prompted, and not tracked yet
        self.correctable = False  # it was tracked last

    def number(self, *, new: bool) -> int:
        return self.newest + 1 if not self.waiting and (new or not self.correctable) else self.newest

    @rule(item=OBJECTS, kind=st.sampled_from(GOOD), new=st.booleans())
    def prompt(self, item: int, kind: str, new: bool) -> None:
        number = self.number(new=new)
        first, second = (
            tracker.prompt(frame(number), item, **good_prompt(kind, number)) for tracker in (self.plain, self.tried)
        )
        assert all_of(first) == all_of(second)
        assert first.object_id == item
        self.waiting = self.waiting or number > self.newest
        self.newest = number

    @rule()
    def track(self) -> None:
        number = self.newest if self.waiting else self.newest + 1
        first, second = (tracker.track(frame(number)) for tracker in (self.plain, self.tried))
        assert [all_of(found) for found in first] == [all_of(found) for found in second]
        assert tuple(found.object_id for found in first) == self.plain.object_ids
        if first:
            self.newest, self.waiting, self.correctable = number, False, True

    @rule(item=OBJECTS)
    def remove(self, item: int) -> None:
        for tracker in (self.plain, self.tried):
            if item in tracker.object_ids:
                tracker.remove(item)
            else:
                with pytest.raises(InputError, match="there is no object"):
                    tracker.remove(item)

    @rule()
    def reset(self) -> None:
        for tracker in (self.plain, self.tried):
            tracker.reset()
        self.waiting = self.correctable = False

    @rule(item=OBJECTS, name=st.sampled_from(sorted(BAD)), new=st.booleans())
    def bad_prompt(self, item: int, name: str, new: bool) -> None:
        with pytest.raises(InputError):
            self.tried.prompt(frame(self.number(new=new)), item, **BAD[name][0])

    @precondition(lambda self: self.plain.object_ids)
    @rule(doing=st.sampled_from(("track", "prompt")))
    def another_size(self, doing: str) -> None:
        small = np.ascontiguousarray(color_tracker.picture(1)[::2, ::2])
        with pytest.raises(InputError, match="pixels after frames of"):
            self.tried.track(small) if doing == "track" else self.tried.prompt(small, 0, points=[(5, 5)])

    @precondition(lambda self: self.waiting and self.plain.object_ids)
    @rule()
    def skip_a_prompted_frame(self) -> None:
        with pytest.raises(InputError, match="not the frame"):
            self.tried.track(frame(self.newest + 1))

    @precondition(lambda self: self.correctable and not self.waiting and self.plain.object_ids)
    @rule(back=st.integers(0, 3))
    def go_back(self, back: int) -> None:
        with pytest.raises(InputError, match="frame numbers increase"):
            self.tried.track(frame(self.newest - back))

    @precondition(lambda self: not self.waiting)
    @rule()
    def save_and_restore(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self.tried.save(Path(folder) / "state")
            self.spare.restore(Path(folder) / "state")
        self.tried, self.spare = self.spare, self.tried
        self.correctable = False  # a tracker that was restored begins with the next frame

    @invariant()
    def the_same_objects(self) -> None:
        if hasattr(self, "plain"):
            assert self.plain.object_ids == self.tried.object_ids


def test_any_sequence_of_calls(tmp_path: Path) -> None:
    bundle = color_tracker.write_color_tracker(tmp_path / "bundle")
    with (
        vsdk.Tracker(bundle, threads=1) as plain,
        vsdk.Tracker(bundle, threads=1) as tried,
        vsdk.Tracker(bundle, threads=1) as spare,
    ):
        Calls.trackers = plain, tried, spare
        run_state_machine_as_test(
            Calls,
            settings=settings(
                max_examples=40,
                stateful_step_count=30,
                deadline=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
