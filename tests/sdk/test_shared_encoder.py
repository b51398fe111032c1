"""The encoder that several threads share: who waits goes together, in order, and nobody pays for another's mistake."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from live_tools import PATIENCE, wait_until

import vsdk
from vsdk.encoder import Features
from vsdk.errors import InputError
from vsdk.frame import Image
from vsdk.shared_encoder import SharedEncoder


class Slowed(SharedEncoder):
    """Runs only when told to, and notes how many pictures each run has."""

    def __init__(self, batch: int) -> None:
        super().__init__(vsdk.load(), batch=batch, threads=1)
        self.runs: list[int] = []
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self._really_run = self.session.run
        self.session.run = self._run_when_told  # type: ignore[method-assign, assignment]

    def _run_when_told(self, inputs: Any, **options: Any) -> Any:
        self.runs.append(len(inputs["pixels"]))
        self.begun.release()
        assert self.go.acquire(timeout=PATIENCE)
        return self._really_run(inputs, **options)

    def ask(self, threads: ThreadPoolExecutor, pictures: list[Image]) -> Future[Features]:
        """Encode in another thread; returns when that thread waits, or runs."""
        before = len(self._waiting) + len(self.runs)
        future = threads.submit(self.encode, pictures)
        wait_until(lambda: len(self._waiting) + len(self.runs) > before)
        return future


@pytest.fixture(scope="module")
def pictures() -> list[Image]:
    """Twelve pictures of the encoder's size."""
    encoder = vsdk.Encoder(vsdk.load(), threads=1)
    random = np.random.default_rng(3)
    made = [encoder.preprocessor.resize(random.integers(0, 256, (90, 120, 3), dtype=np.uint8)) for _ in range(12)]
    encoder.close()
    return made


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(12) as pool:
        yield pool


def test_what_waits_goes_together_and_everybody_gets_his_own(
    pictures: list[Image], threads: ThreadPoolExecutor
) -> None:
    encoder = Slowed(batch=8)
    first = encoder.ask(threads, pictures[:1])
    assert encoder.begun.acquire(timeout=PATIENCE)
    others = [
        encoder.ask(threads, pictures[1:2]),
        encoder.ask(threads, pictures[2:5]),
        encoder.ask(threads, pictures[5:6]),
    ]
    encoder.go.release(2)
    results = [future.result(PATIENCE) for future in (first, *others)]
    assert encoder.runs == [1, 5]
    plain = vsdk.Encoder(vsdk.load(), threads=1)
    expected = plain.encode(pictures[:6])
    np.testing.assert_allclose(np.concatenate([result.cls for result in results]), expected.cls, atol=1e-4)
    assert [len(result.cls) for result in results] == [1, 1, 3, 1]
    plain.close()
    encoder.close()


def test_no_run_has_more_pictures_than_asked_for(pictures: list[Image], threads: ThreadPoolExecutor) -> None:
    encoder = Slowed(batch=4)
    first = encoder.ask(threads, pictures[:1])
    assert encoder.begun.acquire(timeout=PATIENCE)
    # 3 + 1 fit together; the 4 that came in between have a run of their own.
    others = [encoder.ask(threads, pictures[:count]) for count in (3, 4, 1)]
    encoder.go.release(3)
    assert [len(future.result(PATIENCE).cls) for future in (first, *others)] == [1, 3, 4, 1]
    assert encoder.runs == [1, 4, 4]
    encoder.close()


def test_one_that_always_asks_does_not_keep_another_waiting(pictures: list[Image], threads: ThreadPoolExecutor) -> None:
    encoder = Slowed(batch=4)
    done = threading.Event()

    def greedy() -> None:
        while not done.is_set():
            encoder.encode(pictures[:4])

    greed = [threads.submit(greedy) for _ in range(2)]
    assert encoder.begun.acquire(timeout=PATIENCE)
    wait_until(lambda: len(encoder._waiting) == 1)
    modest = encoder.ask(threads, pictures[:1])
    # Three runs, and no more until it has its result: the one that goes on, the one that waited before, and its own.
    encoder.go.release(3)
    assert len(modest.result(PATIENCE).cls) == 1
    done.set()
    encoder.go.release(10)
    for future in greed:
        future.result(PATIENCE)
    encoder.close()


def test_pictures_that_cannot_be_encoded_fail_alone(pictures: list[Image], threads: ThreadPoolExecutor) -> None:
    encoder = Slowed(batch=8)
    first = encoder.ask(threads, pictures[:1])
    assert encoder.begun.acquire(timeout=PATIENCE)
    no_picture: Any = pictures[2].astype(np.float32)
    asked = (pictures[:2], [no_picture], [pictures[3][:-8]], pictures[4:5])
    good, bad, odd, also_good = (encoder.ask(threads, each) for each in asked)
    encoder.go.release(10)
    for future in (bad, odd):
        with pytest.raises(InputError):
            future.result(PATIENCE)
    assert [len(future.result(PATIENCE).cls) for future in (first, good, also_good)] == [1, 2, 1]
    encoder.close()


def test_an_interrupted_run_does_not_leave_the_others_waiting(
    pictures: list[Image], threads: ThreadPoolExecutor
) -> None:
    encoder = Slowed(batch=8)
    really, interrupted = encoder._really_run, threading.Event()

    def interrupt(inputs: Any, **options: Any) -> Any:
        if len(inputs["pixels"]) == 3 and not interrupted.is_set():
            interrupted.set()
            raise KeyboardInterrupt
        return really(inputs, **options)

    encoder._really_run = interrupt  # type: ignore[assignment]
    first = encoder.ask(threads, pictures[:1])
    assert encoder.begun.acquire(timeout=PATIENCE)
    others = [encoder.ask(threads, pictures[:1]) for _ in range(3)]
    encoder.go.release(10)
    assert len(first.result(PATIENCE).cls) == 1
    ended = sorted(type(future.exception(PATIENCE)).__name__ for future in others)
    assert ended == ["KeyboardInterrupt", "NoneType", "NoneType"]
    encoder.close()


def test_a_batch_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="batch"):
        SharedEncoder(vsdk.load(), batch=0)
