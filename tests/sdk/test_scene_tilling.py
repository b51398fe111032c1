"""SceneTilling against an independent, direct statement of the published algorithm."""

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vsdk
from vsdk.errors import InputError
from vsdk.scene_tilling import DepthScores, SceneTillingSettings, cosine_similarities, depth_scores, offline


def climb(similarities: list[float], start: int, direction: int) -> float:
    """Walk while the similarity is not below the peak so far; stop at the first drop."""
    peak = similarities[start]
    position = start + direction
    while 0 <= position < len(similarities) and similarities[position] >= peak:
        peak = similarities[position]
        position += direction
    return peak


def direct_depths(similarities: list[float]) -> list[float]:
    return [climb(similarities, i, -1) + climb(similarities, i, +1) - 2 * value for i, value in enumerate(similarities)]


def direct_boundaries(similarities: list[float], alpha: float = 0.5, k: int | None = None, cap: int = 15) -> list[int]:
    """The published segmentation, one sentence of the paper after the other, in plain Python."""
    depths = direct_depths(similarities)
    ranked = sorted(range(len(depths)), key=lambda i: (-depths[i], i))
    if k is not None:
        chosen = ranked[:k]
    elif len(depths) < 2:
        chosen = []
    else:
        mean = sum(depths) / len(depths)
        deviation = (sum((d - mean) ** 2 for d in depths) / (len(depths) - 1)) ** 0.5
        chosen = [i for i in ranked if depths[i] > mean + alpha * deviation][:cap]
    last_frame = len(similarities)
    boundaries = sorted(chosen)
    return boundaries if boundaries and boundaries[-1] == last_frame else [*boundaries, last_frame]


def features_with(similarities: list[float]) -> np.ndarray:
    """Unit vectors in the plane whose neighbours have exactly these cosines."""
    angles = np.concatenate([[0.0], np.cumsum(np.arccos(np.clip(similarities, -1, 1)))])
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def sequences(seed: int) -> list[list[float]]:
    """Random and adversarial similarities: noise, plateaus, ramps, combs, single drops, constants."""
    rng = np.random.default_rng(seed)
    length = int(rng.integers(1, 120))
    noise = rng.uniform(0, 1, length)
    walk = np.clip(0.8 + rng.normal(0, 0.05, length).cumsum(), -1, 1)
    ramp = np.linspace(0.1, 0.9, length)
    comb = np.where(np.arange(length) % 2 == 0, 0.9, rng.uniform(0, 0.9, length))
    drops = np.where(rng.random(length) < 0.1, rng.uniform(-0.5, 0.5, length), 0.95)
    kinds = [noise, np.round(noise, 1), walk, ramp, ramp[::-1], comb, drops, np.full(length, 0.5)]
    return [[float(v) for v in kind] for kind in kinds]


@pytest.mark.parametrize("seed", range(125))
def test_offline_equals_direct_statement(seed: int) -> None:
    """125 seeds x 8 kinds = 1,000 sequences."""
    for similarities in sequences(seed):
        features = features_with(similarities)
        seen = [float(v) for v in cosine_similarities(features)]
        assert depth_scores(seen).tolist() == pytest.approx(direct_depths(seen), abs=1e-12)
        assert offline(features) == direct_boundaries(seen)
        k = min(3, len(seen))
        assert offline(features, k=k) == direct_boundaries(seen, k=k)


def test_cap_keeps_the_deepest() -> None:
    similarities = [0.9, 0.1] * 20 + [0.9, 0.0] + [0.9]
    boundaries = offline(features_with(similarities))
    assert len(boundaries) == 16
    assert 41 in boundaries
    assert len(offline(features_with(similarities), max_boundaries=7)) == 8


@pytest.mark.parametrize(("frames", "expected"), [(1, [0]), (2, [1])])
def test_shortest_videos(frames: int, expected: list[int]) -> None:
    assert offline(np.eye(4)[:frames]) == expected


def test_static_clip_is_one_scene() -> None:
    assert offline(np.ones((50, 8))) == [49]


def test_refuses_what_it_cannot_cut() -> None:
    with pytest.raises(InputError, match="at least one frame"):
        offline(np.zeros((0, 4)))
    with pytest.raises(InputError, match="finite"):
        offline(np.full((3, 4), np.nan))
    with pytest.raises(InputError, match="k=5"):
        offline(np.ones((3, 4)), k=5)
    tilling = vsdk.SceneTilling()
    tilling.push(np.ones(4, np.float32))
    with pytest.raises(InputError, match="width 4"):
        tilling.push(np.ones(5, np.float32))
    with pytest.raises(InputError, match="frame 1 is not finite"):
        tilling.push(np.array([1, 2, np.inf, 0], np.float32))


def longest_climb(similarities: list[float]) -> int:
    longest = 0
    for start in range(len(similarities)):
        position = start + 1
        while position < len(similarities) and similarities[position] >= similarities[position - 1]:
            position += 1
        longest = max(longest, position - 1 - start)
    return longest


@settings(max_examples=300, deadline=None)
@given(st.lists(st.floats(-1, 1, allow_subnormal=False), min_size=1, max_size=80))
def test_incremental_depths_equal_offline(similarities: list[float]) -> None:
    look_ahead = longest_climb(similarities)
    scores = DepthScores(look_ahead)
    seen: list[float] = []
    for count, value in enumerate(similarities, start=1):
        seen += scores.push(value)
        assert len(seen) >= count - look_ahead
    seen += scores.flush()
    assert seen == pytest.approx(direct_depths(similarities), abs=1e-12)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=60), st.integers(0, 6))
def test_a_climb_past_the_look_ahead_is_cut(similarities: list[float], look_ahead: int) -> None:
    scores = DepthScores(look_ahead)
    seen = [depth for value in similarities for depth in scores.push(value)] + scores.flush()
    for i, depth in enumerate(seen):
        right = climb(similarities[: i + look_ahead + 1], i, +1)
        assert depth == pytest.approx(climb(similarities, i, -1) + right - 2 * similarities[i], abs=1e-12)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 1.5))
def test_published_stream_equals_offline(seed: int, threshold: float) -> None:
    for similarities in sequences(seed):
        features = features_with(similarities)
        depths = depth_scores(cosine_similarities(features))
        tilling = vsdk.SceneTilling(SceneTillingSettings.published(look_ahead=len(depths), threshold=threshold))
        found = [b for f in features for b in tilling.push(f)] + tilling.flush()
        assert [b.frame for b in found] == np.flatnonzero(depths > threshold).tolist()
        assert [b.depth for b in found] == depths[depths > threshold].tolist()


def scenes(lengths: list[int], seed: int = 0, noise: float = 0.02, width: int = 192) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(len(lengths), width))
    rows = [centre + noise * rng.normal(size=(n, width)) for centre, n in zip(centres, lengths, strict=True)]
    return np.concatenate(rows).astype(np.float32)


def detect(features: np.ndarray, tilling: vsdk.SceneTilling | None = None) -> list[int]:
    tilling = tilling or vsdk.SceneTilling()
    return [b.frame for f in features for b in tilling.push(f)] + [b.frame for b in tilling.flush()]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(10, 90), min_size=1, max_size=8), st.integers(0, 1000))
def test_default_finds_every_cut_and_nothing_else(lengths: list[int], seed: int) -> None:
    assert detect(scenes(lengths, seed)) == [int(end) - 1 for end in np.cumsum(lengths)[:-1]]


def test_boundaries_come_within_the_look_ahead_and_in_order() -> None:
    features = scenes([40, 10, 60, 35, 80])
    tilling = vsdk.SceneTilling()
    delays = []
    for number, feature in enumerate(features):
        delays += [number - boundary.frame for boundary in tilling.push(feature)]
    assert len(delays) >= 3
    assert max(delays) <= tilling.look_ahead + 1


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_flash_is_not_a_scene(length: int) -> None:
    features = scenes([60, 60])
    features[25 : 25 + length] = np.random.default_rng(9).normal(size=192)
    assert detect(features) == [59]


def test_something_that_passes_by_is_not_a_scene() -> None:
    features = scenes([80, 80])
    passing = np.random.default_rng(5).normal(size=192)
    weight = np.concatenate([np.linspace(0, 1, 6), np.linspace(1, 0, 6)])[:, None]
    features[30:42] = features[30:42] * (1 - weight) + passing * weight
    assert detect(features) == [79]


def test_a_dissolve_is_found_inside_itself() -> None:
    for length in (12, 25, 50):
        first, second = scenes([60], seed=1), scenes([60], seed=2)
        weight = np.linspace(0, 1, length)[:, None]
        mixture = first[-1] * (1 - weight) + second[0] * weight
        found = detect(np.concatenate([first, mixture, second]).astype(np.float32))
        assert len(found) == 1
        assert 58 <= found[0] <= 60 + length


def test_reset_starts_anew() -> None:
    features = scenes([30, 30])
    tilling = vsdk.SceneTilling()
    detect(features[:35], tilling)
    assert detect(features, tilling) == [29]


def test_speed_and_memory_of_a_long_stream() -> None:
    """100,000 frames/s on 192-d features, best of several runs, in processor time of this thread."""
    features = scenes([50, 80, 120, 30] * 40)
    tilling = vsdk.SceneTilling()
    best = 0.0
    deadline = time.monotonic() + 60  # other processes on the same core halve the rate: wait for a quiet moment
    while best < 100_000 and time.monotonic() < deadline:
        for start in range(0, len(features), 280):
            started = time.thread_time()
            for feature in features[start : start + 280]:
                tilling.push(feature)
            best = max(best, 280 / (time.thread_time() - started))
    assert best >= 100_000
    tracemalloc.start()
    for feature in features[:2000]:
        tilling.push(feature)
    before = tracemalloc.get_traced_memory()[0]
    for feature in features[2000:10_000]:
        tilling.push(feature)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 20_000
