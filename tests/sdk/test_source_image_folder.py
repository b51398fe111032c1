from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from video_tools import number_of, numbered

from vsdk.errors import (
    InputError,
    SourceChangedError,
    SourceEmptyError,
    SourceNotFoundError,
    SourceUnreadableError,
)
from vsdk.frame import Frame, Image
from vsdk.sources.image_folder import ImageFolder

GREY_LEVELS = np.tile(np.arange(256, dtype=np.uint8), (16, 1))


def _save(path: Path, image: Image | None = None, **how: object) -> None:
    PIL.Image.fromarray(numbered(0) if image is None else image).save(path, **how)  # type: ignore[arg-type]


def _only(folder: Path) -> Frame:
    with ImageFolder(folder) as source:
        (frame,) = source
    assert frame.image.dtype == np.uint8
    return frame


def test_numbers_in_names_count_as_numbers(tmp_path: Path) -> None:
    names = ["frame1.png", "frame2.png", "frame10.png", "Frame11.PNG", "frame100.png", "take2_9.png", "take10_1.png"]
    for index, name in enumerate(names):
        _save(tmp_path / name, numbered(index))
    with ImageFolder(tmp_path) as source:
        assert [number_of(frame.image) for frame in source] == list(range(len(names)))


def test_leading_zeros_and_names_without_numbers_have_an_order_too(tmp_path: Path) -> None:
    for index, name in enumerate(["007.png", "08.png", "8.png", "9.png", "b.png", "ß.png", "²5.png"]):
        _save(tmp_path / name, numbered(index))
    with ImageFolder(tmp_path) as source:
        shown = [number_of(frame.image) for frame in source]
    assert shown[:4] == [0, 1, 2, 3]
    assert sorted(shown) == list(range(7))


def test_everything_else_in_the_folder_is_left_alone(tmp_path: Path) -> None:
    _save(tmp_path / "1.png")
    _save(tmp_path / ".hidden.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "2.png").mkdir()
    _save(tmp_path / "2.png" / "inner.png")
    with ImageFolder(tmp_path) as source:
        assert source.info.frame_count == 1
        assert len(list(source)) == 1


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "png", "bmp", "webp", "tif", "tiff", "JPG", "Tiff"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    _save(tmp_path / f"picture.{suffix}", numbered(0b10110100))
    assert number_of(_only(tmp_path).image) == 0b10110100


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, orientation: int) -> None:
    stored = np.zeros((40, 60, 3), np.uint8)
    stored[:20, :30] = 255
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    _save(tmp_path / "picture.png", stored, exif=exif)
    mirrored = stored[:, ::-1]
    upright = {
        1: stored,
        2: mirrored,
        3: np.rot90(stored, 2),
        4: stored[::-1],
        5: np.rot90(mirrored, 1),
        6: np.rot90(stored, -1),
        7: np.rot90(mirrored, -1),
        8: np.rot90(stored, 1),
    }[orientation]
    frame = _only(tmp_path)
    np.testing.assert_array_equal(frame.image, upright)


def _palette(path: Path) -> Image:
    picture = PIL.Image.fromarray(numbered(5)).quantize(16)
    picture.save(path)
    return numbered(5)


def _grey(path: Path) -> Image:
    PIL.Image.fromarray(GREY_LEVELS).save(path)
    return np.repeat(GREY_LEVELS[:, :, None], 3, axis=2)


def _grey_with_alpha(path: Path) -> Image:
    alpha = PIL.Image.fromarray(GREY_LEVELS[:, ::-1].copy())
    PIL.Image.merge("LA", (PIL.Image.fromarray(GREY_LEVELS), alpha)).save(path)
    return np.repeat(GREY_LEVELS[:, :, None], 3, axis=2)


def _rgba(path: Path) -> Image:
    alpha = np.full((64, 96, 1), 100, np.uint8)
    PIL.Image.fromarray(np.concatenate([numbered(9), alpha], axis=2)).save(path)
    return numbered(9)


def _sixteen_bits(path: Path) -> Image:
    PIL.Image.fromarray(GREY_LEVELS.astype(np.uint16) * 256 + 255).save(path)
    return np.repeat(GREY_LEVELS[:, :, None], 3, axis=2)


def _black_and_white(path: Path) -> Image:
    PIL.Image.fromarray(GREY_LEVELS > 100).save(path)
    return np.repeat(np.where(GREY_LEVELS > 100, 255, 0).astype(np.uint8)[:, :, None], 3, axis=2)


@pytest.mark.parametrize("make", [_palette, _grey, _grey_with_alpha, _rgba, _sixteen_bits, _black_and_white])
@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_other_modes_become_rgb(tmp_path: Path, make: Callable[[Path], Image], suffix: str) -> None:
    expected = make(tmp_path / f"picture.{suffix}")
    np.testing.assert_array_equal(_only(tmp_path).image, expected)


def test_cmyk_jpeg(tmp_path: Path) -> None:
    PIL.Image.fromarray(numbered(77)).convert("CMYK").save(tmp_path / "picture.jpg", quality=95)
    assert number_of(_only(tmp_path).image) == 77


def test_floating_point_pictures_are_refused(tmp_path: Path) -> None:
    PIL.Image.fromarray(np.zeros((8, 8), np.float32)).save(tmp_path / "depth.tiff")
    with pytest.raises(SourceUnreadableError, match=r"depth\.tiff.*floating-point"):
        ImageFolder(tmp_path)


@pytest.mark.parametrize(("rate", "step"), [(10, Fraction(1, 10)), (29.97, Fraction(100, 2997)), (Fraction(1, 3), 3)])
def test_time_follows_the_frame_rate(tmp_path: Path, rate: float, step: Fraction) -> None:
    for index in range(4):
        _save(tmp_path / f"{index}.png")
    with ImageFolder(tmp_path, frame_rate=rate) as source:
        assert source.info.frame_rate == 1 / Fraction(step)
        assert [frame.time for frame in source] == [step * index for index in range(4)]


def test_refuses_a_frame_rate_that_is_none(tmp_path: Path) -> None:
    _save(tmp_path / "1.png")
    with pytest.raises(InputError, match="frame rate"):
        ImageFolder(tmp_path, frame_rate=0)


def _cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _text(path: Path) -> None:
    path.write_text("not a picture")


def _postscript(path: Path) -> None:
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 96 64\n%%EndComments\nshowpage\n")


def _header_damaged(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:20] + bytes(60) + data[80:])


@pytest.mark.parametrize("damage", [_cut_short, _empty, _text, _postscript, _header_damaged])
@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff", "bmp", "webp"])
def test_a_damaged_picture_is_an_error_after_those_before_it(
    tmp_path: Path, damage: Callable[[Path], None], suffix: str
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    for index in range(5):
        _save(tmp_path / f"{index}.{suffix}", noise)
    damage(tmp_path / f"3.{suffix}")
    frames: list[Frame] = []
    with ImageFolder(tmp_path) as source:
        with pytest.raises(SourceUnreadableError, match=rf"3\.{suffix} cannot be read as a picture"):
            frames.extend(iter(source.read, None))
        with pytest.raises(SourceUnreadableError):
            source.read()
        source.close()
    with ImageFolder(tmp_path) as source:
        for number, frame in enumerate(itertools.islice(source, 3)):
            assert frame.number == number
            assert frame.image.shape == (64, 96, 3)


def test_a_damaged_first_picture_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"no")
    _save(tmp_path / "1.png")
    with pytest.raises(SourceUnreadableError, match=r"0\.png"):
        ImageFolder(tmp_path)


def test_a_picture_that_would_fill_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 1000)
    _save(tmp_path / "huge.png")
    with pytest.raises(SourceUnreadableError, match=r"huge\.png.*pixels"):
        ImageFolder(tmp_path)


def test_another_size_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    for index in range(3):
        _save(tmp_path / f"{index}.png", numbered(index))
    _save(tmp_path / "3.png", numbered(3, 48, 32))
    with ImageFolder(tmp_path) as source:
        assert [number_of(frame.image) for frame in itertools.islice(source, 3)] == [0, 1, 2]
        with pytest.raises(SourceChangedError, match=r"3\.png \(frame 3\) is 48x32, the frames before it are 96x64"):
            source.read()


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(SourceEmptyError, match=str(tmp_path)) as caught:
        ImageFolder(tmp_path)
    assert ".png" in caught.value.hint


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    _save(tmp_path / "1.png")
    with pytest.raises(SourceUnreadableError, match="is a file"):
        ImageFolder(tmp_path / "1.png")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="does not exist"):
        ImageFolder(tmp_path / "nowhere")


def test_a_picture_that_disappears_while_it_is_its_turn(tmp_path: Path) -> None:
    for index in range(3):
        _save(tmp_path / f"{index}.png")
    with ImageFolder(tmp_path) as source:
        source.read()
        (tmp_path / "1.png").unlink()
        with pytest.raises(SourceUnreadableError, match=r"1\.png"):
            source.read()
