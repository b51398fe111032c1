"""The tracked object: what is derived from its mask, its event, and its form in other libraries."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import supervision
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco

import vsdk
from vsdk.events import from_dict, to_dict
from vsdk_runtimes.errors import InputError

Mask = npt.NDArray[np.bool_]

HEIGHT, WIDTH = 48, 64

# pycocotools says it itself, of its own arrays.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def rectangle(x0: int, y0: int, x1: int, y1: int) -> Mask:
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


def test_box_centroid_and_area_of_a_rectangle() -> None:
    tracked = vsdk.TrackedObject(7, rectangle(10, 20, 30, 25), 0.9, 0.99, True)
    assert tracked.box == (10.0, 20.0, 30.0, 25.0)
    assert tracked.centroid == (20.0, 22.5)
    assert tracked.area == 100
    assert "7" in repr(tracked)
    assert "0.900" in repr(tracked)


@given(arrays(np.bool_, st.tuples(st.integers(1, 20), st.integers(1, 20))))
def test_they_agree_with_pycocotools_and_with_the_pixels(mask: Mask) -> None:
    tracked = vsdk.TrackedObject(1, mask, 0.5, 0.5, True)
    assert tracked.area == coco.area(tracked.rle)
    if not mask.any():
        assert tracked.box is None
        assert tracked.centroid is None
        return
    x, y, width, height = coco.toBbox(tracked.rle)
    assert tracked.box == (x, y, x + width, y + height)
    down, across = np.nonzero(mask)
    assert tracked.centroid == pytest.approx((across.mean() + 0.5, down.mean() + 0.5))


def test_an_absent_object_is_nowhere() -> None:
    tracked = vsdk.TrackedObject(1, rectangle(0, 0, 0, 0), 0.1, 0.02, False)
    assert (tracked.box, tracked.centroid, tracked.area) == (None, None, 0)
    assert "absent" in repr(tracked)


@pytest.mark.parametrize(
    "mask", [np.zeros((4, 4), np.float32), np.zeros((4, 4), np.uint8), np.zeros((1, 4, 4), np.bool_)], ids=str
)
def test_a_mask_that_is_none_is_refused(mask: Mask) -> None:
    with pytest.raises(InputError, match="object 3"):
        vsdk.TrackedObject(3, mask, 0.5, 0.5, True)


@pytest.mark.parametrize("present", [True, False])
def test_its_event_comes_back_from_json(present: bool) -> None:
    mask = rectangle(10, 20, 30, 25) if present else rectangle(0, 0, 0, 0)
    event = vsdk.TrackedObject(2, mask, 0.875, 0.75, present).event(12, float(Fraction(12, 25)))
    content = to_dict(event)
    assert content == {
        "type": "mask",
        "frame": 12,
        "time": 0.48,
        "object": 2,
        "score": 0.875,
        "presence": 0.75,
        "present": present,
        "box": [10.0, 20.0, 30.0, 25.0] if present else None,
        "rle": {"size": [HEIGHT, WIDTH], "counts": content["rle"]["counts"]},
    }
    assert from_dict(content) == event
    assert np.array_equal(coco.decode(content["rle"]), mask)


def test_present_objects_become_detections() -> None:
    objects = [
        vsdk.TrackedObject(4, rectangle(10, 20, 30, 25), 0.9, 0.99, True),
        vsdk.TrackedObject(5, rectangle(0, 0, 0, 0), 0.2, 0.01, False),
        vsdk.TrackedObject(6, rectangle(0, 0, 5, 48), 0.7, 0.8, True),
        vsdk.TrackedObject(7, rectangle(0, 0, 0, 0), 0.7, 0.8, True),
    ]
    detections = vsdk.to_supervision(objects)
    assert isinstance(detections, supervision.Detections)
    assert detections.xyxy.tolist() == [[10, 20, 30, 25], [0, 0, 5, 48]]
    assert detections.tracker_id is not None
    assert detections.tracker_id.tolist() == [4, 6]
    assert detections.confidence == pytest.approx([0.9, 0.7])
    assert np.array_equal(np.asarray(detections.mask), np.stack([objects[0].mask, objects[2].mask]))
    assert detections.area.tolist() == [100, 240]
    annotator = supervision.MaskAnnotator(color_lookup=supervision.ColorLookup.TRACK)
    picture = annotator.annotate(np.zeros((HEIGHT, WIDTH, 3), np.uint8), detections)
    assert np.array_equal(picture.any(axis=2), objects[0].mask | objects[2].mask)


def test_without_a_present_object_detections_are_empty() -> None:
    absent = vsdk.TrackedObject(5, rectangle(0, 0, 0, 0), 0.2, 0.01, False)
    assert vsdk.to_supervision([absent]).is_empty()
    assert vsdk.to_supervision([]).is_empty()


def test_without_supervision_it_says_how_to_install_it(tmp_path: Path) -> None:
    """A module that fails to import stands in for one that is not installed."""
    (tmp_path / "supervision.py").write_text("raise ImportError('not here')\n")
    code = "import vsdk\ntry:\n    vsdk.to_supervision([])\nexcept vsdk.Error as error:\n    print(error.hint)\n"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(tmp_path)},
    )
    assert done.stdout == "Install it: pip install supervision\n"
