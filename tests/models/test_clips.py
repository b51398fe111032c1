"""Rendered clips: frames agree with the stated truth, by measures that do not use the renderer's own arithmetic."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsdk_models.nano.clips import Join, Script, render
from vsdk_models.nano.scene_splits import STYLES
from vsdk_models.nano.scripts import random_script
from vsdk_models.nano.shot import Camera, Look, Shot, Sprite

SIZE = (160, 90)
BRIGHT = Look((0.7, 0.65, 0.6), (0.12, 0.12, 0.12))
DARK = Look((0.25, 0.3, 0.35), (0.12, 0.12, 0.12))


def still(seed: int, look: Look = BRIGHT, frames: int = 12) -> Shot:
    return Shot(seed, frames, ("clouds", "dead_leaves"), look=look)


def frames_of(script: Script) -> list[np.ndarray]:
    return list(render(script))


def joined(join: Join) -> tuple[list[np.ndarray], Script]:
    script = Script((still(1), still(2, DARK)), (join,), SIZE)
    return frames_of(script), script


def test_frames_are_rgb_bytes_of_the_size_and_as_many_as_stated() -> None:
    frames, script = joined(Join("dissolve", 5))
    assert len(frames) == script.frames == 12 + 5 + 12
    assert all(frame.shape == (90, 160, 3) and frame.dtype == np.uint8 for frame in frames)


@pytest.mark.parametrize("seed", [10_003, 20_104])
def test_same_script_same_frames_and_other_seed_other_frames(seed: int) -> None:
    style = STYLES["tuning"]
    first = random_script(seed, style)
    assert first == random_script(seed, style)
    once, again = (next(render(script)) for script in (first, random_script(seed, style)))
    other = next(render(random_script(seed + 1, style)))
    assert np.array_equal(once, again)
    assert not np.array_equal(once, other)


def test_cut_is_the_only_change_between_still_shots() -> None:
    script = Script((still(1), still(2, DARK, 15), still(3, BRIGHT, 11)), (Join(), Join()), SIZE)
    frames = frames_of(script)
    changed = [n for n in range(1, len(frames)) if not np.array_equal(frames[n], frames[n - 1])]
    assert changed == [change.first for change in script.transitions] == [12, 27]
    assert all(change.first == change.last for change in script.transitions)


def test_dissolve_is_a_steady_mixture_of_both_scenes() -> None:
    frames, script = joined(Join("dissolve", 9))
    (change,) = script.transitions
    old, new = frames[change.first - 1].astype(float), frames[change.last + 1].astype(float)
    assert np.array_equal(frames[0], frames[change.first - 1])
    assert np.array_equal(frames[-1], frames[change.last + 1])
    shares = []
    for frame in frames[change.first : change.last + 1]:
        step = (new - old).ravel()
        share = float(step @ (frame - old).ravel() / (step @ step))
        assert np.abs(frame - (old + share * (new - old))).max() <= 1.5
        shares.append(share)
    assert np.allclose(shares, np.arange(1, 10) / 10, atol=0.01)


@pytest.mark.parametrize(("white", "plain"), [(False, 0), (True, 255)])
def test_fade_goes_through_plain_colour_and_back(white: bool, plain: int) -> None:
    frames, script = joined(Join("fade", 6, hold=3, white=white))
    (change,) = script.transitions
    assert (change.first, change.last) == (12, 12 + 6 + 3 + 6 - 1)
    assert np.array_equal(frames[11], frames[0])
    assert np.array_equal(frames[change.last + 1], frames[-1])
    distance = [float(np.abs(frame.astype(float) - plain).mean()) for frame in frames]
    plain_frames = [n for n, value in enumerate(distance) if value == 0]
    assert plain_frames == [18, 19, 20]
    assert all(distance[n] > distance[n + 1] for n in range(11, 17))
    assert all(distance[n] < distance[n + 1] for n in range(20, change.last + 1))


def test_wipe_uncovers_the_new_scene_bit_by_bit() -> None:
    frames, script = joined(Join("wipe", 8, turn=0.0))
    (change,) = script.transitions
    old, new = frames[change.first - 1], frames[change.last + 1]
    shares = [float((frame == new).all(-1).mean()) for frame in frames[change.first : change.last + 1]]
    assert all(earlier < later for earlier, later in itertools.pairwise(shares))
    middle = frames[change.first + 3]
    assert np.array_equal(middle[:, :40], new[:, :40])
    assert np.array_equal(middle[:, -40:], old[:, -40:])


def test_shots_move_on_while_they_dissolve() -> None:
    moving = Shot(5, 10, ("clouds",), Camera(travel=(0.5, 0.0), lasts=1.0))
    script = Script((moving, still(2)), (Join("dissolve", 10),), SIZE)
    alone = frames_of(Script((Shot(5, 20, ("clouds",), moving.camera),), (), SIZE))
    mixed = frames_of(script)
    assert all(np.array_equal(mixed[n], alone[n]) for n in range(10))
    new = mixed[-1].astype(float)
    expected = alone[10] * (10 / 11) + new * (1 / 11)
    assert np.abs(mixed[10] - expected).max() <= 1.5


def test_pan_shifts_the_picture_by_its_travel() -> None:
    camera = Camera(travel=(0.25, 0.0), begins=0.0, lasts=0.4)
    frames = frames_of(Script((Shot(3, 12, ("dead_leaves",), camera),), (), SIZE))
    first, last = frames[0].astype(float), frames[-1].astype(float)
    errors = {shift: np.abs(first[:, shift:] - last[:, : SIZE[0] - shift]).mean() for shift in range(20, 61)}
    assert min(errors, key=lambda shift: errors[shift]) == 40
    assert errors[40] < 1


@pytest.mark.parametrize("angle", [0.0, 0.3])
def test_sprite_is_where_its_path_says(angle: float) -> None:
    sprite = Sprite("disc", "white", 0.15, start=(0.3, 0.4), velocity=(0.5, 0.25), spin=angle)
    bare = Shot(3, 13, ("gradient",), look=DARK)
    with_sprite = Shot(3, 13, ("gradient",), sprites=(sprite,), look=DARK)
    frame, place = (frames_of(Script((shot,), (), SIZE))[12].astype(float) for shot in (with_sprite, bare))
    difference = np.abs(frame - place).max(-1)
    rows, columns = np.nonzero(difference > difference.max() / 2)  # at least half covered
    seconds = 12 / 25
    assert columns.mean() == pytest.approx((0.3 + 0.5 * seconds) * 160, abs=1)
    assert rows.mean() == pytest.approx((0.4 + 0.25 * seconds) * 90, abs=1)
    assert len(rows) == pytest.approx(np.pi * (0.95 * 0.15 * 90) ** 2, rel=0.1)


def test_look_sets_the_colours() -> None:
    frame = frames_of(Script((still(4, Look((0.5, 0.45, 0.4), (0.1, 0.1, 0.1), 0.2)),), (), SIZE))[0] / 255
    assert np.allclose(frame.mean((0, 1)), (0.5, 0.45, 0.4), atol=0.08)
    colourful = np.ptp(frame - frame.mean((0, 1)), axis=-1).mean()
    assert colourful < 0.1


def test_every_part_of_a_random_shot_can_be_drawn_at_any_size() -> None:
    style = STYLES["test"]
    for seed, size in ((20_001, (33, 77)), (20_002, (200, 50)), (20_003, (64, 64))):
        script = random_script(seed, style)
        frames = frames_of(Script(script.shots[:1], (), size))
        assert frames[0].shape == (size[1], size[0], 3)


def test_joins_must_fit_between_the_shots() -> None:
    with pytest.raises(ValueError, match="2 shots need 1 joins, not 0"):
        Script((still(1), still(2)), ())


@given(seed=st.integers(0, 1 << 30), split=st.sampled_from(["tuning", "test"]))
def test_truth_of_any_script_leaves_ten_frames_to_each_shot(seed: int, split: str) -> None:
    style = STYLES["tuning" if split == "tuning" else "test"]
    script = random_script(seed, style)
    edges = [0]
    for change in script.transitions:
        assert change.first - edges[-1] >= 10
        assert change.last >= change.first
        edges.append(change.first if change.kind == "cut" else change.last + 1)
    assert script.frames - edges[-1] >= 10
    assert script.frames >= style.frames


def test_rendering_and_judging_need_no_torch() -> None:
    modules = ("clips", "disturbances", "scripts", "detection_scores", "demo_clip", "evaluate_scenes")
    code = (
        "import sys\n"
        + "".join(f"import vsdk_models.nano.{name}\n" for name in modules)
        + "heavy = {'torch', 'transformers', 'onnxruntime', 'scenedetect', 'skvideo'} & set(sys.modules)\n"
        + "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
