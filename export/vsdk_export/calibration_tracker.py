"""What the four graphs of a tracker are run on: objects that are followed through the calibration videos.

Nobody says what to follow, so a rule does: a box around what moves most, a click in the middle, and in turns a mask or
two clicks. Half way one object is pointed out again. Whether these are objects does not matter; what matters is that
the graphs get every kind of prompt, banks of every fill, and states of a long run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vsdk.frame import Image
from vsdk.segment import EvenSample
from vsdk.tracking.tracker import Tracker
from vsdk_runtimes import Bundle, Session
from vsdk_runtimes.engine import DeviceTensor
from vsdk_runtimes.errors import InputError

from .calibration import CalibrationVideos
from .calibration_calls import MIN_SEEN, Seen, split
from .network import Array, Arrays

WINDOW = 24
"""Consecutive frames of a run: enough to fill every place of a bank."""
WINDOWS = 4
"""Runs, of all videos together."""
MIN_FRAMES = 8
_KEPT = 24
_PARTS = ("encoder", "attention", "decoder", "memory")


def observe_tracker(bundle: Bundle, videos: CalibrationVideos) -> dict[str, Seen]:
    """Follow things through the videos.

    Args:
        bundle: Has the four fp32 graphs.
        videos: Where to.

    Returns:
        By component what it was run on.

    Raises:
        InputError: The videos are too short.
    """
    with Tracker(bundle, precision="fp32", threads=1) as tracker:  # the same results each time
        windows = videos.windows(tracker.networks.preprocessor.resize, WINDOW, WINDOWS)
        windows = [window for window in windows if len(window) >= MIN_FRAMES]
        if not windows:
            raise InputError(
                f"a tracker is calibrated on at least {MIN_FRAMES} consecutive frames, and no calibration video has "
                "so many",
                hint="Give a longer one: --calibrate VIDEO",
            )
        if (total := sum(map(len, windows))) < MIN_SEEN:
            raise InputError(
                f"the calibration videos have {total} frames to follow something through, and at least {MIN_SEEN} are "
                "needed",
                hint="Give a longer video, or several: --calibrate VIDEO --calibrate VIDEO",
            )
        recorders = {part: _Recorder(getattr(tracker.networks, part)) for part in _PARTS}
        for part, recorder in recorders.items():
            setattr(tracker.networks, part, recorder)
        for number, window in enumerate(windows):
            videos.says(f"following objects, {number + 1} of {len(windows)}")
            follow(tracker, window, number)
    source = f"{total} frames of {videos.title}"
    names = {part: bundle.component(f"tracker.{part}").name for part in _PARTS}
    return {names[part]: Seen(*recorder.calls(), source=source) for part, recorder in recorders.items()}


def follow(tracker: Tracker, window: Sequence[Image], number: int = 0) -> list[dict[int, Array]]:
    """Prompt by the rule, and follow to the end.

    Args:
        tracker: Is reset before.
        window: Frames at the tracker's size.
        number: Which window it is: odd ones get another kind of prompt.

    Returns:
        For each frame the mask of every object.
    """
    tracker.reset()
    first = window[0]
    height, width = first.shape[:2]
    tracker.prompt(first, 1, box=_moving(window))
    tracker.prompt(first, 2, points=[(width / 2, height / 2)])
    if number % 2 == 0:
        mask = np.zeros((height, width), np.bool_)
        mask[height // 4 : height // 2, width // 2 : 3 * width // 4] = True
        tracker.prompt(first, 3, mask=mask)
    else:
        tracker.prompt(first, 3, points=[(width / 4, height / 2), (3 * width / 4, height / 4)], labels=[1, 0])
    masks = []
    for index, frame in enumerate(window):
        if index == len(window) // 2:
            tracker.prompt(frame, 1, box=_moving(window[index:]))
        masks.append({found.object_id: found.mask for found in tracker.track(frame)})
    return masks


def _moving(window: Sequence[Image], cells: int = 8) -> tuple[float, float, float, float]:
    """A box of a quarter of the picture's sides around the cell that changes most over the first frames."""
    one, other = (np.asarray(window[index], np.float32).mean(-1) for index in (0, min(2, len(window) - 1)))
    height, width = one.shape
    tall, wide = height // cells, width // cells
    change = np.abs(one - other)[: tall * cells, : wide * cells].reshape(cells, tall, cells, wide).mean((1, 3))
    row, column = (int(at) for at in np.unravel_index(int(change.argmax()), change.shape))
    x0, y0 = max(0, (column - 0.5) * wide), max(0, (row - 0.5) * tall)
    return x0, y0, min(width, x0 + 2 * wide), min(height, y0 + 2 * tall)


def _copied(array: Any) -> Array:
    """A copy on the host."""
    return np.array(array.numpy() if isinstance(array, DeviceTensor) else array)


class _Recorder:
    """A session that keeps some of what it is run on, evenly spread, of each combination of shapes."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._kinds: dict[tuple[Any, ...], EvenSample[Arrays]] = {}

    def run(self, inputs: Mapping[str, Any], *arguments: Any, **options: Any) -> Any:
        """What the session does."""
        kind = tuple(tuple(array.shape) for array in inputs.values())
        kept = self._kinds.setdefault(kind, EvenSample(2 * _KEPT))
        kept.add({name: _copied(array) for name, array in inputs.items()})
        return self._session.run(inputs, *arguments, **options)

    def calls(self) -> tuple[list[Arrays], list[Arrays]]:
        """What was kept: to calibrate with, and to measure on."""
        kept = [kind.choose(_KEPT) for kind in self._kinds.values()]
        parts = [split(calls) for calls in kept]
        return [call for part, _ in parts for call in part], [call for _, part in parts for call in part]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)
