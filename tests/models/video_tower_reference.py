"""The published video tower, stated once more in plain PyTorch with its weights by name."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

HEAD = 64


def video_tower(weights: Mapping[str, Tensor], pixels: Tensor, blocks: int) -> Tensor:
    """Tokens after so many blocks, `[8, tokens, width]`, of one clip `[8, 3, height, width]`."""

    def linear(name: str, tokens: Tensor) -> Tensor:
        return tokens @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(name: str, tokens: Tensor) -> Tensor:
        return F.layer_norm(tokens, tokens.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-5)

    def attention(name: str, tokens: Tensor) -> Tensor:
        """Tokens `[n, width]`, each attending to all."""
        query, key, value = (linear(f"{name}.{part}_proj", tokens) for part in "qkv")
        mixed = []
        for start in range(0, tokens.shape[1], HEAD):
            part = slice(start, start + HEAD)
            mixed.append(torch.softmax(query[:, part] @ key[:, part].T / HEAD**0.5, dim=-1) @ value[:, part])
        return linear(f"{name}.out_proj", torch.cat(mixed, dim=1))

    patches = F.conv2d(pixels, weights["embeddings.patch_embedding.weight"], stride=pixels.shape[-1] // 4)
    tokens = torch.stack(
        [
            torch.cat([weights["embeddings.class_embedding"][None], frame.flatten(1).T])
            + weights["embeddings.position_embedding.weight"]
            for frame in patches
        ]
    )
    tokens = norm("pre_layrnorm", tokens)
    for block in range(blocks):
        name = f"encoder.layers.{block}"
        over_time = tokens + weights[f"{name}.temporal_embedding"][0][:, None]
        for place in range(tokens.shape[1]):
            column = over_time[:, place]
            tokens[:, place] = column + attention(f"{name}.temporal_attn", norm(f"{name}.temporal_layer_norm1", column))
        for frame in range(len(tokens)):
            tokens[frame] = tokens[frame] + attention(f"{name}.self_attn", norm(f"{name}.layer_norm1", tokens[frame]))
        inner = F.gelu(linear(f"{name}.mlp.fc1", norm(f"{name}.layer_norm2", tokens)))
        tokens = tokens + linear(f"{name}.mlp.fc2", inner)
    return tokens
