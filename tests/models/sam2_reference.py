"""transformers' SAM-2 with random weights that all matter, small or at full width: the reference of the tracker."""

from __future__ import annotations

from typing import Any

import torch
from transformers import Sam2VideoConfig, Sam2VideoModel

FULL_WIDTH_SHARPNESS = 0.3
PRESENT = 5.0
SMALL: dict[str, Any] = {
    "vision": {"embed_dim_per_stage": [16, 32, 64, 128], "num_attention_heads_per_stage": [1, 2, 4, 8],
               "blocks_per_stage": [1, 2, 4, 2], "global_attention_blocks": [4, 6], "hidden_size": 16},
    "width": 128, "attention_layers": 2, "feed_forward": 128, "fuser": 96,
}  # fmt: skip


def video_config(image_size: int = 256, small: bool = True, **changes: Any) -> Sam2VideoConfig:
    """A configuration for one image size: reduced widths, or those of SAM 2.1 tiny."""
    grid = image_size // 16
    sizes = [[4 * grid, 4 * grid], [2 * grid, 2 * grid], [grid, grid]]
    backbone: dict[str, Any] = {"image_size": [image_size, image_size]}
    vision: dict[str, Any] = {"backbone_feature_sizes": sizes}
    options: dict[str, Any] = {"image_size": image_size, "memory_attention_rope_feat_sizes": [grid, grid]}
    prompt: dict[str, Any] = {"image_size": image_size}
    decoder: dict[str, Any] = {}
    if small:
        width = SMALL["width"]
        backbone |= SMALL["vision"]
        vision |= {"fpn_hidden_size": width, "backbone_channel_list": backbone["embed_dim_per_stage"][::-1]}
        options |= {
            "memory_attention_hidden_size": width, "memory_attention_num_layers": SMALL["attention_layers"],
            "memory_attention_feed_forward_hidden_size": SMALL["feed_forward"], "memory_encoder_hidden_size": width,
            "mask_downsampler_embed_dim": width, "memory_fuser_embed_dim": width,
            "memory_fuser_intermediate_dim": SMALL["fuser"],
        }  # fmt: skip
        prompt["hidden_size"] = width
        decoder = {"hidden_size": width, "mlp_dim": 128, "iou_head_hidden_dim": width, "num_attention_heads": 4}
    options |= changes
    vision["backbone_config"] = {"model_type": "sam2_hiera_det_model", **backbone}
    return Sam2VideoConfig(
        vision_config={"model_type": "sam2_vision_model", **vision},
        prompt_encoder_config=prompt,
        mask_decoder_config=decoder,
        **options,
    )


def randomised(model: Any, seed: int, sharpness: float = 1.0) -> Any:
    """The model with every parameter drawn: those that start as zeros or tiny scales would hide mistakes.

    Args:
        model: Changed in place.
        seed: Of the draw.
        sharpness: Factor for the projections to queries and keys, and so, squared, for what goes into each softmax. At
            full width, 1 makes memory attention so sharp that float32 itself is off by more than 1e-4 of the RMS
            (`attention_precision.py`).
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1 and "embed" not in name and "encoding" not in name and "pointer" not in name:
                fan_in = parameter[0].numel()
                sharp = sharpness if name.endswith(("q_proj.weight", "k_proj.weight")) else 1.0
                parameter.copy_(sharp * noise / fan_in**0.5)
            elif "norm" in name and name.endswith("weight"):
                parameter.copy_(1 + 0.1 * noise)
            else:
                parameter.copy_(0.2 * noise)
        for name, buffer in sorted(model.named_buffers()):
            if name.endswith("positional_embedding"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator))
        # The same directions serve the image and the prompts, as in every published checkpoint.
        shared = model.shared_image_embedding.positional_embedding
        model.prompt_encoder.shared_embedding.positional_embedding.copy_(shared)
    return model.eval()


def present(model: Any) -> Any:
    """The model with `PRESENT` added to its object score: an absent object has the same logits everywhere."""
    with torch.no_grad():
        model.mask_decoder.pred_obj_score_head.proj_out.bias += PRESENT
    return model


def video_model(seed: int = 0, image_size: int = 256, small: bool = True, **changes: Any) -> Sam2VideoModel:
    """A SAM-2 video model with random weights."""
    torch.manual_seed(seed)
    sharpness = 1.0 if small else FULL_WIDTH_SHARPNESS
    model: Sam2VideoModel = randomised(Sam2VideoModel(video_config(image_size, small, **changes)), seed, sharpness)
    return model
