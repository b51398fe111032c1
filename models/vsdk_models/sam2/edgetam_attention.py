"""EdgeTAM's memory attention for export.

It is SAM-2's with two layers, and with memories that are not maps: half of their tokens have no place, so their keys do
not turn, and the other half lie on a coarser grid and turn by its rows and columns. Source:
`EdgeTamVideoMemoryAttention` and `apply_rotary_pos_emb_2d_cross_attn` (transformers, `modeling_edgetam_video.py`).
"""

from __future__ import annotations

from typing import Any

import torch

from .memory_attention import MemoryAttention
from .perceiver import memory_positions
from .rotary import angles


class EdgeTamMemoryAttention(MemoryAttention):
    """From the current frame's features and a bank of the perceiver's tokens to features that know the object.

    Args:
        model: An `EdgeTamVideoModel` of transformers.
    """

    def __init__(self, model: Any) -> None:
        config = model.config
        width = config.memory_attention_hidden_size // config.memory_attention_downsample_rate
        columns, rows = config.memory_attention_rope_k_sizes
        cosines, sines = angles(width, columns, rows, config.rope_parameters["rope_theta"])
        without_place = (model.spatial_perceiver.num_latents_1d, width // 2)
        turns = torch.cat([torch.ones(without_place), cosines]), torch.cat([torch.zeros(without_place), sines])
        super().__init__(model, memory_positions(model), turns)
