"""The benchmark of trackers: its baselines, what it counts, and the command, with a tracker that goes by colour."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from color_tracker import FRAMES, GONE, HEIGHT, RED, WIDTH, picture, red_box, write_color_tracker
from PIL import Image
from typer.testing import CliRunner

import vsdk
from vsdk.bench.mask_scores import Score, score
from vsdk.bench.rendered_sequences import RenderedSequence
from vsdk.bench.track import Follows, measure_track, resident_mb
from vsdk.bench.track_baselines import FrozenMask, TemplateTracker
from vsdk.bench.track_picture import FOUND, strip_of
from vsdk.bench.track_report import ObjectResult, SequenceResult, TrackReport
from vsdk.cli.app import app
from vsdk.errors import InputError

Labels = npt.NDArray[np.uint8]


class ColorSequence:
    """The clip of the tracker by colour: a red square that moves, hides for some frames and comes back."""

    name = "red-square"

    def __init__(self, frames: int = FRAMES, scored: range | None = None) -> None:
        self._frames = frames
        self.scored = range(1, frames) if scored is None else scored

    def __len__(self) -> int:
        return self._frames

    def frames(self) -> Iterator[tuple[npt.NDArray[np.uint8], Labels]]:
        for number in range(self._frames):
            image = picture(number % FRAMES)
            yield image, (image == RED).all(axis=2).astype(np.uint8)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_color_tracker(tmp_path_factory.mktemp("bundle") / "color")


@pytest.fixture(scope="module")
def measured(bundle: Path) -> TrackReport:
    said: list[float] = []
    with vsdk.Tracker(bundle, threads=1) as tracker:
        report = measure_track(
            tracker,
            [ColorSequence(), ColorSequence(2 * FRAMES), ColorSequence(2 * FRAMES)],
            source="squares",
            progress=lambda says, fraction: said.append(fraction),
        )
    assert said == sorted(said)
    assert said[-1] == 1.0
    return report


def test_a_tracker_is_scored_on_what_is_there(measured: TrackReport) -> None:
    tracker, frozen, template = (measured.score(name) for name in ("tracker", "frozen", "template"))
    assert tracker.j > 0.9
    assert tracker.f > 0.95
    assert frozen.jf < 0.5 < template.jf
    assert measured.sequences[0].objects[0].hidden == len(GONE)
    assert len(measured.sequences[0].objects[0].scores["tracker"]) == FRAMES - 1


def test_a_frozen_mask_scores_what_can_be_computed_by_hand(measured: TrackReport) -> None:
    """A square of 40 pixels that moves by 4 a frame: the intersection shrinks by 4 columns a frame."""
    scores = measured.sequences[0].objects[0].scores["frozen"]
    for number, scored in enumerate(scores, start=1):
        shared = max(0, 40 - 4 * number) if number not in GONE else 0
        assert scored.j == pytest.approx(shared / (80 - shared))


def test_speed_is_that_of_the_trackers_calls(measured: TrackReport) -> None:
    assert measured.frames == 5 * FRAMES
    taken = sum(sum(result.seconds) for result in measured.sequences)
    assert measured.fps == pytest.approx(measured.frames / taken)
    assert set(measured.components) == {"encoder", "attention", "decoder", "memory"}
    assert all(seconds > 0 for seconds in measured.components.values())
    assert measured.fps_of_components == pytest.approx(1 / sum(measured.components.values()))
    assert 1e-4 < measured.median_seconds < 1
    assert measured.rss_mb_start is not None
    assert measured.rss_mb_end is not None
    assert 20 < measured.rss_mb_start < 1.2 * measured.rss_mb_end


def test_the_trackers_networks_are_its_own_again(bundle: Path) -> None:
    with vsdk.Tracker(bundle, threads=1) as tracker:
        before = [getattr(tracker.networks, part) for part in ("encoder", "attention", "decoder", "memory")]
        measure_track(tracker, [ColorSequence(3)])
        after = [getattr(tracker.networks, part) for part in ("encoder", "attention", "decoder", "memory")]
        assert all(one is other for one, other in zip(before, after, strict=True))
        assert tracker.object_ids == ()


def test_memory_is_not_known_before_it_has_settled(bundle: Path) -> None:
    with vsdk.Tracker(bundle, threads=1) as tracker:
        report = measure_track(tracker, [ColorSequence(4)])
    assert report.rss_mb_start is None
    resident = resident_mb()
    assert resident is not None
    assert resident > 20


def test_only_frames_that_count_are_scored(bundle: Path) -> None:
    with vsdk.Tracker(bundle, threads=1) as tracker:
        report = measure_track(tracker, [ColorSequence(8, scored=range(1, 7))])
        assert len(report.sequences[0].objects[0].scores["tracker"]) == 6
        assert report.frames == 8
        for impossible in ([], [ColorSequence(3, scored=range(0))]):
            with pytest.raises(InputError):
                measure_track(tracker, impossible)


def result(name: str, *objects: tuple[float, float]) -> SequenceResult:
    contenders = ("tracker", "frozen", "template")
    return SequenceResult(
        name, 1, (0.5, 0.01, 0.01),
        tuple(
            ObjectResult(number, 0, {contender: (Score(j, f), Score(j, f)) for contender in contenders})
            for number, (j, f) in enumerate(objects, start=1)
        ),
    )  # fmt: skip


def report(*sequences: SequenceResult) -> TrackReport:
    components = {"encoder": 0.01, "attention": 0.004, "decoder": 0.005, "memory": 0.001}
    return TrackReport("nano", "0" * 64, "engine", "clips", 0.3, 2, sequences, components, 100.0, 101.0)


def test_the_mean_is_over_objects_not_over_sequences() -> None:
    found = report(result("one", (0.2, 0.4)), result("two", (0.8, 0.9), (0.5, 0.5)))
    figures = found.to_dict()
    assert figures["j"] == pytest.approx(0.5)
    assert figures["f"] == pytest.approx(0.6)
    assert figures["jf"] == pytest.approx(0.55)
    assert figures["fps"] == pytest.approx(6 / 1.04)
    assert figures["fps_of_components"] == pytest.approx(50)
    assert (figures["frames"], figures["objects"], figures["load"], figures["busy"]) == (6, 3, 0.3, False)
    assert [row["jf"] for row in figures["sequences"]] == [pytest.approx(0.3), pytest.approx(0.675)]
    needed = {"j", "f", "jf", "jf_frozen", "jf_template", "fps", "fps_of_components", "load", "frames"}
    assert needed | {"rss_mb_start", "rss_mb_end"} <= set(figures)
    json.dumps(figures)


def test_curves_are_means_of_the_objects_that_a_frame_has() -> None:
    curve = report(result("one", (0.2, 0.4)), result("two", (0.8, 0.9), (0.5, 0.5))).curve("tracker")
    assert list(curve.x) == [1, 2]
    assert list(curve.y) == [pytest.approx(0.55)] * 2


def textured(seed: int = 0) -> npt.NDArray[np.uint8]:
    """A patch with structure at several scales, uint8 `[40, 40, 3]`."""
    coarse = np.random.default_rng(seed).integers(0, 255, (8, 8, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((40, 40), Image.Resampling.BICUBIC))


def scene(x: float, y: float, *, zoom: float = 1.0, turn: float = 0.0) -> tuple[npt.NDArray[np.uint8], Labels]:
    """The patch with its middle at a place of a busy ground, and where it is."""
    ground = np.random.default_rng(9).integers(60, 190, (30, 40, 3)).astype(np.uint8)
    picture = Image.fromarray(ground).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    side = round(40 * zoom)
    options = {"resample": Image.Resampling.BICUBIC, "expand": True}
    patch = Image.fromarray(textured()).resize((side, side), Image.Resampling.BICUBIC).rotate(turn, **options)  # type: ignore[arg-type]
    shape = Image.new("L", (side, side), 255).rotate(turn, expand=True)
    corner = round(x - patch.width / 2), round(y - patch.height / 2)
    picture.paste(patch, corner, shape)
    labels = Image.new("L", (WIDTH, HEIGHT))
    labels.paste(shape, corner)
    return np.asarray(picture), (np.asarray(labels) >= 128).astype(np.uint8)


def test_a_template_is_followed_where_it_moves_grows_and_turns() -> None:
    tracker = TemplateTracker()
    image, labels = scene(60, 60)
    tracker.prompt(image, 7, mask=labels == 1)
    for number in range(20):
        image, labels = scene(60 + 3 * number, 60 + number, zoom=1 + 0.01 * number, turn=1.5 * number)
        (found,) = tracker.track(image)
        assert found.object_id == 7
        assert found.present
        assert score(found.mask, labels == 1).j > 0.85, number


def test_a_template_that_is_hidden_is_said_to_be_and_found_again() -> None:
    tracker = TemplateTracker()
    image, labels = scene(60, 60)
    tracker.prompt(image, 1, mask=labels == 1)
    tracker.track(image)
    for _ in range(5):
        (found,) = tracker.track(np.full_like(image, 90))
        assert not found.present
        assert not found.mask.any()
    image, labels = scene(72, 66)
    (found,) = tracker.track(image)
    assert score(found.mask, labels == 1).j > 0.85


def test_a_template_is_followed_to_the_edge_of_the_picture_and_without_contrast() -> None:
    tracker = TemplateTracker()
    image, labels = scene(WIDTH - 30, 60)
    tracker.prompt(image, 1, mask=labels == 1)
    for step in range(9):
        image, labels = scene(WIDTH - 30 + 3 * step, 60)
        (found,) = tracker.track(image)
    assert score(found.mask, labels == 1).j > 0.6  # half of it is outside
    tracker.reset()
    assert tracker.track(image) == ()
    flat = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
    tracker.prompt(flat, 2, mask=labels == 1)
    assert not tracker.track(flat)[0].present
    with pytest.raises(InputError, match="empty"):
        tracker.prompt(flat, 3, mask=np.zeros((HEIGHT, WIDTH), np.bool_))


def test_a_frozen_mask_stays() -> None:
    tracker = FrozenMask()
    image, labels = scene(60, 60)
    tracker.prompt(image, 4, mask=labels == 1)
    (found,) = tracker.track(np.zeros_like(image))
    assert (found.object_id, found.present) == (4, True)
    assert np.array_equal(found.mask, labels == 1)
    tracker.reset()
    assert tracker.track(image) == ()


def test_baselines_do_better_than_nothing_on_a_rendered_sequence() -> None:
    sequence = RenderedSequence(0, 2)
    trackers: tuple[Follows, Follows] = (FrozenMask(), TemplateTracker())
    scores: tuple[list[float], list[float]] = ([], [])
    for number, (image, labels) in enumerate(sequence.frames()):
        if number == 15:
            break
        for tracker, own in zip(trackers, scores, strict=True):
            if number == 0:
                tracker.prompt(image, 1, mask=labels == 1)
            own.append(score(tracker.track(image)[0].mask, labels == 1).jf)
    assert scores[0][0] == 1.0
    assert np.mean(scores[1]) > np.mean(scores[0])


def test_the_strip_shows_what_was_found(bundle: Path) -> None:
    with vsdk.Tracker(bundle, threads=1) as tracker:
        sequences = [ColorSequence()]
        drawn = np.asarray(strip_of(tracker, [*sequences], measure_track(tracker, sequences)))
    mixed = (0.45 * np.array(RED) + 0.55 * np.array(FOUND)).astype(int)
    near = (np.abs(drawn.astype(int) - mixed).max(axis=2) < 8).sum()
    across = red_box(0)[2] - red_box(0)[0]
    assert near > 3 * across**2  # the square is to be seen on four of the five frames, in pictures that are enlarged


def davis(root: Path) -> Path:
    for number in range(6):
        image = picture(number)
        labels = Image.fromarray((image == RED).all(axis=2).astype(np.uint8), "P")
        labels.putpalette([0, 0, 0, 200, 0, 0])
        for part in ("JPEGImages", "Annotations"):
            (root / part / "480p" / "square").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / "JPEGImages" / "480p" / "square" / f"{number:05d}.jpg", quality=95)
        labels.save(root / "Annotations" / "480p" / "square" / f"{number:05d}.png")
    return root


def test_the_command_writes_figures_and_pictures(bundle: Path, tmp_path: Path) -> None:
    figures, plot, strip = tmp_path / "track.json", tmp_path / "plot.png", tmp_path / "strip.png"
    arguments = ["bench", "track", "--bundle", str(bundle), "--threads", "1"]
    files = ["--json", str(figures), "--plot", str(plot), "--strip", str(strip)]
    done = CliRunner().invoke(app, [*arguments, "--davis", str(davis(tmp_path / "davis")), *files])
    assert done.exit_code == 0, done.output
    found = json.loads(figures.read_text())
    assert found["frames"] == 6
    assert found["jf"] > 0.9
    assert [row["name"] for row in found["sequences"]] == ["square"]
    for path in (plot, strip):
        with Image.open(path) as opened:
            assert opened.format == "PNG"


def test_the_command_renders_sequences_if_none_are_named(bundle: Path, tmp_path: Path) -> None:
    figures = tmp_path / "track.json"
    arguments = ["bench", "track", "--bundle", str(bundle), "--threads", "1", "--rendered", "1", "--seed", "4"]
    done = CliRunner().invoke(app, [*arguments, "--json", str(figures)])
    assert done.exit_code == 0, done.output
    found = json.loads(figures.read_text())
    assert (found["frames"], found["objects"]) == (100, 1)
    assert [row["name"] for row in found["sequences"]] == ["rendered-4-000"]
    assert found["sequences"][0]["hidden_frames"] >= 3


def test_wrong_usage_is_refused(bundle: Path, tmp_path: Path) -> None:
    arguments = ["bench", "track", "--bundle", str(bundle)]
    for wrong in (["--davis", str(tmp_path), "--seed", "1"], ["--davis-set", "val"], ["--rendered", "0"]):
        assert CliRunner().invoke(app, [*arguments, *wrong]).exit_code == 2
    nothing = CliRunner().invoke(app, [*arguments, "--davis", str(tmp_path)])
    assert nothing.exit_code == 1
    assert "JPEGImages" in nothing.output
