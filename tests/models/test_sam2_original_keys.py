"""SAM-2 checkpoints under the original repository's names: all become transformers' model, or are refused by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sam2_original import original_weights
from torch import Tensor
from transformers import Sam2VideoModel

from vsdk_models.sam2.original_keys import is_original, original_to_transformers, published_name
from vsdk_models.sam2.published import PUBLISHED, published_config, set_image_size
from vsdk_runtimes.errors import CheckpointError, InputError, UnsupportedModelError

# Widths and blocks of the stages, and the side of the position embedding, from the original's configuration files.
ENCODERS = {
    "tiny": ((96, 192, 384, 768), (1, 2, 7, 2), 7),
    "small": ((96, 192, 384, 768), (1, 2, 11, 2), 7),
    "base-plus": ((112, 224, 448, 896), (2, 3, 16, 3), 14),
    "large": ((144, 288, 576, 1152), (2, 6, 36, 4), 7),
}
NARROW = (16, 32, 64, 128), (1, 1, 2, 1), 7


def narrow_config() -> Any:
    config: Any = published_config("sam2.1-tiny")
    widths, blocks, _ = NARROW
    config.vision_config.backbone_channel_list = list(reversed(widths))
    backbone = config.vision_config.backbone_config
    backbone.hidden_size, backbone.embed_dim_per_stage, backbone.blocks_per_stage = widths[0], [*widths], [*blocks]
    backbone.num_attention_heads_per_stage, backbone.global_attention_blocks = [1, 1, 2, 2], [3]
    return set_image_size(config, 128)


def random_model(seed: int) -> Any:
    """Random in every weight; its object score is always positive, since it would hide the masks otherwise."""
    torch.manual_seed(seed)
    model: Any = Sam2VideoModel(narrow_config())
    model.eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.1)
        model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(5.0)
    matrix = model.prompt_encoder.shared_embedding.positional_embedding
    model.shared_image_embedding.positional_embedding.copy_(matrix)
    return model


def renamed(model: Any) -> dict[str, Tensor]:
    """The weights of a model as the original repository would have written them."""
    weights = dict(model.state_dict())
    points = weights.pop("prompt_encoder.point_embed.weight")
    weights |= {f"prompt_encoder.point_embed.weight[{kind}]": points[kind : kind + 1] for kind in range(4)}
    return {weight.original: weights[weight.transformers] for weight in original_weights(*NARROW)}


@pytest.fixture(scope="module")
def model() -> Any:
    return random_model(0)


@pytest.fixture
def weights(model: Any) -> dict[str, Tensor]:
    return renamed(model)


def test_the_mapped_weights_are_the_models_to_the_last_bit(model: Any, weights: dict[str, Tensor]) -> None:
    mapped = original_to_transformers(weights, model.config)
    assert mapped.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(mapped[name], tensor), name


def test_a_model_with_the_mapped_weights_computes_the_same(model: Any, weights: dict[str, Tensor]) -> None:
    other = random_model(1)
    other.load_state_dict(original_to_transformers(weights, model.config))
    click = {"input_points": torch.tensor([[[[40.0, 70.0]]]]), "input_labels": torch.tensor([[[1]]])}
    image = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        expected = model._single_frame_forward(pixel_values=image, **click)
        found = other._single_frame_forward(pixel_values=image, **click)
    assert torch.equal(found.pred_masks, expected.pred_masks)
    assert torch.equal(found.object_pointer, expected.object_pointer)
    assert expected.pred_masks.std() > 0


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_checkpoint_is_recognised_and_mapped_whole(name: str) -> None:
    release, _, size = name.partition("-")
    weights = original_weights(*ENCODERS[size], release=release)
    with torch.device("meta"):
        tensors = {weight.original: torch.empty(weight.shape) for weight in weights}
        model = Sam2VideoModel(published_config(name))
    assert is_original(tensors)
    assert published_name({weight.original: weight.shape for weight in weights}) == name
    model.load_state_dict(original_to_transformers(tensors), strict=True, assign=True)


def test_the_tiny_model_has_as_many_weights_as_the_published_file() -> None:
    weights = original_weights(*ENCODERS["tiny"])
    assert len({weight.original for weight in weights}) == len(weights) == 471


def test_a_missing_weight_is_named_as_the_original_names_it(model: Any, weights: dict[str, Tensor]) -> None:
    del weights["memory_encoder.fuser.layers.1.gamma"]
    with pytest.raises(
        CheckpointError, match=r"lacks 1 of its weights, such as memory_encoder\.fuser\.layers\.1\.gamma"
    ):
        original_to_transformers(weights, model.config)


def test_an_unknown_weight_is_named(model: Any, weights: dict[str, Tensor]) -> None:
    weights["memory_encoder.fuser.layers.2.gamma"] = torch.zeros(256)
    with pytest.raises(CheckpointError, match=r"does not have, such as memory_encoder\.fuser\.layers\.2\.gamma"):
        original_to_transformers(weights, model.config)


def test_a_weight_of_the_wrong_shape_is_named(model: Any, weights: dict[str, Tensor]) -> None:
    weights["sam_prompt_encoder.point_embeddings.2.weight"] = torch.zeros(2, 256)
    with pytest.raises(CheckpointError, match=r"point_embeddings\.2\.weight .* shape \[2, 256\], .* needs \[1, 256\]"):
        original_to_transformers(weights, model.config)


def test_a_size_that_was_not_published_needs_its_configuration(weights: dict[str, Tensor]) -> None:
    with pytest.raises(CheckpointError, match="5 blocks that is 16 wide"):
        original_to_transformers(weights)


def test_names_of_transformers_are_not_the_originals(model: Any) -> None:
    assert not is_original(model.state_dict())


def test_a_smaller_image_is_smaller_everywhere() -> None:
    config: Any = published_config("sam2.1-base-plus", image_size=512)
    assert config.vision_config.backbone_feature_sizes == [[128, 128], [64, 64], [32, 32]]
    with torch.device("meta"):
        model: Any = Sam2VideoModel(config)
        levels = model.get_image_features(torch.empty(1, 3, 512, 512)).fpn_hidden_states
        top, memory = levels[2], torch.empty(32 * 32 + 4, 1, 64)
        conditioned = model.memory_attention(top, memory, top, memory, num_object_pointer_tokens=4)
    assert [len(level) for level in levels] == [128 * 128, 64 * 64, 32 * 32]
    assert conditioned.shape[-2:] == top.shape[::2]


@pytest.mark.parametrize("side", [0, 500, -32])
def test_an_image_size_that_the_strides_do_not_divide_is_refused(side: int) -> None:
    with pytest.raises(InputError, match=f"{side} pixels"):
        published_config("sam2-tiny", image_size=side)


def test_an_unknown_model_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnsupportedModelError, match=r"sam2\.1-base-plus"):
        published_config("sam2.1-huge")
