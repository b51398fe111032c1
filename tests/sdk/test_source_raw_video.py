"""Raw frames: the grammar that describes them, what comes out, and a sender that stops in the middle."""

from __future__ import annotations

import io
import os
import threading
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from video_tools import number_of, numbered

from vsdk.errors import (
    Error,
    InputError,
    SourceEmptyError,
    SourceTimeoutError,
    SourceUnreadableError,
)
from vsdk.sources.pixels import FORMATS
from vsdk.sources.raw_video import RawFormat, RawVideo

# Grammar


@pytest.mark.parametrize(
    ("text", "width", "height", "name", "rate"),
    [
        ("1280x720:bgr24@30", 1280, 720, "bgr24", Fraction(30)),
        ("640x480:nv12@30000/1001", 640, 480, "nv12", Fraction(30000, 1001)),
        ("1x1:gray@0.5", 1, 1, "gray", Fraction(1, 2)),
        ("95x63:yuv420p@29.97", 95, 63, "yuv420p", Fraction("29.97")),
        ("8x8:rgb24", 8, 8, "rgb24", Fraction(25)),
    ],
)
def test_what_a_description_says(text: str, width: int, height: int, name: str, rate: Fraction) -> None:
    raw = RawFormat.parse(text)
    assert (raw.layout.width, raw.layout.height, raw.layout.format, raw.frame_rate) == (width, height, name, rate)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "does not describe"),
        ("1280x720", "does not describe"),
        ("1280*720:bgr24@30", "does not describe"),
        ("1280x720:bgr24@", "does not describe"),
        ("1280x720:bgr24@-5", "does not describe"),
        ("1280x720:bgr24@1e3", "does not describe"),
        (" 1280x720:bgr24@30", "does not describe"),
        ("1280x720:bgr24@30\n", "does not describe"),
        ("١٢x٧:bgr24@30", "does not describe"),
        ("1280x720:bgr25@30", "not known"),
        ("0x720:bgr24@30", "no size"),
        ("99999x720:bgr24@30", "no size"),
        ("8x8:bgr24@0", "more than 0"),
        ("8x8:bgr24@0.0", "more than 0"),
        ("8x8:bgr24@1/0", "no frame rate"),
        ("8x8:bgr24@" + "9" * 5000, "does not describe"),
    ],
)
def test_descriptions_that_cannot_be(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        RawFormat.parse(text)
    assert len(str(caught.value)) < 400


@given(st.text(max_size=30) | st.from_regex(r"\d{1,5}x\d{1,5}:\w{1,8}@?[\d./]{0,12}", fullmatch=True))
def test_any_text_is_a_description_or_an_error_of_ours(text: str) -> None:
    try:
        raw = RawFormat.parse(text)
    except Error:
        return
    assert raw.layout.size > 0
    assert raw.frame_rate > 0


# Frames


@pytest.mark.parametrize(("name", "order"), [("rgb24", [0, 1, 2]), ("bgr24", [2, 1, 0])])
def test_every_frame_comes_out(name: str, order: list[int]) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (5, 30, 40, 3), dtype=np.uint8)
    with RawVideo(io.BytesIO(pictures[..., order].tobytes()), f"40x30:{name}@10") as source:
        assert source.info.frame_rate == 10
        frames = list(source)
    assert [frame.time for frame in frames] == [Fraction(n, 10) for n in range(5)]
    for frame, picture in zip(frames, pictures, strict=True):
        np.testing.assert_array_equal(frame.image, picture)


@given(
    data=st.binary(max_size=600),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    name=st.sampled_from(FORMATS),
    parts=st.lists(st.integers(1, 50), min_size=1, max_size=20),
)
def test_any_bytes_are_whole_frames_and_an_error_about_the_rest(
    data: bytes, size: tuple[int, int], name: str, parts: list[int]
) -> None:
    raw = RawFormat.parse(f"{size[0]}x{size[1]}:{name}@25")
    whole, rest = divmod(len(data), raw.layout.size)

    class InParts(io.BytesIO):
        count = 0

        def seekable(self) -> bool:
            return False

        def read1(self, wanted: int | None = -1) -> bytes:
            self.count += 1
            return self.read(min(parts[self.count % len(parts)], wanted or 1))

    if whole == 0:
        with pytest.raises(SourceUnreadableError if rest else SourceEmptyError):
            RawVideo(InParts(data), raw)
        return
    source = RawVideo(InParts(data), raw)
    for number in range(whole):
        frame = source.read()
        assert frame is not None
        assert frame.number == number
        assert frame.image.shape == (size[1], size[0], 3)
    if rest:
        with pytest.raises(SourceUnreadableError, match=f"frame {whole} has {rest} bytes"):
            source.read()
    else:
        assert source.read() is None


def test_a_frame_is_there_as_soon_as_its_last_byte_is() -> None:
    reading, writing = os.pipe()
    pictures = [numbered(index) for index in range(3)]
    with open(reading, "rb") as file, open(writing, "wb", buffering=0) as sender:  # noqa: PTH123
        threading.Thread(target=sender.write, args=(pictures[0].tobytes(),)).start()
        with RawVideo(file, "96x64:rgb24@25", timeout=20) as source:
            for index in range(3):
                if index:  # the next one is sent only after the one before it has been given
                    sender.write(pictures[index].tobytes())
                frame = source.read()
                assert frame is not None
                assert number_of(frame.image) == index


def test_a_sender_that_stalls_is_given_up() -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as file, open(writing, "wb", buffering=0) as sender:  # noqa: PTH123
        sender.write(bytes(12) + bytes(5))
        with RawVideo(file, "2x2:rgb24@25", name="my camera", timeout=0.3) as source:
            assert source.read() is not None
            with pytest.raises(SourceTimeoutError, match=r"my camera: nothing came for 0\.3 s, after 17 bytes"):
                source.read()


def test_errors_say_what_was_expected() -> None:
    with pytest.raises(SourceUnreadableError, match="frame 0 has 11 bytes, but 2x2 rgb24 has 12") as caught:
        RawVideo(io.BytesIO(bytes(11)), "2x2:rgb24@25")
    assert caught.value.hint
    with pytest.raises(SourceEmptyError, match="not one byte"):
        RawVideo(io.BytesIO(), "2x2:rgb24@25")
    not_a_file: Any = "clip.raw"
    with pytest.raises(InputError, match="not a binary file"):
        RawVideo(not_a_file, "2x2:rgb24@25")
