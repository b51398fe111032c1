"""Text towers of CLIP and SigLIP: token ids of fixed length to an embedding in the space of the images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .vision import projected


class TextEncoder(nn.Module):
    """Token ids `[batch, length]` int64 to an embedding `[batch, projection]`, not normalised.

    Neither family needs an attention mask: CLIP attends to the left only and reads the first end-of-text token, behind
    which all is padding; SigLIP was trained to see its padding.

    Args:
        tower: `text_model` of a transformers model.
        project: From the pooled token to the embedding.
        length: Number of token ids in a text.
        causal: Whether a token sees only those before it (CLIP).
        pick: Takes ids `[batch, length]` and tokens `[batch, length, width]` and picks one token for each text.
    """

    def __init__(
        self, tower: Any, project: nn.Module, length: int, *, causal: bool, pick: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.embedding = tower.embeddings.token_embedding
        self.position = nn.Buffer(tower.embeddings.position_embedding.weight[None, :length].detach().clone())
        self.blocks = nn.ModuleList(tower.encoder.layers)
        self.norm, self.project, self.pick = tower.final_layer_norm, project, pick
        mask = torch.full((1, 1, length, length), torch.finfo(torch.float32).min).triu(1) if causal else None
        self.mask = None if mask is None else nn.Buffer(mask)

    def forward(self, input_ids: Tensor) -> Tensor:
        """See the class."""
        tokens = self.embedding(input_ids) + self.position
        for block in self.blocks:
            result = block(tokens, attention_mask=self.mask)
            tokens = result[0] if isinstance(result, tuple) else result
        return self.project(self.pick(input_ids, self.norm(tokens)))


def text_encoder(model: Any, family: str) -> TextEncoder:
    """The text tower of a two-tower model of the family `clip`, `siglip` or `siglip2`."""
    tower = model.text_model
    length = int(model.config.text_config.max_position_embeddings)
    if family != "clip":
        return TextEncoder(tower, tower.head, length, causal=False, pick=_last)
    end = int(model.config.text_config.eos_token_id)
    return TextEncoder(tower, model.text_projection, length, causal=True, pick=partial(_at_end, end=end))


def _last(ids: Tensor, tokens: Tensor) -> Tensor:
    return tokens[:, -1]


def _at_end(ids: Tensor, tokens: Tensor, *, end: int) -> Tensor:
    """The token at the first end of text. Configurations from before transformers 4.31 say 2 and mean the highest."""
    marks = ids if end == 2 else ids == end
    first = marks.to(torch.int32).argmax(dim=-1)
    return tokens[torch.arange(tokens.shape[0]), first]


def text_reference(model: Any, input_ids: Tensor) -> Tensor:
    """The embedding by the untouched model, `[batch, projection]`."""
    return projected(model, "get_text_features", "text_embeds", input_ids=input_ids)
