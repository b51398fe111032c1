"""From a checkpoint's image processor settings to the manifest's preprocessing.

The settings are read as JSON rather than through transformers' image processors, because some of those exist only
with torchvision (DINOv3's among them), and all that is needed are a handful of values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from vsdk_runtimes.errors import UnsupportedModelError
from vsdk_runtimes.manifest import Filter, Preprocessing, Resize

from .checkpoint import Checkpoint

_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
_CLIP = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
_HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
# What a family's own processor does where a checkpoint's settings are silent. `size` is filled in from the model.
_DEFAULTS: Mapping[str, dict[str, Any]] = {
    "clip": {**_CLIP, "resample": 3, "do_center_crop": True},
    "siglip": {**_HALF, "resample": 3, "do_center_crop": False},
    "siglip2": {**_HALF, "resample": 2, "do_center_crop": False},
    "dinov2": {**_IMAGENET, "resample": 3, "do_center_crop": True, "size": {"shortest_edge": 256}, "crop_size": 224},
    "dinov3_vit": {**_IMAGENET, "resample": 2, "do_center_crop": False},
    "sam2_video": {**_IMAGENET, "resample": 2, "do_center_crop": False},
    "edgetam_video": {**_IMAGENET, "resample": 2, "do_center_crop": False},
}
# Pillow's numbers for its filters.
_FILTERS: Mapping[int, Filter] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}


def read_preprocessing(checkpoint: Checkpoint, family: str, image_size: int, patch_size: int) -> Preprocessing:
    """The preprocessing of a checkpoint.

    Args:
        checkpoint: Its `preprocessor_config.json` (or the image part of `processor_config.json`) is read.
        family: Whose defaults fill the gaps.
        image_size: Side of the square that the model was made for, in pixels.
        patch_size: Side of a patch; NaFlex processors say how many patches there may be, and nothing of pixels.

    Raises:
        UnsupportedModelError: The settings cannot be expressed in a bundle, or do not lead to one fixed size.
    """
    settings = {**_DEFAULTS[family], **_stated(checkpoint)}
    if not settings.get("do_resize", True):
        raise UnsupportedModelError(f"{checkpoint.name}: its image processor does not resize, so the size is not known")
    if family == "siglip2":
        # The square that holds as many patches as the processor allows.
        side = math.isqrt(int(settings.get("max_num_patches", 256))) * int(settings.get("patch_size", patch_size))
        settings["size"] = {"height": side, "width": side}
    crop = _crop(settings, image_size) if settings["do_center_crop"] else None
    resize = _resize(checkpoint.name, settings, image_size)
    if resize.shortest_edge is not None and crop is None:
        raise UnsupportedModelError(
            f"{checkpoint.name}: its image processor keeps the aspect and does not crop, so frames would differ in size"
        )
    normalise = settings.get("do_normalize", True)
    return Preprocessing(
        resize=resize,
        crop=crop,
        scale=float(settings.get("rescale_factor", 1 / 255)) if settings.get("do_rescale", True) else 1.0,
        mean=_channels(settings["image_mean"]) if normalise else (0.0, 0.0, 0.0),
        std=_channels(settings["image_std"]) if normalise else (1.0, 1.0, 1.0),
    )


def pixel_size(preprocessing: Preprocessing) -> tuple[int, int]:
    """Height and width of the pixels that a preprocessing gives."""
    if preprocessing.crop is not None:
        return preprocessing.crop
    assert preprocessing.resize.height is not None
    assert preprocessing.resize.width is not None
    return preprocessing.resize.height, preprocessing.resize.width


def _stated(checkpoint: Checkpoint) -> dict[str, Any]:
    """What the checkpoint itself says, without empty entries."""
    stated = checkpoint.json("preprocessor_config.json")
    if stated is None:
        processors = checkpoint.json("processor_config.json") or {}
        stated = processors.get("image_processor") or processors.get("video_processor") or {}
    return {key: value for key, value in stated.items() if value is not None}


def _crop(settings: Mapping[str, Any], image_size: int) -> tuple[int, int]:
    size = settings.get("crop_size", image_size)
    if isinstance(size, Mapping):
        return int(size["height"]), int(size["width"])
    return int(size), int(size)


def _resize(name: str, settings: Mapping[str, Any], image_size: int) -> Resize:
    size = settings.get("size", image_size)
    resample = settings["resample"]
    if resample not in _FILTERS:
        raise UnsupportedModelError(f"{name}: unknown resampling filter {resample!r} in its image processor settings")
    used = _FILTERS[resample]
    if isinstance(size, int):  # old settings: a lone number is the shortest edge where a crop follows, else a square
        size = {"shortest_edge": size} if settings["do_center_crop"] else {"height": size, "width": size}
    size = {key: value for key, value in size.items() if value is not None}
    if set(size) == {"shortest_edge"}:
        return Resize(shortest_edge=int(size["shortest_edge"]), filter=used)
    if set(size) == {"height", "width"}:
        return Resize(height=int(size["height"]), width=int(size["width"]), filter=used)
    raise UnsupportedModelError(
        f"{name}: its image processor resizes to {size}, which a bundle cannot express",
        hint="Supported are height and width, or shortest_edge with a centre crop.",
    )


def _channels(values: Any) -> tuple[float, float, float]:
    if isinstance(values, (int, float)):
        return (float(values),) * 3
    red, green, blue = values
    return float(red), float(green), float(blue)
