"""Arrays in memory, or made one after the other, taken as the frames of a video."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Sized
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..frame import Frame, Image
from .recorded import RecordedSource
from .timeline import DEFAULT_FRAME_RATE, checked_frame_rate


class Arrays(RecordedSource):
    """The arrays of an iterable, taken one by one as frames are read.

    Each is copied, because generators like to reuse their memory; a frame stays as it was. What the iterable itself
    raises goes through unchanged.

    Args:
        iterable: RGB pictures of one size, uint8 `[height, width, 3]`: a list, a generator, an array
            `[frames, height, width, 3]`, ...
        frame_rate: Frames a second; frame `n` has the time `n / frame_rate`.
        name: What to call the source in events and errors.

    Raises:
        SourceEmptyError: There is no array.
        InputError: The first one is not a uint8 `[height, width, 3]`, or `frame_rate` is not a positive number.

    `read` raises `InputError` at an array that is not a picture, and `SourceChangedError` at one of another size.

    Example:
        ```python
        source = Arrays(np.zeros((10, 480, 640, 3), np.uint8), frame_rate=30)
        ```
    """

    def __init__(
        self,
        iterable: Iterable[npt.ArrayLike],
        *,
        frame_rate: Fraction | float = DEFAULT_FRAME_RATE,
        name: str = "arrays",
    ) -> None:
        rate = checked_frame_rate(frame_rate)
        count = len(iterable) if isinstance(iterable, Sized) else None
        super().__init__(name, self._take(iterable, rate, name), frame_rate=rate, frame_count=count)

    def _take(self, iterable: Iterable[npt.ArrayLike], rate: Fraction, name: str) -> Generator[Frame, None, None]:
        for number, item in enumerate(iterable):
            image = _checked(item, f"{name}: array {number}")
            self._admit(f"{name}: array {number}", image.shape[1], image.shape[0])
            yield Frame(image, number, number / rate, number, 1 / rate, time.monotonic_ns())


def _checked(item: npt.ArrayLike, label: str) -> Image:
    """A copy of the picture.

    Raises:
        InputError: It is not one.
    """
    wanted = "a frame is RGB, uint8 [height, width, 3]"
    try:
        array = np.asarray(item)
    except (TypeError, ValueError) as error:
        raise InputError(f"{label} is not an array: {error}", hint=f"{wanted[0].upper()}{wanted[1:]}.") from error
    if array.dtype != np.uint8:
        raise InputError(
            f"{label} has the dtype {array.dtype}; {wanted}", hint="Scale it to 0..255 and use .astype(np.uint8)."
        )
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise InputError(f"{label} has the shape {list(array.shape)}; {wanted}")
    return array.copy()
