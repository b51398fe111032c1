"""Every weight of SAM-2 as the original repository names and shapes it, walked through module by module.

Written from the original's modules and held against them once (facebookresearch/sam2 at 2b90b9f: names and shapes of
all eight published models, and outputs of the mapped weights). `vsdk_models` computes the names the other way round,
from transformers' model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Weight:
    original: str
    transformers: str
    shape: tuple[int, ...]


def original_weights(
    widths: tuple[int, ...], blocks: tuple[int, ...], background: int, *, release: str = "sam2.1"
) -> list[Weight]:
    """All weights of a model with this image encoder; the rest is the same at every size."""
    return [
        *trunk(widths, blocks, background),
        *neck(widths),
        *prompt_encoder(),
        *mask_decoder(),
        *memory_attention(),
        *memory_encoder(),
        *loose(release),
    ]


def affine(original: str, transformers: str, weight: tuple[int, ...], bias: int) -> Iterator[Weight]:
    yield Weight(f"{original}.weight", f"{transformers}.weight", weight)
    yield Weight(f"{original}.bias", f"{transformers}.bias", (bias,))


def linear(original: str, transformers: str, into: int, out: int) -> Iterator[Weight]:
    return affine(original, transformers, (out, into), out)


def norm(original: str, transformers: str, width: int) -> Iterator[Weight]:
    return affine(original, transformers, (width,), width)


def convolution(original: str, transformers: str, into: int, out: int, side: int) -> Iterator[Weight]:
    return affine(original, transformers, (out, into, side, side), out)


def perceptron(original: str, transformers: str, *sizes: int) -> Iterator[Weight]:
    names = ["proj_in", *(f"layers.{number}" for number in range(len(sizes) - 3)), "proj_out"]
    for number, name in enumerate(names):
        yield from linear(f"{original}.layers.{number}", f"{transformers}.{name}", sizes[number], sizes[number + 1])


def attention(original: str, transformers: str, width: int, inner: int, keys: int) -> Iterator[Weight]:
    yield from linear(f"{original}.q_proj", f"{transformers}.q_proj", width, inner)
    yield from linear(f"{original}.k_proj", f"{transformers}.k_proj", keys, inner)
    yield from linear(f"{original}.v_proj", f"{transformers}.v_proj", keys, inner)
    yield from linear(f"{original}.out_proj", f"{transformers}.o_proj", inner, width)


def trunk(widths: tuple[int, ...], blocks: tuple[int, ...], background: int) -> Iterator[Weight]:
    one, other = "image_encoder.trunk", "vision_encoder.backbone"
    yield Weight(f"{one}.pos_embed", f"{other}.pos_embed", (1, widths[0], background, background))
    yield Weight(f"{one}.pos_embed_window", f"{other}.pos_embed_window", (1, widths[0], 8, 8))
    yield from convolution(f"{one}.patch_embed.proj", f"{other}.patch_embed.projection", 3, widths[0], 7)
    number, before = 0, widths[0]
    for width, count in zip(widths, blocks, strict=True):
        for _ in range(count):
            yield from block(f"{one}.blocks.{number}", f"{other}.blocks.{number}", before, width)
            number, before = number + 1, width


def block(one: str, other: str, before: int, width: int) -> Iterator[Weight]:
    yield from norm(f"{one}.norm1", f"{other}.layer_norm1", before)
    yield from linear(f"{one}.attn.qkv", f"{other}.attn.qkv", before, 3 * width)
    yield from linear(f"{one}.attn.proj", f"{other}.attn.proj", width, width)
    yield from norm(f"{one}.norm2", f"{other}.layer_norm2", width)
    yield from perceptron(f"{one}.mlp", f"{other}.mlp", width, 4 * width, width)
    if before != width:
        yield from linear(f"{one}.proj", f"{other}.proj", before, width)


def neck(widths: tuple[int, ...]) -> Iterator[Weight]:
    for level, width in enumerate(reversed(widths)):
        yield from convolution(
            f"image_encoder.neck.convs.{level}.conv", f"vision_encoder.neck.convs.{level}", width, 256, 1
        )


def prompt_encoder() -> Iterator[Weight]:
    one, other = "sam_prompt_encoder", "prompt_encoder"
    matrix = f"{one}.pe_layer.positional_encoding_gaussian_matrix"
    yield Weight(matrix, f"{other}.shared_embedding.positional_embedding", (2, 128))
    for kind in range(4):
        yield Weight(f"{one}.point_embeddings.{kind}.weight", f"{other}.point_embed.weight[{kind}]", (1, 256))
    yield Weight(f"{one}.not_a_point_embed.weight", f"{other}.not_a_point_embed.weight", (1, 256))
    yield Weight(f"{one}.no_mask_embed.weight", f"{other}.no_mask_embed.weight", (1, 256))
    yield from convolution(f"{one}.mask_downscaling.0", f"{other}.mask_embed.conv1", 1, 4, 2)
    yield from norm(f"{one}.mask_downscaling.1", f"{other}.mask_embed.layer_norm1", 4)
    yield from convolution(f"{one}.mask_downscaling.3", f"{other}.mask_embed.conv2", 4, 16, 2)
    yield from norm(f"{one}.mask_downscaling.4", f"{other}.mask_embed.layer_norm2", 16)
    yield from convolution(f"{one}.mask_downscaling.6", f"{other}.mask_embed.conv3", 16, 256, 1)


def mask_decoder() -> Iterator[Weight]:
    one, other = "sam_mask_decoder", "mask_decoder"
    for token, count in (("iou_token", 1), ("mask_tokens", 4), ("obj_score_token", 1)):
        yield Weight(f"{one}.{token}.weight", f"{other}.{token}.weight", (count, 256))
    for number in range(2):
        yield from two_way_layer(f"{one}.transformer.layers.{number}", f"{other}.transformer.layers.{number}")
    final = "transformer.final_attn_token_to_image"
    yield from attention(f"{one}.{final}", f"{other}.{final}", 256, 128, 256)
    yield from norm(f"{one}.transformer.norm_final_attn", f"{other}.transformer.layer_norm_final_attn", 256)
    yield from affine(f"{one}.output_upscaling.0", f"{other}.upscale_conv1", (256, 64, 2, 2), 64)
    yield from norm(f"{one}.output_upscaling.1", f"{other}.upscale_layer_norm", 64)
    yield from affine(f"{one}.output_upscaling.3", f"{other}.upscale_conv2", (64, 32, 2, 2), 32)
    yield from convolution(f"{one}.conv_s0", f"{other}.conv_s0", 256, 32, 1)
    yield from convolution(f"{one}.conv_s1", f"{other}.conv_s1", 256, 64, 1)
    heads = [(f"output_hypernetworks_mlps.{mask}", 32) for mask in range(4)]
    for head, out in (*heads, ("iou_prediction_head", 4), ("pred_obj_score_head", 1)):
        yield from perceptron(f"{one}.{head}", f"{other}.{head}", 256, 256, 256, out)


def two_way_layer(one: str, other: str) -> Iterator[Weight]:
    yield from attention(f"{one}.self_attn", f"{other}.self_attn", 256, 256, 256)
    for name in ("cross_attn_token_to_image", "cross_attn_image_to_token"):
        yield from attention(f"{one}.{name}", f"{other}.{name}", 256, 128, 256)
    yield from perceptron(f"{one}.mlp", f"{other}.mlp", 256, 2048, 256)
    for number in (1, 2, 3, 4):
        yield from norm(f"{one}.norm{number}", f"{other}.layer_norm{number}", 256)


def memory_attention() -> Iterator[Weight]:
    for number in range(4):
        layer = f"memory_attention.layers.{number}"
        yield from attention(f"{layer}.self_attn", f"{layer}.self_attn", 256, 256, 256)
        yield from attention(f"{layer}.cross_attn_image", f"{layer}.cross_attn_image", 256, 256, 64)
        yield from linear(f"{layer}.linear1", f"{layer}.linear1", 256, 2048)
        yield from linear(f"{layer}.linear2", f"{layer}.linear2", 2048, 256)
        for place in (1, 2, 3):
            yield from norm(f"{layer}.norm{place}", f"{layer}.layer_norm{place}", 256)
    yield from norm("memory_attention.norm", "memory_attention.layer_norm", 256)


def memory_encoder() -> Iterator[Weight]:
    sampler, fuser = "memory_encoder.mask_downsampler", "memory_encoder.fuser.layers"
    for number, out in enumerate((4, 16, 64, 256)):
        one, other = f"{sampler}.encoder", f"{sampler}.layers.{number}"
        yield from convolution(f"{one}.{3 * number}", f"{other}.conv", out // 4, out, 3)
        yield from norm(f"{one}.{3 * number + 1}", f"{other}.layer_norm", out)
    yield from convolution(f"{sampler}.encoder.12", f"{sampler}.final_conv", 256, 256, 1)
    yield from convolution("memory_encoder.pix_feat_proj", "memory_encoder.feature_projection", 256, 256, 1)
    for number in range(2):
        one, other = f"{fuser}.{number}", f"memory_encoder.memory_fuser.layers.{number}"
        yield Weight(f"{one}.gamma", f"{other}.scale", (256,))
        yield from convolution(f"{one}.dwconv", f"{other}.depthwise_conv", 1, 256, 7)
        yield from norm(f"{one}.norm", f"{other}.layer_norm", 256)
        yield from linear(f"{one}.pwconv1", f"{other}.pointwise_conv1", 256, 1024)
        yield from linear(f"{one}.pwconv2", f"{other}.pointwise_conv2", 1024, 256)
    yield from convolution("memory_encoder.out_proj", "memory_encoder.projection", 256, 64, 1)


def loose(release: str) -> Iterator[Weight]:
    yield from convolution("mask_downsample", "mask_downsample", 1, 1, 4)
    yield from perceptron("obj_ptr_proj", "object_pointer_proj", 256, 256, 256, 256)
    yield Weight("maskmem_tpos_enc", "memory_temporal_positional_encoding", (7, 1, 1, 64))
    yield Weight("no_mem_embed", "no_memory_embedding", (1, 1, 256))
    yield Weight("no_mem_pos_enc", "no_memory_positional_encoding", (1, 1, 256))
    yield Weight("no_obj_ptr", "no_object_pointer", (1, 256))
    if release == "sam2.1":
        yield from linear("obj_ptr_tpos_proj", "temporal_positional_encoding_projection_layer", 256, 64)
        yield Weight("no_obj_embed_spatial", "occlusion_spatial_embedding_parameter", (1, 64))
