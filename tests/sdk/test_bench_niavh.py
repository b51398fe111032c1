"""The needle test: what it draws, how it counts, and that its shortcuts give what separate runs would."""

from __future__ import annotations

import hashlib
import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner
from video_tools import write_video

import vsdk
from vsdk.bench.controls import frames_for, last_frames, memory_floats, running_means, stretch
from vsdk.bench.haystacks import drawn_haystack, real_haystack
from vsdk.bench.needles import CLASSES, SIZES, TEST_GRAINS, TRAINING_GRAINS, Needle, Way
from vsdk.bench.niavh import HAYSTACKS, depths_of, lengths_of, measure_niavh, plan_trials
from vsdk.bench.niavh_contenders import CONTENDERS, LastFrames, Means, Recurrent
from vsdk.bench.niavh_picture import RAMP, color_of, picture_of
from vsdk.bench.niavh_report import NiavhReport, Outcome, Rate, auroc
from vsdk.cli.app import app
from vsdk.memory.bridge import MemoryBridge
from vsdk_runtimes.errors import BundleSchemaError, InputError, SourceError
from vsdk_runtimes.manifest import MemorySpec

SIDE = 128


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> vsdk.Bundle:
    """The shape of the nano bundle with a memory; its weights are random."""
    import torch
    from safetensors.torch import save_file

    from vsdk_export.nano import export_nano
    from vsdk_models.nano.bridge import contenders
    from vsdk_models.nano.encoder import NanoEncoder

    folder = tmp_path_factory.mktemp("nano")
    torch.manual_seed(0)
    encoder, bridge = folder / "encoder.safetensors", folder / "bridge.safetensors"
    save_file(NanoEncoder().state_dict(), encoder)
    told = {"trained_length": "80", "encoder": hashlib.sha256(encoder.read_bytes()).hexdigest()}
    save_file(contenders().state_dict(), bridge, metadata=told)
    export_nano(encoder, folder / "bundle", bridge=bridge, precisions=("fp32",))
    return vsdk.load(folder / "bundle")


def grey(level: int = 128) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.full((SIDE, SIDE, 3), level, np.uint8)


@pytest.mark.parametrize("kind", ["image", "video"])
def test_an_overlay_covers_part_of_the_scene_and_a_splice_all_of_it(kind: str) -> None:
    for seed in range(20):
        overlay = Needle(seed, "overlay", kind, "test", seed).show(grey())  # type: ignore[arg-type]
        changed = (overlay != 128).any(2)
        low, high = SIZES["overlay"]
        assert low**2 * 0.6 < changed.mean() < (high * 1.5) ** 2
        splice = Needle(seed, "splice", kind, "test", seed)  # type: ignore[arg-type]
        assert np.array_equal(splice.show(grey(0)), splice.show(grey(255)))


def test_needles_are_at_least_48_of_128_pixels() -> None:
    assert min(low for low, _ in SIZES.values()) * 128 >= 48


def test_a_needle_is_drawn_the_same_every_time_and_no_two_are_alike() -> None:
    def shown(seed: int, split: str, moment: float = 0.5, kind: str = "image") -> bytes:
        needle = Needle(3, "overlay", kind, split, seed)  # type: ignore[arg-type]
        return needle.show(grey(), moment).tobytes()

    assert shown(1, "test") == shown(1, "test")
    assert len({shown(seed, split) for seed in range(10) for split in ("test", "training")}) == 20
    assert shown(1, "test", 0.2) == shown(1, "test", 0.8)
    assert shown(1, "test", 0.2, "video") != shown(1, "test", 0.8, "video")


def test_test_needles_have_grains_that_training_never_shows() -> None:
    assert not set(TRAINING_GRAINS) & set(TEST_GRAINS)


@pytest.mark.parametrize("way", ["overlay", "splice"])
def test_the_colours_of_a_class_are_where_they_should_be(way: Way) -> None:
    for label, (inside, around) in enumerate(CLASSES):
        picture = Needle(label, way, "image", "test", 100 + label).show(grey()).astype(int)
        assert inside != around
        for name in (inside, around):
            red, green, blue = picture[..., 0], picture[..., 1], picture[..., 2]
            seen = {
                "red": (red > 140) & (green < 90) & (blue < 90),
                "yellow": (red > 160) & (green > 150) & (blue < 110),
                "green": (green > red + 50) & (green > blue + 50),
                "cyan": (green > red + 70) & (blue > red + 70),
                "blue": (blue > red + 80) & (blue > green + 60),
                "pink": (red > green + 50) & (blue > green + 10) & (red > 150),
            }[name]
            assert seen.mean() > 0.03, (inside, around, name)


def test_drawn_haystacks_are_their_own_and_change_scene() -> None:
    one, again, other = drawn_haystack(1, 60, 64), drawn_haystack(1, 60, 64), drawn_haystack(2, 60, 64)
    assert len(one) == 60
    assert {picture.shape for picture in one} == {(64, 64, 3)}
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    steps = [np.abs(a.astype(int) - b).mean() for a, b in pairwise(one)]
    assert max(steps) > 3 * np.median(steps)


def test_a_short_file_is_repeated_with_other_frames(tmp_path: Path) -> None:
    path = tmp_path / "short.mp4"
    write_video(path, [grey(level) for level in range(10, 210, 4)], rate=10)
    pictures = real_haystack(path, 20, lambda picture: picture)
    assert len(pictures) == 20
    levels = [int(picture.mean().round()) for picture in pictures]
    assert levels[:5] == sorted(levels[:5])
    assert len(set(levels)) > 12


def test_a_haystack_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        real_haystack(tmp_path / "nothing.mp4", 3, lambda picture: picture)


def test_controls_have_no_fewer_floats_than_the_memory() -> None:
    spec = MemorySpec(capacity=32, tokens=16, frames=8, grid=8)
    floats = memory_floats(spec, 192)
    assert floats == 16 * 192 + 2 * 32 * 16 * 192 + 32 * 16 * 192
    frames = frames_for(floats, 64, 192)
    assert (frames - 1) * 64 * 192 < floats <= frames * 64 * 192


def test_means_are_of_equal_stretches_that_grow_when_there_is_no_room() -> None:
    values = np.random.default_rng(0).normal(size=41).astype(np.float32)
    assert [stretch(5, length) for length in (1, 5, 6, 10, 11, 20, 41)] == [1, 1, 2, 2, 4, 4, 16]
    kept: list[tuple[float, int]] = []  # sum and count of each mean, updated frame by frame
    size = 1
    for number, value in enumerate(values, start=1):
        if kept and kept[-1][1] < size:
            kept[-1] = (kept[-1][0] + value, kept[-1][1] + 1)
        else:
            if len(kept) == 5:
                kept = [(a + c, b + d) for (a, b), (c, d) in zip(kept[::2], [*kept[1::2], (0.0, 0)], strict=True)]
                size *= 2
                if kept[-1][1] < size:
                    kept[-1] = (kept[-1][0] + value, kept[-1][1] + 1)
                else:
                    kept.append((value, 1))
            else:
                kept.append((value, 1))
        means, there = running_means(values[:number, None, None], 5)
        assert there.sum() == len(kept)
        np.testing.assert_allclose(means[0, : len(kept), 0, 0], [a / b for a, b in kept], rtol=1e-4, atol=1e-5)


def test_the_last_frames_of_a_short_video_are_all_of_it() -> None:
    patches = np.arange(5, dtype=np.float32)[:, None, None] + np.zeros((5, 4, 2), np.float32)
    frames, there = last_frames(patches, 3)
    assert frames[0, :, 0, 0].tolist() == [2, 3, 4]
    frames, there = last_frames(patches, 8)
    assert there.tolist() == [[1, 1, 1, 1, 1, 0, 0, 0]]
    assert frames[0, :5, 0, 0].tolist() == [0, 1, 2, 3, 4]


def test_the_grid_is_the_published_one() -> None:
    assert lengths_of(40)[:4] == [1, 9, 17, 26]
    assert lengths_of(40)[-1] == 320
    assert depths_of(12) == [0, 9, 18, 27, 36, 45, 55, 64, 73, 82, 91, 100]
    planned = plan_trials((40, 12), 2, 30, seed=0)
    assert len(planned) == 960
    assert {trial.cell for trial in planned} == {(column, row) for column in range(40) for row in range(12)}
    for trial in planned:
        depth = depths_of(12)[trial.cell[1]]
        assert trial.second == min(int(trial.length * depth / 100), trial.length - 1)
    assert len({trial.seed for trial in planned}) == 960
    assert {trial.haystack for trial in planned} == set(range(HAYSTACKS))
    assert {trial.label for trial in planned} == set(range(30))


def test_bounds_are_wilsons() -> None:
    low, high = Rate(9, 10).bounds  # by hand: (0.9 + z2/20 -+ z sqrt(0.009 + z2/400)) / (1 + z2/10), z2 = 3.8415
    assert low == pytest.approx(0.5958, abs=1e-4)
    assert high == pytest.approx(0.9821, abs=1e-4)
    assert Rate(0, 0).to_dict() == {"accuracy": None, "low": 0.0, "high": 1.0, "trials": 0}
    assert Rate(5, 5).bounds[1] == 1.0


def test_auroc_counts_pairs() -> None:
    assert auroc([3, 4], [1, 2]) == 1.0
    assert auroc([1, 2], [3, 4]) == 0.0
    assert auroc([1, 3], [2, 2]) == 0.5
    assert auroc([2], [2]) == 0.5


def outcome(column: int, row: int, second: int, right: dict[str, bool], presence: float = 1.0) -> Outcome:
    length = lengths_of(4)[column]
    return Outcome((column, row), length, second, "overlay", "image", False, right, presence, (second, second))


def report(outcomes: list[Outcome]) -> NiavhReport:
    return NiavhReport(
        "nano", "0" * 64, "engine", "drawn", 0, 30, 80, lengths_of(4), depths_of(3), 1, 25,
        dict.fromkeys(CONTENDERS, 10), tuple(outcomes), (0.0, 0.5),
    )  # fmt: skip


def test_a_report_counts_by_contender_cell_and_window() -> None:
    some = {"memory": True, "last_n": False, "mean": False, "no_retrieval": True}
    outcomes = [outcome(3, 0, 0, some), outcome(3, 1, 160, some), outcome(3, 2, 319, {**some, "last_n": True})]
    found = report(outcomes)
    figures = found.to_dict()
    assert figures["memory"]["accuracy"] == 1.0
    assert figures["last_n"]["accuracy"] == pytest.approx(1 / 3, abs=1e-4)
    assert figures["last_n_outside"] == Rate(0, 2).to_dict()
    assert figures["no_needle_auroc"] == 1.0
    assert figures["chance"] == pytest.approx(1 / 30, abs=1e-4)
    assert (figures["grid"], figures["trials"], figures["trained_length"]) == ("4x3", 1, 80)
    assert figures["cells"][2] == {
        "length": 320, "depth": 100, "memory": 1.0, "last_n": 1.0, "mean": 0.0, "no_retrieval": 1.0,
    }  # fmt: skip
    json.dumps(figures)


def test_the_picture_shows_each_cell_in_its_colour() -> None:
    right = dict.fromkeys(CONTENDERS, True)
    outcomes = [outcome(column, row, 0, right) for column in range(4) for row in range(3)]
    wrong = outcome(0, 0, 0, {**right, "memory": False})
    colours = np.asarray(picture_of(report([*outcomes[1:], wrong]))).reshape(-1, 3)
    full_right = (colours == RAMP[-1][1]).all(1).sum()
    full_wrong = (colours == RAMP[0][1]).all(1).sum()
    assert 20 < full_right / full_wrong < 60  # 47 cells to one, and both ends of the legend
    assert color_of(0.0) == RAMP[0][1]
    assert color_of(1.0) == RAMP[-1][1]


def test_answers_are_those_of_separate_runs(bundle: vsdk.Bundle) -> None:
    rng = np.random.default_rng(1)
    patches = rng.normal(size=(40, 64, 192)).astype(np.float32)
    needle = rng.normal(size=(64, 192)).astype(np.float32)
    memory = Recurrent(bundle, "bridge", "readout", 1)
    others = [LastFrames(bundle, memory.floats, 1), Means(bundle, memory.floats, 1)]
    for contender in (memory, *others):
        contender.watch(patches)
    for length, second in ((37, 5), (40, 39), (3, 0), (26, 16)):
        with_needle = patches[:length].copy()
        with_needle[second] = needle
        plain = MemoryBridge(bundle, threads=1)
        for start in range(0, length, 8):
            plain.step(with_needle[start : start + 8])
        memory.answer(length, (second, needle))
        np.testing.assert_array_equal(memory.bridge.memory, plain.memory)
        for contender in others:
            answer = contender.answer(length, (second, needle))
            contender.watch(with_needle)
            np.testing.assert_allclose(answer, contender.answer(length), rtol=1e-3, atol=1e-4)
            contender.watch(patches)


def test_a_test_of_a_bundle_gives_every_figure(bundle: vsdk.Bundle, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    write_video(clip, [grey(level) for level in range(60, 160, 2)], rate=10)
    said: list[float] = []
    found = measure_niavh(
        bundle, grid=(2, 2), trials=2, haystack=clip, threads=1, progress=lambda says, fraction: said.append(fraction)
    )
    assert said == sorted(said)
    assert said[-1] == 1.0
    assert len(found.outcomes) == 8
    assert {outcome.real for outcome in found.outcomes} == {True, False}
    assert all(0 <= outcome.named[0] <= outcome.named[1] < outcome.length for outcome in found.outcomes)
    assert all(math.isfinite(outcome.presence) for outcome in found.outcomes)
    assert found.floats["last_n"] >= found.floats["memory"]
    assert found.floats["mean"] >= found.floats["memory"]
    assert found.trained_length == 80


def test_impossible_tests_are_refused(bundle: vsdk.Bundle) -> None:
    with pytest.raises(InputError):
        measure_niavh(bundle, grid=(0, 3))
    with pytest.raises(InputError):
        measure_niavh(bundle, trials=0)


def test_a_bundle_without_a_memory_is_refused(bundle: vsdk.Bundle) -> None:
    only = {"encoder": bundle.manifest.components["encoder"]}
    plain = vsdk.Bundle(bundle.folder, bundle.manifest.model_copy(update={"components": only}))
    with pytest.raises(BundleSchemaError, match="bridge"):
        measure_niavh(plain)


def test_the_command_writes_figures_and_picture(bundle: vsdk.Bundle, tmp_path: Path) -> None:
    figures, picture = tmp_path / "niavh.json", tmp_path / "niavh.png"
    arguments = ["bench", "niavh", "--bundle", str(bundle.folder), "--grid", "1x2", "--threads", "1"]
    result = CliRunner().invoke(app, [*arguments, "--json", str(figures), "--png", str(picture)])
    assert result.exit_code == 0, result.output
    assert json.loads(figures.read_text())["grid"] == "1x2"
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert CliRunner().invoke(app, ["bench", "niavh", "--grid", "40"]).exit_code == 2
    assert CliRunner().invoke(app, [*arguments, "--json", str(tmp_path / "no" / "x.json")]).exit_code == 1
