"""The appsink example with a real GStreamer, on a machine that has one; the tests of every day do without.

    sudo apt install python3-gi python3-gst-1.0 gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-good
    python3 -m venv --system-site-packages .venv-gst && .venv-gst/bin/pip install -e '.[dev]'
    .venv-gst/bin/python -m pytest tests/cli/gstreamer_appsink_example.py

Without `python3-gst-1.0` it runs, too; the callback then gets copies.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from example_tools import EXAMPLES, load_example, pictures_of, pushed
from PIL import Image as pillow

import vsdk
from vsdk.sources.gst_bindings import load_bindings

pytest.importorskip("gi", reason="GStreamer's Python bindings are not installed: apt install python3-gi")

WIDTH, HEIGHT = 191, 127  # odd, so that rows have padding


@pytest.fixture(scope="module")
def pictures(clip: Path) -> list[Any]:
    return [picture[:HEIGHT, :WIDTH] for picture in pictures_of(clip)]


@pytest.fixture(scope="module")
def pipeline(pictures: list[Any], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A pipeline that gives just these pictures, 25 a second."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, picture in enumerate(pictures):
        pillow.fromarray(np.ascontiguousarray(picture[..., ::-1])).save(folder / f"{number:04d}.png")
    return f'multifilesrc location="{folder}/%04d.png" caps=image/png,framerate=25/1 ! pngdec'


def test_the_program_prints_the_scenes(pipeline: str) -> None:
    command = [sys.executable, str(EXAMPLES / "gstreamer_appsink.py"), pipeline]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "scene 0: 0.00 s to 1.20 s\nscene 1: 1.20 s to 2.40 s\n"


def test_every_bit_is_that_of_pushed_arrays(
    pipeline: str, pictures: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = load_example("gstreamer_appsink")
    found: list[vsdk.Event] = []
    mapped: list[Any] = []
    view_of = example.view_of

    def view_and_note(data: Any, *place: int) -> Any:
        mapped.append(type(data))
        return view_of(data, *place)

    monkeypatch.setattr(example.SceneFinder, "report", lambda self, events: found.extend(events))
    monkeypatch.setattr(example, "view_of", view_and_note)
    example.run(pipeline)
    scenes = [event for event in found if isinstance(event, vsdk.Scene)]
    expected = [event for event in pushed(pictures) if isinstance(event, vsdk.Scene)]
    assert scenes == expected
    for scene, other in zip(scenes, expected, strict=True):
        assert scene.features is not None
        assert other.features is not None
        np.testing.assert_array_equal(scene.features.cls, other.features.cls)
    with capsys.disabled():
        print(f"\n{load_bindings().gst.version_string()}; pixels are {mapped[0].__name__}")


def test_what_fails_in_the_callback_ends_the_program(pipeline: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With time stamps that repeat, the first error is raised where `run` was called, and no memory stays mapped."""
    example = load_example("gstreamer_appsink")
    push = vsdk.Pipeline.push
    monkeypatch.setattr(vsdk.Pipeline, "push", lambda self, image, t_ns, color: push(self, image, 0, color))
    with pytest.raises(vsdk.Error, match="Times must increase"):
        example.run(pipeline)


def test_no_password_is_shown() -> None:
    example = load_example("gstreamer_appsink")
    with pytest.raises(vsdk.Error) as caught:
        example.run("rtspsrc location=rtsp://admin:s3cr3t@127.0.0.1:9/x ! decodebin")
    assert "s3cr3t" not in str(caught.value)
