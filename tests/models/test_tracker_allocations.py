"""A real SAM-2, reduced in width, over thousands of frames: each step asks for what the others asked for."""

from __future__ import annotations

import gc
import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_process import in_own_process
from sam2_reference import video_model
from sam2_streaming import bikes

import vsdk
from vsdk.bench.track import resident_mb
from vsdk_export.tracker import export_tracker
from vsdk_models.sam2.model import sam2_networks
from vsdk_runtimes.manifest import Origin

FRAMES, CYCLE, REPEATS, SIDE = 2000, 12, 5, 64
CLICKS = ((150, 120), (60, 60), (250, 200))


@dataclass(frozen=True)
class Mark:
    """What a cycle of steps was like: calls of the networks, bytes held at most, and what is there after it."""

    calls: list[Any]
    allocated: list[int]
    bank: int
    resident: float | None


def measured(bundle: Path) -> tuple[list[Mark], int, int]:
    """Marks early, half-way and at the end; on how many frames an object was there, and how many frames there were."""
    pictures = bikes(CYCLE)
    marks, frames, present = [], 0, 0
    with vsdk.Tracker(bundle, threads=1) as tracker:
        for number, click in enumerate(CLICKS):
            tracker.prompt(pictures[0], number + 1, points=[click])
        for start in (2 * CYCLE, FRAMES // 2, FRAMES):
            while frames < start or frames % CYCLE:
                present += any(item.present for item in tracker.track(pictures[frames % CYCLE]))
                frames += 1
            calls, allocated = calls_of_steps(tracker, pictures), allocations_of_steps(tracker, pictures)
            frames += CYCLE * (2 + REPEATS)
            marks.append(Mark(calls, allocated, tracker._bank.nbytes, resident_mb()))
    return marks, present, frames


@pytest.mark.slow
def test_a_step_is_the_same_after_two_thousand_frames(tmp_path: Path) -> None:
    """Three objects: calls of the networks, shapes and allocations are those of the beginning, and nothing is kept."""
    networks = sam2_networks(video_model(0, SIDE))
    export_tracker(networks, origin=Origin(checkpoint="random weights"), out=tmp_path / "bundle")
    (early, middle, late), present, frames = in_own_process(measured, tmp_path / "bundle")
    assert frames >= FRAMES
    assert present >= FRAMES // 2  # an object that is absent leaves nothing to be resized
    assert len(early.calls) == CYCLE
    assert all([call[0] for call in calls] == ["encoder", "attention", "decoder", "memory"] for calls in early.calls)
    assert early.calls == middle.calls == late.calls
    assert min(early.allocated) > 10_000
    # Python itself may find a few small objects of its own in its free lists, or not.
    assert np.ptp([early.allocated, middle.allocated, late.allocated], axis=0).max() < 1000
    assert early.bank == middle.bank == late.bank
    if early.resident is not None and late.resident is not None:
        assert late.resident - early.resident < 2, (early.resident, late.resident)


def calls_of_steps(tracker: vsdk.Tracker, pictures: list[Any]) -> list[Any]:
    """What the networks are asked in one cycle: for each step, every call with its inputs and results."""
    calls: list[Any] = []
    sessions = dict(zip(("encoder", "attention", "decoder", "memory"), tracker.networks.sessions, strict=True))

    def watched(name: str, run: Any) -> Any:
        def call(inputs: Any, *arguments: Any, **options: Any) -> Any:
            results = run(inputs, *arguments, **options)
            tensors = [*inputs.items(), *results.items()]
            calls[-1].append((name, [(tensor, array.shape, str(array.dtype)) for tensor, array in tensors]))
            return results

        return call

    for name, session in sessions.items():
        session.run = watched(name, session.run)  # type: ignore[method-assign]
    for picture in pictures:
        calls.append([])
        tracker.track(picture)
    for session in sessions.values():
        del session.run
    return calls


def allocations_of_steps(tracker: vsdk.Tracker, pictures: list[Any]) -> list[int]:
    """The most bytes that each step of a cycle holds at a time, beyond what there was before it.

    Of several cycles the least counts: what else Python has to allocate once in a while can only add to a step.
    """
    gc.collect()
    gc.disable()
    tracemalloc.start()
    for picture in pictures:  # so that what the next cycles free was traced, too
        tracker.track(picture)
    cycles: list[list[int]] = []
    for _ in range(REPEATS):
        cycles.append([])
        for picture in pictures:
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            tracker.track(picture)
            cycles[-1].append(tracemalloc.get_traced_memory()[1] - before)
    tracemalloc.stop()
    gc.enable()
    return [min(held) for held in zip(*cycles, strict=True)]
