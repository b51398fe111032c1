"""An EdgeTAM video model as the four networks of a tracker.

The neck, the mask decoder and the memory encoder are SAM-2's; EdgeTAM has another image encoder, compresses its
memories and reads them in two layers. Unlike SAM-2's, its memories are kept as they are, without rounding.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from vsdk_runtimes.manifest import Preprocessing

from ..tracking import TrackerNetworks
from .edgetam_attention import EdgeTamMemoryAttention
from .encoder import TrackerEncoder
from .mask_decoder import MaskDecoder
from .memory_encoder import MemoryEncoder
from .model import CONDITIONING_SLOTS, square, tracker_spec
from .perceiver import SpatialPerceiver
from .repvit import RepVit, fused


def edgetam_networks(
    model: Any, conditioning_slots: int = CONDITIONING_SLOTS, preprocessing: Preprocessing | None = None
) -> TrackerNetworks:
    """The networks of an `EdgeTamVideoModel` of transformers.

    Args:
        model: Weights, and the configuration for one image size, as `load_edgetam` gives them.
        conditioning_slots: Prompted frames that the bank keeps.
        preprocessing: None is that of `Sam2VideoVideoProcessor`, which EdgeTAM shares.
    """
    perceiver = SpatialPerceiver(model)
    trunk = Trunk(model.vision_encoder.backbone.timm_model)
    return TrackerNetworks(
        family="edgetam",
        encoder=TrackerEncoder(trunk, model.vision_encoder.neck, model.mask_decoder, model.no_memory_embedding),
        attention=EdgeTamMemoryAttention(model),
        decoder=MaskDecoder(model),
        memory=MemoryEncoder(model, perceiver),
        spec=tracker_spec(model.config, conditioning_slots, rounding="none", binarise="object"),
        preprocessing=preprocessing or square(int(model.image_size)),
        width=model.hidden_dim,
    )


class Trunk(nn.Module):
    """RepViT, folded, with its channels where `TrackerEncoder` expects them.

    Args:
        backbone: Is left as it was.
    """

    def __init__(self, backbone: RepVit) -> None:
        super().__init__()
        self.backbone = fused(backbone)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """From `[batch, 3, side, side]` to one map `[batch, height, width, channels]` for each stage."""
        return [features.permute(0, 2, 3, 1) for features in self.backbone(pixels)]
