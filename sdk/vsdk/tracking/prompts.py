"""Prompts: what a person or a detector says of an object, checked and brought to the decoder's square."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image as pillow

from vsdk_runtimes.errors import InputError

from .networks import BACKGROUND, BOTTOM_RIGHT, FOREGROUND, NOT_A_POINT, TOP_LEFT, Array, DecoderPrompt

Points = Sequence[tuple[float, float]] | npt.NDArray[np.generic]
Numbers = Sequence[float] | npt.NDArray[np.generic]


def decoder_prompt(
    what: str,
    size: tuple[int, int],
    side: int,
    width: int,
    *,
    points: Points | None,
    labels: Sequence[int] | npt.NDArray[np.generic] | None,
    box: Numbers | None,
    mask: npt.NDArray[np.generic] | None,
    embedding: npt.NDArray[np.generic] | None,
) -> tuple[DecoderPrompt, int]:
    """The prompt as the decoder takes it, and of how many points it consists (a box is two).

    Points and boxes become tokens as in `Sam2VideoProcessor` and `Sam2VideoPromptEncoder` of transformers: the corners
    of the box first, then the points, then one that is none.

    Args:
        what: Whose prompt it is, for error messages.
        size: Height and width of the frame.
        side: Of the decoder's square input.
        width: Of an embedding.
        points, labels, box, mask, embedding: See `Tracker.prompt`.

    Raises:
        InputError: The prompt is empty, outside of the frame, not finite, or of the wrong shape.
    """
    if points is None and box is None and mask is None and embedding is None:
        raise InputError(f"{what}: the prompt is empty", hint="Give points=, box=, mask= or embedding=.")
    if mask is not None and (points is not None or box is not None or embedding is not None):
        raise InputError(f"{what}: a mask says everything; it cannot be combined with points, a box or an embedding")
    if mask is not None:
        none = np.zeros((2, 2), np.float32), np.full(2, NOT_A_POINT, np.int64)
        return DecoderPrompt(*none, mask=_checked_mask(what, size, side, mask)), 0
    corners = np.zeros((0, 2)) if box is None else _checked_box(what, size, box)
    places = np.zeros((0, 2)) if points is None else _checked_points(what, size, points)
    kinds = _checked_labels(what, len(places), labels)
    tokens = np.concatenate([corners, places]) * (side / np.array([size[1], size[0]]))
    said = np.concatenate([[TOP_LEFT, BOTTOM_RIGHT][: len(corners)], kinds])
    # The original pads with one point that is none, and writes one more where there is no point at all.
    padding = 2 if len(said) == 0 else 1
    return DecoderPrompt(
        np.concatenate([tokens, np.zeros((padding, 2))]).astype(np.float32),
        np.concatenate([said, np.full(padding, NOT_A_POINT)]).astype(np.int64),
        None if embedding is None else _checked_embedding(what, width, embedding),
    ), len(said)


def _checked_points(what: str, size: tuple[int, int], points: Points) -> npt.NDArray[np.float64]:
    places = _numbers(what, "points", points)
    if places.ndim != 2 or places.shape[1] != 2 or len(places) == 0:
        raise InputError(
            f"{what}: points have the shape {list(places.shape)}; they are at least one (x, y)",
            hint="One click: points=[(x, y)].",
        )
    _check_inside(what, size, "point", places)
    return places


def _checked_labels(what: str, count: int, labels: object) -> npt.NDArray[np.int64]:
    if labels is None:
        return np.full(count, FOREGROUND, np.int64)
    kinds = _numbers(what, "labels", labels)
    if kinds.shape != (count,):
        raise InputError(f"{what}: {kinds.size} labels for {count} points", hint="One label a point: 1, or 0.")
    if not np.isin(kinds, (FOREGROUND, BACKGROUND)).all():
        raise InputError(f"{what}: labels are 1 (on the object) or 0 (not on it), not {kinds.tolist()}")
    return kinds.astype(np.int64)


def _checked_box(what: str, size: tuple[int, int], box: Numbers) -> npt.NDArray[np.float64]:
    corners = _numbers(what, "box", box)
    if corners.shape != (4,):
        raise InputError(f"{what}: a box is (x0, y0, x1, y1), not an array of shape {list(corners.shape)}")
    x0, y0, x1, y1 = corners.tolist()
    if x0 >= x1 or y0 >= y1:
        raise InputError(f"{what}: the box ({x0:g}, {y0:g}, {x1:g}, {y1:g}) is empty", hint="Corners: top left first.")
    _check_inside(what, size, "corner", corners.reshape(2, 2))
    return corners.reshape(2, 2)


def _checked_mask(what: str, size: tuple[int, int], side: int, mask: npt.NDArray[np.generic]) -> Array:
    """The mask at the decoder's size, as the original resizes it: bilinear with antialiasing, then at least a half."""
    if not isinstance(mask, np.ndarray) or mask.shape != size:
        shape = list(mask.shape) if isinstance(mask, np.ndarray) else type(mask).__name__
        raise InputError(
            f"{what}: the mask is {shape}, and the frame {list(size)}", hint="A mask is as large as the frame."
        )
    values = _numbers(what, "mask", mask)
    if not np.isin(values, (0, 1)).all():
        raise InputError(f"{what}: a mask is bool, or 0 and 1", hint="For logits use `logits > 0`.")
    picture = pillow.fromarray(values.astype(np.float32))
    resized = np.asarray(picture.resize((side, side), pillow.Resampling.BILINEAR)) >= 0.5
    if not resized.any():
        raise InputError(f"{what}: nothing is left of the mask at {side}x{side} pixels: it is empty, or too thin")
    return resized.astype(np.float32)[None]


def _checked_embedding(what: str, width: int, embedding: npt.NDArray[np.generic]) -> Array:
    vectors = np.atleast_2d(_numbers(what, "embedding", embedding))
    if vectors.ndim != 2 or vectors.shape[1] != width or len(vectors) == 0:
        raise InputError(f"{what}: an embedding is [{width}] or [n, {width}], not {list(vectors.shape)}")
    return vectors.astype(np.float32)


def _numbers(what: str, name: str, values: object) -> npt.NDArray[np.float64]:
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what}: {name} are not numbers: {error}") from error
    if not np.isfinite(array).all():
        raise InputError(f"{what}: {name} hold a value that is not finite")
    return array


def _check_inside(what: str, size: tuple[int, int], name: str, places: npt.NDArray[np.float64]) -> None:
    height, width = size
    for x, y in places.tolist():
        if not (0 <= x <= width and 0 <= y <= height):
            raise InputError(
                f"{what}: the {name} ({x:g}, {y:g}) is outside of the frame of {width}x{height} pixels",
                hint="Coordinates are pixels of the source, x first.",
            )
