"""Training the nano bridge: the fast recurrence is the model's own, batches are what they say, a run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

from vsdk.bench.controls import running_means
from vsdk.memory.cache import MemoryCache
from vsdk.memory.entry import MemoryEntry
from vsdk_models.nano.bridge import CONFIG, CONTENDERS, NONE, WINDOW, RecurrentReader, WindowReader, contenders
from vsdk_models.nano.bridge_training import read_last_frames, read_means, read_videos
from vsdk_models.nano.class_token_control import Tokens, draw_lists
from vsdk_models.nano.encoder import WIDTH
from vsdk_models.nano.haystacks import PATCHES, VIEWS, Pool
from vsdk_models.nano.sequences import Videos, draw_videos
from vsdk_models.nano.train_bridge import PEAK, learning_rate, train


@pytest.fixture(scope="module")
def pool() -> Pool:
    """Features as noise: enough to compare two ways of computing the same."""
    rng = np.random.default_rng(0)

    def noise(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float16]]:
        return rng.standard_normal((*shape, PATCHES, WIDTH)).astype(np.float16)

    labels = rng.integers(NONE, size=(12, VIEWS)), rng.integers(NONE, size=16)
    return Pool(noise(12, VIEWS), noise(12, VIEWS), noise(16), *labels)


@pytest.fixture(scope="module")
def models() -> torch.nn.ModuleDict:
    torch.manual_seed(0)
    return contenders()


def frames_of(videos: Videos, video: int) -> list[list[torch.Tensor]]:
    """The frames of a video, segment by segment, with the needle in its place."""
    haystack = video // videos.each
    segments = []
    for number, count in enumerate(videos.counts[haystack].tolist()):
        segment = list(videos.frames[haystack, number, :count])
        if int(videos.segment[video]) == number:
            segment[int(videos.slot[video])] = videos.needles[video]
        segments.append(segment)
    return segments


@torch.inference_mode()
def stepped(reader: RecurrentReader, segments: list[list[torch.Tensor]], restarts: set[int]) -> torch.Tensor:
    """`what` after each segment from the static step that is exported, `[segments, classes + 1]`."""
    step, cache = reader.step, MemoryCache(CONFIG.slots)
    state = {name: torch.from_numpy(array) for name, array in step.initial_state().items()}
    answers = []
    for number, segment in enumerate(segments):
        patches = torch.full((1, VIEWS, PATCHES, WIDTH), 7.0)
        patches[0, : len(segment)] = torch.stack(segment)
        given = {
            "patches": patches,
            "frames": (torch.arange(VIEWS) < len(segment)).float()[None],
            "restart": torch.tensor([float(number in restarts)]),
        }
        if step.retrieval is not None:
            write = cache.plan(np.ones(1, np.int64))
            given |= {name: torch.from_numpy(getattr(write, name)) for name in ("mix", "write", "valid")}
        results = dict(zip(step.output_names, step(*(given | state).values()), strict=True))
        if step.retrieval is not None:
            tokens = results["bridged"][0].numpy()
            cache.commit(write, MemoryEntry(write.slot, number, number, 0, np.ones(1, np.int64), tokens))
        state = {name: results[output] for output, name in step.state.items()}
        answers.append(reader.readout(state["memory_in"])[0][0])
    return torch.stack(answers)


@pytest.mark.parametrize(("name", "restarts"), [("memory", {0, 3}), ("no_retrieval", {0})])
def test_the_recurrence_of_training_is_the_one_that_is_exported(
    pool: Pool, models: torch.nn.ModuleDict, name: str, restarts: set[int]
) -> None:
    videos = draw_videos(pool, np.random.default_rng(3), 2, 3, 5)
    reader = cast(RecurrentReader, models[name])
    with torch.inference_mode():
        what, _ = read_videos(reader, videos, restarts)
    for video in range(len(videos.label)):
        expected = stepped(reader, frames_of(videos, video), restarts)
        torch.testing.assert_close(what[video], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("end", [0, 2, 4])
def test_controls_are_trained_on_what_they_will_see(pool: Pool, models: torch.nn.ModuleDict, end: int) -> None:
    videos = draw_videos(pool, np.random.default_rng(4), 2, 3, 5)
    last_n, mean = (cast(WindowReader, models[name]) for name in ("last_n", "mean"))
    with torch.inference_mode():
        from_last, from_means = read_last_frames(last_n, videos, end), read_means(mean, videos, end)
        for video in range(len(videos.label)):
            seen = torch.stack([frame for segment in frames_of(videos, video)[: end + 1] for frame in segment])
            window = seen[-WINDOW:]
            expected = last_n(window[None], torch.ones(1, len(window)))[0]
            torch.testing.assert_close(from_last[video], expected, rtol=1e-4, atol=1e-5)
            means, there = running_means(seen.numpy(), WINDOW)
            expected = mean(torch.from_numpy(means), torch.from_numpy(there))[0]
            torch.testing.assert_close(from_means[video], expected, rtol=1e-4, atol=1e-5)


def test_a_needle_is_asked_for_from_its_segment_on(pool: Pool) -> None:
    videos = draw_videos(pool, np.random.default_rng(5), 8, 8, 6)
    what, here = videos.seen()
    with_needle = videos.label != NONE
    assert 0.7 < with_needle.float().mean() < 0.97
    assert torch.equal(here.sum(1) == 1, with_needle)
    for video in range(len(videos.label)):
        segment = int(videos.segment[video])
        assert set(what[video, :segment].tolist()) <= {NONE}
        assert set(what[video, segment:].tolist()) <= {int(videos.label[video])}
        if with_needle[video]:
            assert videos.slot[video] < videos.counts[video // videos.each, segment]


def test_a_run_that_was_stopped_goes_on(pool: Pool, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    train(tmp_path, pool, pool, steps=2, seed=1, bfloat16=False)
    before = torch.load(tmp_path / "state.pt", weights_only=True)
    models = train(tmp_path, pool, pool, steps=3, seed=1, bfloat16=False)
    after = torch.load(tmp_path / "state.pt", weights_only=True)
    assert (before["step"], after["step"]) == (2, 3)
    assert after["spent"] > before["spent"]
    assert set(models) == set(CONTENDERS)
    changed = "memory.readout.here.weight"
    assert not torch.equal(after["models"][changed], before["models"][changed])


def test_the_learning_rate_warms_up_and_falls() -> None:
    rates = [learning_rate(step, 1000) for step in range(1000)]
    assert rates[0] < rates[30] < rates[60] == pytest.approx(PEAK, rel=0.02)
    assert rates[60:] == sorted(rates[60:], reverse=True)
    assert rates[-1] == pytest.approx(PEAK / 100, rel=0.05)


def test_lists_of_class_tokens_hold_one_needle_or_none() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((12, VIEWS, WIDTH)).astype(np.float32)
    labels = rng.integers(NONE, size=(12, VIEWS)), rng.integers(NONE, size=6)
    pool = Tokens(noise, noise + 100, rng.standard_normal((6, WIDTH)).astype(np.float32) + 200, *labels)
    lists, wanted = draw_lists(pool, rng, 40, 9)
    assert lists.shape == (40, 9, WIDTH)
    shown = (lists.mean(2) > 50).sum(1)
    assert torch.equal(shown, (wanted != NONE).long())
    assert not (pool.scenes > 50).any()
