"""The published computation of VideoLLaMB's bridge, stated once more in plain PyTorch.

Written from the description of the original, and importing nothing of the code under test: weights come by their
published names, tokens have no batch axis, the cache is a list of what the original caches, and all of it is projected
to keys and values again at every step. Only the bound on the list is an addition; `forget` and `merge` state it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F  # as everybody writes it
from torch import Tensor

Weights = Mapping[str, Tensor]


@dataclass
class Entry:
    """What one segment left in the cache: tokens by block, and how many segments each block is the mean of."""

    blocks: Tensor
    counts: list[int]


@dataclass
class Reference:
    """A bridge and everything that it remembers.

    Attributes:
        weights: By their names behind `model.mm_projector.`.
        heads: Attention heads.
        side, grid: Side of a frame's square of tokens before and after pooling.
        caches_patches: Whether this is the "Mem" variant.
        retrieves: Whether there is a retriever at all.
    """

    weights: Weights
    heads: int
    side: int
    grid: int
    caches_patches: bool = False
    retrieves: bool = True
    epsilon: float = 1e-12
    cache: list[Entry] = field(default_factory=list)
    memory: Tensor | None = None

    def segment(self, frames: Tensor, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Read a segment `[n, patches, width]`: memory after the bridge, patches after the bridge, next memory."""
        if self.memory is None:
            self.memory = self.weights["projector.read_memory_emb"]
        count = self.memory.shape[0]
        tokens = torch.cat([self.memory, self.pooled(frames, number)])
        layer = 0
        while f"projector.layers.{layer}.mlp.0.weight" in self.weights:
            tokens = self.bridge_layer(f"projector.layers.{layer}", tokens)
            layer += 1
        bridged, visual = tokens[:count], tokens[count:]
        if self.retrieves:
            kept = visual.reshape(len(frames), -1, visual.shape[-1]) if self.caches_patches else bridged[None]
            self.cache.append(Entry(kept, [1] * len(kept)))
            everything = torch.cat([block for entry in self.cache for block in entry.blocks])
            self.memory = self.attention("retrieval.layers.0.crossattention", bridged, everything)
        else:
            self.memory = bridged
        return bridged, visual, self.memory

    def forget(self, position: int) -> None:
        """Remove an entry."""
        del self.cache[position]

    def merge(self, position: int) -> None:
        """Replace an entry and its successor by their mean, block by block, weighted by the segments in each."""
        one, other = self.cache[position], self.cache.pop(position + 1)
        blocks, counts = [], []
        for index in range(max(len(one.counts), len(other.counts))):
            there = [entry for entry in (one, other) if index < len(entry.counts)]
            total = sum(entry.counts[index] for entry in there)
            blocks.append(sum(entry.blocks[index] * (entry.counts[index] / total) for entry in there))
            counts.append(total)
        self.cache[position] = Entry(torch.stack([torch.as_tensor(block) for block in blocks]), counts)

    def pooled(self, frames: Tensor, number: int) -> Tensor:
        """Patch tokens `[n, patches, width]` on a smaller grid, in one row `[n * grid * grid, width]`."""
        pictures = frames.transpose(1, 2).reshape(len(frames), -1, self.side, self.side)
        tokens = F.adaptive_avg_pool2d(pictures, self.grid).flatten(2).transpose(1, 2).flatten(0, 1)
        if "abs_vid_pe.weight" in self.weights:
            tokens = tokens + self.weights["abs_vid_pe.weight"][number]
        return tokens

    def bridge_layer(self, name: str, tokens: Tensor) -> Tensor:
        """Self-attention, then the feed-forward network with its own residual and norm."""
        attended = self.attention(f"{name}.selfattention", tokens, tokens)
        inner = F.gelu(self.linear(f"{name}.mlp.0", attended))
        return self.norm(f"{name}.residual.layernorm", self.linear(f"{name}.residual.dense", inner) + attended)

    def attention(self, name: str, tokens: Tensor, context: Tensor) -> Tensor:
        """Multi-head attention, its dense layer, the residual and the norm behind it."""
        query = self.linear(f"{name}.q_proj", tokens)
        key, value = self.linear(f"{name}.k_proj", context), self.linear(f"{name}.v_proj", context)
        size = query.shape[1] // self.heads
        mixed = []
        for head in range(self.heads):
            part = slice(head * size, (head + 1) * size)
            scores = query[:, part] @ key[:, part].T / size**0.5
            mixed.append(torch.softmax(scores, dim=-1) @ value[:, part])
        dense = self.linear(f"{name}.residual.dense", torch.cat(mixed, dim=1))
        return self.norm(f"{name}.residual.layernorm", dense + tokens)

    def linear(self, name: str, tokens: Tensor) -> Tensor:
        """A linear layer with its bias."""
        return tokens @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, name: str, tokens: Tensor) -> Tensor:
        """Layer norm with the population variance."""
        centred = tokens - tokens.mean(dim=-1, keepdim=True)
        scaled = centred / torch.sqrt((centred**2).mean(dim=-1, keepdim=True) + self.epsilon)
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def adapter(self, tokens: Tensor) -> Tensor:
        """Into the language model: the GELU comes behind the linear layer."""
        return F.gelu(self.linear("projector.proj.0", tokens))


def random_weights(
    width: int, hidden: int, memory_tokens: int = 32, *, layers: int = 1, language_width: int = 0, positions: int = 0,
    retrieval: bool = True, seed: int = 0, size: float = 1.0,
) -> dict[str, Tensor]:  # fmt: skip
    """Weights for every published name of a bridge, those that are never used included.

    Args:
        size: Of the weights of linear layers, 1 being what PyTorch gives them. Large ones can make a recurrence grow
            its errors, whatever computes it. Seen at 2.6 with 32 components, 6 memory tokens and 5 slots: this very
            statement in float32 leaves itself in float64, by 1e-4 after 40 segments and altogether after 160; with 64
            components, 32 memory tokens and 32 slots it does not. A limit for a closed loop needs errors that fade.
    """
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, Tensor] = {}

    def add(name: str, *shape: int, scale: float, offset: float = 0.0) -> None:
        weights[name] = offset + scale * torch.randn(shape, generator=generator)

    def add_linear(name: str, inner: int, outer: int) -> None:
        add(f"{name}.weight", outer, inner, scale=0.58 * size / inner**0.5)
        add(f"{name}.bias", outer, scale=0.1)

    def add_residual(name: str, inner: int) -> None:
        add_linear(f"{name}.dense", inner, width)
        add(f"{name}.layernorm.weight", width, scale=0.1, offset=1.0)
        add(f"{name}.layernorm.bias", width, scale=0.1)

    def add_attention(name: str) -> None:
        for part in ("q_proj", "k_proj", "v_proj"):
            add_linear(f"{name}.{part}", width, width)
        add_residual(f"{name}.residual", width)

    for layer in range(layers):
        add_attention(f"projector.layers.{layer}.selfattention")
        add_attention(f"projector.layers.{layer}.crossattention")
        add_linear(f"projector.layers.{layer}.mlp.0", width, hidden)
        add_residual(f"projector.layers.{layer}.residual", hidden)
    add("projector.read_memory_emb", memory_tokens, width, scale=1.0)
    add("projector.memory_tokens", memory_tokens, width, scale=1.0)
    if retrieval:
        add_attention("retrieval.layers.0.selfattention")
        add_attention("retrieval.layers.0.crossattention")
    if language_width:
        add_linear("projector.proj.0", width, language_width)
    if positions:
        add("abs_vid_pe.weight", positions, width, scale=0.3)
    return weights
