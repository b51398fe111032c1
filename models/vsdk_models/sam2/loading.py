"""Checkpoints of trackers: found out what they are, and loaded as the four networks of a tracker."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from transformers import Sam2VideoConfig, Sam2VideoModel

from vsdk_runtimes.errors import InputError
from vsdk_runtimes.manifest import Preprocessing, Resize

from ..checkpoint import Checkpoint
from ..preprocessing import pixel_size, read_preprocessing
from ..quiet import quiet_transformers
from ..tensors import CheckpointTensors
from ..tracking import TrackerNetworks
from .edgetam import load_edgetam
from .edgetam_model import edgetam_networks
from .model import sam2_networks
from .original_keys import is_original, original_to_transformers, published_name
from .published import PUBLISHED, published_config, set_image_size
from .weights import fill_model

MODEL_TYPES = ("sam2_video", "edgetam_video")
IMAGE_SIZE = 1024
"""Side that all published trackers were made for."""


@dataclass(frozen=True)
class TrackerOptions:
    """What can be chosen when a tracker is exported.

    Attributes:
        image_size: Side of the square input in pixels; None is what the checkpoint says.
        conditioning_slots: Prompted frames that the bank keeps.
        family: For weights with the key names of the original repository, which published model they are; None finds
            out.
    """

    image_size: int | None = None
    conditioning_slots: int = 4
    family: str | None = None


def is_tracker(checkpoint: Checkpoint, family: str | None) -> bool:
    """Whether a checkpoint is a tracker, by its `config.json` or by what the user says it is.

    Raises:
        InputError: The family is not a published one.
    """
    if family is not None:
        if family not in PUBLISHED:
            raise InputError(f"unknown family {family!r}", hint=f"Use one of: {', '.join(PUBLISHED)}")
        return True
    config = checkpoint.json("config.json")
    if config is None:  # the original repository writes none
        return is_original(checkpoint.tensor_names)
    return config.get("model_type") in MODEL_TYPES


def load_tracker_checkpoint(checkpoint: Checkpoint, options: TrackerOptions) -> TrackerNetworks:
    """The networks of a tracker's checkpoint, fp32.

    Args:
        checkpoint: In transformers' format; or without a `config.json`, with the original's key names.
        options: What is chosen.

    Raises:
        CheckpointError: A weight is missing, unknown or of the wrong shape, or a file is damaged.
        InputError: An option does not fit.
        UnsupportedModelError: Not a model that is known.
    """
    if options.conditioning_slots < 1:
        raise InputError(f"a tracker keeps at least one prompted frame, not {options.conditioning_slots}")
    if options.family is not None or checkpoint.json("config.json") is None:
        model = _original(checkpoint, options.family, options.image_size or IMAGE_SIZE)
        return sam2_networks(model, options.conditioning_slots)
    size = options.image_size or int(checkpoint.config.get("image_size", IMAGE_SIZE))
    preprocessing = _preprocessing(checkpoint, size)
    if checkpoint.config["model_type"] == "edgetam_video":
        edgetam = load_edgetam(checkpoint, image_size=size)
        return edgetam_networks(edgetam, options.conditioning_slots, preprocessing)
    return sam2_networks(_transformers(checkpoint, size), options.conditioning_slots, preprocessing)


def _transformers(checkpoint: Checkpoint, image_size: int) -> Any:
    with quiet_transformers():
        config = set_image_size(Sam2VideoConfig.from_dict(copy.deepcopy(checkpoint.config)), image_size)
        model = Sam2VideoModel(config)
    fill_model(model, checkpoint)
    return model.eval()


def _original(checkpoint: Checkpoint, said: str | None, image_size: int) -> Any:
    tensors = CheckpointTensors(checkpoint)
    family = published_name(tensors.shapes) if said is None else said
    weights = original_to_transformers(tensors.read(tensors.shapes), published_config(family))
    with quiet_transformers():
        model: Any = Sam2VideoModel(published_config(family, image_size=image_size))
    model.load_state_dict(weights)
    return model.eval()


def _preprocessing(checkpoint: Checkpoint, image_size: int) -> Preprocessing:
    """The checkpoint's own, for this size."""
    stated = read_preprocessing(checkpoint, str(checkpoint.config["model_type"]), image_size, 16)
    if pixel_size(stated) != (image_size, image_size) or stated.crop is not None:
        resize = Resize(height=image_size, width=image_size, filter=stated.resize.filter)
        stated = stated.model_copy(update={"resize": resize, "crop": None})
    return stated
