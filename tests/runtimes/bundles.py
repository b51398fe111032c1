"""Small real bundles for tests: ONNX graphs built by hand, a manifest, and the digests of every file."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from vsdk_runtimes import Bundle, load_bundle

Array = npt.NDArray[Any]
Tensors = Mapping[str, tuple[str, Sequence[int | str]]]
"""Tensors by name: dtype, shape."""

_ONNX_TYPES = {
    "float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "int64": TensorProto.INT64,
    "int32": TensorProto.INT32, "int8": TensorProto.INT8, "uint8": TensorProto.UINT8, "bool": TensorProto.BOOL,
}  # fmt: skip


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> Any:
    return helper.make_node(op, list(inputs), list(outputs), **attributes)


def graph(nodes: Sequence[Any], inputs: Tensors, outputs: Tensors, weights: Mapping[str, Array] | None = None) -> bytes:
    """An ONNX file of the kind that bundles hold: opset 18, IR version 10."""
    described = [
        [helper.make_tensor_value_info(name, _ONNX_TYPES[dtype], list(shape)) for name, (dtype, shape) in side.items()]
        for side in (inputs, outputs)
    ]
    constants = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    body = helper.make_graph(list(nodes), "graph", *described, initializer=constants)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def npy(array: Array) -> bytes:
    """A .npy file."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def component(role: str, files: Mapping[str, str], inputs: Tensors, outputs: Tensors, **fields: Any) -> dict[str, Any]:
    """A component's part of the manifest."""
    return {
        "role": role,
        "family": "test",
        "source": {"checkpoint": "tests", "license": "Apache-2.0"},
        "files": dict(files),
        "inputs": {name: {"dtype": dtype, "shape": list(shape)} for name, (dtype, shape) in inputs.items()},
        "outputs": {name: {"dtype": dtype, "shape": list(shape)} for name, (dtype, shape) in outputs.items()},
        **fields,
    }


def write_bundle(
    folder: Path, components: Mapping[str, Mapping[str, Any]], files: Mapping[str, bytes], **fields: Any
) -> Path:
    """Write files and the manifest that lists them."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    manifest = {
        "schema_version": 1,
        "name": "test",
        "created_with": {"vsdk": "0.1.0"},
        "components": components,
        "files": {name: entry(content) for name, content in files.items()},
        **fields,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def entry(content: bytes) -> dict[str, Any]:
    """What the manifest says of a file."""
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Read the manifest, change it, write it."""
    path = folder / "manifest.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def replace_file(folder: Path, name: str, content: bytes) -> None:
    """Put other content in a listed file, and its digest in the manifest, so that only an engine can object."""
    (folder / name).write_bytes(content)
    edit_manifest(folder, lambda manifest: manifest["files"].update({name: entry(content)}))


def loaded(folder: Path, *args: Any, **options: Any) -> Bundle:
    """Write a bundle and load it."""
    return load_bundle(write_bundle(folder, *args, **options))


# --- An encoder: pixels [batch, 3, 8, 8] to 16 patch tokens of 4 numbers, and their mean. fp32 and fp16. ---

ENCODER_INPUTS: Tensors = {"pixels": ("float32", ["batch", 3, 8, 8])}
ENCODER_OUTPUTS: Tensors = {"cls": ("float32", ["batch", 4]), "patches": ("float32", ["batch", 16, 4])}
ENCODER_WEIGHT: Array = np.random.default_rng(7).standard_normal((4, 3, 2, 2)).astype(np.float32)
ENCODER_FILES = {"fp32": "encoder/fp32.onnx", "fp16": "encoder/fp16.onnx"}


def encoder_graph(dtype: str = "float32") -> bytes:
    """A patch embedding, computed in `dtype`, with float32 inputs and outputs."""
    nodes = [
        node("Cast", ["pixels"], ["x"], to=_ONNX_TYPES[dtype]),
        node("Conv", ["x", "weight"], ["maps"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Reshape", ["maps", "shape"], ["lines"]),
        node("Transpose", ["lines"], ["tokens"], perm=[0, 2, 1]),
        node("Cast", ["tokens"], ["patches"], to=TensorProto.FLOAT),
        node("ReduceMean", ["patches", "axes"], ["cls"], keepdims=0),
    ]
    weights = {
        "weight": ENCODER_WEIGHT.astype(dtype),
        "shape": np.array([0, 4, 16], np.int64),
        "axes": np.array([1], np.int64),
    }
    return graph(nodes, ENCODER_INPUTS, ENCODER_OUTPUTS, weights)


def encoder_reference(pixels: Array) -> dict[str, Array]:
    """The same in NumPy, in float64."""
    batch = len(pixels)
    patches = pixels.astype(np.float64).reshape(batch, 3, 4, 2, 4, 2)
    tokens = np.einsum("bciyjx,ocyx->bijo", patches, ENCODER_WEIGHT.astype(np.float64)).reshape(batch, 16, 4)
    return {"cls": tokens.mean(1), "patches": tokens}


def encoder_bundle(folder: Path) -> Path:
    """A bundle with one stateless component, `encoder`."""
    files = {ENCODER_FILES["fp32"]: encoder_graph(), ENCODER_FILES["fp16"]: encoder_graph("float16")}
    part = component("encoder", ENCODER_FILES, ENCODER_INPUTS, ENCODER_OUTPUTS)
    return write_bundle(folder, {"encoder": part}, files)


# --- A recurrent component: a decaying memory that starts from a file, and a step counter that starts from zero. ---

DECAY = np.float32(0.75)
MEMORY_INPUTS: Tensors = {
    "segment": ("float32", ["rows", 4]),
    "memory_in": ("float32", [3, 4]),
    "count_in": ("int64", [1]),
}
MEMORY_OUTPUTS: Tensors = {
    "tokens": ("float32", ["rows", 4]),
    "memory_out": ("float32", [3, 4]),
    "count_out": ("int64", [1]),
}
MEMORY_STATE = [
    {"output": "memory_out", "input": "memory_in", "init": "bridge/memory.npy"},
    {"output": "count_out", "input": "count_in"},
]
INITIAL_MEMORY: Array = np.random.default_rng(8).standard_normal((3, 4)).astype(np.float32)


def memory_graph() -> bytes:
    """memory_out = decay * memory_in + top of segment; tokens = segment + top of memory_out; count_out counts."""
    nodes = [
        node("Mul", ["memory_in", "decay"], ["old"]),
        node("ReduceMax", ["segment", "axes"], ["news"], keepdims=1),
        node("Add", ["old", "news"], ["memory_out"]),
        node("ReduceMax", ["memory_out", "axes"], ["gist"], keepdims=1),
        node("Add", ["segment", "gist"], ["tokens"]),
        node("Add", ["count_in", "one"], ["count_out"]),
    ]
    weights: dict[str, Array] = {
        "decay": np.array(DECAY),
        "axes": np.array([0], np.int64),
        "one": np.array([1], np.int64),
    }
    return graph(nodes, MEMORY_INPUTS, MEMORY_OUTPUTS, weights)


def memory_reference(segment: Array, memory: Array, count: Array) -> tuple[Array, Array, Array]:
    """One step in NumPy: tokens, memory, count."""
    memory = memory * DECAY + segment.max(0, keepdims=True)
    return segment + memory.max(0, keepdims=True), memory, count + 1


def memory_bundle(folder: Path) -> Path:
    """A bundle with one recurrent component, `bridge`."""
    files = {"bridge/fp32.onnx": memory_graph(), "bridge/memory.npy": npy(INITIAL_MEMORY)}
    part = component("bridge", {"fp32": "bridge/fp32.onnx"}, MEMORY_INPUTS, MEMORY_OUTPUTS, state=MEMORY_STATE)
    return write_bundle(folder, {"bridge": part}, files)


# --- Every dtype that a manifest may name, and a scalar. ---

DTYPES = ("float32", "float16", "int64", "int32", "int8", "uint8", "bool")
TYPED_INPUTS: Tensors = {**{f"in_{dtype}": (dtype, ["n", 2]) for dtype in DTYPES}, "in_scalar": ("float32", [])}
TYPED_OUTPUTS: Tensors = {**{f"out_{dtype}": (dtype, [2, "n"]) for dtype in DTYPES}, "out_scalar": ("float32", [])}


def typed_bundle(folder: Path) -> Path:
    """A bundle whose component `typed` transposes a matrix of each dtype, and negates a scalar."""
    nodes = [node("Transpose", [f"in_{dtype}"], [f"out_{dtype}"]) for dtype in DTYPES if dtype != "uint8"]
    # TensorRT takes uint8 only to cast it, and gives it only from a cast.
    nodes += [
        node("Cast", ["in_uint8"], ["wide"], to=TensorProto.FLOAT),
        node("Transpose", ["wide"], ["turned"]),
        node("Cast", ["turned"], ["out_uint8"], to=TensorProto.UINT8),
    ]
    nodes.append(node("Neg", ["in_scalar"], ["out_scalar"]))
    part = component("typed", {"fp32": "typed.onnx"}, TYPED_INPUTS, TYPED_OUTPUTS)
    return write_bundle(folder, {"typed": part}, {"typed.onnx": graph(nodes, TYPED_INPUTS, TYPED_OUTPUTS)})
