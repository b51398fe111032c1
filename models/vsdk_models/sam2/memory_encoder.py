"""SAM-2's memory encoder for export: a frame's features and an object's mask become memory tokens.

The arithmetic is that of `_encode_new_memory` (transformers, `modeling_sam2_video.py`), from the mask logits at a
quarter of the image's side on. Rounding to bfloat16, which the reference does to what it stores, is left to the bank.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MemoryEncoder(nn.Module):
    """From a frame's features and the chosen mask to what the bank keeps.

    Args:
        model: A `Sam2VideoModel` or `EdgeTamVideoModel` of transformers.
        compress: What follows, such as EdgeTAM's perceiver: from a map `[batch, 64, side, side]` to tokens
            `[batch, tokens, 64]`. None keeps every place of the map as a token.
    """

    def __init__(self, model: Any, compress: nn.Module | None = None) -> None:
        super().__init__()
        self.image_size = model.image_size
        self.scale, self.shift = model.config.sigmoid_scale_for_mem_enc, model.config.sigmoid_bias_for_mem_enc
        encoder = model.memory_encoder
        self.shrink, self.project = encoder.mask_downsampler, encoder.feature_projection
        self.fuse, self.out = encoder.memory_fuser, encoder.projection
        occluded = model.occlusion_spatial_embedding_parameter
        width = model.mem_dim
        occluded = torch.zeros(1, width) if occluded is None else occluded.detach()  # SAM 2.0 has none
        self.occluded = nn.Parameter(occluded.reshape(1, -1, 1, 1).clone(), requires_grad=False)
        self.compress = compress

    def forward(
        self, top: Tensor, logits: Tensor, mask: Tensor, mask_given: Tensor, binarise: Tensor, object_score: Tensor
    ) -> Tensor:
        """Encode; the tensors are those of the component `tracker.memory` (`docs/tracking.md`)."""
        given, hard, score = (item[:, None, None, None] for item in (mask_given, binarise, object_score))
        large = F.interpolate(logits, size=(self.image_size, self.image_size), mode="bilinear", align_corners=False)
        drawn = torch.where(hard > 0, (large > 0).to(large.dtype), large.sigmoid())
        drawn = torch.where(given > 0, (mask > 0).to(large.dtype), drawn)
        fused = self.fuse(self.project(top) + self.shrink(drawn * self.scale + self.shift))
        features = self.out(fused) + (score <= 0).to(large.dtype) * self.occluded
        return features.flatten(2).transpose(1, 2) if self.compress is None else self.compress(features)
