"""What trackers are judged on: rendered sequences are as hard as stated, and DAVIS folders are read as they are."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from vsdk.bench.davis import DavisSequence, davis_sequences
from vsdk.bench.rendered_sequences import Properties, RenderedSequence, measure_properties, rendered_sequences
from vsdk.bench.track_draft import draft_scene
from vsdk.bench.track_scene import FRAMES, HEIGHT, OVERSAMPLING, WIDTH
from vsdk.bench.track_shapes import SHAPES, area_of, draw_coverage, reach_of
from vsdk.bench.track_textures import TEXTURES
from vsdk.errors import Error, InputError, SourceEmptyError, SourceError, SourceNotFoundError, SourceUnreadableError

Pictures = npt.NDArray[np.uint8]


def read(sequence: RenderedSequence) -> tuple[Pictures, Pictures]:
    pictures, labels = zip(*sequence.frames(), strict=True)
    return np.stack(pictures), np.stack(labels)


@pytest.fixture(scope="module", params=[(0, 2), (5, 1)], ids=str)
def rendered(request: pytest.FixtureRequest) -> tuple[RenderedSequence, Pictures, Pictures]:
    sequence = RenderedSequence(*request.param)
    return sequence, *read(sequence)


def test_the_masks_are_those_that_were_checked(rendered: tuple[RenderedSequence, Pictures, Pictures]) -> None:
    sequence, pictures, labels = rendered
    assert pictures.shape == (len(sequence), HEIGHT, WIDTH, 3) == (100, 240, 320, 3)
    assert set(np.unique(labels)) <= {0, 1}
    shares = (labels == 1).mean(axis=(1, 2))
    properties = sequence.properties()
    np.testing.assert_allclose(shares, properties.area)
    assert 0.02 <= shares[0] <= 0.15
    assert 0.02 <= np.median(shares[shares > 0]) <= 0.15
    assert (properties.hidden > 0) == bool((shares == 0).any())


@pytest.mark.parametrize("seed", range(3))
def test_every_sequence_is_hard_in_the_stated_ways(seed: int) -> None:
    disappearing = 0
    for sequence in rendered_sequences(3, seed):
        found = sequence.properties()
        free = [area for area, visible in zip(found.area, found.visible, strict=True) if visible >= 0.9]
        assert min(free) >= 0.02
        assert max(free) <= 0.15
        assert found.visible[0] == 1
        assert sum(distance <= 1 for distance in found.near) >= 3
        assert 0.2 <= np.mean([visible < 0.9 for visible in found.visible]) <= 0.6
        disappearing += found.visible.count(0.0) >= 3
    assert disappearing >= 2


def test_a_draft_without_a_property_is_not_taken() -> None:
    scene = draft_scene(np.random.default_rng(1), True)
    good = Properties((0.05,) * FRAMES, (1.0,) * 70 + (0.5,) * 25 + (0.0,) * 5, (0.5, 0.9, 1.0), True)
    assert measure_properties(scene, True).look_alikes >= 3
    assert good.hold
    assert not Properties((0.16,) * FRAMES, good.visible, good.near, True).hold
    assert not Properties((0.05,) * 9 + (0.019,) * 91, good.visible, good.near, True).hold
    assert not Properties(good.area, (1.0,) * 97 + (0.0,) * 3, good.near, True).hold
    assert not Properties(good.area, (1.0,) * 70 + (0.5,) * 30, good.near, True).hold
    assert Properties(good.area, (1.0,) * 70 + (0.5,) * 30, good.near, False).hold
    assert not Properties(good.area, (0.9, *good.visible[1:]), good.near, True).hold
    assert not Properties(good.area, good.visible, (0.5, 0.9, 1.1), True).hold


def test_a_sequence_is_the_same_each_time_and_another_one_for_another_seed(
    rendered: tuple[RenderedSequence, Pictures, Pictures],
) -> None:
    sequence, pictures, labels = rendered
    for number, (image, label) in enumerate(islice(sequence.frames(), 20)):
        assert np.array_equal(image, pictures[number])
        assert np.array_equal(label, labels[number])
    image, _ = next(RenderedSequence(77, 0).frames())
    assert not np.array_equal(image, pictures[0])


def test_the_mask_is_where_the_object_is_drawn(rendered: tuple[RenderedSequence, Pictures, Pictures]) -> None:
    """Drawn once with the object's paint and once with black: what differs is what the labels say."""
    sequence, _, _ = rendered
    scene = next(
        draft for draft in (draft_scene(np.random.default_rng(n), False) for n in range(20))
        if draft.target_pixels(30)[1] > 1000
    )  # fmt: skip
    target = scene.items[scene.target]
    _, labels = scene.render(30, np.random.default_rng(0))
    pictures = []
    for shade in (0.0, 255.0):
        flat = type(target.paint)("woven", np.full((2, 3), shade, np.float32), target.paint.side, 20.0, 0)
        items = list(scene.items)
        items[scene.target] = type(target)(target.outline, flat, target.motion, target.bend)
        changed = type(scene)(scene.grounds, scene.border, tuple(items), scene.target, scene.camera, scene.light)
        pictures.append(changed.render(30, np.random.default_rng(0))[0].astype(int))
    differs = np.abs(pictures[1] - pictures[0]).max(axis=2)
    assert (differs[labels == 1] > 60).all()
    wrong = (differs > 20) & (labels == 0)  # pixels at the edge, of which it covers less than half
    assert wrong.sum() < 0.5 * (differs > 20).sum()
    assert len(sequence.scored) == 99


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_fit_their_reach_and_have_smooth_edges(name: str) -> None:
    for seed in range(5):
        outline = SHAPES[name](np.random.default_rng(seed))
        scale = 50 / reach_of(outline)
        drawn = draw_coverage(outline(0.0), (110, 110), np.eye(2) * scale, np.array([55.0, 55.0]), OVERSAMPLING)
        coverage = np.asarray(drawn).astype(float) / 255
        assert coverage[:4].sum() + coverage[-4:].sum() + coverage[:, :4].sum() + coverage[:, -4:].sum() == 0
        assert coverage.sum() / scale**2 == pytest.approx(area_of(outline), rel=0.06)
        assert 0.02 < ((coverage > 0) & (coverage < 1)).sum() / (coverage > 0).sum() < 0.6


@pytest.mark.parametrize("name", TEXTURES)
def test_textures_have_contrast_and_differ_by_seed(name: str) -> None:
    one, other = (TEXTURES[name](np.random.default_rng(seed), 96, 16.0) for seed in (0, 1))
    assert one.shape == (96, 96)
    assert one.dtype == np.float32
    assert one.min() >= 0
    assert one.max() <= 1
    assert one.std() > 0.1
    assert np.abs(one - other).mean() > 0.02


def test_impossible_sequences_are_refused() -> None:
    with pytest.raises(InputError):
        rendered_sequences(0)
    with pytest.raises(InputError):
        rendered_sequences(2, -1)


PALETTE = [0, 0, 0, 200, 0, 0, 0, 200, 0, 0, 0, 200] + [128] * 252 * 3


def write_davis(
    root: Path, names: tuple[str, ...] = ("bear", "camel"), frames: int = 5, resolution: str = "480p"
) -> Path:
    """A folder in DAVIS format: objects 1 and 3 move to the right, and there is a void corner."""
    for number, name in enumerate(names):
        pictures, annotations = (root / part / resolution / name for part in ("JPEGImages", "Annotations"))
        pictures.mkdir(parents=True)
        annotations.mkdir(parents=True)
        for frame in range(frames):
            labels = np.zeros((48, 64), np.uint8)
            labels[10:20, 5 + frame : 20 + frame], labels[30:40, 8 + frame : 20 + frame] = 1, 3
            labels[:3, :3] = 255
            image = np.full((48, 64, 3), 90 + 10 * number, np.uint8)
            image[labels == 1] = (200, 30, 30)
            Image.fromarray(image).save(pictures / f"{frame:05d}.jpg", quality=95)
            write_annotation(annotations / f"{frame:05d}.png", labels)
    return root


def write_annotation(path: Path, labels: Pictures) -> None:
    annotation = Image.fromarray(labels, "P")
    annotation.putpalette(PALETTE)
    annotation.save(path)


def test_a_davis_folder_is_read_as_it_is(tmp_path: Path) -> None:
    sequences = davis_sequences(write_davis(tmp_path))
    assert [sequence.name for sequence in sequences] == ["bear", "camel"]
    for sequence in sequences:
        assert len(sequence) == 5
        assert list(sequence.scored) == [1, 2, 3]
        frames = list(sequence.frames())
        assert len(frames) == 5
        for number, (image, labels) in enumerate(frames):
            assert image.shape == (48, 64, 3)
            assert labels[15, 6 + number] == 1
            assert labels[35, 19 + number] == 3
            assert labels[0, 0] == 255
            assert image[15, 12, 0] > 150


def test_sets_name_the_sequences(tmp_path: Path) -> None:
    write_davis(tmp_path)
    sets = tmp_path / "ImageSets" / "2017"
    sets.mkdir(parents=True)
    (sets / "val.txt").write_text("camel\n")
    (sets / "train.txt").write_text("bear\n")
    assert [sequence.name for sequence in davis_sequences(tmp_path)] == ["camel"]
    assert [sequence.name for sequence in davis_sequences(tmp_path, "train")] == ["bear"]
    with pytest.raises(SourceNotFoundError, match="test-dev"):
        davis_sequences(tmp_path, "test-dev")


def test_480p_is_taken_where_there_are_several_resolutions(tmp_path: Path) -> None:
    write_davis(tmp_path, ("bear",))
    write_davis(tmp_path, ("camel",), resolution="Full-Resolution")
    assert [sequence.name for sequence in davis_sequences(tmp_path)] == ["bear"]
    (tmp_path / "JPEGImages" / "480p").rename(tmp_path / "JPEGImages" / "1080p")
    with pytest.raises(InputError, match="2 resolutions"):
        davis_sequences(tmp_path)


def missing(root: Path) -> None:
    (root / "Annotations" / "480p" / "bear" / "00003.png").unlink()


def not_annotated(root: Path) -> None:
    (root / "Annotations" / "480p" / "bear").rename(root / "Annotations" / "480p" / "hare")


def without_palette(root: Path) -> None:
    Image.new("L", (64, 48)).save(root / "Annotations" / "480p" / "bear" / "00002.png")


def of_another_size(root: Path) -> None:
    write_annotation(root / "Annotations" / "480p" / "bear" / "00002.png", np.zeros((24, 32), np.uint8))


def damaged(root: Path) -> None:
    (root / "Annotations" / "480p" / "bear" / "00002.png").write_bytes(b"not a picture")


def empty(root: Path) -> None:
    write_annotation(root / "Annotations" / "480p" / "bear" / "00000.png", np.zeros((48, 64), np.uint8))


def too_short(root: Path) -> None:
    for number in range(2, 5):
        (root / "JPEGImages" / "480p" / "bear" / f"{number:05d}.jpg").unlink()


def no_davis(root: Path) -> None:
    (root / "JPEGImages").rename(root / "Pictures")


@pytest.mark.parametrize(
    ("spoil", "error", "says"),
    [
        (missing, SourceNotFoundError, "00003.png"),
        (not_annotated, SourceNotFoundError, "bear"),
        (without_palette, SourceUnreadableError, "no palette"),
        (of_another_size, SourceUnreadableError, "32x24.*64x48"),
        (damaged, SourceUnreadableError, "00002.png"),
        (empty, SourceEmptyError, "no object"),
        (too_short, SourceEmptyError, "2 pictures"),
        (no_davis, SourceNotFoundError, "JPEGImages"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, spoil: Callable[[Path], None], error: type[Error], says: str) -> None:
    spoil(write_davis(tmp_path))
    with pytest.raises(error, match=says):
        davis_sequences(tmp_path)


def test_an_annotation_that_ends_too_early_is_named(tmp_path: Path) -> None:
    write_davis(tmp_path)
    path = tmp_path / "Annotations" / "480p" / "bear" / "00002.png"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(SourceError, match="00002"):
        list(DavisSequence(tmp_path / "JPEGImages" / "480p" / "bear", path.parent).frames())
