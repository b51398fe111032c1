"""EdgeTAM's spatial perceiver for export: the map of a memory becomes a few tokens.

Half of the tokens look at the whole map; of the other half each looks at one window of it and keeps its place. Both
halves pass through the same layers. The arithmetic is that of `EdgeTamVideoPerceiverResampler` (transformers,
`modeling_edgetam_video.py`; paper: Zhou et al., "EdgeTAM: On-Device Track Anything Model", CVPR 2025). What differs
changes rounding only:

* both halves are one sequence wherever they do not attend, and share the keys and values of the map;
* the map is read window by window from the start: softmax attention does not mind the order of its keys;
* a token that attends to itself alone has the weight 1, so only its value and the projections after it are left.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from vsdk_runtimes.errors import UnsupportedModelError


class SpatialPerceiver(nn.Module):
    """From a map to tokens; those of the whole map come first, then those of windows, row by row.

    Args:
        model: An `EdgeTamVideoModel` of transformers.

    Raises:
        UnsupportedModelError: It has several heads, lacks a half, or its windows do not tile the map.
    """

    latents: Tensor
    positions: Tensor

    def __init__(self, model: Any) -> None:
        super().__init__()
        perceiver, (height, width) = model.spatial_perceiver, model.backbone_feature_sizes[-1]
        across = math.isqrt(perceiver.num_latents_2d)
        if perceiver.config.perceiver_resampler_num_attention_heads != 1 or not perceiver.num_latents_1d or not across:
            raise UnsupportedModelError("EdgeTAM's perceiver has one head, and both global and windowed latents")
        if height != width or width % across:
            raise UnsupportedModelError(
                f"EdgeTAM's {across} x {across} windows do not tile a map of {height} x {width}",
                hint=f"Choose an image size that is a multiple of {16 * across}.",
            )
        self.whole, self.across, self.side = perceiver.num_latents_1d, across, width // across
        latents = torch.cat([perceiver.latents_1d, perceiver.latents_2d])
        self.register_buffer("latents", latents.detach()[None].clone())
        sine = model.memory_encoder.position_encoding((1, model.mem_dim, height, width), "cpu", torch.float32)
        self.register_buffer("positions", self._windows(sine.permute(0, 2, 3, 1)).flatten(1, 2))
        self.layers = nn.ModuleList(PerceiverLayer(layer, self.whole) for layer in perceiver.layers)
        self.norm = perceiver.layer_norm

    def forward(self, features: Tensor) -> Tensor:
        """From `[batch, width, side, side]` to tokens `[batch, tokens, width]`."""
        windows = self._windows(features.permute(0, 2, 3, 1))
        tokens = self.latents
        for layer in self.layers:
            tokens = layer(tokens, windows, self.positions)
        normed: Tensor = self.norm(tokens)
        return normed

    def _windows(self, features: Tensor) -> Tensor:
        """From `[batch, height, width, channels]` to `[batch, windows, places, channels]`."""
        channels = features.shape[-1]
        rows = features.reshape(-1, self.side, self.across, self.side * channels).transpose(1, 2)
        return rows.reshape(-1, self.across * self.across, self.side * self.side, channels)


class PerceiverLayer(nn.Module):
    """Latents read the map, and those that see all of it read one another; an MLP follows each.

    Args:
        layer: An `EdgeTamVideoPerceiverEncoderLayer` of transformers.
        whole: How many of the latents see the whole map.
    """

    def __init__(self, layer: Any, whole: int) -> None:
        super().__init__()
        self.whole = whole
        self.norm_map, self.norm_latents = layer.layer_norm_input, layer.layer_norm_latents
        self.norm_own = layer.layer_norm_self
        self.cross, self.own = layer.cross_attention, layer.self_attention
        self.mlp, self.own_mlp = _mlp(layer.mlp), _mlp(layer.self_mlp)

    def forward(self, tokens: Tensor, windows: Tensor, positions: Tensor) -> Tensor:
        """One layer.

        Args:
            tokens: `[batch or 1, tokens, width]`.
            windows: The map, `[batch, windows, places, width]`.
            positions: Encodings of its places in the same order, `[1, windows * places, width]`.
        """
        tokens = tokens + self.cross.o_proj(self._read(self.norm_latents(tokens), self.norm_map(windows), positions))
        tokens = tokens + self.mlp(tokens)
        tokens = tokens + self.own.o_proj(self._read_own(self.norm_own(tokens)))
        updated: Tensor = tokens + self.own_mlp(tokens)
        return updated

    def _read(self, tokens: Tensor, windows: Tensor, positions: Tensor) -> Tensor:
        query = self.cross.q_proj(tokens) * self.cross.scaling
        key, value = self.cross.k_proj(windows), self.cross.v_proj(windows)
        whole = _attend(query[:, : self.whole], key.flatten(1, 2) + positions, value.flatten(1, 2) + positions)
        windowed = _attend(query[:, self.whole :, None], key, value)
        return torch.cat([whole, windowed[:, :, 0]], dim=1)

    def _read_own(self, tokens: Tensor) -> Tensor:
        seeing = tokens[:, : self.whole]
        value = self.own.v_proj(tokens)
        query, key = self.own.q_proj(seeing) * self.own.scaling, self.own.k_proj(seeing)
        return torch.cat([_attend(query, key, value[:, : self.whole]), value[:, self.whole :]], dim=1)


def memory_positions(model: Any) -> Tensor:
    """Where each of the perceiver's tokens is, `[tokens, width]`: nowhere for the first half, on a grid for the second.

    Args:
        model: An `EdgeTamVideoModel` of transformers.
    """
    perceiver = model.spatial_perceiver
    across = math.isqrt(perceiver.num_latents_2d)
    shape = (1, perceiver.hidden_size, across, across)
    grid = perceiver.positional_encoding(shape, "cpu", torch.float32).flatten(2)[0].T
    return torch.cat([grid.new_zeros(perceiver.num_latents_1d, perceiver.hidden_size), grid])


def _mlp(mlp: Any) -> nn.Sequential:
    return nn.Sequential(mlp.layer_norm, mlp.up_proj, mlp.act_fn, mlp.down_proj)


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention with one head on `[..., tokens, channels]`; the scale is in the query already."""
    return (query @ key.transpose(-1, -2)).softmax(dim=-1) @ value
