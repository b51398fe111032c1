"""The choice among the masks that the decoder proposes, made outside of the graph.

The rules are those of SAM-2 (`_use_multimask`, `_dynamic_multimask_via_stability` and `_single_frame_forward` in
transformers, `modeling_sam2_video.py`): the best of several masks where a prompt says little, otherwise the single
mask, unless it is unstable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .networks import Array, Decoded

if TYPE_CHECKING:  # pydantic is imported when a bundle is loaded
    from vsdk_runtimes.manifest import TrackerSpec

NO_OBJECT = -1024.0
"""Mask logit where there is no object."""


@dataclass(frozen=True, eq=False)
class Chosen:
    """What was chosen for one object, float32.

    Attributes:
        logits: `[m, m]`; `NO_OBJECT` everywhere if the object is absent.
        pointer: `[width]`.
        score: Predicted intersection over union.
        object_score: Logit of the object being there.
        index: Which mask it is.
    """

    logits: Array
    pointer: Array
    score: float
    object_score: float
    index: int


def choose(spec: TrackerSpec, decoded: Decoded, row: int, points: int, *, first: bool) -> Chosen:
    """The mask and the pointer of one object.

    Args:
        spec: The rules' numbers.
        decoded: What the decoder gave.
        row: Which object.
        points: Of how many points its prompt consists; 0 on a frame without one.
        first: Whether the frame is a conditioning one.
    """
    masks, iou = decoded.masks[row], decoded.iou[row]
    several = len(masks) > 1 and spec.multimask_points is not None and (first or spec.multimask_tracking)
    if several and spec.multimask_points is not None:
        several = spec.multimask_points[0] <= points <= spec.multimask_points[1]
    best = 1 + int(iou[1:].argmax()) if len(masks) > 1 else 0
    index = best if several or not _is_stable(spec, masks[0]) else 0
    score = float(decoded.object_score[row])
    logits = masks[index] if score > 0 else np.full_like(masks[index], NO_OBJECT)
    # A mask that takes the place of an unstable one does not bring its pointer along.
    return Chosen(logits, decoded.pointers[row, index if several else 0], float(iou[index]), score, index)


def _is_stable(spec: TrackerSpec, logits: Array) -> bool:
    """Whether the mask is nearly the same at a threshold a little above and a little below zero."""
    if spec.stability_threshold is None:
        return True
    inner = int(np.count_nonzero(logits > spec.stability_delta))
    outer = int(np.count_nonzero(logits > -spec.stability_delta))
    return outer == 0 or bool(np.float32(inner) / np.float32(outer) >= np.float32(spec.stability_threshold))
