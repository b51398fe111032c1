"""The gate: skip the encoder while the picture does not change.

A frame is compared with the last frame that was *encoded*, never with the one just before it: slow dissolves and
drifting light add up and open the gate sooner or later. Two figures are compared, on a grid of blocks that averages
sensor noise away: the mean difference, which sees light and camera motion, and the 99th percentile, which sees a small
object. Skipped frames repeat the last features.

Flat pictures (black leader, white fades, a covered lens) hold nothing to compare, so they never open the gate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .frame import Image

GRID = 16

Blocks = npt.NDArray[np.float32]
"""Mean colour of each block of a picture, float32 `[16, 16, 3]`, in levels of 255."""


@dataclass(frozen=True)
class GateSettings:
    """When the gate opens.

    Attributes:
        enabled: False encodes every frame that is not flat.
        mean: Mean block difference that opens it, in levels of 255.
        peak: 99th-percentile block difference that opens it, in levels of 255.
        interval: Seconds after which a frame is encoded in any case.
        flat: Standard deviation over blocks, in levels of 255, below which a picture counts as flat.
    """

    enabled: bool = True
    mean: float = 2.0
    peak: float = 30.0
    interval: float = 2.0
    flat: float = 2.0


class Gate:
    """Decides, frame by frame, whether the encoder must run."""

    def __init__(self, settings: GateSettings | None = None) -> None:
        self.settings = settings or GateSettings()
        self.reset()

    def reset(self) -> None:
        """Forget the last encoded frame."""
        self._reference: Blocks | None = None
        self._encoded_ns = 0

    def opens(self, blocks: Blocks, t_ns: int) -> bool:
        """Whether this frame is to be encoded; if so, it becomes the one that later frames are compared with.

        Args:
            blocks: `block_means` of the resized picture; kept, not copied.
            t_ns: Its time.
        """
        opened = self._differs(blocks, t_ns)
        if opened:
            self._reference, self._encoded_ns = blocks, t_ns
        return opened

    def is_flat(self, blocks: Blocks) -> bool:
        """Whether a picture with these `block_means` is all of one brightness, apart from noise."""
        return bool(blocks.mean(axis=-1).std() < self.settings.flat)

    def _differs(self, blocks: Blocks, t_ns: int) -> bool:
        settings = self.settings
        if self._reference is None or not settings.enabled or t_ns - self._encoded_ns >= settings.interval * 1e9:
            return True
        difference = np.abs(blocks - self._reference).mean(axis=-1)
        return bool(difference.mean() > settings.mean or np.percentile(difference, 99) > settings.peak)


def block_means(picture: Image) -> Blocks:
    """Mean colour of each block of a 16x16 grid over a uint8 `[height, width, 3]` picture; a remainder is left out."""
    height, width = picture.shape[0] // GRID * GRID, picture.shape[1] // GRID * GRID
    if height == 0 or width == 0:
        return np.asarray(picture, dtype=np.float32)
    # Whole rows first: long runs of neighbouring bytes add up five times as fast as NumPy's mean over both axes.
    rows = picture[:height, :width].reshape(GRID, height // GRID, width * 3).sum(axis=1, dtype=np.uint32)
    sums = rows.reshape(GRID, GRID, width // GRID, 3).sum(axis=2)
    return np.asarray(sums.astype(np.float32) / np.float32((height // GRID) * (width // GRID)))
