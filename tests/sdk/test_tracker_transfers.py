"""What passes between host and device while objects are tracked: nothing that the device could have kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import color_tracker
import numpy as np
import pytest
from color_tracker import red_box

import vsdk
from vsdk_runtimes import DeviceTensor
from vsdk_runtimes.errors import EngineRunError

NAMES = ("encoder", "attention", "decoder", "memory")
MAPS = {"high0", "high1", "top", "initial", "features", "conditioned"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return color_tracker.write_color_tracker(tmp_path_factory.mktemp("tracker") / "bundle")


@pytest.fixture
def tracker(bundle: Path) -> Iterator[vsdk.Tracker]:
    with vsdk.Tracker(bundle, threads=1) as opened:
        yield opened


class Sent:
    """Names of the tensors that each network was given by the host, and gave to it."""

    def __init__(self, tracker: vsdk.Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
        self.there: dict[str, set[str]] = {name: set() for name in NAMES}
        self.back: dict[str, set[str]] = {name: set() for name in NAMES}
        for name, session in zip(NAMES, tracker.networks.sessions, strict=True):
            monkeypatch.setattr(session, "run", self._watched(name, session.run))

    def _watched(self, name: str, run: Any) -> Any:
        def call(inputs: Any, *arguments: Any, **options: Any) -> Any:
            results = run(inputs, *arguments, **options)
            self.there[name] |= {key for key, value in inputs.items() if not isinstance(value, DeviceTensor)}
            self.back[name] |= {key for key, value in results.items() if not isinstance(value, DeviceTensor)}
            return results

        return call


def test_a_frame_is_sent_once_and_its_maps_never_come_back(
    tracker: vsdk.Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker.prompt(color_tracker.picture(0), 1, box=red_box(0))
    sent = Sent(tracker, monkeypatch)
    for number in range(5):
        tracker.track(color_tracker.picture(number))
    assert sent.there["encoder"] == {"pixels"}
    assert sent.back == {
        "encoder": set(),
        "attention": set(),
        "decoder": {"masks", "iou", "object_score", "pointers"},
        "memory": {"memory"},
    }
    for name in NAMES:
        assert not sent.there[name] & MAPS


def test_the_mask_that_is_not_there_is_sent_once(tracker: vsdk.Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads = []

    def upload(array: Any) -> Any:
        uploads.append(array.shape)
        return array

    monkeypatch.setattr(tracker.networks.decoder, "upload", upload)
    tracker.prompt(color_tracker.picture(0), 1, box=red_box(0))
    for number in range(5):
        tracker.track(color_tracker.picture(number))
    assert [shape[0] for shape in uploads] == [1]
    tracker.prompt(color_tracker.picture(4), 2, box=red_box(4))
    tracker.track(color_tracker.picture(5))
    tracker.track(color_tracker.picture(6))
    assert [shape[0] for shape in uploads] == [1, 2]


def test_a_frame_can_be_corrected_after_the_next_one_could_not_be_encoded(
    bundle: Path, tracker: vsdk.Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The maps of both lie in the same place."""
    with vsdk.Tracker(bundle, threads=1) as undisturbed:
        for each in (tracker, undisturbed):
            each.prompt(color_tracker.picture(0), 1, box=red_box(0))
            each.track(color_tracker.picture(0))
            each.track(color_tracker.picture(1))
        run = tracker.networks.encoder.run

        def fail(*arguments: Any, **options: Any) -> Any:
            run(*arguments, **options)
            raise EngineRunError("the GPU is lost")

        monkeypatch.setattr(tracker.networks.encoder, "run", fail)
        with pytest.raises(EngineRunError):
            tracker.track(np.zeros_like(color_tracker.picture(2)))
        monkeypatch.undo()
        corrected, expected = (
            each.prompt(color_tracker.picture(1), 1, points=[(5, 5)], labels=[0]) for each in (tracker, undisturbed)
        )
        assert corrected.score == expected.score
        np.testing.assert_array_equal(corrected.mask, expected.mask)
        for number in (2, 3):
            for one, other in zip(
                *(each.track(color_tracker.picture(number)) for each in (tracker, undisturbed)), strict=True
            ):
                np.testing.assert_array_equal(one.mask, other.mask)
