"""The contact sheet: every scene is on it, in proportion, and it stays a sane size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from vsdk.events import End, Scene, Start
from vsdk.sinks.contact_sheet import MAX_PICTURES, ContactSheet
from vsdk.sinks.drawing import clock, duration, scene_color
from vsdk_runtimes.errors import SinkError

RGB = npt.NDArray[np.uint8]

START = Start("clip.mp4", "nano", "0" * 64, "onnxruntime on cpu, fp32")


def plain(color: tuple[int, int, int], height: int = 90, width: int = 160) -> RGB:
    return np.full((height, width, 3), color, np.uint8)


def scene(index: int, start: float, end: float, picture: RGB | None) -> Scene:
    return Scene(index, index, index, start, end, None, None, picture)


def sheet_of(scenes: list[Scene], path: Path) -> RGB:
    with ContactSheet(path) as sink:
        sink.write_event(START)
        for each in scenes:
            sink.write_event(each)
        sink.write_event(End("end", len(scenes), len(scenes), len(scenes)))
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def extent(sheet: RGB, color: tuple[int, int, int]) -> tuple[int, int]:
    """Height and width of the area of one colour."""
    rows, columns = np.nonzero((np.abs(sheet.astype(int) - color) <= 4).all(axis=-1))
    return int(rows.max() - rows.min() + 1), int(columns.max() - columns.min() + 1)


@pytest.mark.parametrize("size", [(90, 160), (160, 90), (100, 100), (40, 90)], ids=str)
def test_every_scene_has_its_picture_at_its_aspect(size: tuple[int, int], tmp_path: Path) -> None:
    colors = [(250, 10, 10), (10, 250, 10), (10, 10, 250), (250, 250, 10), (250, 10, 250)]
    scenes = [scene(i, float(i), i + 1.0, plain(color, *size)) for i, color in enumerate(colors)]
    sheet = sheet_of(scenes, tmp_path / "sheet.png")
    extents = [extent(sheet, color) for color in colors]
    assert len(set(extents)) == 1, "all pictures have one size"
    height, width = extents[0]
    assert width / height == pytest.approx(size[1] / size[0], rel=0.03)
    assert width > 100


def test_pictures_of_another_aspect_fit_into_the_same_cells(tmp_path: Path) -> None:
    scenes = [scene(0, 0.0, 1.0, plain((250, 10, 10))), scene(1, 1.0, 2.0, plain((10, 250, 10), 160, 90))]
    sheet = sheet_of(scenes, tmp_path / "sheet.png")
    wide, tall = extent(sheet, (250, 10, 10)), extent(sheet, (10, 250, 10))
    assert tall[0] == pytest.approx(wide[0], abs=1)
    assert tall[1] / tall[0] == pytest.approx(9 / 16, rel=0.03)


def test_the_bar_shows_lengths_in_proportion(tmp_path: Path) -> None:
    lengths = [1.0, 4.0, 2.0, 3.0]
    starts = [10.0, 11.0, 15.0, 17.0]
    scenes = [scene(i, starts[i], starts[i] + lengths[i], None) for i in range(4)]
    sheet = sheet_of(scenes, tmp_path / "sheet.png").astype(int)
    colors = [scene_color(index) for index in range(4)]
    bar = next(row for row in sheet if all((row == color).all(axis=-1).any() for color in colors))
    shown = [int((bar == color).all(axis=-1).sum()) for color in colors]
    assert [pixels / sum(shown) for pixels in shown] == pytest.approx([0.1, 0.4, 0.2, 0.3], abs=0.01)


def test_without_scenes_it_is_still_a_picture(tmp_path: Path) -> None:
    assert sheet_of([], tmp_path / "sheet.png").shape[1] == 1600
    with ContactSheet(tmp_path / "nothing.png"):
        pass
    with Image.open(tmp_path / "nothing.png") as image:
        image.load()


@pytest.mark.parametrize("count", [1, 2, 30, 500])
def test_the_page_stays_a_sane_size(count: int, tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    rng = np.random.default_rng(0)
    pictures = [np.asarray(Image.fromarray(rng.integers(0, 256, (9, 16, 3), np.uint8)).resize((320, 180)))] * count
    scenes = [scene(i, float(i), i + 1.0, picture) for i, picture in enumerate(pictures)]
    sheet = sheet_of(scenes, path)
    assert sheet.shape[1] == 1600
    assert sheet.shape[0] < 6000
    assert path.stat().st_size < 12_000_000


def test_of_very_many_scenes_an_even_selection_is_kept(tmp_path: Path) -> None:
    count = 3 * MAX_PICTURES
    picture = plain((250, 10, 10), 9, 16)
    marked = plain((10, 250, 10), 9, 16)
    scenes = [scene(i, float(i), i + 1.0, marked if i >= count // 2 else picture) for i in range(count)]
    sheet = sheet_of(scenes, tmp_path / "sheet.png")
    assert sheet.shape[0] < 6000
    red, green = (int((sheet[..., channel] > 245).sum()) for channel in (0, 1))  # brighter than text and lines
    assert red / (red + green) == pytest.approx(0.5, abs=0.02)


def test_the_old_sheet_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    path.write_bytes(b"old")
    sink = ContactSheet(path)
    sink.write_event(START)
    sink.write_event(scene(0, 0.0, 1.0, plain((9, 9, 9))))
    assert path.read_bytes() == b"old"
    sink.close()
    with Image.open(path) as image:
        image.load()


@pytest.mark.parametrize("device", ["/dev/null", "/dev/full"])
def test_a_device_is_not_replaced_by_a_picture(device: str) -> None:
    with pytest.raises(SinkError, match="not a regular file"):
        ContactSheet(device)
    assert Path(device).is_char_device()


def test_times_are_written_as_people_write_them() -> None:
    written = [clock(seconds) for seconds in (0, 7.46, 59.96, 75.25, 3599.99, 3723.4, -2.5)]
    assert written == ["0:00.0", "0:07.5", "1:00.0", "1:15.2", "1:00:00.0", "1:02:03.4", "-0:02.5"]
    assert [duration(seconds) for seconds in (0.04, 59.94, 59.96, 90)] == ["0.0 s", "59.9 s", "1:00.0", "1:30.0"]
