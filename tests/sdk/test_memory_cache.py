"""The cache's rule against a plain statement of it: lists of segments, averaged from scratch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vsdk.errors import InputError
from vsdk.memory.cache import CacheWrite, Eviction, MemoryCache
from vsdk.memory.entry import MemoryEntry

TOKENS, WIDTH = 3, 5
CLEAR = 1e-4
"""Two pairs whose cosines differ by less are not told apart by float32."""

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Segment:
    """What a stream gives: memory tokens, which blocks are there, what goes into them, and its stream."""

    tokens: Array
    blocks: Array
    content: Array
    stream: int


@dataclass
class Plain:
    """The rule in words: entries are lists of segments, and every mean is taken over all of them."""

    capacity: int
    eviction: Eviction
    entries: list[list[int]] = field(default_factory=list)

    def add(self, segments: Sequence[Segment]) -> None:
        """Remember the last of these segments."""
        if len(self.entries) == self.capacity:
            pairs = [
                (self._alike(segments, one, other), at)
                for at, (one, other) in enumerate(zip(self.entries, self.entries[1:], strict=False))
                if segments[one[0]].stream == segments[other[0]].stream
            ]
            if self.eviction == "oldest" or not pairs:
                self.entries.pop(0)
            else:
                best, second = [*sorted((alike for alike, _ in pairs), reverse=True), -np.inf][:2]
                assume(best - second > CLEAR)
                at = max(pairs)[1]
                self.entries[at] += self.entries.pop(at + 1)
        self.entries.append([len(segments) - 1])

    def _alike(self, segments: Sequence[Segment], one: list[int], other: list[int]) -> float:
        left, right = (np.mean([segments[i].tokens for i in entry], axis=0) for entry in (one, other))
        cosines = [a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) for a, b in zip(left, right, strict=True)]
        return float(np.mean(cosines))


class Slots:
    """What the graph does with the arrays that it is handed, in float64, from slots full of garbage."""

    def __init__(self, blocks: int, capacity: int) -> None:
        self.content = np.full((blocks, capacity, WIDTH), 1e6)

    def apply(self, write: CacheWrite, written: Array) -> None:
        self.content = np.einsum("sck,skd->scd", write.mix, self.content)
        self.content += np.einsum("c,sd->scd", write.write, written)


@st.composite
def streams(draw: st.DrawFn) -> tuple[int, int, list[Segment]]:
    """A capacity, a number of blocks, and segments of one stream or several."""
    capacity, blocks = draw(st.integers(1, 6)), draw(st.sampled_from([1, 4]))
    counts = draw(st.lists(st.integers(1, blocks), min_size=1, max_size=30))
    ends = draw(st.lists(st.booleans(), min_size=len(counts), max_size=len(counts)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    made = []
    for number, count in enumerate(counts):
        there = (np.arange(blocks) < count).astype(np.int64)
        made.append(
            Segment(
                rng.standard_normal((TOKENS, WIDTH)).astype(np.float32),
                there,
                rng.standard_normal((blocks, WIDTH)),
                sum(ends[: number + 1]) // 4,
            )
        )
    return capacity, blocks, made


def remember(cache: MemoryCache, number: int, segment: Segment) -> CacheWrite:
    write = cache.plan(segment.blocks)
    cache.commit(write, MemoryEntry(-1, number, number, segment.stream, segment.blocks, segment.tokens))
    return write


@settings(deadline=None, max_examples=150)
@given(streams(), st.sampled_from(["merge", "oldest"]))
def test_it_is_the_rule(stream: tuple[int, int, list[Segment]], eviction: Eviction) -> None:
    capacity, blocks, segments = stream
    cache, plain, slots = MemoryCache(capacity, blocks, eviction), Plain(capacity, eviction), Slots(blocks, capacity)
    for number, segment in enumerate(segments):
        plain.add(segments[: number + 1])
        write = remember(cache, number, segment)
        slots.apply(write, segment.content)

        assert [list(range(entry.first, entry.last + 1)) for entry in cache.entries] == plain.entries
        for entry, members in zip(cache.entries, plain.entries, strict=True):
            assert entry.segments == len(members)
            np.testing.assert_allclose(
                entry.tokens, np.mean([segments[i].tokens for i in members], axis=0), rtol=0, atol=1e-5
            )
            for block in range(blocks):
                there = [segments[i].content[block] for i in members if segments[i].blocks[block]]
                assert entry.blocks[block] == len(there)
                assert write.valid[block, entry.slot] == bool(there)
                if there:
                    np.testing.assert_allclose(
                        slots.content[block, entry.slot], np.mean(there, axis=0), rtol=0, atol=1e-5
                    )


@settings(deadline=None, max_examples=100)
@given(streams(), st.sampled_from(["merge", "oldest"]))
def test_what_the_graph_is_handed_is_sound(stream: tuple[int, int, list[Segment]], eviction: Eviction) -> None:
    capacity, blocks, segments = stream
    cache = MemoryCache(capacity, blocks, eviction)
    for number, segment in enumerate(segments):
        write = remember(cache, number, segment)
        for array, shape in (
            (write.mix, (blocks, capacity, capacity)),
            (write.write, (capacity,)),
            (write.valid, (blocks, capacity)),
        ):
            assert array.dtype == np.float32
            assert array.shape == shape
        assert (write.mix >= 0).all()
        sums = write.mix.sum(axis=2)
        assert ((sums == 0) | (np.abs(sums - 1) < 1e-6)).all()
        assert sorted(write.write) == [0.0] * (capacity - 1) + [1.0]
        assert (sums[:, write.slot] == 0).all()
        assert write.write[write.slot] == 1
        used = {entry.slot for entry in cache.entries}
        free = [slot for slot in range(capacity) if slot not in used]
        assert (sums[:, free] == 0).all()
        assert (write.valid[:, free] == 0).all()

        entries = cache.entries
        assert len(entries) == len(used) == min(number + 1, capacity)
        assert entries[-1].first == entries[-1].last == number
        assert entries[-1].slot == write.slot
        numbers = [i for entry in entries for i in range(entry.first, entry.last + 1)]
        assert numbers == list(range(numbers[0], number + 1))
        assert len({segments[entry.first].stream for entry in entries}) >= 1
        assert all(segments[entry.first].stream == segments[entry.last].stream for entry in entries)


def test_planning_changes_nothing() -> None:
    cache = MemoryCache(2)
    tokens = np.eye(TOKENS, WIDTH, dtype=np.float32)
    one = np.ones(1, np.int64)
    for number in range(3):
        cache.commit(cache.plan(one), MemoryEntry(-1, number, number, 0, one, tokens))
    before = cache.entries
    cache.plan(one)
    assert cache.entries is before


def test_two_equal_pairs_merge_the_earlier_one() -> None:
    cache = MemoryCache(4)
    one, tokens = np.ones(1, np.int64), np.ones((TOKENS, WIDTH), np.float32)
    for number in range(5):
        cache.commit(cache.plan(one), MemoryEntry(-1, number, number, 0, one, tokens))
    assert [(entry.first, entry.last) for entry in cache.entries] == [(0, 1), (2, 2), (3, 3), (4, 4)]


def test_clear_starts_anew() -> None:
    cache = MemoryCache(2)
    one, tokens = np.ones(1, np.int64), np.ones((TOKENS, WIDTH), np.float32)
    cache.commit(cache.plan(one), MemoryEntry(-1, 0, 0, 0, one, tokens))
    cache.clear()
    assert cache.entries == ()
    assert cache.plan(one).slot == 0


@pytest.mark.parametrize("arguments", [(0,), (4, 0), (4, 1, "newest")], ids=str)
def test_refuses(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(InputError):
        MemoryCache(*arguments)
