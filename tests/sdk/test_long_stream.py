"""A hundred thousand frames: nothing grows, and frame 100,000 costs what frame 10,000 cost."""

import gc
import tracemalloc
from collections.abc import Iterator

import numpy as np
import psutil
import pytest
from own_process import in_own_process

import vsdk
from vsdk_models.nano.textures import backdrop

FRAMES = 100_000
SCENE = 400


def places() -> list[np.ndarray]:
    return [(backdrop(np.random.default_rng(seed), 64) * 255).astype(np.uint8) for seed in range(50, 58)]


def measured() -> tuple[int, int, list[int], list[int], list[int]]:
    """Scenes, encoded frames, sizes of the encoder's calls; resident and traced memory now and then."""
    pictures = places()

    def film() -> Iterator[np.ndarray]:
        for number in range(FRAMES):
            yield pictures[number // SCENE % len(pictures)]

    process = psutil.Process()
    resident: list[int] = []
    traced: list[int] = []
    scenes = encoded = 0
    calls: list[int] = []
    tracemalloc.start()
    with vsdk.Stream(None, film(), batch=1, threads=1) as stream:
        encode = stream.pipeline.encoder.encode

        def counted(batch: list[np.ndarray]) -> vsdk.Features:
            calls.append(len(batch))
            return encode(batch)

        stream.pipeline.encoder.encode = counted  # type: ignore[assignment,method-assign]
        for event in stream:
            if isinstance(event, vsdk.Scene):
                scenes += 1
                if scenes in (25, 125, 245):
                    gc.collect()
                    resident.append(process.memory_info().rss)
                if scenes in (40, 60):  # the 32 slots of the memory are full
                    gc.collect()
                    traced.append(tracemalloc.get_traced_memory()[0])
                if scenes == 60:
                    tracemalloc.stop()
            if isinstance(event, vsdk.End):
                encoded = event.encoded
    return scenes, encoded, calls, resident, traced


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_grows_over_100_000_frames() -> None:
    """Still scenes with a cut every 400 frames: the gate keeps the encoder idle, everything else runs at full speed."""
    scenes, encoded, calls, resident, traced = in_own_process(measured)
    assert scenes == FRAMES // SCENE
    # 400 frames last 16 s: one call at the cut and one every two seconds, in every scene alike.
    assert set(calls) == {1}
    assert encoded == len(calls) == scenes * 8
    assert resident[2] - resident[1] < 3_000_000, resident
    assert abs(traced[1] - traced[0]) < 200_000, traced
