"""Segments against the reference's own choice of frames."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vsdk.segment import CAPACITY, SEGMENT_FRAMES, EvenSample, reference_positions


def sampled(length: int) -> EvenSample[int]:
    sample: EvenSample[int] = EvenSample()
    for position in range(length):
        sample.add(position)
    return sample


def trunc_linspace(length: int) -> list[int]:
    """`trunc(linspace(start, end, min(8, length)))`, written out."""
    count = min(8, length)
    return [0] if count == 1 else [int(i * (length - 1) / (count - 1) + 1e-9) for i in range(count)]


@given(st.integers(1, 16))
def test_short_scenes_equal_the_reference(length: int) -> None:
    assert sampled(length).choose() == trunc_linspace(length) == reference_positions(length)


@given(st.integers(17, 5000))
def test_long_scenes_are_off_by_at_most_half_the_stride(length: int) -> None:
    sample = sampled(length)
    chosen = sample.choose()
    stride = 1
    while length > CAPACITY * stride:
        stride *= 2
    assert len(chosen) == SEGMENT_FRAMES
    assert (np.abs(np.array(chosen) - np.array(trunc_linspace(length))) <= stride / 2).all()
    assert chosen[0] == 0
    assert chosen[-1] == length - 1


@given(st.integers(1, 3000), st.integers(1, 20))
def test_never_keeps_more_than_its_capacity(length: int, capacity: int) -> None:
    sample: EvenSample[int] = EvenSample(max(capacity, 2))
    for position in range(length):
        sample.add(position)
        assert len(sample._kept) <= max(capacity, 2) + 1
    middle = sample.middle()
    assert middle is not None
    assert 0 <= middle < length


def test_empty() -> None:
    sample: EvenSample[int] = EvenSample()
    assert sample.choose() == []
    assert sample.middle() is None
