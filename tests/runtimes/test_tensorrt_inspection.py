"""What the engine inspector says, in the forms of TensorRT 10 and of TensorRT 11, and what is made of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from vsdk_runtimes.errors import GraphError
from vsdk_runtimes.tensorrt.inspection import compare, layer_types


def old(name: str, *types: str, **fields: Any) -> dict[str, Any]:
    """A layer as TensorRT 10 describes it."""
    inputs = [{"Name": "x", "Location": "Device", "Dimensions": [1, 8], "Format/Datatype": text} for text in types]
    return {"Name": name, "LayerType": "gemm", "Inputs": inputs, "Outputs": [], **fields}


def new(name: str, *types: str, **fields: Any) -> dict[str, Any]:
    """The same of TensorRT 11."""
    inputs = [{"Name": "x", "Dimensions": [1, 8], "Format": "Linear", "DataType": text} for text in types]
    return {"Name": name, "LayerType": "gemm", "Inputs": inputs, "Outputs": [], **fields}


def engine(*layers: Any, tensors: str = "Bindings") -> str:
    return json.dumps({"Layers": list(layers), tensors: ["pixels", "cls"]})


@pytest.mark.parametrize(
    ("information", "counts"),
    [
        (engine(old("a", "Half", "Half"), old("b", "Float")), {"fp16": 1, "fp32": 1}),
        (engine(old("a", "Row major linear FP16 format"), old("b", "Row major linear FP32")), {"fp16": 1, "fp32": 1}),
        (engine(old("a", "Thirty-two wide channel vectorized row major Int8 format.")), {"int8": 1}),
        (engine(old("a", "Float", Weights={"Type": "Int8", "Count": 9})), {"fp32": 1, "int8": 1}),
        (engine(new("a", "Half"), new("b", "FLOAT"), new("c", "INT8"), tensors="I/O Tensors"),
         {"fp16": 1, "fp32": 1, "int8": 1}),
        (engine(new("a", "kHALF"), new("b", "Float32"), tensors="I/O Tensors"), {"fp16": 1, "fp32": 1}),
        (engine(*(new("a", name) for name in ("BFloat16", "Int64", "Bool", "FP8", "UINT8"))), {"other": 5}),
        (engine("{ForeignNode[a...z]}", old("b", "Half")), {"fp16": 1, "unseen": 1}),
        (engine({"Name": "shape", "LayerType": "Shape"}), {"unseen": 1}),
        (engine(), {}),
    ],
    ids=["10", "10-long", "10-vector", "10-weights", "11", "11-other", "11-more", "fused", "bare", "empty"],
)  # fmt: skip
def test_layers_by_type(information: str, counts: dict[str, int]) -> None:
    assert layer_types(information) == counts


@pytest.mark.parametrize("information", ["", "null", "[]", "{}", '{"Layers": 3}', "Layer(gemm): a"])
def test_an_answer_that_cannot_be_read(information: str) -> None:
    with pytest.raises(GraphError, match="inspector's answer cannot be read"):
        layer_types(information)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_an_engine_that_lost_its_precision(precision: str) -> None:
    with pytest.raises(GraphError, match=f"built without a single {precision} layer.*12 places.*40 fp32") as caught:
        compare({precision: 12, "fp32": 3}, {"fp32": 40}, "e")
    assert "Do not use it" in caught.value.hint


@pytest.mark.parametrize(
    ("asked", "found", "remarks"),
    [
        ({"fp16": 12}, {"fp16": 1, "fp32": 40}, 0),
        ({"fp32": 12}, {"fp32": 40}, 0),
        ({"fp16": 12, "int8": 4}, {"fp32": 2, "unseen": 1}, 2),
        ({}, {}, 0),
    ],
)
def test_an_engine_that_is_fine_or_cannot_be_seen(asked: dict[str, int], found: dict[str, int], remarks: int) -> None:
    assert len(compare(asked, found, "e")) == remarks
