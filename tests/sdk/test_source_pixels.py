"""Buffers of any layout become the picture that was laid out in them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsdk.errors import InputError
from vsdk.sources.pixels import FORMATS, LONGEST_EDGE, PixelLayout, plane_sizes, rgb_from
from vsdk.sources.rgb import RgbConverter

Bytes = npt.NDArray[np.uint8]
SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))
PACKED = {"rgb24": "rgb", "bgr24": "bgr", "rgba": "rgba", "bgra": "bgra", "gray": "y"}


def laid_out(planes: list[Bytes], gaps: list[int], paddings: list[int], filler: int) -> tuple[bytes, Any, Any]:
    """Planes `[rows, bytes]` one after the other, with gaps before them and padded rows; strides and offsets."""
    buffer, strides, offsets = bytearray(), [], []
    for plane, gap, padding in zip(planes, gaps, paddings, strict=True):
        buffer += bytes([filler]) * gap
        offsets.append(len(buffer))
        strides.append(plane.shape[1] + padding)
        for row in plane:
            buffer += row.tobytes() + bytes([filler]) * padding
    return bytes(buffer), tuple(strides), tuple(offsets)


def random_planes(name: str, width: int, height: int, seed: int) -> list[Bytes]:
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, size, dtype=np.uint8) for size in plane_sizes(name, width, height)]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(("width", "height"), [(96, 64), (95, 63), (97, 64), (96, 33), (1, 1), (2, 1), (1, 2), (3, 5)])
def test_packed_frames_are_as_large_as_those_that_ffmpeg_writes(name: str, width: int, height: int) -> None:
    encoder: Any = av.CodecContext.create("rawvideo", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = width, height, name, Fraction(1, 25)
    frame = av.VideoFrame(width, height, name)
    frame.pts = 0
    assert encoder.encode(frame)[0].size == PixelLayout.packed(name, width, height).size


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("full_range", [None, False, True])
def test_a_packed_frame_is_the_picture_that_ffmpeg_makes_of_it(name: str, full_range: bool | None) -> None:
    width, height = 38, 26
    planes = random_planes(name, width, height, seed=1)
    data = b"".join(plane.tobytes() for plane in planes)
    decoder: Any = av.CodecContext.create("rawvideo", "r")
    decoder.width, decoder.height, decoder.pix_fmt = width, height, name
    frame = decoder.decode(av.Packet(data))[0]
    if full_range is not None:
        frame.color_range = 2 if full_range else 1
    layout = PixelLayout.packed(name, width, height)
    layout = PixelLayout(name, width, height, layout.strides, layout.offsets, full_range=full_range)
    np.testing.assert_array_equal(rgb_from(data, layout, RgbConverter()), RgbConverter().convert(frame))


@given(
    name=st.sampled_from(FORMATS),
    size=SIZES,
    gaps=st.lists(st.integers(0, 9), min_size=3, max_size=3),
    paddings=st.lists(st.integers(0, 70), min_size=3, max_size=3),
    filler=st.integers(0, 255),
    seed=st.integers(0, 99),
)
def test_gaps_and_padding_change_nothing(
    name: str, size: tuple[int, int], gaps: list[int], paddings: list[int], filler: int, seed: int
) -> None:
    width, height = size
    planes = random_planes(name, width, height, seed)
    tight = PixelLayout.packed(name, width, height)
    expected = rgb_from(b"".join(plane.tobytes() for plane in planes), tight, RgbConverter())
    data, strides, offsets = laid_out(planes, gaps[: len(planes)], paddings[: len(planes)], filler)
    layout = PixelLayout(name, width, height, strides, offsets)
    image = rgb_from(data, layout, RgbConverter())
    assert image.shape == (height, width, 3)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, expected)
    # The padding of the very last row need not be there, and the buffer may be of any kind.
    np.testing.assert_array_equal(rgb_from(memoryview(data)[: layout.size], layout, RgbConverter()), expected)


@given(name=st.sampled_from(sorted(PACKED)), size=SIZES, seed=st.integers(0, 99))
def test_colours_of_packed_pixels_are_where_the_name_says(name: str, size: tuple[int, int], seed: int) -> None:
    width, height = size
    plane = random_planes(name, width, height, seed)[0]
    pixels = plane.reshape(height, width, -1)
    order = [PACKED[name].index(channel) if channel in PACKED[name] else 0 for channel in "rgb"]
    image = rgb_from(plane.tobytes(), PixelLayout.packed(name, width, height), RgbConverter())
    np.testing.assert_array_equal(image, pixels[..., order])


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in PACKED])
@pytest.mark.parametrize(("width", "height"), [(64, 48), (63, 47), (1, 1), (1279, 3)])
@pytest.mark.parametrize("full_range", [False, True])
def test_one_colour_is_that_colour_also_at_odd_edges(name: str, width: int, height: int, full_range: bool) -> None:
    colour = np.array([200, 80, 40])
    luma = float(colour @ (0.299, 0.587, 0.114)) if width < 1280 else float(colour @ (0.2126, 0.7152, 0.0722))
    chroma = [(40 - luma) / 1.772, (200 - luma) / 1.402]
    if full_range or name == "yuvj420p":
        samples = {"y": luma, "u": 128 + chroma[0], "v": 128 + chroma[1]}
    else:
        scaled = [128 + 224 / 255 * c for c in chroma]
        samples = {"y": 16 + 219 / 255 * luma, "u": scaled[0], "v": scaled[1]}
    orders = {"nv12": ["y", "uv"], "nv21": ["y", "vu"], "yuyv422": ["yuyv"], "uyvy422": ["uyvy"]}
    planes = []
    for (rows, row_bytes), order in zip(
        plane_sizes(name, width, height), orders.get(name, ["y", "u", "v"]), strict=True
    ):
        group = [round(samples[letter]) for letter in order]
        planes.append(np.tile(np.array(group, np.uint8), (rows, row_bytes // len(group))))
    data, strides, offsets = laid_out(planes, [0] * len(planes), [0] * len(planes), 0)
    layout = PixelLayout(name, width, height, strides, offsets, full_range=full_range or None)
    image = rgb_from(data, layout, RgbConverter())
    np.testing.assert_allclose(image.astype(int), np.tile(colour, (height, width, 1)), atol=3)


def test_the_matrix_of_the_layout_is_used() -> None:
    green = (0, 255, 0)
    luma = 255 * 0.7152
    samples = [luma, 128 - luma / 1.8556, 128 - luma / 1.5748]
    data = b"".join(bytes([round(sample)]) * 64 for sample in samples)
    layouts = [PixelLayout("yuv444p", 8, 8, (8, 8, 8), (0, 64, 128), matrix, full_range=True) for matrix in (1, 6)]
    right, wrong = (rgb_from(data, layout, RgbConverter())[0, 0].astype(int) for layout in layouts)
    assert np.abs(right - green).max() <= 3
    assert np.abs(wrong - green).max() > 12


def test_the_picture_does_not_depend_on_the_buffer_any_more() -> None:
    for name in FORMATS:
        layout = PixelLayout.packed(name, 8, 6)
        data = bytearray(range(layout.size % 251)) + bytearray(layout.size)
        image = rgb_from(data, layout, RgbConverter())
        before = image.copy()
        data[:] = b"\xff" * len(data)
        np.testing.assert_array_equal(image, before)
        image[:] = 0  # and can be written into


def test_what_cannot_be() -> None:
    for width, height in ((0, 4), (4, 0), (-1, 4), (LONGEST_EDGE + 1, 4)):
        with pytest.raises(InputError, match="no size"):
            PixelLayout.packed("rgb24", width, height)
    with pytest.raises(InputError, match="not known"):
        PixelLayout.packed("yuv410p", 4, 4)
    with pytest.raises(InputError, match="2 planes"):
        PixelLayout("nv12", 4, 4, (4,), (0,))
    with pytest.raises(InputError, match="row of 12 bytes"):
        PixelLayout("rgb24", 4, 4, (11,), (0,))
    with pytest.raises(InputError, match="offset -1"):
        PixelLayout("rgb24", 4, 4, (12,), (-1,))
    layout = PixelLayout.packed("nv12", 4, 4)
    with pytest.raises(InputError, match="23 bytes cannot hold the 24"):
        rgb_from(bytes(23), layout, RgbConverter())
