"""Configurations of the published SAM-2 sizes.

Two releases of four sizes, which differ in the image encoder only. SAM 2.1 added the time of object pointers (an
encoding with a projection) and an embedding of occluded objects' memories; SAM 2.0 has neither. The numbers are those
of the configuration files of facebookresearch/sam2 (commit 2b90b9f, Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vsdk_runtimes.errors import InputError, UnsupportedModelError

if TYPE_CHECKING:
    from transformers import Sam2VideoConfig

RELEASES = ("sam2", "sam2.1")
_DEEPEST_STRIDE = 32  # of the image encoder's last map, which the neck enlarges to the size of the one above


@dataclass(frozen=True)
class PublishedSize:
    """What is particular to one size: its Hiera image encoder.

    Attributes:
        width: Components of a token in the first stage; each further stage has twice as many.
        heads: Attention heads of the first stage; each further stage has twice as many.
        blocks: Blocks of each of the four stages.
        windows: Side of the attention windows of each stage, in tokens.
        global_blocks: Numbers of the blocks that attend to the whole map.
        background: Side of the position embedding that is enlarged to the whole map.
    """

    width: int
    heads: int
    blocks: tuple[int, int, int, int]
    windows: tuple[int, int, int, int]
    global_blocks: tuple[int, int, int]
    background: int

    @property
    def widths(self) -> list[int]:
        """Components of a token in each stage."""
        return [self.width * 2**stage for stage in range(4)]


SIZES: Mapping[str, PublishedSize] = {
    "tiny": PublishedSize(96, 1, (1, 2, 7, 2), (8, 4, 14, 7), (5, 7, 9), 7),
    "small": PublishedSize(96, 1, (1, 2, 11, 2), (8, 4, 14, 7), (7, 10, 13), 7),
    "base-plus": PublishedSize(112, 2, (2, 3, 16, 3), (8, 4, 14, 7), (12, 16, 20), 14),
    "large": PublishedSize(144, 2, (2, 6, 36, 4), (8, 4, 16, 8), (23, 33, 43), 7),
}
PUBLISHED = tuple(f"{release}-{size}" for release in RELEASES for size in SIZES)


def published_config(name: str, *, image_size: int = 1024) -> Sam2VideoConfig:
    """The configuration of a published model.

    Args:
        name: Release and size, such as `sam2.1-tiny`; all are in `PUBLISHED`.
        image_size: Side of the square input in pixels. The models were trained at 1024.

    Raises:
        UnsupportedModelError: There is no such model.
        InputError: The side is not a positive multiple of 32.
    """
    from transformers import Sam2VideoConfig

    if name not in PUBLISHED:
        raise UnsupportedModelError(f"there is no SAM-2 model {name!r}", hint=f"Published: {', '.join(PUBLISHED)}.")
    release, _, size = name.partition("-")
    return set_image_size(
        Sam2VideoConfig(
            vision_config=_vision_config(SIZES[size]),
            enable_temporal_pos_encoding_for_object_pointers=release != "sam2",
            enable_occlusion_spatial_embedding=release != "sam2",
        ),
        image_size,
    )


def set_image_size(config: Sam2VideoConfig, image_size: int) -> Sam2VideoConfig:
    """Change the side of the square input in every place of a configuration that depends on it.

    No weight depends on it: position embeddings are enlarged, and rotary encodings are computed.

    Args:
        config: Changed in place.
        image_size: Pixels.

    Returns:
        The same configuration.

    Raises:
        InputError: The side is not a positive multiple of 32.
    """
    if image_size < _DEEPEST_STRIDE or image_size % _DEEPEST_STRIDE:
        raise InputError(
            f"SAM-2 cannot take images of {image_size} pixels",
            hint=f"Choose a multiple of {_DEEPEST_STRIDE}; trained at 1024, and 512 is four times cheaper.",
        )
    spread_image_size(config, image_size)
    vision: Any = config.vision_config
    vision.backbone_config.image_size = [image_size, image_size]
    return config


def spread_image_size(config: Any, image_size: int) -> None:
    """Write a side, in pixels, to every place that a `Sam2VideoConfig` and an `EdgeTamVideoConfig` both have."""
    config.image_size = config.prompt_encoder_config.image_size = image_size
    config.vision_config.backbone_feature_sizes = [[image_size // stride] * 2 for stride in (4, 8, 16)]
    config.memory_attention_rope_feat_sizes = [image_size // 16] * 2


def _vision_config(size: PublishedSize) -> dict[str, object]:
    return {
        "model_type": "sam2_vision_model",
        "backbone_channel_list": size.widths[::-1],
        "backbone_config": {
            "model_type": "sam2_hiera_det_model",
            "hidden_size": size.width,
            "num_attention_heads": size.heads,
            "embed_dim_per_stage": size.widths,
            "num_attention_heads_per_stage": [size.heads * 2**stage for stage in range(4)],
            "blocks_per_stage": list(size.blocks),
            "window_size_per_stage": list(size.windows),
            "global_attention_blocks": list(size.global_blocks),
            "window_positional_embedding_background_size": [size.background] * 2,
        },
    }
