"""The gate sees what matters and ignores what does not."""

import numpy as np
import pytest

import vsdk
from vsdk.gate import block_means


def scene(seed: int = 0, size: int = 128) -> np.ndarray:
    """A soft random picture, uint8."""
    coarse = np.random.default_rng(seed).integers(30, 220, (8, 8, 3)).astype(np.float32)
    return coarse.repeat(size // 8, 0).repeat(size // 8, 1)


def noisy(picture: np.ndarray, sigma: float, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, sigma, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def opened(pictures: list[np.ndarray], **settings: float) -> list[int]:
    gate = vsdk.Gate(vsdk.GateSettings(**settings))  # type: ignore[arg-type]
    return [i for i, picture in enumerate(pictures) if gate.opens(block_means(picture), i * 40_000_000)]


def test_sensor_noise_does_not_open_it() -> None:
    assert opened([noisy(scene(), 8, i) for i in range(40)]) == [0]


def test_a_cut_opens_it_at_once() -> None:
    assert opened([noisy(scene(int(i >= 20)), 5, i) for i in range(40)]) == [0, 20]


def test_a_small_object_opens_it() -> None:
    pictures = []
    for i in range(60):
        picture = scene()
        picture[40:52, 8 + i : 20 + i] = (250, 20, 20)
        pictures.append(noisy(picture, 5, i))
    assert 3 <= len(opened(pictures, interval=1000.0)) < 30


@pytest.mark.parametrize("frames", [25, 100, 400])
def test_a_slow_dissolve_opens_it_however_slow(frames: int) -> None:
    first, second = scene(0), scene(1)
    pictures = [noisy(first * (1 - i / frames) + second * (i / frames), 3, i) for i in range(frames + 1)]
    assert len(opened(pictures, interval=1000.0)) > 8


def test_it_opens_every_few_seconds_in_any_case() -> None:
    assert opened([noisy(scene(), 2, 0)] * 200) == [0, 50, 100, 150]


def test_disabled_it_is_always_open() -> None:
    assert opened([noisy(scene(), 2, 0)] * 5, enabled=False) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("level", [0, 16, 128, 255])
def test_flat_pictures_are_recognised_through_noise(level: int) -> None:
    gate = vsdk.Gate()
    assert gate.is_flat(block_means(noisy(np.full((128, 128, 3), level, np.float32), 8, 1)))
    assert not gate.is_flat(block_means(noisy(scene(), 8, 1)))
