"""The demo clip and the gate's clip as files: what a decoder finds in them agrees with the truth beside them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest

from vsdk_models.nano.clips import Clip
from vsdk_models.nano.demo_clip import DEMO_FRAMES, demo_script, gate_clip, truth, write_video
from vsdk_models.nano.scene_baselines import grey_differences

EXAMPLE = Path(__file__).parents[2] / "examples" / "render_demo_clip.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("render_demo_clip", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path), "r") as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_demo_file_is_h264_of_the_stated_frames_with_cuts_where_stated(tmp_path: Path, example: ModuleType) -> None:
    clip, facts = tmp_path / "new" / "clip.mp4", tmp_path / "facts" / "clip.json"
    arguments = ["--out", str(clip), "--truth", str(facts), "--size", "192x108", "--frames", "160"]
    assert example.main(arguments) == 0
    stated = json.loads(facts.read_text())
    assert (stated["frames"], stated["width"], stated["height"]) == (160, 192, 108)
    assert sorted(change["kind"] for change in stated["transitions"]) == ["cut"] * 4 + ["dissolve", "fade"]
    with av.open(str(clip), "r") as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert context.name == "h264"
        assert context.pix_fmt == "yuv420p"
        assert (context.colorspace, context.color_range, context.color_primaries) == (1, 1, 1)
        assert stream.average_rate == 25
    frames = decoded(clip)
    assert len(frames) == 160
    differences = grey_differences(frames)
    cuts = [change["first"] for change in stated["transitions"] if change["kind"] == "cut"]
    assert sorted(np.argsort(differences)[-4:].tolist()) == cuts
    fade = next(change for change in stated["transitions"] if change["kind"] == "fade")
    assert min(frame.mean() for frame in frames[fade["first"] : fade["last"] + 1]) < 3


def test_decoded_colours_are_those_that_were_drawn(tmp_path: Path) -> None:
    colours = [(200, 40, 40), (40, 180, 60), (50, 70, 200), (128, 128, 128), (250, 250, 250), (5, 5, 5)]
    pictures = [np.full((64, 64, 3), colour, np.uint8) for colour in colours for _ in range(2)]
    path = tmp_path / "colours.mp4"
    assert list(write_video(path, pictures, (64, 64), crf=10)) == list(range(12))
    with av.open(str(path), "r") as container:
        for frame, drawn in zip(container.decode(video=0), pictures, strict=True):
            # The conversion by hand, from BT.709's definition in limited range.
            luma, blue, red = (plane.astype(float) for plane in _planes(frame))
            y, u, v = (luma - 16) / 219, (blue - 128) / 224, (red - 128) / 224
            rgb = np.array([y + 1.5748 * v, y - 0.1873 * u - 0.4681 * v, y + 1.8556 * u]) * 255
            assert np.abs(rgb - drawn[0, 0]).max() < 4


def _planes(frame: av.VideoFrame) -> list[np.ndarray]:
    """Middle value of each plane of a yuv420p frame."""
    assert frame.format.name == "yuv420p"
    values = []
    for plane in frame.planes:
        rows = np.frombuffer(bytes(plane), np.uint8).reshape(plane.height, plane.line_size)
        values.append(rows[plane.height // 2, plane.width // 2])
    return values


def test_default_demo_has_the_promised_shape() -> None:
    script = demo_script()
    assert script.frames == DEMO_FRAMES
    assert 20 <= script.frames / script.frame_rate <= 24
    assert script.size == (1280, 720)
    assert len(script.shots) == 7
    assert any(shot.camera.travel != (0.0, 0.0) for shot in script.shots)
    assert all(shot.sprites for shot in script.shots)
    assert demo_script() == demo_script(0)
    assert demo_script(1) != demo_script(0)


@pytest.mark.parametrize("frames", [140, 333, 900])
def test_demo_has_exactly_the_frames_asked_for(frames: int) -> None:
    assert demo_script(frames=frames).frames == frames


def test_too_short_a_demo_is_refused() -> None:
    with pytest.raises(ValueError, match="100 frames are too few"):
        demo_script(frames=100)


def test_gate_clip_is_still_and_noisy_with_one_cut_and_one_long_dissolve() -> None:
    clip = gate_clip(size=(192, 108), frames=300)
    assert [change.kind for change in clip.transitions] == ["cut", "dissolve"]
    dissolve = clip.transitions[1]
    assert dissolve.last - dissolve.first + 1 == 50
    frames = [frame.astype(float) for frame in clip.open()]
    assert len(frames) == 300
    # At a still place the pixels differ by noise alone: their mean over time does not drift.
    corner = np.array([frame[:10, :10] for frame in frames[: clip.transitions[0].first]])
    assert 1 < corner.std(axis=0).mean() < 8
    assert abs(corner[:30].mean() - corner[-30:].mean()) < 0.5
    # A small object: of the picture averaged over ten frames only a little changes within a scene.
    early, late = np.mean(frames[:10], axis=0), np.mean(frames[60:70], axis=0)
    moved = (np.abs(early - late).max(-1) > 30).mean()
    assert 0.0005 < moved < 0.03


def test_gate_kind_can_be_asked_for(tmp_path: Path, example: ModuleType) -> None:
    path, facts = tmp_path / "gate.mp4", tmp_path / "gate.json"
    arguments = ["--kind", "gate", "--out", str(path), "--size", "96x64", "--frames", "100", "--truth", str(facts)]
    assert example.main(arguments) == 0
    assert json.loads(facts.read_text()) == truth(gate_clip(size=(96, 64), frames=100))
    assert len(decoded(path)) == 100


def test_odd_sizes_are_refused_before_a_file_is_made(tmp_path: Path) -> None:
    path = tmp_path / "odd.mp4"
    script = demo_script(size=(161, 90), frames=140)
    with pytest.raises(ValueError, match="even width and height"):
        next(write_video(path, Clip.of(script, "odd").open(), script.size))
    assert not path.exists()
