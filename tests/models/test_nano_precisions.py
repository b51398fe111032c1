"""The shipped bundle at its lower precisions, on real frames: near to fp32, and cutting where fp32 cuts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import vsdk
from vsdk.encoder import Encoder
from vsdk.settings import scene_settings
from vsdk_models.nano.scene_splits import REAL_CUTS, real_clip
from vsdk_runtimes import Precision

LOWER: tuple[Precision, ...] = ("fp16", "int8")


@pytest.fixture(scope="module")
def tokens() -> dict[str, dict[Precision, np.ndarray]]:
    """Class tokens of every frame of each real clip, `[frames, width]`, by clip and precision."""
    found: dict[str, dict[Precision, np.ndarray]] = {}
    encoders = {precision: Encoder(vsdk.load(), precision=precision, threads=1) for precision in ("fp32", *LOWER)}
    for name in REAL_CUTS:
        rows: dict[Precision, list[np.ndarray]] = {precision: [] for precision in encoders}
        for batch in _batches(real_clip(name).open(), 8):
            pictures = [encoders["fp32"].preprocessor.resize(frame) for frame in batch]
            for precision, encoder in encoders.items():
                rows[precision].append(encoder.encode(pictures).cls)
        found[name] = {precision: np.concatenate(arrays) for precision, arrays in rows.items()}
    for encoder in encoders.values():
        encoder.close()
    return found


def _batches(frames: Iterator[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    batch: list[np.ndarray] = []
    for frame in frames:
        batch.append(frame)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def cuts(features: np.ndarray) -> list[int]:
    tilling = vsdk.SceneTilling(scene_settings(vsdk.load()))
    ends = [boundary for feature in features for boundary in tilling.push(feature)] + tilling.flush()
    return [boundary.frame + 1 for boundary in ends if boundary.frame + 1 < len(features)]


@pytest.mark.parametrize("precision", LOWER)
def test_class_tokens_of_real_frames(precision: Precision, tokens: dict[str, dict[Precision, np.ndarray]]) -> None:
    for name, by_precision in tokens.items():
        one, other = by_precision["fp32"], by_precision[precision]
        lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        cosines = (one * other).sum(axis=1) / lengths
        assert cosines.min() >= 0.99, f"{name} at {precision}: frame {int(cosines.argmin())}"
        assert not np.array_equal(one, other)


@pytest.mark.parametrize("precision", LOWER)
def test_scene_boundaries_are_those_of_fp32(
    precision: Precision, tokens: dict[str, dict[Precision, np.ndarray]]
) -> None:
    for name, by_precision in tokens.items():
        assert cuts(by_precision[precision]) == cuts(by_precision["fp32"]), name
        assert cuts(by_precision[precision]) == list(REAL_CUTS[name]), name
