"""EdgeTAM's own parts against transformers: image encoder, perceiver, memory attention, and checkpoints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from edgetam_reference import (
    conditioned,
    edgetam_settings,
    edgetam_video_model,
    randomise_norms,
    write_checkpoint,
)
from safetensors.torch import load_file, save_file
from torch import Tensor

from vsdk_models.checkpoint import open_checkpoint
from vsdk_models.sam2.edgetam import edgetam_config, load_edgetam
from vsdk_models.sam2.edgetam_attention import EdgeTamMemoryAttention
from vsdk_models.sam2.edgetam_model import edgetam_networks
from vsdk_models.sam2.perceiver import SpatialPerceiver, memory_positions
from vsdk_models.sam2.repvit import RepVit, fused
from vsdk_runtimes.errors import CheckpointError, InputError, UnsupportedModelError

SLOTS, POINTERS, SIDE = 10, 19, 16
GARBAGE = {"large": 1e3, "huge": 1e30, "not a number": float("nan")}


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@cache
def reference(timed: bool = True, **changes: Any) -> Any:
    return edgetam_video_model(enable_temporal_pos_encoding_for_object_pointers=timed, **changes)


def furthest(found: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest value."""
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


class Bank:
    """A bank that is filled only in part; the rest holds garbage."""

    def __init__(self, model: Any, slots: int, pointers: int, garbage: float = 1e3, objects: int = 2) -> None:
        generator = torch.Generator().manual_seed(slots * 100 + pointers)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator)

        tokens = len(memory_positions(model))
        self.slots, self.pointers_used = slots, pointers
        self.top = draw(1, model.hidden_dim, SIDE, SIDE)
        self.memory = torch.full((objects, SLOTS, tokens, model.mem_dim), garbage)
        self.pointers = torch.full((objects, POINTERS, model.hidden_dim), garbage)
        self.memory[:, :slots] = draw(objects, slots, tokens, model.mem_dim)
        self.pointers[:, :pointers] = draw(objects, pointers, model.hidden_dim)
        # The first object has been prompted once, the second in as many slots as there can be.
        self.slot_age = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 1, 1, 1], [0, 0, 0, 0, 6, 5, 4, 3, 2, 1]])[:objects]
        self.slot_valid = (torch.arange(SLOTS) < slots).float().expand(objects, -1)
        self.pointer_age = (1 + torch.arange(float(POINTERS))).expand(objects, -1)
        self.pointer_valid = (torch.arange(POINTERS) < pointers).float().expand(objects, -1)

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return (
            self.top, self.memory, self.slot_age, self.slot_valid, self.pointers, self.pointer_age, self.pointer_valid
        )  # fmt: skip

    def expected(self, model: Any) -> Tensor:
        """Object by object, with nothing but what is valid."""
        return torch.cat([conditioned(model, self.top, *self._of(index)) for index in range(len(self.memory))])

    def _of(self, index: int) -> tuple[list[tuple[int, Tensor]], list[tuple[float, Tensor]]]:
        slots = [(int(self.slot_age[index, n]), self.memory[index, n]) for n in range(self.slots)]
        pointers = [(float(self.pointer_age[index, n]), self.pointers[index, n]) for n in range(self.pointers_used)]
        return slots, pointers


@pytest.mark.parametrize("slots", range(1, 8))
@pytest.mark.parametrize("timed", [True, False], ids=["timed pointers", "as published"])
def test_attention_equals_transformers_at_every_fill_level(slots: int, timed: bool) -> None:
    model = reference(timed)
    bank = Bank(model, slots, pointers=2 * slots)
    assert furthest(EdgeTamMemoryAttention(model)(*bank.inputs), bank.expected(model)) < 1e-5


@pytest.mark.parametrize(("slots", "pointers"), [(1, 0), (1, 1), (SLOTS, POINTERS)])
def test_attention_equals_transformers_without_pointers_and_full(slots: int, pointers: int) -> None:
    model = reference()
    bank = Bank(model, slots, pointers)
    assert furthest(EdgeTamMemoryAttention(model)(*bank.inputs), bank.expected(model)) < 1e-5


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_what_is_not_valid_has_no_influence(garbage: float) -> None:
    attention = EdgeTamMemoryAttention(reference())
    clean = attention(*Bank(reference(), 2, 3, garbage=0.0).inputs)
    assert torch.equal(attention(*Bank(reference(), 2, 3, garbage=garbage).inputs), clean)


def test_memories_and_their_ages_matter() -> None:
    """Or the comparisons above would prove nothing."""
    attention, bank = EdgeTamMemoryAttention(reference()), Bank(reference(), 4, 5)
    before = attention(*bank.inputs)
    for change in ("memory", "pointers", "slot_age", "pointer_age"):
        other = Bank(reference(), 4, 5)
        setattr(other, change, getattr(other, change).flip(0 if change != "pointer_age" else 1))
        assert furthest(attention(*other.inputs), before) > 1e-3, change


def test_the_exported_attention_takes_any_number_of_objects_and_slots(tmp_path: Path) -> None:
    model = reference()
    names = ("top", "memory", "slot_age", "slot_valid", "pointers", "pointer_age", "pointer_valid")
    batch, slots = torch.export.Dim("batch"), torch.export.Dim("slots")
    axes = [{}, {0: batch, 1: slots}, {0: batch, 1: slots}, {0: batch, 1: slots}, {0: batch}, {0: batch}, {0: batch}]
    program = torch.onnx.export(
        EdgeTamMemoryAttention(model).eval(), Bank(model, 3, 4).inputs, dynamo=True, opset_version=18, verbose=False,
        input_names=names, output_names=["conditioned"], dynamic_shapes=axes,
    )  # fmt: skip
    assert program is not None
    program.save(tmp_path / "attention.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "attention.onnx", providers=["CPUExecutionProvider"])
    for objects, kept in ((1, SLOTS), (2, 5)):
        bank = Bank(model, 4, 3, objects=objects)
        inputs = dict(zip(names, (tensor.numpy() for tensor in bank.inputs), strict=True))
        inputs |= {name: inputs[name][:, :kept] for name in ("memory", "slot_age", "slot_valid")}
        (found,) = session.run(None, inputs)
        assert furthest(torch.from_numpy(np.asarray(found)), bank.expected(model)) < 1e-4


@pytest.mark.parametrize("image_size", [128, 256, 384])
def test_perceiver_equals_transformers(image_size: int) -> None:
    """With windows of one place, of four and of nine."""
    model = reference(image_size=image_size)
    maps = torch.randn(3, 64, image_size // 16, image_size // 16, generator=torch.Generator().manual_seed(0))
    places = model.memory_encoder.position_encoding((1, *maps.shape[1:]), "cpu", torch.float32)
    expected = [model.spatial_perceiver(item[None], places) for item in maps]
    assert furthest(SpatialPerceiver(model)(maps), torch.cat([tokens for tokens, _ in expected])) < 1e-5
    assert torch.equal(memory_positions(model), expected[0][1][0])


def test_perceiver_refuses_windows_that_do_not_tile_the_map() -> None:
    model = reference()
    sizes, model.backbone_feature_sizes = model.backbone_feature_sizes, [[20, 20]]
    try:
        with pytest.raises(UnsupportedModelError, match="8 x 8 windows do not tile a map of 20 x 20"):
            SpatialPerceiver(model)
    finally:
        model.backbone_feature_sizes = sizes


def test_fused_image_encoder_gives_the_same_maps() -> None:
    torch.manual_seed(0)
    backbone = RepVit().eval()
    randomise_norms(backbone, 0)
    pixels = torch.randn(2, 3, 128, 128)
    single = fused(backbone)
    for found, expected in zip(single(pixels), backbone(pixels), strict=True):
        assert furthest(found, expected) < 1e-5
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in single.modules())
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in backbone.modules())


def test_maps_have_the_strides_that_the_neck_expects() -> None:
    maps = RepVit().eval()(torch.zeros(1, 3, 96, 64))
    assert [tuple(item.shape) for item in maps] == [(1, 48, 24, 16), (1, 96, 12, 8), (1, 192, 6, 4), (1, 384, 3, 2)]


def test_the_trackers_encoder_gives_the_maps_of_transformers() -> None:
    model = reference()
    pixels = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    found = edgetam_networks(model).encoder.eval()(pixels)
    levels = [level.permute(1, 2, 0) for level in model.get_image_features(pixels).fpn_hidden_states]
    levels.append(levels[-1] + model.no_memory_embedding.transpose(1, 2))
    for item, level in zip(found, levels, strict=True):
        assert furthest(item.flatten(2), level) < 1e-5


@pytest.mark.parametrize("occlusion", [True, False], ids=["occlusion embedded", "as published"])
def test_the_trackers_memory_is_that_of_transformers(occlusion: bool) -> None:
    model = reference(enable_occlusion_spatial_embedding=occlusion)
    generator = torch.Generator().manual_seed(0)
    top = torch.randn(1, model.hidden_dim, SIDE, SIDE, generator=generator)
    logits = 3 * torch.randn(3, 1, 4 * SIDE, 4 * SIDE, generator=generator)
    score, binarise = torch.tensor([2.0, -1.0, 0.5]), torch.tensor([0.0, 0.0, 1.0])
    found = edgetam_networks(model).memory.eval()(
        top, logits, torch.full((3, 1, 256, 256), 1e3), torch.zeros(3), binarise, score
    )
    large = torch.nn.functional.interpolate(logits, size=(256, 256), mode="bilinear", align_corners=False)
    for index in range(3):
        expected, _ = model._encode_new_memory(
            top.flatten(2).permute(2, 0, 1), large[index][None], score[index].reshape(1, 1), bool(binarise[index])
        )
        assert furthest(found[index][None], expected) < 1e-5


@pytest.mark.parametrize("small", [True, False], ids=["small", "full width"])
def test_a_checkpoint_gives_the_model_that_was_saved(tmp_path: Path, small: bool) -> None:
    model: Any = reference() if small else edgetam_video_model(small=False)
    loaded: Any = load_edgetam(open_checkpoint(str(write_checkpoint(tmp_path / "edgetam", model))))
    assert not loaded.training
    assert loaded.state_dict().keys() == model.state_dict().keys()
    pixels = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    found, expected = loaded.get_image_features(pixels), model.get_image_features(pixels)
    assert all(map(torch.equal, found.fpn_hidden_states, expected.fpn_hidden_states))


def test_a_checkpoint_can_be_loaded_for_another_image_size(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(write_checkpoint(tmp_path / "edgetam", reference())))
    model: Any = load_edgetam(checkpoint, image_size=128)
    levels = model.get_image_features(torch.zeros(1, 3, 128, 128)).fpn_hidden_states
    assert [len(level) for level in levels] == [32 * 32, 16 * 16, 8 * 8]
    assert model.memory_attention.position_ids.shape == (8 * 8, 2)


def test_missing_and_unknown_weights_are_named(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(write_checkpoint(tmp_path / "edgetam", reference())))
    (path,) = checkpoint.weights
    weights = load_file(path)
    latents = weights.pop("spatial_perceiver.latents_2d")
    save_file(weights, path)
    with pytest.raises(CheckpointError, match=r"lacks weights: 1, such as spatial_perceiver\.latents_2d"):
        load_edgetam(checkpoint)
    save_file(
        weights | {"spatial_perceiver.latents_2d": latents, "spatial_perceiver.latents_3d": latents.clone()}, path
    )
    with pytest.raises(CheckpointError, match=r"has unknown weights: 1, such as spatial_perceiver\.latents_3d"):
        load_edgetam(checkpoint)


def test_a_weight_of_the_wrong_shape_is_named(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(write_checkpoint(tmp_path / "edgetam", reference())))
    (path,) = checkpoint.weights
    save_file(load_file(path) | {"no_object_pointer": torch.zeros(1, 99)}, path)
    with pytest.raises(CheckpointError, match=r"no_object_pointer has the shape \[1, 99\], .* needs \[1, 128\]"):
        load_edgetam(checkpoint)


def test_the_matrix_of_positions_may_be_written_once(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(write_checkpoint(tmp_path / "edgetam", reference())))
    (path,) = checkpoint.weights
    weights = load_file(path)
    matrix = weights.pop("prompt_encoder.shared_embedding.positional_embedding")
    save_file(weights, path)
    model: Any = load_edgetam(checkpoint)
    assert torch.equal(model.prompt_encoder.shared_embedding.positional_embedding, matrix)


def test_the_image_model_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "edgetam", reference())
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"model_type": "edgetam"}))
    with pytest.raises(UnsupportedModelError, match="'edgetam', which does not track"):
        load_edgetam(open_checkpoint(str(folder)))


def test_another_image_encoder_is_refused() -> None:
    settings = edgetam_settings(small=False)
    settings["vision_config"] = {"backbone_config": {"model_type": "timm_wrapper", "architecture": "resnet50"}}
    with pytest.raises(UnsupportedModelError, match="'resnet50'"):
        edgetam_config(settings)


@pytest.mark.parametrize("side", [0, 128, 320, 1000])
def test_image_sizes_that_the_windows_do_not_tile_are_refused(side: int) -> None:
    with pytest.raises(InputError, match=f"{side} pixels"):
        edgetam_config(edgetam_settings(small=False), image_size=side)
