"""Vision encoders of five families behind one module: pixels to class token, patch tokens and embedding.

transformers' models are taken apart into the pieces that `VisionParts` names, and `VisionEncoder` puts these together
for a fixed image size: position embeddings are resized once and become constants, blocks that no output needs are left
out. Whatever this does is checked against the untouched model at export.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .layers import Layer, blocks_for

Outputs = dict[str, Tensor]


@dataclass(frozen=True)
class VisionParts:
    """The pieces of a vision transformer, in the order in which pixels pass them.

    Attributes:
        patch: Convolution from pixels to patches.
        position: Added to the patches, `[1, patches, width]`; None where the model has none (DINOv3).
        prefix: Class and register tokens put before the patches, positions included, `[1, count, width]`; the class
            token is the first. None where the model has none (SigLIP).
        before: Applied to all tokens before the first block (CLIP's first norm).
        blocks: The transformer blocks; each gives tokens, or a tuple that begins with them.
        rotary: Cosines and sines that every block takes (DINOv3); None elsewhere.
        norm: From the last block's tokens to `last_hidden_state`.
        pool: From `last_hidden_state` to the pooled output that stands in for a class token (SigLIP).
        project: From the class token after the last block to the embedding (CLIP).
    """

    patch: nn.Conv2d
    blocks: Sequence[nn.Module]
    position: Tensor | None = None
    prefix: Tensor | None = None
    before: nn.Module = field(default_factory=nn.Identity)
    rotary: tuple[Tensor, Tensor] | None = None
    norm: nn.Module = field(default_factory=nn.Identity)
    pool: nn.Module | None = None
    project: nn.Module | None = None


class VisionEncoder(nn.Module):
    """Pixels `[batch, 3, height, width]` to `cls` `[batch, width]`, `patches` `[batch, count, width]` and, where the
    checkpoint has one, `embedding` `[batch, projection]`.

    Args:
        parts: The model's pieces, made for the height and width that will come.
        layer: Which tokens are given out, see `layers`.
        shared_space: Whether the pooled output is comparable with a text tower's (SigLIP with its text tower): then it
            is given out as `embedding`, too.
    """

    def __init__(self, parts: VisionParts, layer: Layer, *, shared_space: bool = False) -> None:
        super().__init__()
        self.patch, self.before, self.norm = parts.patch, parts.before, parts.norm
        self.pool, self.project = parts.pool, parts.project
        self.layer = layer
        self.tapped_block = blocks_for(layer, len(parts.blocks))
        whole = layer == "last" or parts.pool is not None or parts.project is not None
        self.blocks = nn.ModuleList(parts.blocks[: None if whole else self.tapped_block])
        self.position, self.prefix = _constant(parts.position), _constant(parts.prefix)
        cosine, sine = parts.rotary or (None, None)
        self.rotary_cosine, self.rotary_sine = _constant(cosine), _constant(sine)
        self.prefix_count = 0 if parts.prefix is None else parts.prefix.shape[1]
        self.embeds = parts.project is not None or (shared_space and parts.pool is not None)
        self.output_names = ("cls", "patches", *(["embedding"] if self.embeds else []))

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """See the class; outputs in the order of `output_names`."""
        tokens = self._embed(pixels)
        tapped = tokens
        for number, block in enumerate(self.blocks, start=1):
            tokens = self._run(block, tokens)
            if number == self.tapped_block:
                tapped = tokens
        if self.layer == "last":
            tapped = self.norm(tokens)
        patches = tapped[:, self.prefix_count :]
        if self.pool is not None:
            pooled = self.pool(tapped if self.layer == "last" else self.norm(tokens))
            return (pooled, patches, pooled) if self.embeds else (pooled, patches)
        if self.project is not None:
            return tapped[:, 0], patches, self.project(tokens[:, 0])
        return tapped[:, 0], patches

    def _embed(self, pixels: Tensor) -> Tensor:
        tokens = self.patch(pixels).flatten(2).transpose(1, 2)
        if self.position is not None:
            tokens = tokens + self.position
        if self.prefix is not None:
            tokens = torch.cat([self.prefix.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        return self.before(tokens)

    def _run(self, block: nn.Module, tokens: Tensor) -> Tensor:
        if self.rotary_cosine is None:
            result = block(tokens, attention_mask=None)
        else:
            result = block(tokens, position_embeddings=(self.rotary_cosine, self.rotary_sine))
        return result[0] if isinstance(result, tuple) else result


class AttentionPooling(nn.Module):
    """SigLIP's pooling head: one learned query attends to all tokens. `[batch, count, width]` to `[batch, width]`.

    The head of transformers holds an `nn.MultiheadAttention`, which exports as splits of constants and transposes to
    the batch in the second axis; and its query is projected anew in every call.

    Args:
        head: `SiglipMultiheadAttentionPoolingHead` or its SigLIP2 counterpart.
    """

    def __init__(self, head: Any) -> None:
        super().__init__()
        attention = head.attention
        width = head.probe.shape[-1]
        self.heads = attention.num_heads
        weights = attention.in_proj_weight.detach().split(width)
        biases = attention.in_proj_bias.detach().split(width)
        query = nn.functional.linear(head.probe.detach(), weights[0], biases[0])
        self.query = nn.Buffer(self._by_head(query * (width // self.heads) ** -0.5))
        self.key, self.value = (nn.Linear(width, width) for _ in range(2))
        for linear, weight, bias in zip((self.key, self.value), weights[1:], biases[1:], strict=True):
            linear.weight, linear.bias = nn.Parameter(weight), nn.Parameter(bias)
        self.out, self.norm, self.mlp = attention.out_proj, head.layernorm, head.mlp

    def forward(self, tokens: Tensor) -> Tensor:
        """See the class."""
        keys, values = self._by_head(self.key(tokens)), self._by_head(self.value(tokens))
        mixed = (self.query @ keys.transpose(2, 3)).softmax(dim=-1) @ values
        pooled = self.out(mixed.transpose(1, 2).flatten(2))[:, 0]
        return pooled + self.mlp(self.norm(pooled))

    def _by_head(self, tokens: Tensor) -> Tensor:
        """`[batch, count, width]` to `[batch, heads, count, width / heads]`."""
        return tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)


def _constant(value: Tensor | None) -> nn.Buffer | None:
    return None if value is None else nn.Buffer(value.detach().clone())


@dataclass(frozen=True)
class VisionFamily:
    """What differs from family to family.

    Attributes:
        parts: Takes a model apart for pixels of a height and width.
        reference: Runs the untouched model: `(model, pixels, layer)` to outputs by name. It is what the parts are
            compared with, so it takes nothing from them.
    """

    parts: Callable[[Any, int, int], VisionParts]
    reference: Callable[[Any, Tensor, Layer], Outputs]


def tower(model: Any) -> Any:
    """The vision tower of a model that may have two."""
    return getattr(model, "vision_model", model)


def _clip_parts(model: Any, height: int, width: int) -> VisionParts:
    vision = tower(model)
    position = vision.embeddings.position_embedding.weight[None]
    projection = getattr(model, "visual_projection", None)
    return VisionParts(
        patch=vision.embeddings.patch_embedding,
        position=position[:, 1:],
        prefix=vision.embeddings.class_embedding[None, None] + position[:, :1],
        before=vision.pre_layrnorm,
        blocks=list(vision.encoder.layers),
        project=None if projection is None else nn.Sequential(vision.post_layernorm, projection),
    )


def _siglip_parts(model: Any, height: int, width: int) -> VisionParts:
    vision = tower(model)
    return VisionParts(
        patch=vision.embeddings.patch_embedding,
        position=vision.embeddings.position_embedding.weight[None],
        blocks=list(vision.encoder.layers),
        norm=vision.post_layernorm,
        pool=AttentionPooling(vision.head),
    )


def _naflex_parts(model: Any, height: int, width: int) -> VisionParts:
    """SigLIP2 NaFlex at one fixed size: its linear patch embedding becomes the convolution that it amounts to."""
    vision = tower(model)
    embeddings, side = vision.embeddings, vision.embeddings.patch_size
    linear = embeddings.patch_embedding
    patch = nn.Conv2d(3, linear.out_features, side, stride=side)
    patch.weight = nn.Parameter(linear.weight.detach().view(-1, side, side, 3).permute(0, 3, 1, 2).contiguous())
    patch.bias = linear.bias
    grid = embeddings.position_embedding_size
    position = nn.functional.interpolate(
        embeddings.position_embedding.weight.detach().view(1, grid, grid, -1).permute(0, 3, 1, 2),
        size=(height // side, width // side),
        mode="bilinear",
        align_corners=False,
        antialias=True,
    )
    return VisionParts(
        patch=patch,
        position=position.flatten(2).transpose(1, 2),
        blocks=list(vision.encoder.layers),
        norm=vision.post_layernorm,
        pool=AttentionPooling(vision.head),
    )


def _dinov2_parts(model: Any, height: int, width: int) -> VisionParts:
    """With and without registers. The position embedding is resized as the model itself would, once."""
    embeddings = model.embeddings
    convolution = embeddings.patch_embeddings.projection
    rows, columns = height // convolution.kernel_size[0], width // convolution.kernel_size[1]
    shaped = torch.empty(1, 1 + rows * columns, convolution.out_channels)
    position = embeddings.interpolate_pos_encoding(shaped, height, width)
    prefix = embeddings.cls_token + position[:, :1]
    if (registers := getattr(embeddings, "register_tokens", None)) is not None:
        prefix = torch.cat([prefix, registers], dim=1)
    return VisionParts(
        patch=convolution,
        position=position[:, 1:],
        prefix=prefix,
        blocks=list(model.encoder.layer),
        norm=model.layernorm,
    )


def _dinov3_parts(model: Any, height: int, width: int) -> VisionParts:
    embeddings = model.embeddings
    return VisionParts(
        patch=embeddings.patch_embeddings,
        prefix=torch.cat([embeddings.cls_token, embeddings.register_tokens], dim=1),
        blocks=list(getattr(model, "model", model).layer),
        rotary=model.rope_embeddings(torch.empty(1, 3, height, width)),
        norm=model.norm,
    )


def _tokens(output: Any, layer: Layer) -> Tensor:
    tokens: Tensor = output.last_hidden_state if layer == "last" else output.hidden_states[layer]
    return tokens


def _clip_reference(model: Any, pixels: Tensor, layer: Layer) -> Outputs:
    output = tower(model)(pixel_values=pixels, output_hidden_states=True)
    tokens = _tokens(output, layer)
    outputs = {"cls": tokens[:, 0], "patches": tokens[:, 1:]}
    if hasattr(model, "visual_projection"):
        outputs["embedding"] = projected(model, "get_image_features", "image_embeds", pixel_values=pixels)
    return outputs


def _siglip_reference(model: Any, pixels: Tensor, layer: Layer) -> Outputs:
    output = tower(model)(pixel_values=pixels, output_hidden_states=True)
    outputs = {"cls": output.pooler_output, "patches": _tokens(output, layer)}
    if hasattr(model, "text_model"):
        outputs["embedding"] = projected(model, "get_image_features", "image_embeds", pixel_values=pixels)
    return outputs


def _naflex_reference(model: Any, pixels: Tensor, layer: Layer) -> Outputs:
    from transformers.models.siglip2.image_processing_pil_siglip2 import convert_image_to_patches

    side = tower(model).embeddings.patch_size
    batch, _, height, width = pixels.shape
    patches = np.stack([convert_image_to_patches(image.numpy(), side) for image in pixels])
    inputs = {
        "pixel_values": torch.from_numpy(patches),
        "pixel_attention_mask": torch.ones(patches.shape[:2], dtype=torch.int64),
        "spatial_shapes": torch.tensor([[height // side, width // side]] * batch),
    }
    output = tower(model)(**inputs, output_hidden_states=True)
    outputs = {"cls": output.pooler_output, "patches": _tokens(output, layer)}
    if hasattr(model, "text_model"):
        outputs["embedding"] = projected(model, "get_image_features", "image_embeds", **inputs)
    return outputs


def _dino_reference(model: Any, pixels: Tensor, layer: Layer) -> Outputs:
    tokens = _tokens(model(pixel_values=pixels, output_hidden_states=True), layer)
    return {"cls": tokens[:, 0], "patches": tokens[:, 1 + getattr(model.config, "num_register_tokens", 0) :]}


def projected(model: Any, method: str, attribute: str, **inputs: Tensor) -> Tensor:
    """An embedding by the model's own public method: a tensor in older transformers, `pooler_output` in newer ones."""
    if not hasattr(model, method):
        embedding: Tensor = getattr(model(**inputs), attribute)
        return embedding
    result = getattr(model, method)(**inputs)
    pooled: Tensor = result if isinstance(result, Tensor) else result.pooler_output
    return pooled


VISION_FAMILIES: Mapping[str, VisionFamily] = {
    "clip": VisionFamily(_clip_parts, _clip_reference),
    "siglip": VisionFamily(_siglip_parts, _siglip_reference),
    "siglip2": VisionFamily(_naflex_parts, _naflex_reference),
    "dinov2": VisionFamily(_dinov2_parts, _dino_reference),
    "dinov3_vit": VisionFamily(_dinov3_parts, _dino_reference),
}
