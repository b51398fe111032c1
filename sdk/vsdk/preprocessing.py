"""Preprocessing: from an RGB picture to an encoder's pixels, without PyTorch.

It follows the Pillow image processors of transformers 5 (`image_processing_backends.PilBackend` and
`image_transforms.py` there): resize on 8-bit values with Pillow's antialiased filter, crop the centre, then
`(value * scale - mean) / std`. For a manifest written from a checkpoint the pixels are bit for bit those of
`CLIPImageProcessorPil`, `SiglipImageProcessorPil` and `BitImageProcessorPil`.

There are two steps because the gate looks at the picture between them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image as pillow

from vsdk_runtimes.errors import InputError
from vsdk_runtimes.manifest import Preprocessing

from .frame import Image

Pixels = npt.NDArray[np.float32]
"""What an image encoder takes: float32 `[batch, 3, height, width]`."""

MAX_ASPECT = 100
"""Longest side over shortest; a more extreme picture would be blown up out of all proportion by `shortest_edge`."""


class Preprocessor:
    """Turns RGB pictures into the pixels that one encoder expects.

    Args:
        spec: The `preprocessing` part of the encoder's manifest entry.

    Raises:
        InputError: A standard deviation is zero.

    Example:
        >>> preprocessor = Preprocessor(bundle.manifest.components["encoder"].preprocessing)
        >>> picture = preprocessor.resize(frame.image)        # uint8 [height, width, 3]
        >>> pixels = preprocessor.normalise([picture])        # float32 [1, 3, height, width]
    """

    def __init__(self, spec: Preprocessing) -> None:
        if 0.0 in spec.std:
            raise InputError(f"preprocessing divides by std {spec.std}", hint="A standard deviation must not be zero.")
        self.spec = spec
        self._filter = pillow.Resampling[spec.resize.filter.upper()]
        self._value_of = _value_table(spec)

    def resize(self, image: Image) -> Image:
        """Resize and crop: all that remains to be done with the result is arithmetic.

        Args:
            image: RGB, uint8 `[height, width, 3]`, any strides; a flipped view of a BGR picture costs no copy.

        Returns:
            RGB, uint8 `[height, width, 3]` of the encoder's size, contiguous and the caller's own. Where the resized
            picture is smaller than the crop, it is padded with zeros.

        Raises:
            InputError: Not such an array, empty, or longer than `MAX_ASPECT` times its width (or the other way round).
        """
        picture = _to_pillow(image)
        width, height = self._resized_size(picture)
        picture = picture.resize((width, height), self._filter, reducing_gap=self.spec.resize.reducing_gap)
        if self.spec.crop is not None:
            crop_height, crop_width = self.spec.crop
            # Floor division, also of negative numbers (padding): the odd line stays at the bottom or right of what is
            # cut away, and goes to the top or left of what is padded, as in the reference. Pillow pads with zeros.
            top, left = (height - crop_height) // 2, (width - crop_width) // 2
            picture = picture.crop((left, top, left + crop_width, top + crop_height))
        return np.array(picture)

    def normalise(self, pictures: Sequence[Image], out: Pixels | None = None) -> Pixels:
        """`(value * scale - mean) / std`, channels first.

        Args:
            pictures: What `resize` gave: n pictures of one size, uint8 `[height, width, 3]`.
            out: Where to put the result, float32 `[n, 3, height, width]`; a new array if None.

        Returns:
            float32 `[n, 3, height, width]`; `out` if it was given.

        Raises:
            InputError: No pictures, sizes that differ, or an `out` of another shape or type.
        """
        if len(pictures) == 0:
            raise InputError("no pictures to normalise")
        for picture in pictures:
            _check(picture)
            if picture.shape != pictures[0].shape:
                raise InputError(
                    f"pictures of one batch differ in size: {picture.shape} and {pictures[0].shape}",
                    hint="Without a crop, shortest_edge keeps the aspect: use one batch for each size of frame.",
                )
        height, width, _ = pictures[0].shape
        shape = (len(pictures), 3, height, width)
        if out is None:
            out = np.empty(shape, np.float32)
        elif out.shape != shape or out.dtype != np.float32:
            raise InputError(f"out is {out.dtype} {out.shape}, but the pictures need float32 {shape}")
        for planes, picture in zip(out, pictures, strict=True):
            for channel in range(3):
                # Any mode but "raise" writes straight into `out`; indices of 8 bits never leave a table of 256.
                np.take(self._value_of[channel], picture[..., channel], out=planes[channel], mode="wrap")
        return out

    def __call__(self, images: Sequence[Image]) -> Pixels:
        """Both steps: RGB pictures (of any sizes, where the result has one size) to pixels.

        Raises:
            InputError: See `resize` and `normalise`.
        """
        return self.normalise([self.resize(image) for image in images])

    def _resized_size(self, picture: pillow.Image) -> tuple[int, int]:
        """Width and height after resizing; the longer side is cut down to an integer, as the reference does."""
        resize = self.spec.resize
        if resize.height is not None and resize.width is not None:
            return resize.width, resize.height
        assert resize.shortest_edge is not None, "the manifest's schema asks for one of the two"
        short, long = sorted(picture.size)
        if long > MAX_ASPECT * short:
            raise InputError(
                f"a picture of {picture.width}x{picture.height} is too narrow to be resized by its shortest edge",
                hint=f"Crop it to an aspect of at most {MAX_ASPECT}:1.",
            )
        longest_edge = int(resize.shortest_edge * long / short)
        if picture.width <= picture.height:
            return resize.shortest_edge, longest_edge
        return longest_edge, resize.shortest_edge


def _value_table(spec: Preprocessing) -> npt.NDArray[np.float32]:
    """float32 `[3, 256]`: the normalised value of each 8-bit value in each channel.

    Scaled in double precision, then normalised in single precision: the reference's order of rounding.
    """
    scaled = (np.arange(256, dtype=np.float64) * spec.scale).astype(np.float32)
    mean = np.array(spec.mean, np.float32)[:, None]
    std = np.array(spec.std, np.float32)[:, None]
    return np.asarray((scaled - mean) / std)


def _check(image: Image) -> None:
    if not isinstance(image, np.ndarray):
        raise InputError(f"a picture must be a NumPy array, not {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise InputError(
            f"a picture must be RGB, uint8 [height, width, 3], not {image.dtype} {list(image.shape)}",
            hint="Convert grey or four-channel pictures to RGB, and floating-point values to 0-255, first.",
        )


def _to_pillow(image: Image) -> pillow.Image:
    """The array as a Pillow image; only pixels that do not lie row by row in memory are copied more than once."""
    _check(image)
    order = "RGB"
    if image.strides[2] == -1:  # an RGB view of BGR memory: Pillow reads that order itself
        image, order = image[..., ::-1], "BGR"
    height, width, _ = image.shape
    return pillow.frombuffer("RGB", (width, height), np.ascontiguousarray(image), "raw", order, 0, 1)
