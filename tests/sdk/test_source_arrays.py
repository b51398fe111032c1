from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from video_tools import number_of, numbered

from vsdk.errors import InputError, SourceChangedError, SourceEmptyError
from vsdk.frame import Image
from vsdk.sources.arrays import Arrays


def test_is_lazy() -> None:
    made = []

    def generate() -> Iterator[Image]:
        for index in range(10**9):
            made.append(index)
            yield numbered(index % 256)

    with Arrays(generate()) as source:
        assert made == [0]
        assert source.info.frame_count is None
        for _ in range(3):
            source.read()
        assert made == [0, 1, 2]


def test_a_generator_is_closed_with_the_source() -> None:
    closed = []

    def generate() -> Iterator[Image]:
        try:
            while True:
                yield numbered(0)
        finally:
            closed.append(True)

    with Arrays(generate()) as source:
        source.read()
    del source
    assert closed == [True]


@pytest.mark.parametrize(
    "iterable",
    [
        [numbered(index) for index in range(5)],
        tuple(numbered(index) for index in range(5)),
        np.stack([numbered(index) for index in range(5)]),
        np.stack([numbered(index) for index in range(5)])[:, ::-1, ::-1][:, ::-1, ::-1],
        [np.asfortranarray(numbered(index)) for index in range(5)],
    ],
    ids=["list", "tuple", "array", "strided", "fortran order"],
)
def test_takes_any_iterable_of_pictures(iterable: Any) -> None:
    with Arrays(iterable) as source:
        assert source.info.frame_count == 5
        assert [number_of(frame.image) for frame in source] == list(range(5))


def test_frames_are_copies() -> None:
    pictures = [numbered(0), numbered(1)]
    with Arrays(pictures) as source:
        frames = list(source)
    pictures[0][:] = 0
    np.testing.assert_array_equal(frames[0].image, numbered(0))


def test_name_and_frame_rate() -> None:
    with Arrays([numbered(0)] * 3, frame_rate=Fraction(30_000, 1001), name="simulator") as source:
        assert source.info.name == "simulator"
        assert [frame.time for frame in source] == [Fraction(1001 * index, 30_000) for index in range(3)]


@pytest.mark.parametrize(
    ("item", "says"),
    [
        (np.zeros((8, 8, 3)), "float64"),
        (np.zeros((8, 8, 3), np.int8), "int8"),
        (np.zeros((8, 8), np.uint8), r"\[8, 8\]"),
        (np.zeros((8, 8, 4), np.uint8), r"\[8, 8, 4\]"),
        (np.zeros((3, 8, 8), np.uint8), r"\[3, 8, 8\]"),
        (np.zeros((1, 8, 8, 3), np.uint8), r"\[1, 8, 8, 3\]"),
        (np.zeros((0, 8, 3), np.uint8), r"\[0, 8, 3\]"),
        ("picture", "dtype"),
        (None, "dtype"),
        ([[1, 2], [3]], "not an array"),
    ],
)
def test_what_is_not_a_picture_is_refused_with_its_index(item: Any, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        Arrays([item], name="simulator")
    assert "simulator: array 0" in caught.value.message
    with Arrays([numbered(0), numbered(1), item]) as source:
        source.read()
        source.read()
        for _ in range(2):
            with pytest.raises(InputError, match="array 2"):
                source.read()


def test_another_size_is_refused_with_its_index() -> None:
    with Arrays([numbered(0), numbered(1), numbered(2, 48, 32)]) as source:
        source.read()
        source.read()
        with pytest.raises(SourceChangedError, match="array 2 is 48x32, the frames before it are 96x64"):
            source.read()


@pytest.mark.parametrize("iterable", [[], (), np.zeros((0, 8, 8, 3), np.uint8), iter([])])
def test_no_arrays_at_all(iterable: Any) -> None:
    with pytest.raises(SourceEmptyError, match="nothing has no frames"):
        Arrays(iterable, name="nothing")


def test_what_the_iterable_raises_goes_through_and_stays() -> None:
    def generate() -> Iterator[Image]:
        yield numbered(0)
        raise ZeroDivisionError("in the user's code")

    with Arrays(generate()) as source:
        source.read()
        for _ in range(2):
            with pytest.raises(ZeroDivisionError, match="in the user's code"):
                source.read()


def test_refuses_a_frame_rate_that_is_none() -> None:
    with pytest.raises(InputError, match="frame rate"):
        Arrays([numbered(0)], frame_rate=-1)
