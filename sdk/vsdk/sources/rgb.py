"""Decoded pictures become RGB by the colour matrix and range that they are tagged with.

swscale, which does the arithmetic, goes by the tags of the frame; what is missing there is filled in first:

* no matrix: BT.709 for pictures at least 1280 wide or 720 high, else BT.601, as players do;
* no range: limited, except for formats that are full by themselves (`yuvj420p`, RGB, grey).

Transfer curves and primaries are left alone: HDR pictures (PQ, HLG) are not tone-mapped. Alpha is dropped.
"""

from __future__ import annotations

from typing import cast

import av
import numpy as np
from av.video.reformatter import ColorRange, VideoReformatter

from ..frame import Image

# Matrices as FFmpeg's AVColorSpace numbers them (they are ISO/IEC 23091-2's `MatrixCoefficients`).
_RGB, _BT709, _UNSPECIFIED, _RESERVED, _BT601 = 0, 1, 2, 3, 6
_NO_MATRIX = (_RGB, _UNSPECIFIED, _RESERVED)

_GREY_FROM_LIMITED = np.clip(np.round((np.arange(256) - 16) * (255 / 219)), 0, 255).astype(np.uint8)


class RgbConverter:
    """Converts the pictures of one source; keeps swscale's tables between them."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def convert(self, picture: av.VideoFrame) -> Image:
        """The picture as RGB, uint8 `[height, width, 3]`, in memory of its own; rows may be padded.

        Fills in the missing colour tags of `picture`.

        Raises:
            av.OSError: A matrix that swscale does not know (YCgCo, ICtCp, constant luminance, ...).
        """
        if picture.format.name.startswith("gray") and picture.color_range == ColorRange.MPEG:
            return self._limited_grey(picture)
        if picture.colorspace in _NO_MATRIX and not picture.format.is_rgb:
            picture.colorspace = _BT709 if picture.width >= 1280 or picture.height >= 720 else _BT601
        # One thread: a 720p frame takes 0.4 ms, less than handing it out to others.
        return cast(Image, self._reformatter.reformat(picture, format="rgb24", threads=1).to_ndarray())

    def _limited_grey(self, picture: av.VideoFrame) -> Image:
        """swscale takes grey for full range whatever its tag says."""
        grey = self._reformatter.reformat(picture, format="gray", threads=1).to_ndarray()
        return np.repeat(_GREY_FROM_LIMITED[grey][:, :, None], 3, axis=2)
