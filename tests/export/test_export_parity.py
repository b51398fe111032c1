"""Bundles against transformers itself: the same pictures through the published classes and through the run side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
import transformers
from small_checkpoints import BLOCKS, IMAGE, PATCH, WIDTH, Exported, MakeCheckpoint

import vsdk_runtimes
from vsdk_export import export_checkpoint
from vsdk_runtimes import Component, Precision, load_bundle

Array = npt.NDArray[Any]
Outputs = dict[str, Array]

SIGLIP_KINDS = ("siglip", "siglip_vision", "siglip2_fixed", "siglip2_naflex")


def _marked(*quick: str, slow: tuple[str, ...]) -> list[Any]:
    return [*quick, *(pytest.param(kind, marks=pytest.mark.slow) for kind in slow)]


KINDS = _marked(
    "clip", "clip_vision", "siglip", "siglip2_naflex", "dinov2", "dinov3",
    slow=("clip_original", "clip_projection", "siglip_vision", "siglip2_fixed", "dinov2_registers"),
)  # fmt: skip
TEXT_KINDS = _marked("clip", "siglip", "siglip2_naflex", slow=("clip_original", "siglip2_fixed"))
TEXTS = ["a photo of a cat", "Two PEOPLE, shaking hands!", "it's a person's dog", "  café 東京 ½ ", "road " * 60]
CLASSES = {
    "clip": "CLIPModel", "clip_original": "CLIPModel", "clip_vision": "CLIPVisionModel",
    "clip_projection": "CLIPVisionModelWithProjection", "siglip": "SiglipModel", "siglip_vision": "SiglipVisionModel",
    "siglip2_fixed": "SiglipModel", "siglip2_naflex": "Siglip2Model", "dinov2": "Dinov2Model",
    "dinov2_registers": "Dinov2WithRegistersModel", "dinov3": "DINOv3ViTModel",
}  # fmt: skip


def pictures(count: int) -> npt.NDArray[np.uint8]:
    """Smooth pictures with edges and some noise, `[count, IMAGE, IMAGE, 3]`."""
    rng = np.random.default_rng(11)
    y, x = np.mgrid[0:IMAGE, 0:IMAGE] / IMAGE
    drawn = []
    for _ in range(count):
        a, b, c = rng.uniform(1, 9, (3, 3))
        picture = 127 + 90 * np.sin(a * x[..., None] + b * y[..., None] + c) + rng.normal(0, 6, (IMAGE, IMAGE, 3))
        picture[int(rng.integers(4, 20)) :, int(rng.integers(4, 20)) :] += rng.uniform(-80, 80, 3)
        drawn.append(picture.clip(0, 255).astype(np.uint8))
    return np.stack(drawn)


def pixels_of(component: Component, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """The pictures have the encoder's size already, so only the arithmetic is left."""
    settings = component.spec.preprocessing
    assert settings is not None
    values = (images * settings.scale - np.array(settings.mean)) / np.array(settings.std)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2).astype(np.float32))


def load_reference(kind: str, checkpoint: Path) -> Any:
    return getattr(transformers, CLASSES[kind]).from_pretrained(checkpoint, dtype=torch.float32).eval()


@torch.inference_mode()
def image_reference(kind: str, model: Any, images: npt.NDArray[np.uint8], pixels: Array, layer: int | str) -> Outputs:
    vision = getattr(model, "vision_model", model)
    if kind == "siglip2_naflex":
        processor = transformers.Siglip2ImageProcessorPil(patch_size=PATCH, max_num_patches=(IMAGE // PATCH) ** 2)
        inputs = dict(processor(list(images), return_tensors="pt"))
    else:
        inputs = {"pixel_values": torch.from_numpy(pixels)}
    output = vision(**inputs, output_hidden_states=True)
    tokens = output.last_hidden_state if layer == "last" else output.hidden_states[layer]
    if kind in SIGLIP_KINDS:
        outputs = {"cls": output.pooler_output, "patches": tokens}
        if hasattr(model, "text_model"):
            outputs["embedding"] = output.pooler_output
    else:
        registers = getattr(model.config, "num_register_tokens", 0)
        outputs = {"cls": tokens[:, 0], "patches": tokens[:, 1 + registers :]}
        if hasattr(model, "visual_projection"):
            outputs["embedding"] = model.visual_projection(output.pooler_output)
    return {name: tensor.numpy() for name, tensor in outputs.items()}


def assert_close(found: Array, expected: Array, precision: Precision) -> None:
    """The project's limits: fp32 to 1e-4 of the RMS, fp16 to a cosine of 0.999 for every vector."""
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    if precision == "fp32":
        rms = np.sqrt(np.mean(expected.astype(np.float64) ** 2))
        assert np.abs(found.astype(np.float64) - expected).max() <= 1e-4 * rms
    else:
        dot = (found.astype(np.float64) * expected).sum(-1)
        lengths = np.linalg.norm(found.astype(np.float64), axis=-1) * np.linalg.norm(expected, axis=-1)
        assert (dot / lengths).min() >= 0.999


@pytest.mark.parametrize("kind", KINDS)
def test_images_match_transformers(kind: str, exported: Callable[[str], Exported]) -> None:
    made = exported(kind)
    component = load_bundle(made.bundle).component("encoder")
    assert component.spec.layer == (-2 if kind.startswith("clip") else "last")
    model = load_reference(kind, made.checkpoint)
    images = pictures(7)
    pixels = pixels_of(component, images)
    expected = image_reference(kind, model, images, pixels, component.spec.layer)
    precisions: tuple[Precision, ...] = ("fp32", "fp16")
    for precision in precisions:
        with vsdk_runtimes.load(component, precision=precision, threads=1) as session:
            assert set(session.outputs) == set(expected)
            for first, last in ((0, 1), (1, 4), (0, 7)):
                found = session.run({"pixels": pixels[first:last]})
                for name, array in expected.items():
                    assert_close(found[name], array[first:last], precision)


@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_texts_match_transformers(kind: str, exported: Callable[[str], Exported]) -> None:
    made = exported(kind)
    component = load_bundle(made.bundle).component("text")
    assert component.spec.text is not None
    model = load_reference(kind, made.checkpoint)
    tokenizer = transformers.AutoTokenizer.from_pretrained(made.checkpoint)
    texts = [text.lower() if component.spec.text.lower_case else text for text in TEXTS]
    options = {"padding": "max_length", "truncation": True, "max_length": component.spec.text.length}
    ids = tokenizer(texts, return_tensors="pt", **options)["input_ids"]
    with torch.inference_mode():
        pooled = model.text_model(input_ids=ids).pooler_output
        expected = (model.text_projection(pooled) if kind.startswith("clip") else pooled).numpy()
    precisions: tuple[Precision, ...] = ("fp32", "fp16")
    for precision in precisions:
        with vsdk_runtimes.load(component, precision=precision, threads=1) as session:
            for first, last in ((0, 1), (0, 5)):
                found = session.run({"input_ids": ids.numpy()[first:last]})
                assert_close(found["embedding"], expected[first:last], precision)


@pytest.mark.parametrize(
    ("kind", "layer", "index"),
    [
        ("clip_vision", -1, -1),
        ("dinov3", 1, 1),
        pytest.param("clip", "last", "last", marks=pytest.mark.slow),
        pytest.param("clip_vision", 0, 0, marks=pytest.mark.slow),
        pytest.param("siglip_vision", -2, -2, marks=pytest.mark.slow),
        pytest.param("dinov2_registers", -1, -1, marks=pytest.mark.slow),
    ],
)
def test_layers_are_the_hidden_states(
    kind: str, layer: int | str, index: int | str, make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    export_checkpoint(make_checkpoint(kind), out=tmp_path / "bundle", layer=layer)
    component = load_bundle(tmp_path / "bundle").component("encoder")
    canonical = layer if isinstance(layer, str) or layer < 0 else layer - (BLOCKS + 1)
    assert component.spec.layer == canonical
    images = pictures(3)
    pixels = pixels_of(component, images)
    expected = image_reference(kind, load_reference(kind, make_checkpoint(kind)), images, pixels, index)
    with vsdk_runtimes.load(component, threads=1) as session:
        found = session.run({"pixels": pixels})
    for name, array in expected.items():
        assert_close(found[name], array, "fp32")


def test_blocks_that_no_output_needs_are_not_exported(exported: Callable[[str], Exported]) -> None:
    def attentions(kind: str) -> int:
        graph = onnx.load(exported(kind).bundle / "encoder" / "fp32.onnx").graph
        return sum(node.op_type == "Softmax" for node in graph.node)

    assert attentions("clip_vision") == BLOCKS - 1
    assert attentions("clip") == BLOCKS, "the embedding needs the last block"
    assert attentions("dinov2") == BLOCKS


def test_measured_deviations_are_in_the_manifest(exported: Callable[[str], Exported]) -> None:
    made = exported("clip")
    spec = load_bundle(made.bundle).component("encoder").spec
    assert set(spec.parity) == {"fp32", "fp16"}
    for precision, outputs in spec.parity.items():
        assert set(outputs) == {"cls", "patches", "embedding"}
        for name, deviation in outputs.items():
            assert 0 < deviation.relative <= (1e-4 if precision == "fp32" else 0.05)
            assert deviation.cosine >= 0.999
            assert float(f"{deviation.max_abs:.3g}") == deviation.max_abs
            rows = [row for row in made.report.parity if (row.component, row.precision) == ("encoder", precision)]
            assert next(row.deviation for row in rows if row.output == name) == deviation


def test_what_a_bundle_says_of_a_checkpoint(exported: Callable[[str], Exported]) -> None:
    made = exported("clip")
    manifest = load_bundle(made.bundle).manifest
    assert manifest.name == "clip"
    assert manifest.default_precision == {"cpu": "fp32", "cuda": "fp16"}
    assert {"vsdk", "torch", "transformers", "onnx"} <= set(manifest.created_with)
    for component in manifest.components.values():
        assert component.family == "clip"
        assert component.source.checkpoint == "clip"
        assert component.source.license == "mit"
        assert component.source.sha256 == vsdk_runtimes.file_sha256(made.checkpoint / "model.safetensors")
    assert load_bundle(exported("dinov3").bundle).component("encoder").spec.source.license == "unknown"


@pytest.mark.parametrize("kind", KINDS)
def test_graphs_keep_to_the_contract(kind: str, exported: Callable[[str], Exported]) -> None:
    for path in exported(kind).bundle.glob("*/*.onnx"):
        model = onnx.load(path)
        assert model.ir_version <= 10
        assert [(item.domain, item.version) for item in model.opset_import] == [("", 18)]
        for value in (*model.graph.input, *model.graph.output):
            axes = [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
            assert axes[0] == "batch"
            assert all(isinstance(axis, int) and axis > 0 for axis in axes[1:])
            wanted = onnx.TensorProto.INT64 if value.name == "input_ids" else onnx.TensorProto.FLOAT
            assert value.type.tensor_type.elem_type == wanted
        content = path.read_bytes()
        assert b"/" + Path(torch.__file__).parts[1].encode() + b"/" not in content
        assert b"site-packages" not in content
        assert b"vsdk_models" not in content
        assert not any(node.doc_string or node.metadata_props for node in model.graph.node)


def test_registers_are_not_patches(exported: Callable[[str], Exported]) -> None:
    outputs = load_bundle(exported("dinov3").bundle).component("encoder").spec.outputs
    assert {name: spec.shape for name, spec in outputs.items()} == {
        "cls": ("batch", WIDTH),
        "patches": ("batch", (IMAGE // PATCH) ** 2, WIDTH),
    }
