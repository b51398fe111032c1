"""The examples for programs that have a loop of their own: ROS 2, GStreamer and asyncio.

ROS: where `rclpy` is not installed, `ros_stand_in` takes its place; the run of the whole node is with the stand-in
everywhere, because its topics need no network and no second process. GStreamer: what needs none runs here, with
buffers whose memory is taken away as GStreamer takes it away; `gstreamer_appsink_example.py` is run by hand, on a
machine that has it.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import Iterator
from contextlib import aclosing
from fractions import Fraction
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from example_tools import EXAMPLES, RATE, load_example, pictures_of, pushed, run_example

import vsdk
from vsdk.errors import InputError
from vsdk.events import to_json
from vsdk.frame import Image
from vsdk.sources.base import Source, SourceInfo
from vsdk.stream import READ_AHEAD

ROS_STAND_IN = Path(__file__).parent / "ros_stand_in"


@pytest.mark.parametrize("name", ["ros2_node.py", "gstreamer_appsink.py", "asyncio_app.py", "record_scenes.py"])
def test_every_script_explains_itself(name: str) -> None:
    done = run_example(name, "--help", PYTHONPATH=str(ROS_STAND_IN))
    assert done.returncode == 0, done.stderr
    assert "examples/" + name in done.stdout or "usage: " + name in done.stdout


# ROS 2


@pytest.fixture
def ros(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The example as a module, with ROS's own messages where ROS is installed."""
    if importlib.util.find_spec("rclpy") is None:
        monkeypatch.syspath_prepend(str(ROS_STAND_IN))
    before = set(sys.modules)
    yield load_example("ros2_node")
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("rclpy", "sensor_msgs", "std_msgs"):
            del sys.modules[name]


def message_of(pixels: np.ndarray[Any, Any], encoding: str, padding: int) -> Any:
    """An image message whose rows have padding of a conspicuous value."""
    from sensor_msgs.msg import Image as Message

    height, width = pixels.shape[:2]
    rows = np.pad(pixels.reshape(height, -1), ((0, 0), (0, padding)), constant_values=77)
    message = Message(height=height, width=width, encoding=encoding, step=rows.shape[1])
    message.data = array("B", rows.tobytes())
    return message


@pytest.mark.parametrize("padding", [0, 1, 13])
@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "mono8"])
def test_ros_images_are_viewed_without_a_copy(ros: ModuleType, encoding: str, padding: int) -> None:
    shape = (37, 51) if encoding == "mono8" else (37, 51, 3)
    pixels = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    message = message_of(pixels, encoding, padding)
    view = ros.view_of(message)
    np.testing.assert_array_equal(view, pixels if pixels.ndim == 3 else np.stack([pixels] * 3, axis=-1))
    assert np.shares_memory(view, np.frombuffer(message.data, np.uint8))
    assert not view.flags.writeable
    assert vsdk.Pipeline().push(view, 0)[0].type == "start"


def test_ros_images_that_are_none_are_refused(ros: ModuleType) -> None:
    pixels = np.zeros((4, 6, 3), np.uint8)
    message = message_of(pixels, "bgr8", 2)
    message.encoding = "bayer_rggb8"
    with pytest.raises(InputError, match="'bayer_rggb8' is not one of rgb8, bgr8, mono8"):
        ros.view_of(message)
    message = message_of(pixels, "bgr8", 2)
    message.data = message.data[:-9]
    with pytest.raises(InputError, match="6x4 bgr8 with rows of 20 bytes has 71 bytes"):
        ros.view_of(message)
    message.step = 0  # as some publishers leave it
    with pytest.raises(InputError, match="rows of 0 bytes"):
        ros.view_of(message)


def test_the_ros_node_publishes_what_the_pipeline_says(clip: Path) -> None:
    """Rows with padding, BGR, stamps of the wall clock; after Ctrl-C the last scene and the end are still published."""
    done = run_example("ros2_node.py", PYTHONPATH=str(ROS_STAND_IN), STAND_IN_CAMERA=str(clip))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    expected = pushed(pictures_of(clip), begin_ns=1_700_000_000_600_000_000)
    assert done.stdout.splitlines() == [f"scenes {to_json(event)}" for event in expected]
    assert [event.type for event in expected].count("scene") == 2


def test_the_ros_node_survives_bad_messages_and_clocks_that_go_back(clip: Path) -> None:
    program = """
import sys
sys.path.insert(0, sys.argv[1])
import rclpy, ros2_node
from rclpy.signals import SignalHandlerOptions
rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
node = ros2_node.SceneNode()
messages = list(rclpy._camera)[:20]
for message in messages[:10]:
    node.on_image(message)
node.on_image(messages[9])  # the same stamp again
messages[10].encoding = "yuv422"
for message in messages[10:]:
    node.on_image(message)
node.on_image(messages[0])
node.finish()
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(EXAMPLES)],
        env={**os.environ, "PYTHONPATH": str(ROS_STAND_IN), "STAND_IN_CAMERA": str(clip)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    repeated, _, unknown, back = done.stderr.splitlines()
    assert repeated.startswith("error: image: frame 10 has the time")
    assert unknown == "error: the encoding 'yuv422' is not one of rgb8, bgr8, mono8"
    assert back == "warning: time went back: a new stream begins"
    events = [json.loads(line.removeprefix("scenes ")) for line in done.stdout.splitlines()]
    assert [event["type"] for event in events if event["type"] != "memory"] == ["start", "scene", "end"] * 2
    assert [event["frames"] for event in events if event["type"] == "end"] == [19, 1]


# GStreamer


class Buffer:
    """A buffer of GStreamer as its bindings show it: what was mapped is somebody else's after `unmap`."""

    def __init__(self, rows: np.ndarray[Any, Any], pts: int) -> None:
        self.pts, self.mapped = pts, 0
        self._memory = bytearray(rows.tobytes())

    def map(self, flags: str) -> tuple[bool, Any]:
        assert flags == "read"
        self.mapped += 1
        return True, SimpleNamespace(data=memoryview(self._memory))

    def unmap(self, mapped: Any) -> None:
        mapped.data.release()
        self._memory[:] = bytes(len(self._memory))
        self.mapped -= 1


def sample_of(buffer: Buffer, width: int, height: int) -> Any:
    return SimpleNamespace(get_buffer=lambda: buffer, get_caps=lambda: (width, height))


class Appsink:
    def __init__(self, sample: Any) -> None:
        self._sample = sample

    def emit(self, signal: str) -> Any:
        assert signal == "pull-sample"
        return self._sample


PADDING, OFFSET = 14, 96


def bindings() -> Any:
    """What the callback asks the bindings: the caps tell the size, the buffer's own meta data where the rows lie."""
    gst = SimpleNamespace(
        MapFlags=SimpleNamespace(READ="read"),
        FlowReturn=SimpleNamespace(OK="ok", ERROR="error"),
        CLOCK_TIME_NONE=2**64 - 1,
    )
    video = SimpleNamespace(
        VideoInfo=SimpleNamespace(new_from_caps=lambda caps: SimpleNamespace(width=caps[0], height=caps[1])),
        buffer_get_video_meta=lambda buffer: SimpleNamespace(offset=[OFFSET], stride=[192 * 3 + PADDING]),
    )
    return SimpleNamespace(gst=gst, video=video)


def buffer_of(picture: Image, pts: int) -> Buffer:
    rows = np.pad(picture.reshape(len(picture), -1), ((0, 0), (0, PADDING)), constant_values=77)
    return Buffer(np.concatenate([np.full(OFFSET, 55, np.uint8), rows.ravel()]), pts)


def test_the_appsink_callback_uses_memory_only_while_it_is_mapped(
    clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finder = load_example("gstreamer_appsink").SceneFinder(bindings())
    found: list[vsdk.Event] = []
    finder.report, report = found.extend, finder.report
    pictures = pictures_of(clip)
    for number, picture in enumerate(pictures):
        buffer = buffer_of(picture, number * 40_000_000)
        assert finder.on_new_sample(Appsink(sample_of(buffer, 192, 128))) == "ok"
        assert buffer.mapped == 0
    found += finder.pipeline.flush()
    expected = [event for event in pushed(pictures) if event.type == "scene"]
    scenes = [event for event in found if event.type == "scene"]
    assert scenes == expected
    for scene, other in zip(scenes, expected, strict=True):
        assert scene.features is not None
        assert other.features is not None
        np.testing.assert_array_equal(scene.features.cls, other.features.cls)
        assert scene.picture is not None
        assert other.picture is not None
        np.testing.assert_array_equal(scene.picture, other.picture)
    report(found)
    assert capsys.readouterr().out == "scene 0: 0.00 s to 1.20 s\nscene 1: 1.20 s to 2.40 s\n"


@pytest.mark.parametrize(("pts", "said"), [(40_000_000, "Times must increase"), (2**64 - 1, "without a time stamp")])
def test_what_fails_in_the_appsink_callback_is_kept_and_nothing_stays_mapped(clip: Path, pts: int, said: str) -> None:
    finder = load_example("gstreamer_appsink").SceneFinder(bindings())
    first, second = (
        buffer_of(picture, stamp) for picture, stamp in zip(pictures_of(clip)[:2], (40_000_000, pts), strict=True)
    )
    assert finder.on_new_sample(Appsink(sample_of(first, 192, 128))) == "ok"
    assert finder.on_new_sample(Appsink(sample_of(second, 192, 128))) == "error"
    assert isinstance(finder.failure, vsdk.Error)
    assert said in str(finder.failure)
    assert second.mapped == 0


def test_without_gstreamer_the_appsink_example_says_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "gi.py").write_text("raise ImportError")
    done = run_example("gstreamer_appsink.py", "videotestsrc", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert "sudo apt install python3-gi" in done.stderr
    assert "Traceback" not in done.stderr


# asyncio


class Scripted(Source):
    """Gives `count` pictures as fast as they are taken, and then nothing, until it is interrupted."""

    info = SourceInfo("scripted", 64, 48, None, None)

    def __init__(self, count: int) -> None:
        self.count, self.given, self.closed = count, 0, False
        self._interrupted = threading.Event()

    def read(self) -> vsdk.Frame | None:

        if self.given == self.count:
            self._interrupted.wait()
            return None
        number, self.given = self.given, self.given + 1
        picture = np.full((48, 64, 3), (number * 37 % 256, number * 91 % 256, 128), np.uint8)
        picture[: number % 48] = 255 - picture[: number % 48]
        return vsdk.Frame(picture, number, Fraction(number, RATE), number, Fraction(1, RATE), time.monotonic_ns())

    def interrupt(self) -> None:
        self._interrupted.set()

    def close(self) -> None:
        self.closed = True


def test_the_asyncio_program_prints_the_scenes(clip: Path) -> None:
    done = run_example("asyncio_app.py", clip)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["scene 0: 0.00 s to 1.20 s", "scene 1: 1.20 s to 2.40 s"]


def test_a_silent_source_does_not_block_the_loop_and_cancelling_closes_it_within_a_second() -> None:
    example = load_example("asyncio_app")
    source = Scripted(0)

    async def consume() -> None:
        async for event in example.events_of(source):
            started.set()
            assert event.type == "start"

    async def run() -> float:
        task = asyncio.create_task(consume())
        await asyncio.wait_for(started.wait(), 60)
        for _ in range(20):  # a loop that is blocked does not get beyond this
            await asyncio.sleep(0.01)
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.monotonic() - began

    started = asyncio.Event()
    seconds = asyncio.run(asyncio.wait_for(run(), 90))
    assert seconds < 1
    assert source.closed
    names = [thread.name for thread in threading.enumerate()]
    assert "vsdk-reader" not in names


def test_a_consumer_that_is_busy_holds_a_recording_back() -> None:
    """Nothing happens between two events but what is read ahead."""
    example = load_example("asyncio_app")
    source = Scripted(500)

    async def run() -> None:
        async with aclosing(example.events_of(source)) as events:
            assert (await anext(events)).type == "start"
            while source.given < READ_AHEAD:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)
            assert source.given == READ_AHEAD

    asyncio.run(asyncio.wait_for(run(), 90))
    assert source.closed
