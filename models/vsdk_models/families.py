"""The model families that can be exported, and how a checkpoint of each becomes a transformers model."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from optimum.utils.normalized_config import NormalizedTextConfig, NormalizedVisionConfig

from vsdk_runtimes.errors import CheckpointError, UnsupportedModelError

from .checkpoint import Checkpoint
from .layers import Layer
from .quiet import quiet_transformers
from .vision import VISION_FAMILIES, VisionFamily


@dataclass(frozen=True)
class ModelType:
    """What a `model_type` of config.json stands for.

    Attributes:
        family: Name of the family; several types share one.
        classes: transformers' class for both towers (None where there is one only), for the vision tower, and for the
            vision tower with its projection (None where there is no such class).
    """

    family: str
    both: str | None
    vision: str
    projecting: str | None = None


MODEL_TYPES: Mapping[str, ModelType] = {
    "clip": ModelType("clip", "CLIPModel", "CLIPVisionModel", "CLIPVisionModelWithProjection"),
    "clip_vision_model": ModelType("clip", None, "CLIPVisionModel", "CLIPVisionModelWithProjection"),
    "siglip": ModelType("siglip", "SiglipModel", "SiglipVisionModel"),
    "siglip_vision_model": ModelType("siglip", None, "SiglipVisionModel"),
    "siglip2": ModelType("siglip2", "Siglip2Model", "Siglip2VisionModel"),
    "siglip2_vision_model": ModelType("siglip2", None, "Siglip2VisionModel"),
    "dinov2": ModelType("dinov2", None, "Dinov2Model"),
    "dinov2_with_registers": ModelType("dinov2", None, "Dinov2WithRegistersModel"),
    "dinov3_vit": ModelType("dinov3_vit", None, "DINOv3ViTModel"),
}
# VideoLLaMB takes CLIP's last but one layer; the others are used as their authors use them.
_DEFAULT_LAYERS: Mapping[str, Layer] = {"clip": -2}


@dataclass(frozen=True)
class Architecture:
    """What a checkpoint holds, in one vocabulary for all families.

    Attributes:
        family: Name of the family.
        class_name: transformers' class that fits the weights.
        image_size: Side of the images that it was made for, in pixels; 0 where it does not say (NaFlex).
        patch_size: Side of a patch in pixels.
        width: Components of a token.
        blocks: Transformer blocks of the vision tower.
        embedding_width: Components of the embedding; None where there is none.
        text_length: Token ids of a text; None without a text tower.
    """

    family: str
    class_name: str
    image_size: int
    patch_size: int
    width: int
    blocks: int
    embedding_width: int | None
    text_length: int | None

    @property
    def default_layer(self) -> Layer:
        """The layer that is given out where the user names none."""
        return _DEFAULT_LAYERS.get(self.family, "last")

    @property
    def vision_family(self) -> VisionFamily:
        """How the family's models are taken apart."""
        return VISION_FAMILIES[self.family]


def read_architecture(checkpoint: Checkpoint) -> Architecture:
    """What a checkpoint holds, from its configuration and the names of its weights.

    Raises:
        UnsupportedModelError: A family that the toolchain does not know, or a variant that it cannot express.
        CheckpointError: The configuration is not one that transformers understands.
    """
    model_type = _model_type(checkpoint)
    config = _transformers_config(checkpoint)
    class_name = _model_class(checkpoint, model_type)
    vision_config = getattr(config, "vision_config", config)
    vision = NormalizedVisionConfig(vision_config, allow_new=True, blocks="num_hidden_layers")
    if model_type.family in ("siglip", "siglip2") and not vision.vision_use_head:
        raise UnsupportedModelError(
            f"{checkpoint.name} has no pooling head, and SigLIP has no class token: nothing describes a whole frame"
        )
    if not isinstance(vision.patch_size, int):
        raise UnsupportedModelError(f"{checkpoint.name} has patches that are not square: {vision.patch_size}")
    two_towers = class_name == model_type.both
    embedding = None
    if model_type.family == "clip" and class_name != model_type.vision:
        embedding = int(config.projection_dim)
    elif model_type.family != "clip" and two_towers:
        embedding = int(vision.hidden_size)
    return Architecture(
        family=model_type.family,
        class_name=class_name,
        image_size=_side(vision.image_size) if vision.has_attribute("image_size") else 0,
        patch_size=vision.patch_size,
        width=int(vision.hidden_size),
        blocks=int(vision.blocks),
        embedding_width=embedding,
        text_length=int(NormalizedTextConfig(config.text_config).max_position_embeddings) if two_towers else None,
    )


def _side(image_size: int | list[int] | tuple[int, ...]) -> int:
    """The side of the square that a model was made for; some configurations give height and width."""
    return image_size if isinstance(image_size, int) else int(image_size[0])


def load_model(checkpoint: Checkpoint, architecture: Architecture) -> Any:
    """The transformers model, fp32, with eager attention; every weight comes from the checkpoint.

    Raises:
        CheckpointError: Weights are missing, of the wrong shape, or damaged.
    """
    import transformers

    config = _transformers_config(checkpoint)
    if architecture.text_length is None and hasattr(config, "vision_config"):
        config = config.vision_config
        if architecture.embedding_width is not None:
            config.projection_dim = architecture.embedding_width
    class_name = architecture.class_name
    try:
        with quiet_transformers():
            model, loading = getattr(transformers, class_name).from_pretrained(
                checkpoint.folder, config=config, use_safetensors=True, local_files_only=True, dtype=torch.float32,
                attn_implementation="eager", output_loading_info=True, ignore_mismatched_sizes=True,
            )  # fmt: skip
    except Exception as error:  # transformers and safetensors raise many kinds
        raise CheckpointError(
            f"{checkpoint.name} cannot be loaded as {class_name}: {str(error).strip().splitlines()[0]}",
            hint="Its weights and its config.json do not belong together, or a file is damaged.",
        ) from error
    # What does not fit is in the loading information, and refused below. The mask token serves training only.
    missing = sorted(name for name in loading["missing_keys"] if not name.endswith("mask_token"))
    mismatched = sorted(str(item[0]) if isinstance(item, tuple) else str(item) for item in loading["mismatched_keys"])
    if missing or mismatched:
        what, names = ("lacks", missing) if missing else ("has wrong shapes for", mismatched)
        raise CheckpointError(
            f"{checkpoint.name} {what} {len(names)} of the weights that {class_name} needs, such as {names[0]}",
            hint="Random values in their place would give a useless bundle. Get the whole checkpoint.",
        )
    return model.eval()


def _model_class(checkpoint: Checkpoint, model_type: ModelType) -> str:
    """The transformers class that fits the weights: two towers, one, or one with its projection.

    Where only the description was fetched, the class is the one that wrote the checkpoint.
    """
    if not checkpoint.weights:
        known = [name for name in (model_type.both, model_type.projecting, model_type.vision) if name]
        written_by = [name for name in checkpoint.config.get("architectures") or () if name in known]
        return (written_by or known)[0]
    names = checkpoint.tensor_names
    if model_type.both is not None and any(name.startswith("text_model.") for name in names):
        return model_type.both
    if model_type.projecting is not None and "visual_projection.weight" in names:
        return model_type.projecting
    return model_type.vision


def _model_type(checkpoint: Checkpoint) -> ModelType:
    config = checkpoint.config
    found = config.get("model_type")
    if isinstance(found, str) and found in MODEL_TYPES:
        return MODEL_TYPES[found]
    supported = f"Supported model types: {', '.join(MODEL_TYPES)}."
    if not isinstance(found, str):
        origin = "of timm" if "pretrained_cfg" in config or "architecture" in config else "not of transformers"
        raise CheckpointError(
            f"the config.json of {checkpoint.name} has no model_type: it is {origin}",
            hint=f"Use the checkpoint that was published for transformers. {supported}",
        )
    similar = difflib.get_close_matches(found, MODEL_TYPES, n=1)
    raise UnsupportedModelError(
        f"{checkpoint.name} is of the model type {found!r}, which cannot be exported"
        + (f" (did its author mean {similar[0]!r}?)" if similar else ""),
        hint=supported,
    )


def _transformers_config(checkpoint: Checkpoint) -> Any:
    from transformers import AutoConfig

    try:
        with quiet_transformers():
            return AutoConfig.from_pretrained(checkpoint.folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:
        raise CheckpointError(
            f"transformers does not understand the config.json of {checkpoint.name}: "
            f"{str(error).strip().splitlines()[0]}"
        ) from error
