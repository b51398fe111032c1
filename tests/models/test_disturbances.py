"""Disturbances do to the picture what they say, at the strength they say, and move the truth along."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest

from vsdk_models.nano.clips import Clip, Frame, Join, Script, render
from vsdk_models.nano.detection_scores import score
from vsdk_models.nano.disturbances import (
    BlackLeader,
    Compression,
    Crossings,
    Disturbance,
    ExposureRamps,
    ExposureSteps,
    Flashes,
    Flicker,
    Occluder,
    SensorNoise,
    Together,
)
from vsdk_models.nano.scene_splits import DISTURBED, disturbance
from vsdk_models.nano.shot import Look, Shot

SIZE = (160, 90)
MIDDLE = Look((0.45, 0.45, 0.45), (0.1, 0.1, 0.1))
ALL = [
    Flashes(3, every=0.5),
    Flicker(3),
    Flicker(3, hertz=0.0),
    ExposureRamps(3),
    ExposureSteps(3),
    SensorNoise(3),
    Compression(40),
    BlackLeader(3, frames=7),
    Crossings(3, every=0.3),
    Together((Crossings(3, every=0.3), Flashes(4), BlackLeader(3, frames=7))),
]


def name(case: Disturbance) -> str:
    return type(case).__name__


@cache
def drawn() -> tuple[Script, tuple[Frame, ...]]:
    shots = tuple(Shot(seed, 40, ("clouds", "cells"), look=MIDDLE) for seed in (1, 2, 3))
    script = Script(shots, (Join(), Join("dissolve", 20)), SIZE)
    return script, tuple(render(script))


def scenes() -> Clip:
    """A cut at 40 and a dissolve over 80..99; 140 frames. All tests share the arrays: nobody may write into them."""
    script, frames = drawn()
    return replace(Clip.of(script, "scenes"), open=lambda: iter(frames))


def plain(frames: int, level: int = 128, size: tuple[int, int] = (64, 36)) -> Clip:
    picture = np.full((size[1], size[0], 3), level, np.uint8)
    return Clip("plain", size, frames, lambda: iter([picture.copy() for _ in range(frames)]), ())


def ramp(frames: int) -> Clip:
    """Every frame holds every brightness, from left to right."""
    picture = np.repeat(np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 32, 0), 3, 2)
    return Clip("ramp", (256, 32), frames, lambda: iter([picture] * frames), ())


def frames_of(clip: Clip) -> list[Frame]:
    return list(clip.open())


def brightness(frames: list[Frame]) -> npt.NDArray[np.float64]:
    return np.array([frame.mean() for frame in frames], dtype=np.float64)


@pytest.fixture(scope="module")
def clean() -> list[Frame]:
    return frames_of(scenes())


@pytest.mark.parametrize("disturb", ALL, ids=name)
def test_opened_twice_it_shows_the_same_and_the_stated_number_of_frames(disturb: Disturbance) -> None:
    clip = disturb(scenes())
    first, again = frames_of(clip), frames_of(clip)
    assert len(first) == clip.frames
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert all(frame.shape == (90, 160, 3) and frame.dtype == np.uint8 for frame in first)


@pytest.mark.parametrize("disturb", ALL, ids=name)
def test_something_is_disturbed_and_another_seed_disturbs_otherwise(disturb: Disturbance, clean: list[Frame]) -> None:
    changed = frames_of(disturb(scenes()))[: len(clean)]
    assert any(not np.array_equal(a, b) for a, b in zip(changed, clean, strict=True))
    if isinstance(disturb, Together | Compression | BlackLeader):
        return
    other = frames_of(replace(disturb, seed=99)(scenes()))  # type: ignore[type-var]
    assert any(not np.array_equal(a, b) for a, b in zip(changed, other, strict=True))


@pytest.mark.parametrize("disturb", ALL, ids=name)
def test_truth_stays_with_the_pictures(disturb: Disturbance) -> None:
    clip, original = disturb(scenes()), scenes()
    shift = clip.frames - original.frames
    assert [change.first - shift for change in clip.transitions] == [40, 80]
    assert [change.last - shift for change in clip.transitions] == [40, 99]
    assert [change.kind for change in clip.transitions] == ["cut", "dissolve"]


def test_leader_is_dark_and_its_end_is_neither_right_nor_wrong(clean: list[Frame]) -> None:
    clip = BlackLeader(5, frames=30, sigma=3.0)(scenes())
    frames = frames_of(clip)
    assert brightness(frames[:30]).max() < 6
    assert all(np.array_equal(a, b) for a, b in zip(frames[30:], clean, strict=True))
    for position in (28, 30, 32):
        assert score([position, 70, 115], clip.transitions, ignored=clip.ignored).f1 == 1
    for position in (27, 33):
        assert score([position, 70, 115], clip.transitions, ignored=clip.ignored).false == 1


def test_leader_before_a_leader_moves_what_is_ignored() -> None:
    clip = BlackLeader(1, frames=10)(BlackLeader(2, frames=20)(scenes()))
    assert set(clip.ignored) == {(28, 32), (8, 12)}


def test_flashes_brighten_one_or_two_frames_at_a_time() -> None:
    clip = plain(400, 80)
    light = brightness(frames_of(Flashes(7, every=0.6, local=0.0)(clip)))
    lit = light > 80
    assert 5 < lit.sum() < 80
    assert light[lit].min() > 100
    assert (light[~lit] == 80).all()
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[0], lit.astype(int), [0]]))))[::2]
    assert set(runs) == {1, 2}


def test_local_flash_lights_one_side_only() -> None:
    frames = frames_of(Flashes(7, every=0.6, local=1.0)(plain(200, 80)))
    lit = [frame for frame in frames if frame.mean() > 81]
    assert lit
    for frame in lit:
        assert (frame == 80).all(-1).mean() > 0.1
        assert (frame > 120).all(-1).mean() > 0.1


@pytest.mark.parametrize("hertz", [5.0, 8.0, 11.0])
def test_flicker_has_its_frequency_and_depth(hertz: float) -> None:
    light = brightness(frames_of(Flicker(1, depth=0.3, hertz=hertz)(plain(250, 100))))
    spectrum = np.abs(np.fft.rfft(light - light.mean()))
    assert np.argmax(spectrum) * 25 / 250 == pytest.approx(hertz)
    assert (light.max() - light.min()) / 2 / 100 == pytest.approx(0.3, abs=0.04)


def test_irregular_flicker_has_no_frequency() -> None:
    light = brightness(frames_of(Flicker(1, depth=0.3, hertz=0.0)(plain(500, 100))))
    assert 70 <= light.min() < 75
    assert 125 < light.max() <= 130
    assert abs(np.corrcoef(light[1:], light[:-1])[0, 1]) < 0.15


@pytest.mark.parametrize("disturb", [ExposureRamps(4), ExposureSteps(4)], ids=name)
def test_exposure_changes_tones_and_nothing_else(disturb: Disturbance) -> None:
    for frame in frames_of(disturb(ramp(200))):
        assert (frame == frame[0]).all()
        assert (np.diff(frame[0, :, 0].astype(int)) >= 0).all()


def test_exposure_ramps_are_slow_and_far() -> None:
    light = brightness(frames_of(ExposureRamps(4)(plain(500, 90))))
    assert light.max() / light.min() > 2
    steps = np.abs(np.diff(np.log(light)))
    assert steps.max() < 0.12
    assert steps.max() > 0.01


def test_exposure_steps_jump_and_settle() -> None:
    light = brightness(frames_of(ExposureSteps(4)(plain(500, 90))))
    jumps = np.flatnonzero(np.abs(np.diff(np.log(light))) > 0.2)
    assert len(jumps) >= 3
    assert np.median(light) == pytest.approx(90, rel=0.1)


@pytest.mark.parametrize("sigma", [8.0, 20.0, 30.0])
def test_noise_has_its_strength_and_is_new_in_each_pixel_and_frame(sigma: float) -> None:
    one, two = frames_of(SensorNoise(1, sigma=sigma, shot=0.0)(plain(2, 128, (200, 200))))
    assert (one.astype(float) - 128).std() == pytest.approx(sigma, rel=0.05)
    assert one.mean() == pytest.approx(128, abs=0.5)
    for a, b in ((one, two), (one[:, 1:], one[:, :-1]), (one[1:], one[:-1]), (one[..., 0], one[..., 1])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.02


def test_shot_noise_grows_with_light() -> None:
    noisy = SensorNoise(1, sigma=2.0, shot=20.0)
    dark, light = (next(noisy(plain(1, level)).open()).astype(float).std() for level in (20, 150))
    assert light > 2 * dark


def test_compression_smears_more_at_a_higher_rate_factor(clean: list[Frame]) -> None:
    def error(crf: int) -> float:
        coded = frames_of(Compression(crf)(scenes()))
        return float(np.mean([np.abs(a.astype(float) - b).mean() for a, b in zip(coded, clean, strict=True)]))

    mild, strong = error(20), error(42)
    assert 0.2 < mild < strong
    assert strong > 3


def test_compression_keeps_odd_sizes() -> None:
    clip = Compression(38)(plain(5, 100, (33, 21)))
    assert [frame.shape for frame in clip.open()] == [(21, 33, 3)] * 5


def test_crossings_hide_much_of_the_picture_but_no_transition(clean: list[Frame]) -> None:
    clip = Crossings(8, every=0.3)(scenes())
    changed = [(a != b).any(-1).mean() for a, b in zip(frames_of(clip), clean, strict=True)]
    assert max(changed) > 0.4
    touched = {n for n, part in enumerate(changed) if part > 0}
    assert len(touched) > 20
    assert not touched & {38, 39, 40, 41, *range(78, 102)}
    runs = np.split(sorted(touched), np.flatnonzero(np.diff(sorted(touched)) > 1) + 1)
    assert all(len(run) <= 30 for run in runs)


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 8, 12])
@pytest.mark.parametrize("cover", [0.4, 0.7, 1.0])
def test_occluder_covers_what_it_should_at_its_most_and_nothing_at_its_ends(seed: int, cover: float) -> None:
    occluder = Occluder(seed, cover, frames=24)
    body, mask = occluder.draw(SIZE)
    empty = np.zeros((90, 160, 3), np.uint8)
    white = (body.copy(), mask)
    white[0].paste((255, 255, 255), (0, 0, *body.size))
    hidden = [float(occluder.paste(empty, white, step).mean() / 255) for step in range(24)]
    assert max(hidden) == pytest.approx(cover, abs=0.2)
    assert hidden[0] < 0.25
    assert hidden[-1] < 0.25
    assert np.argmax(hidden) in range(6, 18)


def test_what_is_put_together_happens_in_order(clean: list[Frame]) -> None:
    both = frames_of(Together((Flicker(2), BlackLeader(3, frames=5)))(scenes()))
    assert brightness(both[:5]).max() < 6
    assert all(np.array_equal(a, b) for a, b in zip(both[5:], frames_of(Flicker(2)(scenes())), strict=True))


@pytest.mark.parametrize("condition", DISTURBED)
def test_every_condition_of_the_table_can_be_drawn(condition: str) -> None:
    for seed in range(3):
        clip = disturbance(condition, seed)(plain(60, 90, (64, 48)))
        assert len(frames_of(clip)) == clip.frames
    assert repr(disturbance(condition, 5)) == repr(disturbance(condition, 5))
