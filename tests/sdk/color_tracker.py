"""A bundle with a tracker written by hand, and clips for it: an object is everything of about its colour.

The networks are real and run as a trained tracker does, but what they will find is known. The encoder gives the
picture; the decoder takes the colour at the prompt, or on other frames the one in the object pointers, and gives how
near each pixel comes to it; the object is absent where no pixel comes near.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from bundles import Tensors, component, graph, node, write_bundle

SIDE, GRID = 64, 16
WIDTH, HEIGHT, RATE = 192, 128, 25
FRAMES = 24
GONE = range(10, 14)
"""Frames on which the red square is out of sight."""

RED, BLUE, GREEN, GREY = (220, 30, 30), (30, 40, 220), (30, 190, 40), (128, 128, 128)

ENCODER: tuple[Tensors, Tensors] = (
    {"pixels": ("float32", ["batch", 3, SIDE, SIDE])},
    {
        "high0": ("float32", ["batch", 3, SIDE, SIDE]),
        "high1": ("float32", ["batch", 3, SIDE // 2, SIDE // 2]),
        "top": ("float32", ["batch", 3, GRID, GRID]),
        "initial": ("float32", ["batch", 3, GRID, GRID]),
    },
)
ATTENTION: tuple[Tensors, Tensors] = (
    {
        "top": ("float32", [1, 3, GRID, GRID]),
        "memory": ("float32", ["batch", "slots", 1, 1]),
        "slot_age": ("int64", ["batch", "slots"]),
        "slot_valid": ("float32", ["batch", "slots"]),
        "pointers": ("float32", ["batch", "pointer_slots", 3]),
        "pointer_age": ("float32", ["batch", "pointer_slots"]),
        "pointer_valid": ("float32", ["batch", "pointer_slots"]),
    },
    {"conditioned": ("float32", ["batch", 3, GRID, GRID])},
)
DECODER: tuple[Tensors, Tensors] = (
    {
        "features": ("float32", ["batch", 3, GRID, GRID]),
        "high0": ("float32", [1, 3, SIDE, SIDE]),
        "high1": ("float32", [1, 3, SIDE // 2, SIDE // 2]),
        "points": ("float32", ["batch", "points", 2]),
        "labels": ("int64", ["batch", "points"]),
        "embeddings": ("float32", ["batch", "embeddings", 3]),
        "embedding_valid": ("float32", ["batch", "embeddings"]),
        "mask": ("float32", ["batch", 1, SIDE, SIDE]),
        "mask_given": ("float32", ["batch"]),
    },
    {
        "masks": ("float32", ["batch", 1, SIDE, SIDE]),
        "iou": ("float32", ["batch", 1]),
        "object_score": ("float32", ["batch"]),
        "pointers": ("float32", ["batch", 1, 3]),
    },
)
MEMORY: tuple[Tensors, Tensors] = (
    {
        "top": ("float32", [1, 3, GRID, GRID]),
        "logits": ("float32", ["batch", 1, SIDE, SIDE]),
        "mask": ("float32", ["batch", 1, SIDE, SIDE]),
        "mask_given": ("float32", ["batch"]),
        "binarise": ("float32", ["batch"]),
        "object_score": ("float32", ["batch"]),
    },
    {"memory": ("float32", ["batch", 1, 1])},
)


def write_color_tracker(folder: Path) -> Path:
    """Write the bundle; gives the folder."""
    graphs = {"encoder": _encoder(), "attention": _attention(), "decoder": _decoder(), "memory": _memory()}
    tensors = {"encoder": ENCODER, "attention": ATTENTION, "decoder": DECODER, "memory": MEMORY}
    fields: dict[str, dict[str, Any]] = {
        "encoder": {"preprocessing": {"resize": {"height": SIDE, "width": SIDE, "filter": "box"}}},
        "attention": {"tracker": {"stability_threshold": None, "multimask_points": None, "rounding": "none"}},
    }
    components = {
        f"tracker_{name}": component(
            f"tracker.{name}", {"fp32": f"{name}/fp32.onnx"}, *tensors[name], **fields.get(name, {})
        )
        for name in graphs
    }
    return write_bundle(folder, components, {f"{name}/fp32.onnx": content for name, content in graphs.items()})


def _encoder() -> bytes:
    def pooled(name: str, by: int) -> Any:
        return node("AveragePool", ["pixels"], [name], kernel_shape=[by, by], strides=[by, by])

    nodes = [
        node("Identity", ["pixels"], ["high0"]),
        pooled("high1", 2),
        pooled("top", SIDE // GRID),
        node("Identity", ["top"], ["initial"]),
    ]
    return graph(nodes, *ENCODER)


def _attention() -> bytes:
    """The mean of the valid pointers, everywhere."""
    nodes = [
        node("Unsqueeze", ["pointer_valid", "last"], ["valid"]),
        node("Mul", ["pointers", "valid"], ["kept"]),
        node("ReduceSum", ["kept", "one"], ["sum"], keepdims=0),
        node("ReduceSum", ["valid", "one"], ["count"], keepdims=0),
        node("Div", ["sum", "count"], ["color"]),
        node("Unsqueeze", ["color", "plane"], ["pixel"]),
        node("Expand", ["pixel", "shape"], ["conditioned"]),
    ]
    weights = {
        "last": np.array([2], np.int64),
        "one": np.array([1], np.int64),
        "plane": np.array([2, 3], np.int64),
        "shape": np.array([1, 3, GRID, GRID], np.int64),
    }
    return graph(nodes, *ATTENTION, weights)


def _decoder() -> bytes:
    """The colour at the middle of the points that are not background, under the mask, or of the features."""
    nodes = [
        # Where the prompt points to: the mean of clicks and corners, and whether there is any.
        node("Greater", ["labels", "zero"], ["is_place"]),
        node("Cast", ["is_place"], ["place"], to=1),
        node("Unsqueeze", ["place", "last"], ["places"]),
        node("Mul", ["points", "places"], ["kept"]),
        node("ReduceSum", ["kept", "one"], ["sum"], keepdims=1),
        node("ReduceSum", ["places", "one"], ["count"], keepdims=1),
        node("Max", ["count", "unit"], ["at_least_one"]),
        node("Div", ["sum", "at_least_one"], ["middle"]),
        node("Min", ["count", "unit"], ["pointed"]),
        # Every pixel by its nearness to that place, or to the mask; the colour is what weighs most.
        node("Sub", ["centers", "middle"], ["offset"]),
        node("Mul", ["offset", "offset"], ["squares"]),
        node("ReduceSum", ["squares", "last"], ["distance"], keepdims=0),
        node("Neg", ["distance"], ["nearness"]),
        node("Softmax", ["nearness"], ["at_point"], axis=1),
        node("Reshape", ["mask", "flat"], ["mask_pixels"]),
        node("ReduceSum", ["mask_pixels", "one"], ["area"], keepdims=1),
        node("Max", ["area", "scalar_one"], ["some_area"]),
        node("Div", ["mask_pixels", "some_area"], ["at_mask"]),
        node("Unsqueeze", ["mask_given", "one"], ["given"]),
        node("Cast", ["given"], ["given_bool"], to=9),
        node("Where", ["given_bool", "at_mask", "at_point"], ["weight"]),
        node("Reshape", ["high0", "colors_shape"], ["colors"]),
        node("MatMul", ["weight", "colors"], ["seen"]),
        # On a frame without a prompt, the colour that the attention remembered.
        node("ReduceMean", ["features", "plane"], ["remembered"], keepdims=0),
        node("Squeeze", ["pointed", "last"], ["pointed_column"]),
        node("Max", ["pointed_column", "given"], ["prompted"]),
        node("Cast", ["prompted"], ["prompted_bool"], to=9),
        node("Where", ["prompted_bool", "seen", "remembered"], ["color"]),
        node("Unsqueeze", ["color", "one"], ["pointers"]),
        # How near each pixel comes to the colour.
        node("Unsqueeze", ["color", "plane"], ["target"]),
        node("Sub", ["high0", "target"], ["difference"]),
        node("Abs", ["difference"], ["far"]),
        node("ReduceMax", ["far", "one"], ["farthest"], keepdims=1),
        node("Sub", ["near_enough", "farthest"], ["margin"]),
        node("Mul", ["margin", "steepness"], ["masks"]),
        node("ReduceMax", ["masks", "all_pixels"], ["object_score"], keepdims=0),
        node("Mul", ["prompted", "zero_float"], ["nothing"]),
        node("Add", ["nothing", "quality"], ["iou"]),
    ]
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    weights: dict[str, npt.NDArray[Any]] = {
        "zero": np.array(0, np.int64),
        "zero_float": np.array(0, np.float32),
        "one": np.array([1], np.int64),
        "last": np.array([2], np.int64),
        "plane": np.array([2, 3], np.int64),
        "all_pixels": np.array([1, 2, 3], np.int64),
        "unit": np.ones((1, 1, 1), np.float32),
        "scalar_one": np.array(1, np.float32),
        "centers": np.stack([columns.ravel(), rows.ravel()], axis=1)[None].astype(np.float32),
        "flat": np.array([0, SIDE * SIDE], np.int64),
        "colors_shape": np.array([3, SIDE * SIDE], np.int64),
        "near_enough": np.array(0.2, np.float32),
        "steepness": np.array(50, np.float32),
        "quality": np.array(0.9, np.float32),
    }
    # high0 is [1, 3, side, side]; as a matrix, pixels are rows and channels are columns.
    nodes.insert(
        next(index for index, item in enumerate(nodes) if item.output[0] == "seen"),
        node("Transpose", ["colors"], ["pixel_colors"], perm=[1, 0]),
    )
    next(item for item in nodes if item.output[0] == "seen").input[1] = "pixel_colors"
    return graph(nodes, *DECODER, weights)


def _memory() -> bytes:
    nodes = [node("Unsqueeze", ["object_score", "axes"], ["memory"])]
    return graph(nodes, *MEMORY, {"axes": np.array([1, 2], np.int64)})


def red_box(number: int) -> tuple[int, int, int, int]:
    """Where the red square is on a frame: it moves to the right."""
    return 20 + 4 * number, 30, 60 + 4 * number, 70


BLUE_BOX = (130, 80, 180, 120)


def picture(number: int) -> npt.NDArray[np.uint8]:
    """A frame of the clip, uint8 `[HEIGHT, WIDTH, 3]`."""
    image = np.full((HEIGHT, WIDTH, 3), GREY, np.uint8)
    for color, (x0, y0, x1, y1) in ((BLUE, BLUE_BOX), (RED, red_box(number))):
        if color is BLUE or number not in GONE:
            image[y0:y1, x0:x1] = color
    return image


def write_color_clip(path: Path, frames: int = FRAMES) -> Path:
    """Write the clip as H.264; gives the path."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "ultrafast", "crf": "12"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.time_base = Fraction(1, RATE)
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(number % FRAMES), format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
