"""The video tower: CLIP's vision transformer with attention over time before the attention within each frame.

In every block: an embedding of the frame's place in its group is added, the tokens of one place in the picture attend
to one another over the 8 frames of the group (pre-norm, with a residual), and CLIP's own block follows. Groups do not
overlap and attention over time looks both ways, so a stream has a delay of up to 7 frames.

The names under each block (`temporal_embedding`, `temporal_attn`, `temporal_layer_norm1`) are those of LanguageBind's
video model, as Video-LLaVA and VideoLLaMB carry it along; they have not been held against the published files.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..layers import Layer, blocks_for
from ..tensors import CheckpointTensors
from ..vision import VISION_FAMILIES, tower
from .towers import HEAD, TowerPlan, empty_tower

FRAMES = 8
_EPSILON = 1e-5


class TemporalAttention(nn.Module):
    """Self-attention under CLIP's names. `[batch, frames, width]` to the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, tokens: Tensor) -> Tensor:
        """See the class."""
        query, key, value = (
            linear(tokens).unflatten(2, (-1, HEAD)).transpose(1, 2)
            for linear in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        result: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return result


class TemporalBlock(nn.Module):
    """Attention over time, then a block of CLIP. Tokens `[batch * 8, count, width]` to the same.

    Args:
        block: CLIP's, with the three temporal parts that `with_time` has put into it.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.block = block

    def forward(self, tokens: Tensor, attention_mask: None = None) -> Tensor:
        """See the class."""
        count = tokens.shape[1]
        over_time = tokens.unflatten(0, (-1, FRAMES)).transpose(1, 2).flatten(0, 1) + self.block.temporal_embedding
        over_time = over_time + self.block.temporal_attn(self.block.temporal_layer_norm1(over_time))
        tokens = over_time.unflatten(0, (-1, count)).transpose(1, 2).flatten(0, 1)
        result = self.block(tokens, attention_mask=attention_mask)
        return result[0] if isinstance(result, tuple) else result


class VideoEncoder(nn.Module):
    """Pixels `[batch, 8, 3, height, width]` to `cls` `[batch, 8, width]` and `patches` `[batch, 8, count, width]`.

    Args:
        model: From `load_video_tower`.
        layer: Which tokens are given out, see `layers`.
    """

    output_names = ("cls", "patches")

    def __init__(self, model: Any, layer: Layer) -> None:
        super().__init__()
        with torch.no_grad():
            parts = VISION_FAMILIES["clip"].parts(model, 0, 0)
        assert parts.position is not None
        assert parts.prefix is not None
        self.patch, self.before = parts.patch, parts.before
        self.position, self.prefix = (
            nn.Buffer(parts.position.detach().clone()),
            nn.Buffer(parts.prefix.detach().clone()),
        )
        self.blocks = nn.ModuleList(
            TemporalBlock(block) for block in parts.blocks[: blocks_for(layer, len(parts.blocks))]
        )

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        patches = self.patch(pixels.flatten(0, 1)).flatten(2).transpose(1, 2) + self.position
        tokens = self.before(torch.cat([self.prefix.expand(patches.shape[0], -1, -1), patches], dim=1))
        for block in self.blocks:
            tokens = block(tokens)
        grouped = tokens.unflatten(0, (-1, FRAMES))
        return grouped[:, :, 0], grouped[:, :, 1:]


def with_time(model: Any) -> Any:
    """Put the parts for attention over time into the blocks of a CLIP vision model; gives the model."""
    vision = tower(model)
    width = vision.embeddings.class_embedding.shape[0]
    for block in vision.encoder.layers:
        block.temporal_embedding = nn.Parameter(torch.zeros(1, FRAMES, width))
        block.temporal_attn = TemporalAttention(width)
        block.temporal_layer_norm1 = nn.LayerNorm(width, eps=_EPSILON)
    return model


def load_video_tower(plan: TowerPlan, tensors: CheckpointTensors) -> Any:
    """The video tower with its weights.

    Raises:
        CheckpointError: A weight is missing or of the wrong shape; the message names it.
    """
    model = with_time(empty_tower(plan))
    tensors.fill(tower(model), plan.prefix, "video tower")
    return model.eval()
