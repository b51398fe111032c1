"""Bridge and retrieval as the published code computes them, in modules whose parameters have the published names.

The layers are BERT's (post-norm, a bias in every linear layer), without mask, positions or dropout:

    Attention(x, context) = LayerNorm(dense(heads(x, context)) + x)
    BridgeLayer(x)        = a = Attention(x, x);  LayerNorm(dense(GELU(linear(a))) + a)
    Bridge(m, s)          = the bridge layers over [m; s], memory tokens first, split again
    Retrieval(m, cache)   = Attention(m, cache), nothing behind it

Padding is the one addition: tokens that are not there get a large negative score, so they count for exactly nothing.

What the published modules hold besides (a cross-attention in the bridge, a self-attention in the retriever, a second
memory parameter) is never computed there, and is left out here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .config import BridgeConfig

# Far below any real score, and within fp16: the exponential of a difference of this size is exactly 0.
ABSENT = -30000.0


def absent_bias(present: Tensor) -> Tensor:
    """What to add to attention scores.

    Args:
        present: 1 for a token that is there, 0 for padding, `[batch, tokens]`.

    Returns:
        `[batch, 1, 1, tokens]`, 0 or `ABSENT`.
    """
    return ((1 - present) * ABSENT)[:, None, None, :]


class Residual(nn.Module):
    """A linear layer, the residual, and the norm behind them."""

    def __init__(self, inner: int, width: int, epsilon: float) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, width)
        self.layernorm = nn.LayerNorm(width, eps=epsilon)

    def forward(self, values: Tensor, residual: Tensor) -> Tensor:
        """`values` `[..., inner]` and `residual` `[..., width]` to `[..., width]`."""
        result: Tensor = self.layernorm(self.dense(values) + residual)
        return result


class Attention(nn.Module):
    """Multi-head attention of tokens to a context, whose keys and values can be made once and kept."""

    def __init__(self, config: BridgeConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.residual = Residual(width, width, config.epsilon)

    def project(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of a context `[batch, tokens, width]`, of the same shape."""
        return self.k_proj(context), self.v_proj(context)

    def forward(self, tokens: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            tokens: `[batch, n, width]`.
            keys: From `project`, `[batch, m, width]`.
            values: From `project`, `[batch, m, width]`.
            bias: From `absent_bias`, `[batch, 1, 1, m]`; None when every token of the context is there.

        Returns:
            `[batch, n, width]`.
        """
        query, key, value = (self._by_head(item) for item in (self.q_proj(tokens), keys, values))
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, bias)
        result: Tensor = self.residual(mixed.transpose(1, 2).flatten(2), tokens)
        return result

    def _by_head(self, tokens: Tensor) -> Tensor:
        """`[batch, count, width]` to `[batch, heads, count, width / heads]`."""
        return tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)


class BridgeLayer(nn.Module):
    """Self-attention and a feed-forward network, each with its residual and norm."""

    def __init__(self, config: BridgeConfig) -> None:
        super().__init__()
        self.selfattention = Attention(config)
        self.mlp = nn.Sequential(nn.Linear(config.width, config.hidden), nn.GELU())
        self.residual = Residual(config.hidden, config.width, config.epsilon)

    def forward(self, tokens: Tensor, bias: Tensor | None = None) -> Tensor:
        """`[batch, n, width]` to the same."""
        attended = self.selfattention(tokens, *self.selfattention.project(tokens), bias)
        result: Tensor = self.residual(self.mlp(attended), attended)
        return result


class Bridge(nn.Module):
    """One pass over memory tokens and patch tokens together. Differentiable, for any batch size.

    Attributes:
        read_memory_emb: The memory that a video starts from, `[memory tokens, width]`.
    """

    def __init__(self, config: BridgeConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(BridgeLayer(config) for _ in range(config.layers))
        # The published code starts from zeros, where only dropout makes the memory tokens differ from one another.
        self.read_memory_emb = nn.Parameter(0.02 * torch.randn(config.memory_tokens, config.width))

    def forward(self, memory: Tensor, tokens: Tensor, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Read a segment.

        Args:
            memory: `[batch, memory tokens, width]`.
            tokens: The segment's patch tokens, `[batch, n, width]`.
            present: 1 for a patch token that is there, 0 for padding, `[batch, n]`; None when all are there.

        Returns:
            The new memory tokens and the new patch tokens, of the same shapes.
        """
        count = memory.shape[1]
        bias = None
        if present is not None:
            bias = absent_bias(torch.cat([torch.ones_like(memory[:, :, 0]), present], dim=1))
        both = torch.cat([memory, tokens], dim=1)
        for layer in self.layers:
            both = layer(both, bias)
        return both[:, :count], both[:, count:]


class RetrievalLayer(nn.Module):
    """A cross-attention and nothing else; a module of its own for its name in checkpoints."""

    def __init__(self, config: BridgeConfig) -> None:
        super().__init__()
        self.crossattention = Attention(config)


class Retrieval(nn.Module):
    """Reads the cache back into the memory. Differentiable, for any batch size."""

    def __init__(self, config: BridgeConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList([RetrievalLayer(config)])

    @property
    def attention(self) -> Attention:
        """The one cross-attention."""
        layer = self.layers[0]
        assert isinstance(layer, RetrievalLayer)
        return layer.crossattention

    def project(self, entry: Tensor) -> tuple[Tensor, Tensor]:
        """What the cache keeps of an entry `[batch, tokens, width]`: its keys and its values, of the same shape."""
        return self.attention.project(entry)

    def forward(self, memory: Tensor, keys: Tensor, values: Tensor, present: Tensor | None = None) -> Tensor:
        """Read the cache.

        Args:
            memory: The memory tokens after the bridge, `[batch, memory tokens, width]`. Their own entry belongs into
                the cache before it is read.
            keys: Of all entries, from `project`, `[batch, n, width]`.
            values: Of all entries, from `project`, `[batch, n, width]`.
            present: 1 for a token that is there, 0 for one of an unused slot, `[batch, n]`; None when all are there.

        Returns:
            The memory that the next segment starts from, `[batch, memory tokens, width]`.
        """
        bias = None if present is None else absent_bias(present)
        result: Tensor = self.attention(memory, keys, values, bias)
        return result
