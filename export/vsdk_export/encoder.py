"""The encoder of a checkpoint as a network to export, and as a dry run shows it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from vsdk_models.families import Architecture
from vsdk_models.layers import Layer
from vsdk_models.preprocessing import pixel_size
from vsdk_models.vision import VisionEncoder
from vsdk_runtimes import Precision
from vsdk_runtimes.manifest import Origin, Preprocessing, TensorSpec

from .frames import pixels
from .network import Array, Arrays, Network
from .report import ComponentPlan


def encoder_network(
    model: Any, architecture: Architecture, preprocessing: Preprocessing, layer: Layer, origin: Origin
) -> Network:
    """The network of an encoder, whose reference is the untouched model.

    Args:
        model: transformers' model, fp32.
        architecture: What it is.
        preprocessing: From a picture to its pixels.
        layer: Which layer's tokens are given out.
        origin: Where the weights come from.
    """
    family, size = architecture.vision_family, pixel_size(preprocessing)
    with torch.no_grad():
        parts = family.parts(model, *size)
    encoder = VisionEncoder(parts, layer, shared_space=architecture.embedding_width is not None)

    def reference(batch: Arrays) -> dict[str, Array]:
        with torch.inference_mode():
            outputs = family.reference(model, torch.from_numpy(np.array(batch["pixels"])), layer)
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    return Network(
        name="encoder",
        role="encoder",
        family=architecture.family,
        module=encoder,
        outputs=encoder.output_names,
        samples={"pixels": pixels(preprocessing, size)},
        origin=origin,
        reference=reference,
        layer=layer,
        preprocessing=preprocessing,
    )


def encoder_plan(found: Architecture, size: tuple[int, int], precisions: tuple[Precision, ...]) -> ComponentPlan:
    """What a dry run says of an encoder with pixels of this height and width."""
    height, width = size
    patches = (height // found.patch_size) * (width // found.patch_size)
    outputs = {"cls": floats("batch", found.width), "patches": floats("batch", patches, found.width)}
    if found.embedding_width is not None:
        outputs["embedding"] = floats("batch", found.embedding_width)
    inputs = {"pixels": floats("batch", 3, height, width)}
    return ComponentPlan("encoder", "encoder", found.family, inputs, outputs, graph_files("encoder", precisions))


def floats(*shape: int | str) -> TensorSpec:
    """A float32 tensor."""
    return TensorSpec(dtype="float32", shape=shape)


def graph_files(component: str, precisions: tuple[Precision, ...]) -> dict[Precision, str]:
    """Where the graphs of a component are."""
    return {precision: f"{component}/{precision}.onnx" for precision in precisions}
