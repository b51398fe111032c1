"""SAM-2's prompt encoder and mask decoder for export, as one graph.

The arithmetic is that of `Sam2VideoPromptEncoder`, `Sam2VideoMaskDecoder` and the part of `_single_frame_forward`
behind them (transformers, `modeling_sam2_video.py`). All masks and all pointers come out and the choice among them is
made outside, so that no flag is frozen into the graph. What was added:

* a point labelled -10 is absent: nothing attends to it, so objects with different numbers of points share a batch.
  (In transformers such a point is a zero token that takes part in every softmax.)
* sparse embeddings from elsewhere, such as Sa2VA's [SEG] token, stand behind the points.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .memory_attention import INVALID

ABSENT = -10


class PromptEncoder(nn.Module):
    """Points, boxes as two points, masks and embeddings become sparse tokens and a dense map.

    Args:
        model: A `Sam2VideoModel` of transformers.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        encoder = model.prompt_encoder
        self.image_size = encoder.input_image_size
        self.directions = nn.Parameter(
            encoder.shared_embedding.positional_embedding.detach().clone(), requires_grad=False
        )
        self.kinds = encoder.point_embed.weight
        self.not_a_point = encoder.not_a_point_embed.weight
        self.no_mask = encoder.no_mask_embed.weight
        self.shrink, self.mask_embedding = model.mask_downsample, encoder.mask_embed

    def sparse(self, points: Tensor, labels: Tensor) -> Tensor:
        """Tokens `[batch, points, width]` of points in pixels and their labels."""
        where = (2 * ((points + 0.5) / self.image_size) - 1) @ self.directions * (2 * math.pi)
        encoded = torch.cat([where.sin(), where.cos()], dim=-1)
        kind = labels[..., None]
        known = encoded + F.embedding(labels.clamp(min=0), self.kinds)
        return torch.where(kind >= 0, known, torch.where(kind == -1, self.not_a_point, torch.zeros_like(known)))

    def dense(self, mask: Tensor, given: Tensor) -> Tensor:
        """A map `[batch, width, height, width]` of a mask `[batch, 1, side, side]`, or of none."""
        # An absent mask may hold anything, also what would overflow.
        prompted = self.mask_embedding(self.shrink(torch.where(given > 0, mask, torch.zeros_like(mask))))
        return torch.where(given > 0, prompted, self.no_mask.reshape(1, -1, 1, 1))


class MaskDecoder(nn.Module):
    """From a frame's features and prompts to all masks, their scores, the object's score and its pointers.

    Args:
        model: A `Sam2VideoModel` of transformers.
    """

    positions: Tensor

    def __init__(self, model: Any) -> None:
        super().__init__()
        decoder = model.mask_decoder
        self.prompts = PromptEncoder(model)
        fixed = [decoder.obj_score_token.weight, decoder.iou_token.weight, decoder.mask_tokens.weight]
        self.tokens = nn.Parameter(torch.cat(fixed).detach()[None].clone(), requires_grad=False)
        self.masks = decoder.num_mask_tokens
        self.layers = nn.ModuleList(TwoWayLayer(layer) for layer in decoder.transformer.layers)
        self.last, self.norm = (
            TokenAttention(decoder.transformer.final_attn_token_to_image),
            (decoder.transformer.layer_norm_final_attn),
        )
        with torch.no_grad():
            positions = model.get_image_wide_positional_embeddings().flatten(2).transpose(1, 2)
        self.register_buffer("positions", positions.clone())
        self.up1, self.up2 = decoder.upscale_conv1, decoder.upscale_conv2
        self.up_norm, self.activation = decoder.upscale_layer_norm, decoder.activation
        self.hyper = HyperNetworks(decoder.output_hypernetworks_mlps)
        self.quality, self.presence = decoder.iou_prediction_head, decoder.pred_obj_score_head
        self.pointer = model.object_pointer_proj
        self.no_pointer = nn.Parameter(model.no_object_pointer.detach()[None].clone(), requires_grad=False)

    def forward(
        self, features: Tensor, high0: Tensor, high1: Tensor, points: Tensor, labels: Tensor,
        embeddings: Tensor, embedding_valid: Tensor, mask: Tensor, mask_given: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        """Decode; the tensors are those of the component `tracker.decoder` (`docs/tracking.md`)."""
        side = features.shape[-1]
        image = features + self.prompts.dense(mask, mask_given[:, None, None, None])
        image = image.flatten(2).transpose(1, 2)
        sparse = torch.where(embedding_valid[..., None] > 0, embeddings, torch.zeros_like(embeddings))
        queries = torch.cat(
            [self.tokens.expand(features.shape[0], -1, -1), self.prompts.sparse(points, labels), sparse], dim=1
        )
        absent = torch.cat([(labels == ABSENT).to(features.dtype), 1 - embedding_valid], dim=1)
        bias = F.pad(absent, (self.tokens.shape[1], 0))[:, None, None] * INVALID
        found, image = self._two_way(queries, image, bias)
        object_score = self.presence(found[:, 0])
        tokens = found[:, 2 : 2 + self.masks]
        appears = (object_score > 0).to(tokens.dtype)[..., None]
        pointers = appears * self.pointer(tokens) + (1 - appears) * self.no_pointer
        masks = self._masks(tokens, image.transpose(1, 2).unflatten(2, (side, side)), high0, high1)
        return masks, self.quality(found[:, 1]), object_score[:, 0], pointers

    def _two_way(self, tokens: Tensor, image: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The transformer: tokens and image attend to each other."""
        queries = tokens
        for index, layer in enumerate(self.layers):
            queries, image = layer(queries, image, tokens, self.positions, bias, first=index == 0)
        seen = self.last(queries + tokens, image + self.positions, image)
        return self.norm(queries + seen), image

    def _masks(self, tokens: Tensor, image: Tensor, high0: Tensor, high1: Tensor) -> Tensor:
        fine = self.activation(self.up_norm(self.up1(image) + high1))
        fine = self.activation(self.up2(fine) + high0)
        return (self.hyper(tokens) @ fine.flatten(2)).unflatten(2, tuple(high0.shape[2:]))


class TwoWayLayer(nn.Module):
    """Tokens attend to each other and to the image, then the image to the tokens.

    Args:
        layer: A `Sam2VideoTwoWayAttentionBlock` of transformers.
    """

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.own = TokenAttention(layer.self_attn)
        self.to_image = TokenAttention(layer.cross_attn_token_to_image)
        self.to_tokens = TokenAttention(layer.cross_attn_image_to_token)
        self.mlp = layer.mlp
        self.norm1, self.norm2 = layer.layer_norm1, layer.layer_norm2
        self.norm3, self.norm4 = layer.layer_norm3, layer.layer_norm4

    def forward(
        self, queries: Tensor, image: Tensor, tokens: Tensor, positions: Tensor, bias: Tensor, *, first: bool
    ) -> tuple[Tensor, Tensor]:
        """One round; the first layer's tokens have no encoding of their own yet, and no skip."""
        if first:
            queries = self.norm1(self.own(queries, queries, queries, bias))
        else:
            query = queries + tokens
            queries = self.norm1(queries + self.own(query, query, queries, bias))
        key = image + positions
        queries = self.norm2(queries + self.to_image(queries + tokens, key, image))
        queries = self.norm3(queries + self.mlp(queries))
        image = self.norm4(image + self.to_tokens(key, queries + tokens, queries, bias))
        return queries, image


class TokenAttention(nn.Module):
    """Attention with several heads and an additive key bias.

    Args:
        attention: A `Sam2VideoAttention` of transformers.
    """

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.query, self.key, self.value = attention.q_proj, attention.k_proj, attention.v_proj
        self.out, self.heads, self.scale = attention.o_proj, attention.num_attention_heads, attention.scaling

    def forward(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
        """Attend, `[batch, tokens, width]`; `bias` is `[batch, 1, 1, keys]`."""
        parts = (self.query(query), self.key(key), self.value(value))
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=self.scale)
        return self.out(mixed.transpose(1, 2).flatten(2))


class HyperNetworks(nn.Module):
    """The MLPs that turn each mask token into the weights of its mask, all in three batched products.

    Args:
        networks: One `Sam2VideoFeedForward` for each token.
    """

    def __init__(self, networks: Any) -> None:
        super().__init__()
        stages = zip(*([item.proj_in, *item.layers, item.proj_out] for item in networks), strict=True)
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for layers in stages:
            weight = torch.stack([layer.weight.detach().T for layer in layers])
            bias = torch.stack([layer.bias.detach() for layer in layers])[:, None]
            self.weights.append(nn.Parameter(weight.clone(), requires_grad=False))
            self.biases.append(nn.Parameter(bias.clone(), requires_grad=False))
        self.activation = networks[0].activation

    def forward(self, tokens: Tensor) -> Tensor:
        """From `[batch, tokens, width]` to `[batch, tokens, channels]`."""
        hidden = tokens.transpose(0, 1)
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = hidden @ weight + bias
            if index + 1 < len(self.weights):
                hidden = self.activation(hidden)
        return hidden.transpose(0, 1)
