"""A small VideoLLaMB checkpoint in its published form: config.json, shards with an index, every key, dead or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModel
from videollamb_reference import random_weights

WIDTH, HIDDEN, LANGUAGE, IMAGE, PATCH, BLOCKS, MEMORY = 64, 96, 48, 32, 8, 3, 32
PATCHES = (IMAGE // PATCH) ** 2
PROJECTOR = "model.mm_projector."
IMAGE_TOWER = "model.image_tower.image_tower."
VIDEO_TOWER = "model.video_tower.video_tower."

# As published, with small sizes.
CONFIG: dict[str, Any] = {
    "architectures": ["LlavaLlamaForCausalLMRMT"],
    "model_type": "llava_llama",
    "X": ["VIDEO", "IMAGE"],
    "hidden_size": LANGUAGE,
    "mm_hidden_size": WIDTH,
    "mm_intermediate_size": HIDDEN,
    "mm_num_attention_heads": 4,
    "mm_hidden_act": "gelu",
    "mm_layer_norm_eps": 1e-12,
    "mm_projector_type": "rmt_r_transformer1x",
    "mm_vision_select_layer": -2,
    "mm_vision_select_feature": "patch",
    "mm_patch_merge_type": "flat",
    "num_frames": 16,
    "mm_image_tower": "./checkpoints/LanguageBind_Image",
    "mm_video_tower": "./checkpoints/LanguageBind_Video_merge",
    "image_aspect_ratio": "pad",
    "mm_use_x_start_end": False,
    "mm_vision_tower": "openai/clip-vit-large-patch14-336",
}


def checkpoint_weights(*, mem: bool = False, layers: int = 1, retrieval: bool = True) -> dict[str, Tensor]:
    """All tensors of a checkpoint, bfloat16 as published: language model, towers, bridge."""
    generator = torch.Generator().manual_seed(1)
    bridge = random_weights(
        WIDTH, HIDDEN, MEMORY, layers=layers, language_width=LANGUAGE, positions=20 if mem else 0, retrieval=retrieval
    )
    weights = {f"{PROJECTOR}{name}": tensor for name, tensor in bridge.items()}
    for name, tensor in _clip(3).items():
        weights[f"{IMAGE_TOWER}{name}"] = tensor
    for name, tensor in _clip(4).items():
        weights[f"{VIDEO_TOWER}{name}"] = tensor
    for block in range(BLOCKS):
        prefix = f"{VIDEO_TOWER}encoder.layers.{block}."
        weights[f"{prefix}temporal_embedding"] = torch.randn(1, 8, WIDTH, generator=generator)
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            weights[f"{prefix}temporal_attn.{part}.weight"] = 0.2 * torch.randn(WIDTH, WIDTH, generator=generator)
            weights[f"{prefix}temporal_attn.{part}.bias"] = 0.1 * torch.randn(WIDTH, generator=generator)
        weights[f"{prefix}temporal_layer_norm1.weight"] = 1 + 0.1 * torch.randn(WIDTH, generator=generator)
        weights[f"{prefix}temporal_layer_norm1.bias"] = 0.1 * torch.randn(WIDTH, generator=generator)
    weights["model.embed_tokens.weight"] = torch.randn(100, LANGUAGE, generator=generator)
    weights["model.layers.0.self_attn.q_proj.weight"] = torch.randn(LANGUAGE, LANGUAGE, generator=generator)
    weights["lm_head.weight"] = torch.randn(100, LANGUAGE, generator=generator)
    return {name: tensor.bfloat16() for name, tensor in weights.items()}


def write_checkpoint(folder: Path, weights: dict[str, Tensor], *, shards: int = 3, **settings: Any) -> Path:
    """Write these weights and the configuration with these changes; gives the folder.

    Shards take tensors in turn, so that every module is spread over all of them.
    """
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**CONFIG, **settings}))
    if shards == 1:
        save_file(weights, folder / "model.safetensors")
        return folder
    names = [f"model-{number + 1:05d}-of-{shards:05d}.safetensors" for number in range(shards)]
    placed = {name: names[index % shards] for index, name in enumerate(sorted(weights))}
    for name in names:
        save_file({key: weights[key] for key in weights if placed[key] == name}, folder / name)
    index = {"metadata": {}, "weight_map": placed}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def image_tower(weights: dict[str, Tensor], prefix: str = IMAGE_TOWER) -> Any:
    """transformers' own model with the weights of a tower."""
    model: Any = CLIPVisionModel(_config())
    found = {name.removeprefix(prefix): value.float() for name, value in weights.items() if name.startswith(prefix)}
    getattr(model, "vision_model", model).load_state_dict(found)
    return model.eval()


def _config() -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=WIDTH, intermediate_size=HIDDEN, num_hidden_layers=BLOCKS, num_attention_heads=1, image_size=IMAGE,
        patch_size=PATCH, hidden_act="gelu",
    )  # fmt: skip


def _clip(seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    model = CLIPVisionModel(_config())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * (0.15 if parameter.ndim > 1 else 0.05))
    return {name: tensor.detach() for name, tensor in getattr(model, "vision_model", model).state_dict().items()}
