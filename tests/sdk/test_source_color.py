"""Colour bars, encoded without loss from samples that this test computes itself, come back as the colours they were.

The formulae are those of ITU-R BT.601, BT.709 and BT.2020 (non-constant luminance), with 8 or 10 bits a sample.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from video_tools import from_planes, write_video

from vsdk.frame import Image
from vsdk.sources.video_file import VideoFile

Floats = npt.NDArray[np.float64]

WEIGHTS = {"BT.601": (0.299, 0.114), "BT.709": (0.2126, 0.0722), "BT.2020": (0.2627, 0.0593)}  # of red and of blue
TAGS = {"BT.601": 6, "BT.709": 1, "BT.2020": 9}  # MatrixCoefficients of ISO/IEC 23091-2
RANGES = {"limited": 1, "full": 2}

BARS = np.array(
    [
        *(
            [255, 255, 255],
            [255, 255, 0],
            [0, 255, 255],
            [0, 255, 0],
            [255, 0, 255],
            [255, 0, 0],
            [0, 0, 255],
            [0, 0, 0],
        ),
        *([191, 191, 0], [0, 191, 191], [191, 0, 191], [128, 128, 128], [200, 80, 40], [30, 60, 90], [64, 200, 120]),
        [240, 190, 160],
    ],
    np.float64,
)
BAR = 16


def _samples(matrix: str, full: bool, bits: int, height: int, repeats: int = 1) -> list[npt.NDArray[Any]]:
    """Luma and the two chroma planes of the bars, one row of them, at full resolution."""
    red_weight, blue_weight = WEIGHTS[matrix]
    red, green, blue = np.tile(BARS / 255, (repeats, 1)).T
    luma = red_weight * red + (1 - red_weight - blue_weight) * green + blue_weight * blue
    chroma = [(blue - luma) / (2 * (1 - blue_weight)), (red - luma) / (2 * (1 - red_weight))]
    unit, top = 2 ** (bits - 8), 2**bits - 1
    rows = [luma * top, *(c * top + 128 * unit for c in chroma)]
    if not full:
        rows = [(16 + 219 * luma) * unit, *((128 + 224 * c) * unit for c in chroma)]
    dtype = np.uint8 if bits == 8 else np.uint16
    whole = [np.clip(np.round(row), 0, top).astype(dtype).repeat(BAR) for row in rows]
    return [np.tile(row, (height, 1)) for row in whole]


def _write(
    path: Path, matrix: str, range_: str, pix_fmt: str, *, tagged: bool = True, height: int = 64, repeats: int = 1
) -> Path:
    luma, *chroma = _samples(matrix, range_ == "full", 10 if "10" in pix_fmt else 8, height, repeats)
    across, down = {"444": (1, 1), "422": (2, 1), "420": (2, 2)}[pix_fmt[3:6]]
    planes = [luma, *(plane[::down, ::across] for plane in chroma)]
    tags = {"colorspace": TAGS[matrix], "color_range": RANGES[range_]} if tagged else {}
    return write_video(path, [from_planes(planes, pix_fmt)] * 3, pix_fmt=pix_fmt, options={"qp": "0"}, tags=tags)


def _bars(path: Path) -> list[Floats]:
    """For each frame the colour in the middle of each bar."""
    with VideoFile(path) as source:
        return [_colours(frame.image) for frame in source]


def _colours(image: Image) -> Floats:
    return image[image.shape[0] // 2, BAR // 2 :: BAR].astype(np.float64)


@pytest.mark.parametrize("range_", RANGES)
@pytest.mark.parametrize("matrix", WEIGHTS)
@pytest.mark.parametrize("pix_fmt", ["yuv444p", "yuv422p", "yuv420p", "yuv420p10le", "yuv422p10le"])
@pytest.mark.parametrize("suffix", ["mp4", "ts"])
def test_tagged_bars(tmp_path: Path, matrix: str, range_: str, pix_fmt: str, suffix: str) -> None:
    frames = _bars(_write(tmp_path / f"bars.{suffix}", matrix, range_, pix_fmt))
    assert len(frames) == 3
    for colours in frames:
        np.testing.assert_allclose(colours, BARS, atol=3)


def test_the_bars_would_show_a_wrong_matrix_and_a_wrong_range(tmp_path: Path) -> None:
    """The control: the same samples under another tag are off by far more than the tolerance above."""
    luma, *chroma = _samples("BT.709", False, 8, 64)
    for tags in ({"colorspace": TAGS["BT.601"], "color_range": 1}, {"colorspace": TAGS["BT.709"], "color_range": 2}):
        frame = from_planes([luma, *chroma], "yuv444p")
        path = write_video(tmp_path / "wrong.mp4", [frame], pix_fmt="yuv444p", options={"qp": "0"}, tags=tags)
        assert np.abs(_bars(path)[0] - BARS).max() > 12


@pytest.mark.parametrize(
    ("height", "repeats", "matrix"),
    [(64, 1, "BT.601"), (576, 2, "BT.601"), (720, 1, "BT.709"), (544, 5, "BT.709"), (720, 5, "BT.709")],
    ids=["256x64", "512x576", "256x720", "1280x544", "1280x720"],
)
def test_without_a_tag_the_size_decides(tmp_path: Path, height: int, repeats: int, matrix: str) -> None:
    path = _write(tmp_path / "bars.mp4", matrix, "limited", "yuv420p", tagged=False, height=height, repeats=repeats)
    np.testing.assert_allclose(_bars(path)[0], np.tile(BARS, (repeats, 1)), atol=3)


def test_motion_jpeg_is_full_range_bt601(tmp_path: Path) -> None:
    luma, *chroma = _samples("BT.601", True, 8, 64)
    frame = from_planes([luma, *chroma], "yuvj444p")
    path = write_video(
        tmp_path / "bars.avi", [frame], codec="mjpeg", pix_fmt="yuvj444p", options={"qmin": "1", "q": "1"}
    )
    np.testing.assert_allclose(_bars(path)[0], BARS, atol=6)  # JPEG is not without loss


@pytest.mark.parametrize(
    ("codec", "suffix", "pix_fmt"),
    [
        ("libx264rgb", "mp4", "rgb24"),
        ("png", "mov", "rgba"),
        ("qtrle", "mov", "argb"),
        ("ffv1", "mkv", "bgr0"),
        ("utvideo", "avi", "gbrp"),
        ("rawvideo", "avi", "bgr24"),
    ],
)
def test_rgb_video_with_and_without_alpha_is_given_as_it_is(
    tmp_path: Path, codec: str, suffix: str, pix_fmt: str
) -> None:
    bars = np.tile(BARS.astype(np.uint8).repeat(BAR, axis=0), (64, 1, 1))
    bars[:32] //= 2  # so that top and bottom differ
    options = {"qp": "0"} if codec == "libx264rgb" else {}
    path = write_video(tmp_path / f"bars.{suffix}", [bars], codec=codec, pix_fmt=pix_fmt, options=options)
    with VideoFile(path) as source:
        frame = source.read()
    assert frame is not None
    np.testing.assert_array_equal(frame.image, bars)


@pytest.mark.parametrize(("pix_fmt", "unit", "dtype"), [("gray", 1, np.uint8), ("gray10le", 4, np.uint16)])
@pytest.mark.parametrize("range_", RANGES)
def test_grey_video(tmp_path: Path, pix_fmt: str, unit: int, dtype: type[np.generic], range_: str) -> None:
    grey = np.arange(256)
    codes = grey * (1023 / 255 if unit == 4 else 1) if range_ == "full" else (16 + grey * (219 / 255)) * unit
    plane = np.tile(np.round(codes).astype(dtype), (64, 1))
    tags = {"color_range": RANGES[range_]}
    path = write_video(tmp_path / "grey.mkv", [from_planes([plane], pix_fmt)], codec="ffv1", pix_fmt=pix_fmt, tags=tags)
    with VideoFile(path) as source:
        frame = source.read()
    assert frame is not None
    # Ten bits are dithered to eight before limited range is stretched: one level of 219, and the rounding.
    np.testing.assert_allclose(frame.image.astype(float), np.tile(grey[:, None], (64, 1, 3)), atol=2)


@pytest.mark.parametrize(("width", "height"), [(95, 63), (97, 64), (96, 33), (18, 16)])
def test_odd_sizes(tmp_path: Path, width: int, height: int) -> None:
    picture = np.full((height, width, 3), (200, 80, 40), np.uint8)
    path = write_video(tmp_path / "odd.mp4", [picture] * 3, pix_fmt="yuv444p", options={"qp": "0"})
    with VideoFile(path) as source:
        for frame in source:
            np.testing.assert_allclose(frame.image.astype(float), picture, atol=3)
