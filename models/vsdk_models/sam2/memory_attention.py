"""SAM-2's memory attention for export: a frame's features read a static, masked bank of memories.

The arithmetic is that of `Sam2VideoMemoryAttention` together with the assembly of its inputs in `Sam2VideoModel`
(transformers, `modeling_sam2_video.py`: `_build_memory_attention_inputs`, `_process_object_pointers`). What differs
changes rounding only:

* slots and pointers that are not valid get no weight, so one graph serves every number of them. The mask is one more
  channel of queries (1) and keys (0 or a large negative number) rather than a sum over all scores;
* one head attends to the tokens themselves, in the bank to the 64-wide memories; `v_proj` and `o_proj`, both linear,
  come after it as one matrix, because the weights of a softmax sum to 1 and so let a bias pass;
* the first layer's self-attention does not depend on the memory: it is done once for all objects.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .rotary import RotaryProjection, angles

INVALID = -1e4
"""What an invalid key adds to its score; half precision holds it, and its exponential is zero."""


class MemoryAttention(nn.Module):
    """From the current frame's features and the bank to features that know the object.

    Args:
        model: A `Sam2VideoModel` of transformers, or EdgeTAM's.
        key_positions: Where the tokens of a memory are, `[tokens, memory width]`; None is on the map, token by token.
        key_turns: Cosines and sines that their keys turn by, `[tokens, width // 2]`; None is those of the map.
    """

    ages: Tensor
    positions: Tensor
    key_positions: Tensor

    def __init__(
        self, model: Any, key_positions: Tensor | None = None, key_turns: tuple[Tensor, Tensor] | None = None
    ) -> None:
        super().__init__()
        config = model.config
        if config.memory_attention_num_attention_heads != 1:
            raise ValueError("memory attention has one head")
        self.side = config.memory_attention_rope_feat_sizes[0]
        self.width, self.memory_width = model.hidden_dim, model.mem_dim
        attention = model.memory_attention
        turns = angles(
            config.memory_attention_hidden_size // config.memory_attention_downsample_rate,
            self.side, config.memory_attention_rope_feat_sizes[1], config.rope_parameters["rope_theta"],
        )  # fmt: skip
        self.layers = nn.ModuleList(
            MemoryAttentionLayer(layer, turns, key_turns or turns) for layer in attention.layers
        )
        self.norm = attention.layer_norm
        shape = (1, self.width, self.side, self.side)
        sine = model.vision_encoder.neck.position_encoding(shape, "cpu", torch.float32)
        self.register_buffer("positions", 0.1 * sine.flatten(2).transpose(1, 2))
        if key_positions is None:
            shape = (1, self.memory_width, self.side, self.side)
            key_positions = model.memory_encoder.position_encoding(shape, "cpu", torch.float32).flatten(2)[0].T
        self.register_buffer("key_positions", key_positions[None, None].clone())
        self.register_buffer("ages", age_table(model.memory_temporal_positional_encoding))
        self.pointer_times = PointerTimes(model)

    def forward(
        self, top: Tensor, memory: Tensor, slot_age: Tensor, slot_valid: Tensor,
        pointers: Tensor, pointer_age: Tensor, pointer_valid: Tensor,
    ) -> Tensor:  # fmt: skip
        """Read the bank; the tensors are those of the component `tracker.attention` (`docs/tracking.md`)."""
        features = top.flatten(2).transpose(1, 2) + self.positions
        # What is not valid may hold anything, also what would outweigh the mask or overflow.
        memory = torch.where(slot_valid[:, :, None, None] > 0, memory, torch.zeros_like(memory))
        pointers = torch.where(pointer_valid[:, :, None] > 0, pointers, torch.zeros_like(pointers))
        spatial_keys = memory + self.key_positions + self.ages[slot_age][:, :, None]
        pointer_tokens, pointer_keys = self.pointer_times(pointers, pointer_age)
        values = torch.cat([memory.flatten(1, 2), pointer_tokens], dim=1)
        slot_bias, pointer_bias = ((1 - valid)[:, :, None, None] * INVALID for valid in (slot_valid, pointer_valid))
        slot_bias = slot_bias.expand(-1, -1, memory.shape[2], -1)
        pointer_bias = pointer_bias.expand(-1, -1, pointer_tokens.shape[1] // pointers.shape[1], -1).flatten(1, 2)
        for layer in self.layers:
            features = layer(features, (spatial_keys, slot_bias), (pointer_keys, pointer_bias), values)
        return self.norm(features).transpose(1, 2).unflatten(2, (self.side, self.side))


class MemoryAttentionLayer(nn.Module):
    """Self-attention, cross-attention to the bank, and an MLP, each behind a norm and around a skip.

    Args:
        layer: A `Sam2VideoMemoryAttentionLayer` of transformers, or EdgeTAM's.
        turns: Cosines and sines of the map.
        key_turns: Cosines and sines of a memory's tokens.
    """

    def __init__(self, layer: Any, turns: tuple[Tensor, Tensor], key_turns: tuple[Tensor, Tensor]) -> None:
        super().__init__()
        own, cross = layer.self_attn, layer.cross_attn_image
        self.norm1, self.norm2, self.norm3 = layer.layer_norm1, layer.layer_norm2, layer.layer_norm3
        self.own_query = RotaryProjection(own.q_proj, turns, own.scaling)
        self.own_key = RotaryProjection(own.k_proj, turns)
        self.own_read = composed(own.v_proj, own.o_proj)
        self.query = RotaryProjection(cross.q_proj, turns, cross.scaling)
        self.key = RotaryProjection(cross.k_proj, key_turns)
        self.read = composed(cross.v_proj, cross.o_proj)
        self.mlp = nn.Sequential(*_mlp(layer))

    def forward(
        self, features: Tensor, spatial: tuple[Tensor, Tensor], pointers: tuple[Tensor, Tensor], values: Tensor
    ) -> Tensor:
        """From `features [batch or 1, tokens, width]` to `[batch, tokens, width]`.

        Args:
            features: The frame.
            spatial: Keys of memories `[batch, slots, tokens, 64]`, and what each adds to its score `[..., 1]`.
            pointers: Keys of pointers `[batch, tokens, 64]`, and what each adds to its score `[..., 1]`.
            values: What is read, `[batch, keys, 64]`, memories before pointers.
        """
        features = features + self._own(self.norm1(features))
        features = features + self._read(self.norm2(features), spatial, pointers, values)
        return features + self.mlp(self.norm3(features))

    def _own(self, normed: Tensor) -> Tensor:
        query, key = (torch.cat(project(normed), dim=-1) for project in (self.own_query, self.own_key))
        return self.own_read(attend(query, key, normed))

    def _read(
        self, normed: Tensor, spatial: tuple[Tensor, Tensor], pointers: tuple[Tensor, Tensor], values: Tensor
    ) -> Tensor:
        query = torch.cat([*self.query(normed), torch.ones_like(normed[..., :1])], dim=-1)
        turned = torch.cat([*self.key(spatial[0]), spatial[1]], dim=-1).flatten(1, 2)
        unturned = torch.cat([*self.key.in_place(pointers[0]), pointers[1]], dim=-1)
        return self.read(attend(query, torch.cat([turned, unturned], dim=1), values))


class PointerTimes(nn.Module):
    """Object pointers as memory tokens: each is cut into four, and its keys get an encoding of its age.

    Args:
        model: A `Sam2VideoModel`. SAM 2.0 encodes no ages.
    """

    frequencies: Tensor

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.memory_width = model.mem_dim
        self.longest = float(model.config.max_object_pointers_in_encoder - 1)
        pairs = torch.arange(model.hidden_dim // 2, dtype=torch.float32)
        self.register_buffer("frequencies", 10000 ** (2 * (pairs // 2) / (model.hidden_dim // 2)))
        timed = model.config.enable_temporal_pos_encoding_for_object_pointers
        self.projection = model.temporal_positional_encoding_projection_layer if timed else None

    def forward(self, pointers: Tensor, age: Tensor) -> tuple[Tensor, Tensor]:
        """From `[batch, pointers, width]` and ages in frames to tokens and keys, `[batch, 4 * pointers, 64]`."""
        tokens = pointers.unflatten(2, (-1, self.memory_width))
        if self.projection is None:
            return tokens.flatten(1, 2), tokens.flatten(1, 2) + 0 * age.sum()
        turned = (age / self.longest)[..., None] / self.frequencies
        times = self.projection(torch.cat([turned.sin(), turned.cos()], dim=-1))
        return tokens.flatten(1, 2), (tokens + times[:, :, None]).flatten(1, 2)


def _mlp(layer: Any) -> tuple[nn.Module, nn.Module, nn.Module]:
    """The two linear layers and what is between them; EdgeTAM keeps them in a module of their own."""
    if hasattr(layer, "mlp"):
        return layer.mlp.up_proj, layer.mlp.act_fn, layer.mlp.down_proj
    return layer.linear1, layer.activation, layer.linear2


def age_table(encoding: Tensor) -> Tensor:
    """Temporal encodings by slot age, `[ages, width]`: 0 is a conditioning frame, which has the last row."""
    rows = encoding.detach().flatten(1)
    return torch.cat([rows[-1:], rows[:-1]])


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention with one head on `[batch, tokens, channels]`; the scale is in the query already."""
    return (query @ key.transpose(1, 2)).softmax(dim=-1) @ value


def composed(first: nn.Linear, second: nn.Linear) -> nn.Linear:
    """One linear layer that does what two in a row do."""
    both = nn.Linear(first.in_features, second.out_features)
    weight = second.weight.detach().double()
    with torch.no_grad():
        both.weight.copy_(weight @ first.weight.detach().double())
        both.bias.copy_(weight @ first.bias.detach().double() + second.bias.detach().double())
    return both
