"""The evaluation of scene detectors: its splits, its baselines, and the table that comes out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from vsdk_models.nano import evaluate_scenes, scene_splits
from vsdk_models.nano.clips import Clip, Frame, Join, Script, render
from vsdk_models.nano.detection_scores import Score, score
from vsdk_models.nano.disturbances import SensorNoise
from vsdk_models.nano.scene_baselines import (
    CONTENT_DEFAULT,
    CONTENT_TUNED,
    GREY_RULE,
    Rule,
    Scored,
    best_rule,
    content_cuts,
    content_values,
    grey_cuts,
    grey_differences,
)
from vsdk_models.nano.shot import Camera, Look, Shot, Sprite

SIZE = (160, 90)
LOOKS = (
    Look((0.8, 0.7, 0.3), (0.1, 0.12, 0.1)),
    Look((0.1, 0.15, 0.4), (0.1, 0.12, 0.1)),
    Look((0.8, 0.45, 0.45), (0.15, 0.1, 0.1)),
)


def plain_edit(seed: int) -> Clip:
    """Cuts at 25 and 50 between places that look different, with a slow camera and a moving object."""
    things = (Sprite("star", "red", 0.1, (0.2, 0.3), (0.3, 0.1)),)
    shots = tuple(
        Shot(seed + 10 * n, 25, ("clouds", "cells"), Camera(travel=(0.05, 0.0)), things, look)
        for n, look in enumerate(LOOKS)
    )
    return Clip.of(Script(shots, (Join(), Join()), SIZE), f"edit {seed}")


@pytest.mark.parametrize("seed", [100, 200, 300])
def test_both_baselines_find_plain_cuts_and_nothing_else(seed: int) -> None:
    clip = plain_edit(seed)
    frames = list(clip.open())
    grey, content = grey_differences(frames), content_values(frames)
    assert grey_cuts(grey, GREY_RULE) == [25, 50]
    assert content_cuts(content, CONTENT_DEFAULT) == content_cuts(content, CONTENT_TUNED) == [25, 50]


def test_content_detector_gives_what_pyscenedetect_gives() -> None:
    from scenedetect import ContentDetector, FrameTimecode

    frames = list(SensorNoise(1, sigma=10)(plain_edit(100)).open()) + list(plain_edit(200).open())
    for rule in (CONTENT_DEFAULT, Rule(12.0, 4), Rule(20.0, 30)):
        detector = ContentDetector(threshold=rule.threshold, min_scene_len=rule.min_length)
        cuts: list[int] = []
        for number, frame in enumerate(frames):
            found = detector.process_frame(FrameTimecode(number, 25.0), np.ascontiguousarray(frame[..., ::-1]))
            cuts += [cut.frame_num for cut in found]
        assert content_cuts(content_values(frames), rule) == cuts


def test_grey_difference_is_the_mean_over_a_small_grey_picture() -> None:
    dark, light = (np.full((64, 64, 3), level, np.uint8) for level in (10, 60))
    half = dark.copy()
    half[:, 32:] = 60
    assert grey_differences([dark, light, light, half]).tolist() == [0, 50, 0, 25]


def test_grey_cuts_keep_their_distance() -> None:
    scores = np.array([0, 30, 30, 0, 0, 30, 0, 0, 0, 30], dtype=np.float64)
    assert grey_cuts(scores, Rule(20.0, 1)) == [1, 2, 5, 9]
    assert grey_cuts(scores, Rule(20.0, 4)) == [1, 5, 9]
    assert grey_cuts(scores, Rule(31.0, 1)) == []


def test_best_rule_separates_what_can_be_separated() -> None:
    clip = plain_edit(100)
    scores = np.full(75, 9.0)
    scores[[25, 50]] = 15.0
    rule, f1 = best_rule([Scored(scores, clip.transitions, ())], content=False)
    assert f1 == 1
    assert 9 < rule.threshold <= 15


def test_splits_share_neither_seeds_nor_held_out_content() -> None:
    tuning, test = (scene_splits.STYLES[split] for split in ("tuning", "test"))
    assert not set(tuning.shapes) & set(test.shapes)
    named = [{name for names in style.places for name in names} for style in (tuning, test)]
    assert {"coloured_noise", "fractal", "skyline", "room"} <= named[1] - named[0]
    assert {"landscape", "page", "cells", "gradient"} <= named[0] - named[1]
    highest = scene_splits.FIRST_SEED["tuning"] + 100 * 20
    assert highest < scene_splits.FIRST_SEED["test"]


@pytest.mark.parametrize("split", ["tuning", "test"])
def test_splits_are_varied_and_of_moderate_size(split: scene_splits.Split) -> None:
    cases = scene_splits.cases(split)
    rendered = [case for case in cases if case.group.startswith("rendered")]
    assert 60 <= len(rendered) <= 100
    assert {case.condition for case in rendered} == {*scene_splits.styles_of(split), *scene_splits.DISTURBED}
    assert all(150 <= case.clip.frames <= 450 for case in rendered)
    kinds: list[str] = [change.kind for case in rendered for change in case.clip.transitions]
    counts = Counter(kinds)
    assert all(counts[kind] >= least for kind, least in {"cut": 60, "dissolve": 15, "fade": 8, "wipe": 1}.items())
    assert ("real" in {case.condition for case in cases}) == (split == "test")


@pytest.mark.parametrize("name", list(scene_splits.REAL_CUTS))
def test_real_clips_have_their_stated_frames_and_cuts(name: str) -> None:
    clip = scene_splits.real_clip(name)
    frames = list(clip.open())
    assert len(frames) == clip.frames
    assert frames[0].shape == (clip.size[1], clip.size[0], 3)
    differences = grey_differences(frames)
    largest = np.sort(np.argsort(differences)[::-1][: len(clip.transitions)])
    assert largest.tolist() == [change.first for change in clip.transitions]


def test_real_clips_run_under_every_disturbance() -> None:
    cases = scene_splits.real_cases(1)
    assert len(cases) == 3 * (1 + len(scene_splits.DISTURBED))
    assert len({case.clip.name for case in cases}) == len(cases)


def test_table_sums_clips_to_rows_and_totals() -> None:
    clips = [plain_edit(100), plain_edit(200), plain_edit(300)]
    conditions = ("a", "a", "b")
    of = [
        scene_splits.Case(condition, "rendered, clean" if condition == "a" else "rendered, disturbed", clip)
        for condition, clip in zip(conditions, clips, strict=True)
    ]

    def first_only(frames: Iterable[Frame]) -> list[int]:
        return [25] if sum(1 for _ in frames) == 75 else []

    judged = [evaluate_scenes.judge(case.clip, number, first_only) for number, case in enumerate(of)]
    rows = evaluate_scenes.table(judged, of)
    assert list(rows) == ["a", "b", "all rendered, clean", "all rendered, disturbed", "all"]
    assert rows["a"]["vsdk"] == rows["all rendered, clean"]["vsdk"] == Score(2, 2, 0)
    assert rows["all"]["vsdk"] == Score(3, 3, 0)
    assert rows["all"]["grey difference"] == Score(6, 0, 0)
    lines = list(evaluate_scenes.show(rows))
    assert len(lines) == 6
    assert "0.667 (3/6, 0)" in lines[-1]
    assert "1.000 (6/6, 0)" in lines[-1]


def small_split(split: scene_splits.Split, quick: bool = False) -> list[scene_splits.Case]:
    return [scene_splits.Case("edits", "rendered, clean", plain_edit(100 * n)) for n in (1, 2)]


def test_command_line_writes_counts_and_detections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluate_scenes, "cases", small_split)
    evaluate_scenes._cases.cache_clear()
    assert evaluate_scenes.main(["--baselines", "--json", str(tmp_path / "scores.json")]) == 0
    written = json.loads((tmp_path / "scores.json").read_text())
    assert written["rows"]["edits"]["grey difference"] == {"f1": 1.0, "matched": 4, "missed": 0, "false": 0}
    assert [clip["detected"]["ContentDetector"] for clip in written["clips"]] == [[25, 50]] * 2
    assert [clip["truth"] for clip in written["clips"]] == [[["cut", 25, 25], ["cut", 50, 50]]] * 2
    assert "best for the grey difference" in capsys.readouterr().out
    evaluate_scenes._cases.cache_clear()


def test_command_line_saves_pictures_with_their_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate_scenes, "cases", small_split)
    evaluate_scenes._cases.cache_clear()
    assert evaluate_scenes.main(["--pictures", str(tmp_path / "pictures")]) == 0
    with np.load(tmp_path / "pictures" / "001.npz") as saved:
        assert saved["pictures"].shape == (75, 128, 128, 3)
        assert saved["pictures"].dtype == np.uint8
        assert saved["transitions"].tolist() == [[25, 25], [50, 50]]
        assert saved["kinds"].tolist() == ["cut", "cut"]
        assert saved["ignored"].shape == (0, 2)
        assert str(saved["condition"]) == "edits"
    evaluate_scenes._cases.cache_clear()


@pytest.mark.slow
def test_quick_subset_of_the_test_split_runs(tmp_path: Path) -> None:
    path = tmp_path / "test.json"
    assert evaluate_scenes.main(["--split", "test", "--quick", "--baselines", "--json", str(path)]) == 0
    rows = json.loads(path.read_text())["rows"]
    assert {*scene_splits.DISTURBED, "real"} < set(rows)
    assert rows["cuts"]["grey difference"]["false"] == 0


def test_a_clip_of_a_script_is_scored_against_its_own_truth() -> None:
    clip = plain_edit(100)
    assert clip.frames == sum(1 for _ in render(Script((Shot(1, 75),), (), (8, 8))))
    assert score([25, 50], clip.transitions).f1 == 1


def test_the_built_in_bundle_finds_plain_cuts_through_the_pipeline() -> None:
    detect = evaluate_scenes.pipeline_detector(None)
    for seed in (100, 200):
        clip = plain_edit(seed)
        assert score(detect(clip.open()), clip.transitions) == Score(2, 0, 0)


def test_command_line_saves_what_scene_tilling_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate_scenes, "cases", small_split)
    evaluate_scenes._cases.cache_clear()
    assert evaluate_scenes.main(["--features", str(tmp_path)]) == 0
    with np.load(tmp_path / "000.npz") as saved:
        cls, encoded = saved["cls"], saved["encoded"]
        assert saved["transitions"].tolist() == [[25, 25], [50, 50]]
    assert cls.shape == (75, 192)
    assert cls.dtype == np.float32
    assert encoded.shape == (75,)
    assert encoded[[0, 25, 50]].all()
    directions = cls / np.linalg.norm(cls, axis=1, keepdims=True)
    likeness = (directions[1:] * directions[:-1]).sum(1)
    assert sorted(np.argsort(likeness)[:2].tolist()) == [24, 49]
    evaluate_scenes._cases.cache_clear()
