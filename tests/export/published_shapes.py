"""Checkpoints of the published shapes with random weights, and a clip to calibrate on: what speed is measured with.

    python tests/export/published_shapes.py shapes
    vsdk export shapes/dinov2-small --out shapes/dinov2-bundle --precision fp32,int8 --calibrate shapes/clip.mp4
    vsdk bench speed shapes/dinov2-bundle --against shapes/dinov2-small

Not collected by pytest. Speed depends on shapes, not on what weights hold; errors do, so those of random weights say
little of real ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, Dinov2Config, Dinov2Model

from vsdk.bench.clip import render_clip


def clip_b32() -> Any:
    """The image tower of CLIP ViT-B/32 with its projection."""
    config = CLIPVisionConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, image_size=224,
        patch_size=32, projection_dim=512,
    )  # fmt: skip
    return CLIPVisionModelWithProjection(config)


def dinov2_small() -> Any:
    """DINOv2-S/14, made for 518 pixels and used at 224."""
    config = Dinov2Config(
        hidden_size=384, num_hidden_layers=12, num_attention_heads=6, image_size=518, patch_size=14
    )  # fmt: skip
    return Dinov2Model(config)


MODELS: dict[str, Callable[[], Any]] = {"clip-vit-base-patch32": clip_b32, "dinov2-small": dinov2_small}


def write(folder: Path) -> None:
    """Both checkpoints and the clip."""
    for name, make in MODELS.items():
        torch.manual_seed(0)
        model = make()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1:  # biases and factors that start as constants
                    parameter.add_(torch.randn_like(parameter) * 0.02)
        model.save_pretrained(folder / name)
    render_clip(folder / "clip.mp4", 120)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    write(parser.parse_args().folder)
