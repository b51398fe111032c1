"""The bank of fixed size against a naive one that keeps everything and picks what the rules ask for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsdk.tracking.bank import MemoryBank, to_bfloat16
from vsdk_runtimes.manifest import TrackerSpec

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def _read(bank: MemoryBank, row: int, frame: int) -> tuple[set[Any], set[Any]]:
    """What counts: (value, age) of memories, and of pointers."""
    inputs = bank.read([row], frame)
    return tuple(
        {
            (float(content.flat[0]), float(age))
            for content, age, valid in zip(inputs[a][0], inputs[b][0], inputs[c][0], strict=True)
            if valid
        }
        for a, b, c in (("memory", "slot_age", "slot_valid"), ("pointers", "pointer_age", "pointer_valid"))
    )  # type: ignore[return-value]


@given(
    st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 4), st.integers(0, 6), st.integers(0, 15)
)  # fmt: skip
def test_what_is_read_is_what_the_rules_ask_for(
    conditioning: list[bool], kept: int, recent: int, recent_pointers: int
) -> None:
    conditioning[0] = True
    spec = TrackerSpec(conditioning_slots=kept, recent_slots=recent, recent_pointers=recent_pointers, rounding="none")
    bank = MemoryBank(spec, (1, 1), 1)
    bank.add_object()
    most = 0
    for frame, prompted in enumerate(conditioning):
        value = np.full((1, 1), frame, np.float32)
        bank.write(0, frame, prompted, value, value[0])
        now = frame + 1
        newest = [old for old in range(now) if conditioning[old]][-kept:]
        memories = {(float(old), 0.0) for old in newest} | {
            (float(old), float(now - old)) for old in range(max(0, now - recent), now) if old not in newest
        }
        pointers = {
            (float(old), float(now - old))
            for old in {*newest, *range(max(0, now - recent_pointers), now)}
        }  # fmt: skip
        assert _read(bank, 0, now) == (memories, pointers)
        most = max(most, len(memories))
        assert bank.read([0], now)["memory"].shape[1] == most  # attention computes no slot that was never needed


def test_rows_are_independent_and_can_go() -> None:
    bank = MemoryBank(TrackerSpec(rounding="none"), (1, 1), 1)
    for row in range(3):
        bank.add_object()
        bank.write(row, 0, True, np.full((1, 1), row, np.float32), np.zeros(1, np.float32))
    bank.remove_object(1)
    assert [_read(bank, row, 1)[0] for row in range(2)] == [{(0.0, 0.0)}, {(2.0, 0.0)}]
    assert bank.read([1, 0], 1)["memory"][:, 0, 0, 0].tolist() == [2.0, 0.0]


def test_the_arrays_never_grow() -> None:
    bank = MemoryBank(TrackerSpec(), (4, 2), 3)
    bank.add_object()
    sizes = set()
    for frame in range(500):
        bank.write(0, frame, frame % 50 == 0, np.ones((4, 2), np.float32), np.ones(3, np.float32))
        sizes.add(bank.nbytes)
    assert len(sizes) == 1


@given(st.lists(FLOATS, min_size=1, max_size=50))
def test_bfloat16_is_that_of_pytorch(values: list[float]) -> None:
    torch = pytest.importorskip("torch")
    array = np.array(values, np.float32)
    expected = torch.from_numpy(array).to(torch.bfloat16).float().numpy()
    assert np.array_equal(to_bfloat16(array), expected)
