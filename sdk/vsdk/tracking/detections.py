"""Tracked objects in the form of the `supervision` library, for its annotators, zones, counters and metrics."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from .tracked import TrackedObject

if TYPE_CHECKING:
    from supervision import Detections


def to_supervision(objects: Iterable[TrackedObject]) -> Detections:
    """The objects that are present, as `supervision.Detections`.

    Their `xyxy` float32 `[n, 4]` are the boxes, `mask` bool `[n, height, width]`, `confidence` float32 `[n]` the
    scores and `tracker_id` int64 `[n]` the numbers of the objects. Objects that are absent, or whose mask is empty,
    are left out; without any other, the result is `Detections.empty()`.

    Args:
        objects: Of one frame, as `Tracker.track` gives them.

    Raises:
        InputError: supervision is not installed.

    Example:
        ```python
        annotator = supervision.MaskAnnotator(color_lookup=supervision.ColorLookup.TRACK)
        picture = annotator.annotate(image.copy(), vsdk.to_supervision(tracker.track(image)))
        ```
    """
    try:
        from supervision import Detections
    except ImportError as error:
        raise InputError(
            f"supervision cannot be imported: {error}", hint="Install it: pip install supervision"
        ) from error
    visible = [(each, each.box) for each in objects if each.box is not None]
    if not visible:
        return Detections.empty()
    return Detections(
        xyxy=np.array([box for _, box in visible], np.float32),
        mask=np.stack([each.mask for each, _ in visible]),
        confidence=np.array([each.score for each, _ in visible], np.float32),
        tracker_id=np.array([each.object_id for each, _ in visible], np.int64),
    )
