"""A SAM-2 video model as the four networks of a tracker."""

from __future__ import annotations

from typing import Any

from vsdk_runtimes.manifest import Preprocessing, Resize, TrackerSpec

from ..tracking import TrackerNetworks
from .encoder import TrackerEncoder
from .hiera import Hiera
from .mask_decoder import MaskDecoder
from .memory_attention import MemoryAttention
from .memory_encoder import MemoryEncoder

CONDITIONING_SLOTS = 4
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def sam2_networks(
    model: Any, conditioning_slots: int = CONDITIONING_SLOTS, preprocessing: Preprocessing | None = None
) -> TrackerNetworks:
    """The networks of a `Sam2VideoModel` of transformers.

    Args:
        model: Weights, and the configuration for one image size.
        conditioning_slots: Prompted frames that the bank keeps.
        preprocessing: None is that of `Sam2VideoVideoProcessor`: stretched to a square, bilinear, ImageNet's mean.
    """
    size = int(model.image_size)
    encoder = TrackerEncoder(
        Hiera(model.vision_encoder.backbone, size), model.vision_encoder.neck, model.mask_decoder,
        model.no_memory_embedding,
    )  # fmt: skip
    return TrackerNetworks(
        family="sam2",
        encoder=encoder,
        attention=MemoryAttention(model),
        decoder=MaskDecoder(model),
        memory=MemoryEncoder(model),
        spec=tracker_spec(model.config, conditioning_slots, rounding="bfloat16", binarise="frame"),
        preprocessing=preprocessing or square(size),
        width=model.hidden_dim,
    )


def square(size: int) -> Preprocessing:
    """SAM-2's own preprocessing in transformers: the whole picture on a square."""
    return Preprocessing(resize=Resize(height=size, width=size, filter="bilinear"), mean=_MEAN, std=_STD)


def tracker_spec(config: Any, conditioning_slots: int, *, rounding: Any, binarise: Any) -> TrackerSpec:
    """How the bank of a model with this configuration is kept."""
    decoder = config.mask_decoder_config
    points = (config.multimask_min_pt_num, config.multimask_max_pt_num)
    stable = decoder.dynamic_multimask_via_stability
    return TrackerSpec(
        conditioning_slots=conditioning_slots,
        recent_slots=config.num_maskmem - 1,
        recent_pointers=config.max_object_pointers_in_encoder - 1,
        multimask_points=points if config.multimask_output_in_sam else None,
        multimask_tracking=config.multimask_output_for_tracking,
        stability_delta=decoder.dynamic_multimask_stability_delta,
        stability_threshold=decoder.dynamic_multimask_stability_thresh if stable else None,
        rounding=rounding,
        binarise=binarise,
    )
