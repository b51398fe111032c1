"""int8 from a video: what it is calibrated on, what stays in float, what is refused, and that each refusal bites."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from clips import write_clip
from PIL import Image
from torch import Tensor, nn

import vsdk
from vsdk_export import export_checkpoint, export_module
from vsdk_export import half as half_module
from vsdk_export import parity as parity_module
from vsdk_export import precision_search as search_module
from vsdk_export import quantize as quantize_module
from vsdk_export.calibration import CalibrationVideos
from vsdk_export.frames import pixels
from vsdk_export.report import ExportReport
from vsdk_export.tracker import export_tracker
from vsdk_models.nano.tracker.bundle import as_networks
from vsdk_models.nano.tracker.network import NanoTracker
from vsdk_runtimes import bundle_digest, load_bundle, read_manifest
from vsdk_runtimes.errors import ExportError, InputError, ParityError, SourceError
from vsdk_runtimes.manifest import Origin, Preprocessing, Resize

SIDE = 32
PREPROCESSING = Preprocessing(
    resize=Resize(height=SIDE, width=SIDE, filter="bilinear"), mean=(0.5,) * 3, std=(0.5,) * 3
)
ORIGIN = Origin(checkpoint="made here", license="Apache-2.0")


class Small(nn.Module):
    """A small encoder: a convolution, a perceptron for each place, and their mean as the class token."""

    sizes: Tensor

    def __init__(self, outlier: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 16, 8, stride=8)
        self.up, self.down, self.head = nn.Linear(16, 64), nn.Linear(64, 16), nn.Linear(16, 24)
        # One channel that is far larger than all others, and of which the next layer makes no more than before.
        self.register_buffer("sizes", torch.ones(16).index_fill(0, torch.tensor([3]), outlier))
        with torch.no_grad():
            self.up.weight.div_(self.sizes)

    def forward(self, given: Tensor) -> tuple[Tensor, Tensor]:
        """`given [batch, 3, 32, 32]` to `cls [batch, 24]` and `patches [batch, 16, 24]`."""
        tokens = self.stem(given).flatten(2).transpose(1, 2) * self.sizes
        patches = self.head(self.down(nn.functional.gelu(self.up(tokens))))
        return patches.mean(1), patches


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "street.mp4")


def export(
    module: nn.Module, folder: Path, *videos: Path, precisions: tuple[str, ...] = ("fp32", "int8")
) -> ExportReport:
    return export_module(
        module, samples={"pixels": pixels(PREPROCESSING, (SIDE, SIDE))}, outputs=("cls", "patches"), origin=ORIGIN,
        preprocessing=PREPROCESSING, out=folder, precisions=precisions, calibrate=videos,
    )  # fmt: skip


@pytest.fixture(scope="module")
def plain(video: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    return export(Small(), tmp_path_factory.mktemp("bundles") / "plain", video)


def operators(report: ExportReport, precision: str = "int8") -> list[str]:
    assert report.folder is not None
    return [node.op_type for node in onnx.load(report.folder / "encoder" / f"{precision}.onnx").graph.node]


def test_an_encoder_is_calibrated_with_a_video(plain: ExportReport, video: Path) -> None:
    assert plain.folder is not None
    bundle = load_bundle(plain.folder, verify=True)
    spec = bundle.component("encoder").spec
    assert spec.files["int8"] == "encoder/int8.onnx"
    assert spec.quantised is not None
    assert (spec.quantised.nodes, spec.quantised.share, spec.quantised.left) == (4, 1.0, {})
    assert "street.mp4" in spec.quantised.calibration
    assert spec.parity["int8"]["cls"].cosine >= 0.99
    assert operators(plain).count("QuantizeLinear") >= spec.quantised.nodes, "a pair in front of each"
    rows = {(row.output, row.limit) for row in plain.parity if row.precision == "int8"}
    assert rows == {("cls", "cosine >= 0.99"), ("patches", "cosine >= 0.98")}
    with vsdk.Stream(bundle, video, precision="int8") as stream:
        assert any(event.type == "scene" for event in stream)


def test_what_was_measured_is_no_part_of_the_digest(plain: ExportReport) -> None:
    assert plain.folder is not None
    manifest = read_manifest(plain.folder)
    encoder = manifest.components["encoder"].model_copy(update={"quantised": None})
    without = manifest.model_copy(update={"components": {"encoder": encoder}})
    assert bundle_digest(without) == plain.digest


def test_a_layer_that_int8_would_spoil_stays_in_float(video: Path, tmp_path: Path) -> None:
    report = export(Small(outlier=3000.0), tmp_path / "bundle", video)
    quantised = report.components["encoder"].quantised
    assert quantised is not None
    assert len(quantised.left) == 1, "the layer that reads the outlier, and no other"
    ((name, cost),) = quantised.left.items()
    assert "MatMul" in name or "Gemm" in name
    assert cost > 0.01
    assert 0.5 < quantised.share < 1
    assert report.components["encoder"].parity["int8"]["cls"].cosine >= 0.99


def test_with_too_little_in_int8_it_is_refused_and_the_guard_bites(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within this limit nothing can be in int8 but the last layer."""
    monkeypatch.setattr(parity_module, "INT8_VECTOR", parity_module.Limit(cosine=1 - 1e-7))
    monkeypatch.setitem(parity_module.LIMITS, "int8", parity_module.Limit(cosine=1 - 1e-7))
    with pytest.raises(ExportError, match=r"'encoder' at int8: only \d+% of the multiply-adds") as refused:
        export(Small(), tmp_path / "bundle", video)
    assert "--calibrate VIDEO --calibrate VIDEO" in str(refused.value.hint), "what to type: more of it,"
    assert "--precision fp32,fp16" in str(refused.value.hint), "or no int8"
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(search_module, "MIN_SHARE", 0.0)
    monkeypatch.setattr(search_module, "check_quantised", lambda *_: quantize_module.QuantisedNodes(0, 0, 0))
    report = export(Small(), tmp_path / "bundle", video)
    assert report.components["encoder"].quantised is not None
    assert report.components["encoder"].quantised.share < 0.5


class Sum(nn.Module):
    """Nothing with weights."""

    def forward(self, given: Tensor) -> tuple[Tensor, Tensor]:
        """Means of the picture."""
        rows = given.mean(-1).transpose(1, 2)
        return rows.mean(1), rows


def test_a_graph_in_which_nothing_is_quantised_is_refused_and_the_guard_bites(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ExportError, match="nothing to quantise"):
        export(Sum(), tmp_path / "bundle", video)
    assert not list(tmp_path.iterdir())
    counted = quantize_module.QuantisedNodes(1, 1, 0)
    for module in (quantize_module, search_module):
        monkeypatch.setattr(module, "check_quantised", lambda *_: counted)
    monkeypatch.setattr(search_module, "MIN_SHARE", 0.0)
    assert "QuantizeLinear" not in operators(export(Sum(), tmp_path / "bundle", video))


def test_int8_without_a_video_is_refused_with_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"int8 needs a video(.|\n)*--precision fp32,int8 --calibrate VIDEO"):
        export(Small(), tmp_path / "bundle")
    with pytest.raises(InputError, match=r"vsdk export my-clip --out DIR --precision fp32,int8 --calibrate VIDEO"):
        export_checkpoint("my-clip", out=tmp_path / "bundle", precisions=("int8",))
    with pytest.raises(InputError, match="--calibrate VIDEO"):
        export_tracker(as_networks(NanoTracker()), origin=ORIGIN, out=tmp_path / "bundle", precisions=("fp32", "int8"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "message"), [("short.mp4", "have 5 frames, and at least 12"), ("none.mp4", "none.mp4")]
)
def test_videos_that_will_not_do(given: str, message: str, tmp_path: Path) -> None:
    write_clip(tmp_path / "short.mp4", frames=5)
    with pytest.raises((InputError, SourceError), match=message):
        export(Small(), tmp_path / "bundle", tmp_path / given)
    assert not (tmp_path / "bundle").exists()


def test_sources_without_an_end_are_refused() -> None:
    videos = CalibrationVideos.of(["rtsp://127.0.0.1:9/camera"])
    with pytest.raises(InputError, match=r"has no end(.|\n)*Record"):
        videos.frames(lambda image: image, 4)
    with pytest.raises(InputError, match="standard input"):
        CalibrationVideos.of(["-"])


@pytest.mark.parametrize(("lengths", "wanted"), [((7, 5), 64), ((40, 200), 16), ((500,), 16), ((3, 1, 90), 10)])
def test_frames_are_spread_over_all_videos(lengths: tuple[int, ...], wanted: int, tmp_path: Path) -> None:
    """Folders of pictures whose colour says where they are."""
    total = 0
    for number, length in enumerate(lengths):
        folder = tmp_path / str(number)
        folder.mkdir()
        for index in range(length):
            picture = np.full((8, 8, 3), (total // 256, total % 256, 0), np.uint8)
            Image.fromarray(picture).save(folder / f"{index:04}.png")
            total += 1
    kept = 0

    def counted(image: Any) -> Any:
        nonlocal kept
        kept += 1
        return image

    videos = CalibrationVideos.of([tmp_path / str(number) for number in range(len(lengths))])
    places = [int(image[0, 0, 0]) * 256 + int(image[0, 0, 1]) for image in videos.frames(counted, wanted)]
    assert len(places) == min(total, wanted)
    assert places == sorted(set(places))
    assert places[0] == 0
    assert places[-1] >= total * (1 - 2 / wanted) - 1
    assert max(np.diff(places), default=0) <= 3 * max(1, total / wanted)
    assert kept <= 2 * wanted * (2 + np.log2(max(1, total / wanted)))


class Overflowing(nn.Module):
    """Beyond fp16's range where a picture is purely red, as no drawn picture is."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(SIDE, 8)

    def forward(self, given: Tensor) -> tuple[Tensor, Tensor]:
        """`cls [batch, 8]`, `patches [batch, 32, 8]`."""
        red, green, blue = given.unbind(1)
        redness = nn.functional.relu(red - green - blue - 2.5) * 1024
        patches = self.head(red + redness * redness / 1024 / 1024)
        return patches.mean(1), patches


@pytest.fixture(scope="module")
def red(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("red")
    for number in range(16):
        picture = np.zeros((SIDE, SIDE, 3), np.uint8)
        picture[number:, :, 0] = 255
        Image.fromarray(picture).save(folder / f"{number:02}.png")
    return folder


def red_pixels() -> np.ndarray[Any, np.dtype[np.float32]]:
    picture = np.array([1, -1, -1], np.float32)
    return np.broadcast_to(picture[None, :, None, None], (1, 3, SIDE, SIDE)).copy()


def _no_check(*_: object) -> None:
    return None


def finite(report: ExportReport) -> bool:
    """Whether each value in fp16 is finite. All of them become outputs: a CPU rounds nothing else to fp16."""
    assert report.folder is not None
    model = onnx.shape_inference.infer_shapes(onnx.load(report.folder / "encoder" / "fp16.onnx"))
    half = [item for item in model.graph.value_info if item.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16]
    model.graph.output.extend(half)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return all(np.isfinite(array).all() for array in session.run(None, {"pixels": red_pixels()}))


def test_fp16_finds_its_ranges_on_the_videos(red: Path, tmp_path: Path) -> None:
    """What drawn pictures do not show, a video of what the camera sees does."""
    both = ("fp32", "fp16")
    assert not finite(export(Overflowing(), tmp_path / "drawn", precisions=both))
    assert finite(export(Overflowing(), tmp_path / "seen", red, precisions=both))


@pytest.mark.parametrize("guard", [True, False])
def test_a_graph_that_overflows_in_fp16_is_refused_and_the_guard_bites(
    guard: bool, red: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Islands of fp32 mend it, see above; here there are none."""
    monkeypatch.setattr(half_module, "_LARGEST", float("inf"))

    def make() -> ExportReport:
        return export(Overflowing(), tmp_path / "bundle", red, precisions=("fp32", "fp16"))

    if guard:
        with pytest.raises(ParityError, match=r"fp16: \w+ reaches 2\.62e\+05 .* fp16 ends at 65504"):
            make()
        assert not list(tmp_path.iterdir())
    else:
        monkeypatch.setattr(half_module, "check_ranges", _no_check)
        assert not finite(make())


class Infinite(nn.Module):
    """Not finite where a picture is red, at any precision."""

    def forward(self, given: Tensor) -> tuple[Tensor, Tensor]:
        """A perceptron's place is taken by an exponential."""
        rows = torch.exp(torch.relu(given[:, 0] - given[:, 1] - given[:, 2] - 2.5) * 1e4)
        return rows.mean(1), rows


def test_outputs_that_are_not_finite_are_refused_and_the_guard_bites(
    red: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make() -> ExportReport:
        return export(Infinite(), tmp_path / "bundle", red, precisions=("fp32", "fp16"))

    with pytest.raises(ParityError, match=r"at fp16: output '(cls|patches)' is not finite"):
        make()
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(parity_module, "check_finite", _no_check)
    with pytest.raises(ValueError, match="finite"):  # the manifest takes no NaN
        make()
