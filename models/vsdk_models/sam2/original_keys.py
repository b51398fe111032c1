"""SAM-2 weights under the names of the original repository (facebookresearch/sam2), for transformers' Sam2VideoModel.

Each tensor of transformers' model is one of the original's under another name, except two: the embeddings of the four
kinds of points are one tensor there and four here, and the matrix that encodes positions is there twice. The names of
the original are computed from those of transformers' model, so that nothing can be left over on either side, and an
error can name what its reader has: the original's names.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vsdk_runtimes.errors import CheckpointError

from ..quiet import quiet_transformers
from .published import RELEASES, SIZES, published_config

if TYPE_CHECKING:
    from transformers import Sam2VideoConfig

_TRUNK = "image_encoder.trunk."
_POINTS = "prompt_encoder.point_embed.weight"
# The beginning of a name, or the whole of it: transformers' and the original's. The first that fits is taken.
_BEGINNINGS: Mapping[str, str] = {
    "vision_encoder.backbone.patch_embed.projection.": f"{_TRUNK}patch_embed.proj.",
    "vision_encoder.backbone.": _TRUNK,
    "vision_encoder.neck.": "image_encoder.neck.",
    "shared_image_embedding.positional_embedding": "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
    "prompt_encoder.shared_embedding.positional_embedding": (
        "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
    ),
    "prompt_encoder.mask_embed.conv1.": "sam_prompt_encoder.mask_downscaling.0.",
    "prompt_encoder.mask_embed.layer_norm1.": "sam_prompt_encoder.mask_downscaling.1.",
    "prompt_encoder.mask_embed.conv2.": "sam_prompt_encoder.mask_downscaling.3.",
    "prompt_encoder.mask_embed.layer_norm2.": "sam_prompt_encoder.mask_downscaling.4.",
    "prompt_encoder.mask_embed.conv3.": "sam_prompt_encoder.mask_downscaling.6.",
    "prompt_encoder.": "sam_prompt_encoder.",
    "mask_decoder.upscale_conv1.": "sam_mask_decoder.output_upscaling.0.",
    "mask_decoder.upscale_layer_norm.": "sam_mask_decoder.output_upscaling.1.",
    "mask_decoder.upscale_conv2.": "sam_mask_decoder.output_upscaling.3.",
    "mask_decoder.": "sam_mask_decoder.",
    "memory_encoder.feature_projection.": "memory_encoder.pix_feat_proj.",
    "memory_encoder.projection.": "memory_encoder.out_proj.",
    "memory_encoder.memory_fuser.": "memory_encoder.fuser.",
    "object_pointer_proj.": "obj_ptr_proj.",
    "temporal_positional_encoding_projection_layer.": "obj_ptr_tpos_proj.",
    "memory_temporal_positional_encoding": "maskmem_tpos_enc",
    "no_memory_embedding": "no_mem_embed",
    "no_memory_positional_encoding": "no_mem_pos_enc",
    "no_object_pointer": "no_obj_ptr",
    "occlusion_spatial_embedding_parameter": "no_obj_embed_spatial",
}
# What is named differently wherever it occurs, after the above.
_ANYWHERE: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(neck\.convs\.\d+)\."), r"\1.conv."),
    (re.compile(r"\.layer_norm_final_attn\."), ".norm_final_attn."),
    (re.compile(r"\.layer_norm(\d*)\."), r".norm\1."),
    (re.compile(r"\.o_proj\."), ".out_proj."),
    (re.compile(r"\.depthwise_conv\."), ".dwconv."),
    (re.compile(r"\.pointwise_conv(\d)\."), r".pwconv\1."),
    (re.compile(r"(fuser\.layers\.\d+)\.scale"), r"\1.gamma"),
)
_PERCEPTRON = re.compile(r"(.+)\.(proj_in|proj_out|layers\.(\d+))\.(weight|bias)")
_MASK_LAYER = re.compile(r"(memory_encoder\.mask_downsampler)\.(?:layers\.(\d+)\.(conv|layer_norm)|final_conv)\.(\w+)")


def is_original(names: Iterable[str]) -> bool:
    """Whether the names of a checkpoint's tensors are those of the original repository."""
    return any(name.startswith(_TRUNK) for name in names)


def published_name(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Which published model a checkpoint of the original repository is; it brings no configuration along.

    Args:
        shapes: By the original's names.

    Raises:
        CheckpointError: None of them.
    """
    width = (shapes.get(f"{_TRUNK}patch_embed.proj.bias") or (0,))[0]
    numbers = [re.match(rf"{re.escape(_TRUNK)}blocks\.(\d+)\.", name) for name in shapes]
    blocks = len({match[1] for match in numbers if match})
    for size, published in SIZES.items():
        if (published.width, sum(published.blocks)) == (width, blocks):
            return f"{RELEASES['no_obj_embed_spatial' in shapes]}-{size}"
    raise CheckpointError(
        f"an image encoder of {blocks} blocks that is {width} wide is none of the published SAM-2 models",
        hint="Give its configuration as well, or a checkpoint that transformers' save_pretrained wrote.",
    )


def original_to_transformers(tensors: Mapping[str, Tensor], config: Sam2VideoConfig | None = None) -> dict[str, Tensor]:
    """Weights of the original repository under the names of transformers' Sam2VideoModel.

    Args:
        tensors: By the original's names (what its `.pt` files hold under `model`). They keep their types.
        config: Sizes of the model; None for one of the published models, which is recognised.

    Returns:
        Exactly the tensors of `Sam2VideoModel(config).state_dict()`; most share memory with those given.

    Raises:
        CheckpointError: A tensor is missing, unknown or of the wrong shape, or the model is not a published one; the
            message names it.
    """
    if config is None:
        config = published_config(published_name({name: tuple(tensor.shape) for name, tensor in tensors.items()}))
    wanted = _transformers_shapes(config)
    sources = original_names(wanted)
    _check(tensors, wanted, sources)
    return {
        name: tensors[originals[0]] if len(originals) == 1 else torch.cat([tensors[item] for item in originals])
        for name, originals in sources.items()
    }


def original_names(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The original's names for each tensor of transformers' model: four for the embeddings of points, else one.

    Args:
        names: All of the model's: they show how deep its perceptrons are.
    """
    known = frozenset(names)
    found = {}
    for name in sorted(known):
        if name == _POINTS:
            found[name] = tuple(f"sam_prompt_encoder.point_embeddings.{kind}.weight" for kind in range(4))
        else:
            found[name] = (_original_name(name, known),)
    return found


def _original_name(name: str, known: frozenset[str]) -> str:
    if match := _MASK_LAYER.fullmatch(name):
        # Convolution, norm and activation follow one another in one sequence, which the last convolution ends.
        path, layer, part, kind = match.groups()
        number = 3 * _depth(f"{path}.layers.{{}}.conv.weight", known) if layer is None else 3 * int(layer)
        return f"{path}.encoder.{number + (part == 'layer_norm')}.{kind}"
    if match := _PERCEPTRON.fullmatch(name):
        path, part, middle, kind = match.groups()
        last = 1 + _depth(f"{path}.layers.{{}}.weight", known)
        number = 1 + int(middle) if middle else {"proj_in": 0, "proj_out": last}[part]
        name = f"{path}.layers.{number}.{kind}"
    for ours, original in _BEGINNINGS.items():
        if name.startswith(ours):
            name = original + name.removeprefix(ours)
            break
    for pattern, replacement in _ANYWHERE:
        name = pattern.sub(replacement, name)
    return name


def _depth(pattern: str, known: frozenset[str]) -> int:
    """How many layers there are whose names are the pattern's with 0, 1, 2 ... in its place."""
    return next(number for number in itertools.count() if pattern.format(number) not in known)


def _transformers_shapes(config: Sam2VideoConfig) -> dict[str, tuple[int, ...]]:
    from transformers import Sam2VideoModel

    with torch.device("meta"), quiet_transformers():  # only the shapes are wanted
        return {name: tuple(tensor.shape) for name, tensor in Sam2VideoModel(config).state_dict().items()}


def _check(
    tensors: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]], sources: Mapping[str, tuple[str, ...]]
) -> None:
    shapes = {
        original: wanted[name] if len(originals) == 1 else (1, *wanted[name][1:])
        for name, originals in sources.items()
        for original in originals
    }
    if missing := sorted(shapes.keys() - tensors.keys()):
        raise CheckpointError(
            f"the SAM-2 checkpoint lacks {len(missing)} of its weights, such as {missing[0]}",
            hint="Random values in their place would give a useless bundle. Get the whole checkpoint.",
        )
    if unknown := sorted(tensors.keys() - shapes.keys()):
        raise CheckpointError(
            f"the SAM-2 checkpoint has {len(unknown)} weights that this model does not have, such as {unknown[0]}",
            hint="It is of another size or release than its configuration says, or more than SAM-2 is in the file.",
        )
    for name, shape in shapes.items():
        if tuple(tensors[name].shape) != shape:
            raise CheckpointError(
                f"{name} of the SAM-2 checkpoint has the shape {list(tensors[name].shape)}, and the model needs "
                f"{list(shape)}",
                hint="Its weights and its configuration do not belong together.",
            )
