"""transformers' EdgeTAM with random weights that all matter, small or at full width: the reference of the tracker.

Its image encoder is our RepViT in the place of timm's, which `test_repvit_timm.py` holds against timm itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from sam2_reference import FULL_WIDTH_SHARPNESS, randomised
from torch import Tensor
from transformers import EdgeTamVideoModel

from vsdk_models.sam2.edgetam import edgetam_config

SMALL_WIDTHS, SMALL_DEPTHS = [16, 24, 32, 48], [1, 2, 3, 1]
# What transformers writes for the image encoder of a published checkpoint.
TIMM_BACKBONE = {
    "model_type": "timm_wrapper", "architecture": "repvit_m1", "do_pooling": True, "num_classes": 2,
    "label_names": ["LABEL_0", "LABEL_1"],
    "model_args": {"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]},
}  # fmt: skip


def edgetam_settings(image_size: int = 256, small: bool = True, **changes: Any) -> dict[str, Any]:
    """What a config.json would say: reduced widths and 32 + 64 latents, or those of EdgeTAM."""
    settings: dict[str, Any] = {"model_type": "edgetam_video", "image_size": image_size}
    settings["vision_config"] = {"backbone_config": TIMM_BACKBONE}
    if small:
        width = 128
        backbone = {"model_type": "vsdk_repvit", "widths": SMALL_WIDTHS, "depths": SMALL_DEPTHS}
        settings |= {
            "vision_config": {
                "backbone_config": backbone, "backbone_channel_list": SMALL_WIDTHS[::-1], "fpn_hidden_size": width
            },
            "prompt_encoder_config": {"hidden_size": width},
            "mask_decoder_config": {
                "hidden_size": width, "mlp_dim": 128, "iou_head_hidden_dim": width, "num_attention_heads": 4
            },
            "memory_attention_hidden_size": width, "memory_attention_mlp_hidden_size": 128,
            "memory_attention_rope_k_sizes": [8, 8], "memory_encoder_hidden_size": width,
            "perceiver_resampler_num_latents": 32, "perceiver_resampler_num_latents_2d": 64,
            "perceiver_resampler_mlp_intermediate_size": 96, "mask_downsampler_embed_dim": width,
            "memory_fuser_embed_dim": width, "memory_fuser_intermediate_dim": 96,
        }  # fmt: skip
    return settings | changes


def edgetam_video_model(
    seed: int = 0, image_size: int = 256, small: bool = True, sharpness: float | None = None, **changes: Any
) -> EdgeTamVideoModel:
    """An EdgeTAM video model with random weights, in evaluation mode.

    Args:
        seed: Of the weights.
        image_size: Side of the square input in pixels.
        small: Reduced widths.
        sharpness: See `randomised`; None is what suits the width.
        changes: Of the configuration, by its names.
    """
    torch.manual_seed(seed)
    model = EdgeTamVideoModel(edgetam_config(edgetam_settings(image_size, small, **changes)))
    if sharpness is None:
        sharpness = 1.0 if small else FULL_WIDTH_SHARPNESS
    randomise_norms(randomised(model, seed, sharpness), seed)
    return model


def randomise_norms(model: torch.nn.Module, seed: int) -> None:
    """Statistics and scales of the batch norms, such that features neither explode nor fade from block to block."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, module in sorted(model.named_modules()):
            if isinstance(module, torch.nn.BatchNorm2d):
                branch = "token_mixer" in name or "conv2.bn" in name
                scale, shift, mean, spread = torch.randn(4, module.num_features, generator=generator)
                module.weight.copy_((0.4 if branch and "stem" not in name else 1.0) * (1 + 0.3 * scale))
                module.bias.copy_(0.2 * shift)
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.copy_(0.2 * mean)
                module.running_var.copy_((1 + 0.3 * spread.tanh()).square())


def conditioned(
    model: Any, top: Tensor, slots: Sequence[tuple[int, Tensor]], pointers: Sequence[tuple[float, Tensor]]
) -> Tensor:
    """What transformers' model makes of a frame and the memories of one object.

    Args:
        model: An EdgeTAM video model.
        top: `[1, width, side, side]`, of the model's dtype, as are memories and pointers.
        slots: Ages (0: a conditioning frame) and memories `[tokens, memory width]`.
        pointers: Ages in frames and pointers `[width]`.
    """
    side, batch = top.shape[-1], 1
    encoding = model.vision_encoder.neck.position_encoding(top.shape, "cpu", torch.float32).to(top.dtype)
    empty = torch.zeros(1, model.mem_dim, side, side, dtype=top.dtype)
    _, places = model.spatial_perceiver(empty, model.memory_encoder.position_encoding(empty.shape, "cpu", empty.dtype))
    outputs = [(age, {"maskmem_features": memory[None], "maskmem_pos_enc": places}) for age, memory in slots]
    memories, positions = model._build_memory_attention_inputs(outputs, torch.device("cpu"))
    tokens, times = model._process_object_pointers(
        [age for age, _ in pointers], [pointer[None] for _, pointer in pointers],
        model.config.max_object_pointers_in_encoder, batch, model.hidden_dim, torch.device("cpu"),
    )  # fmt: skip
    if tokens is not None:
        memories, positions = [*memories, tokens], [*positions, times]
    flat: Tensor = model.memory_attention(
        current_vision_features=top.flatten(2).permute(2, 0, 1),
        current_vision_position_embeddings=encoding.flatten(2).permute(2, 0, 1),
        memory=torch.cat(memories),
        memory_posision_embeddings=torch.cat(positions),
        num_object_pointer_tokens=0 if tokens is None else len(tokens),
        num_spatial_memory_tokens=len(slots),
    )
    return flat.squeeze(1).transpose(1, 2).reshape(1, model.hidden_dim, side, side)


def write_checkpoint(folder: Path, model: EdgeTamVideoModel) -> Path:
    """Save a model; at full width its configuration names timm's image encoder, as a published one does."""
    model.save_pretrained(folder)
    path = folder / "config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    if settings["vision_config"]["backbone_config"].get("widths") is None:
        settings["vision_config"]["backbone_config"] = TIMM_BACKBONE
        path.write_text(json.dumps(settings), encoding="utf-8")
    return folder
