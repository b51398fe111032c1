"""EdgeTAM checkpoints as transformers writes them, read without timm.

transformers builds EdgeTAM's image encoder through timm, and timm needs torchvision. Here the configuration names our
own RepViT in its place, under the same names of weights; everything else is transformers' EdgeTamVideoModel.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import AutoConfig, AutoModel, EdgeTamVideoConfig, EdgeTamVideoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from vsdk_runtimes.errors import InputError, UnsupportedModelError

from ..checkpoint import Checkpoint
from ..quiet import quiet_transformers
from .published import spread_image_size
from .repvit import DEPTHS, WIDTHS, RepVit
from .weights import fill_model

MODEL_TYPE = "edgetam_video"
_ARCHITECTURE = "repvit_m1"


class RepVitConfig(PreTrainedConfig):
    """Sizes of a RepViT image encoder, in the place of transformers' TimmWrapperConfig."""

    model_type = "vsdk_repvit"
    widths: list[int] | None = None
    depths: list[int] | None = None


class RepVitBackbone(PreTrainedModel):
    """Our RepViT as a model of transformers, with its weights below `timm_model` as in TimmWrapperModel."""

    config_class = RepVitConfig
    main_input_name = "pixel_values"

    def __init__(self, config: RepVitConfig) -> None:
        super().__init__(config)
        self.timm_model = RepVit(config.widths or WIDTHS, config.depths or DEPTHS)
        self.post_init()

    def forward(self, pixel_values: Tensor, **_: Any) -> BaseModelOutput:
        """Pixels `[batch, 3, height, width]` to four maps `[batch, channels, ...]`, as `last_hidden_state`."""
        return BaseModelOutput(last_hidden_state=self.timm_model(pixel_values))


AutoConfig.register(RepVitConfig.model_type, RepVitConfig, exist_ok=True)
AutoModel.register(RepVitConfig, RepVitBackbone, exist_ok=True)


def edgetam_config(config: Mapping[str, Any], *, image_size: int | None = None) -> EdgeTamVideoConfig:
    """A configuration of EdgeTAM that needs no timm.

    Args:
        config: Content of `config.json`.
        image_size: Side of the square input in pixels; None keeps what the configuration says.

    Raises:
        UnsupportedModelError: Its image encoder is not RepViT-M1.
        InputError: The perceiver's windows do not tile the map of such an image.
    """
    settings = copy.deepcopy(dict(config))
    vision = dict(settings.get("vision_config") or {})
    vision["model_type"] = "edgetam_vision_model"
    vision["backbone_config"] = _backbone_config(vision.get("backbone_config") or {})
    settings["vision_config"] = vision
    with quiet_transformers():
        return set_image_size(EdgeTamVideoConfig.from_dict(settings), image_size)


def set_image_size(config: EdgeTamVideoConfig, image_size: int | None) -> EdgeTamVideoConfig:
    """Change the side of the square input in every place of a configuration that depends on it.

    Args:
        config: Changed in place.
        image_size: Pixels; None keeps what the configuration says, which is checked all the same.

    Returns:
        The same configuration.

    Raises:
        InputError: The perceiver's windows do not tile the map of such an image.
    """
    side: Any = config.image_size if image_size is None else image_size
    step = 16 * int(config.perceiver_resampler_num_latents_2d**0.5)
    if not isinstance(side, int) or side < step or side % step:
        raise InputError(
            f"this EdgeTAM cannot take images of {side} pixels",
            hint=f"Choose a multiple of {step}; trained at 1024.",
        )
    spread_image_size(config, side)
    return config


def load_edgetam(checkpoint: Checkpoint, *, image_size: int | None = None) -> EdgeTamVideoModel:
    """A model with all its weights from a checkpoint, fp32, in evaluation mode.

    Args:
        checkpoint: What transformers' EdgeTamVideoModel wrote.
        image_size: See `edgetam_config`.

    Raises:
        UnsupportedModelError: It is another model, or its image encoder is not RepViT-M1.
        CheckpointError: A weight is missing, unknown or of the wrong shape; the message names it.
        InputError: The image size does not fit.
    """
    found = checkpoint.config.get("model_type")
    if found != MODEL_TYPE:
        raise UnsupportedModelError(
            f"{checkpoint.name} is of the model type {found!r}, which does not track through video",
            hint=f"Supported: {MODEL_TYPE}.",
        )
    config = edgetam_config(checkpoint.config, image_size=image_size)
    with quiet_transformers():
        config._attn_implementation = "eager"
        model = EdgeTamVideoModel(config)
    fill_model(model, checkpoint)
    model.eval()
    return model


def _backbone_config(config: Mapping[str, Any]) -> RepVitConfig:
    """Our configuration for timm's: `repvit_m1`, or a pretrained tag of it such as `repvit_m1.dist_in1k`."""
    if config.get("model_type") == RepVitConfig.model_type:
        return RepVitConfig(widths=config.get("widths"), depths=config.get("depths"))
    architecture = str(config.get("architecture", _ARCHITECTURE))
    if architecture.split(".")[0] != _ARCHITECTURE:
        raise UnsupportedModelError(
            f"the image encoder {architecture!r} of this EdgeTAM is not known", hint=f"Supported: {_ARCHITECTURE}."
        )
    return RepVitConfig()
