"""A graph may keep weights only in files that its bundle lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bundles
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from vsdk_runtimes import external_data, load, load_bundle
from vsdk_runtimes.errors import Error, GraphError

X: bundles.Tensors = {"x": ("float32", ["n", 4])}
Y: bundles.Tensors = {"y": ("float32", ["n", 4])}
WEIGHT = np.arange(4, dtype=np.float32)


def outside(location: str, name: str = "w") -> Any:
    """A tensor whose values are in another file."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="length", value="16")
    tensor.external_data.add(key="location", value=location)
    tensor.external_data.add(key="offset", value="0")
    return tensor


def model_with(location: str) -> Any:
    """y = x + w."""
    model = onnx.load_from_string(bundles.graph([bundles.node("Relu", ["x"], ["y"])], X, Y))
    model.graph.node[0].op_type = "Add"
    model.graph.node[0].input.append("w")
    model.graph.initializer.append(outside(location))
    return model


def write(folder: Path, model: Any, files: dict[str, bytes] | None = None) -> Path:
    part = bundles.component("net", {"fp32": "net/fp32.onnx"}, X, Y)
    return bundles.write_bundle(folder, {"net": part}, {"net/fp32.onnx": model.SerializeToString(), **(files or {})})


def refused(folder: Path, location: str) -> None:
    with pytest.raises(GraphError) as caught:
        load(load_bundle(folder).component("net"))
    assert "net/fp32.onnx keeps weights in" in caught.value.message
    assert repr(location) in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("location", ["weights.data", "./weights.data"])
def test_listed_files_are_used(tmp_path: Path, location: str) -> None:
    folder = write(tmp_path, model_with(location), {"net/weights.data": WEIGHT.tobytes()})
    with load(load_bundle(folder).component("net"), threads=1) as session:
        np.testing.assert_array_equal(session.run({"x": np.ones((2, 4), np.float32)})["y"], [WEIGHT + 1] * 2)


@pytest.mark.parametrize(
    "location",
    [
        "weights.data",
        "../weights.data",
        "/etc/passwd",
        "",
        ".",
        "a/../listed.data",
        "*/_ORT_MEM_ADDR_/*",
        "listed.data\0",
    ],
)
def test_other_files_are_refused(tmp_path: Path, location: str) -> None:
    folder = write(tmp_path, model_with(location), {"net/listed.data": WEIGHT.tobytes()})
    (folder / "net" / "weights.data").write_bytes(WEIGHT.tobytes())
    (folder / "weights.data").write_bytes(WEIGHT.tobytes())
    refused(folder, location)


def test_a_link_that_is_not_listed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(WEIGHT.tobytes())
    folder = write(tmp_path / "bundle", model_with("innocent.data"))
    (folder / "net" / "innocent.data").symlink_to(tmp_path / "secret")
    refused(folder, "innocent.data")


def test_a_damaged_file_of_weights_is_refused_with_the_bundle(tmp_path: Path) -> None:
    folder = write(tmp_path, model_with("weights.data"), {"net/weights.data": WEIGHT.tobytes()})
    (folder / "net" / "weights.data").write_bytes(WEIGHT[::-1].tobytes())
    with pytest.raises(Error, match=r"weights\.data is not what was exported"):
        load_bundle(folder)


def _in_attribute(model: Any, tensor: Any) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def _in_attribute_list(model: Any, tensor: Any) -> None:
    node = helper.make_node("Constant", [], ["c"])
    node.attribute.append(onnx.AttributeProto(name="values", type=onnx.AttributeProto.TENSORS, tensors=[tensor]))
    model.graph.node.append(node)


def _in_branch(model: Any, tensor: Any) -> None:
    inner = helper.make_graph([], "inner", [], [], initializer=[tensor])
    outer = helper.make_graph([helper.make_node("If", ["x"], ["z"], then_branch=inner)], "outer", [], [])
    model.graph.node.append(helper.make_node("Loop", ["x"], ["q"], body=outer))


def _in_sparse(model: Any, tensor: Any) -> None:
    model.graph.sparse_initializer.append(onnx.SparseTensorProto(values=TensorProto(), indices=tensor, dims=[4]))


def _in_function(model: Any, tensor: Any) -> None:
    constant = helper.make_node("Constant", [], ["c"], value=tensor)
    model.functions.append(helper.make_function("local", "f", [], ["c"], [constant], [helper.make_opsetid("", 18)]))


@pytest.mark.parametrize("hide", [_in_attribute, _in_attribute_list, _in_branch, _in_sparse, _in_function])
def test_no_corner_of_a_graph_is_overlooked(tmp_path: Path, hide: Any) -> None:
    model = onnx.load_from_string(bundles.graph([bundles.node("Relu", ["x"], ["y"])], X, Y))
    hide(model, outside("hidden.data", "c"))
    refused(write(tmp_path, model), "hidden.data")


def test_a_name_that_only_looks_like_external_data_is_none(tmp_path: Path) -> None:
    """A node with the input `location` and the output `y` has the same bytes as the entry location=y."""
    inputs: bundles.Tensors = {"location": ("float32", ["n", 4])}
    content = bundles.graph([bundles.node("Relu", ["location"], ["y"])], inputs, Y)
    part = bundles.component("net", {"fp32": "net.onnx"}, inputs, Y)
    bundle = load_bundle(bundles.write_bundle(tmp_path, {"net": part}, {"net.onnx": content}))
    load(bundle.component("net"), threads=1).close()


def test_every_message_that_leads_to_a_tensor_is_followed() -> None:
    """Against onnx's own description of its format; training information is never read by an engine."""
    messages: dict[str, dict[int, str]] = {}
    waiting = [onnx.ModelProto.DESCRIPTOR]
    while waiting:
        message = waiting.pop()
        inner = {field.number: field.message_type for field in message.fields if field.message_type is not None}
        messages[message.name] = {number: other.name for number, other in inner.items()}
        waiting += [other for other in inner.values() if other.name not in messages]
    leading = {"TensorProto"}
    while more := {name for name, inner in messages.items() if leading & set(inner.values())} - leading:
        leading |= more
    leading -= {"TrainingInfoProto"}
    expected = {
        name.removesuffix("Proto"): {
            number: other.removesuffix("Proto") for number, other in messages[name].items() if other in leading
        }
        for name in leading
    }
    expected["Tensor"] = {TensorProto.DESCRIPTOR.fields_by_name["external_data"].number: "Entry"}
    assert expected == external_data._LEADS_TO


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00",
        b"\xff" * 20,
        b"\x3a\x7f",
        b"\x3a\x80",
        b"\x0b\x0c",
        b"\x08",
        b"\x0d\x00",
        bytes(1000),
        b"ORTM" * 50,
    ],
)
def test_what_is_not_protobuf_is_refused(tmp_path: Path, content: bytes) -> None:
    folder = write(tmp_path, model_with("weights.data"), {"net/weights.data": WEIGHT.tobytes()})
    bundles.replace_file(folder, "net/fp32.onnx", content)
    with pytest.raises(GraphError, match=r"net/fp32\.onnx"):
        load(load_bundle(folder).component("net"), threads=1)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_damaged_graphs_load_or_give_a_vsdk_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(bundles.memory_graph())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.getbasetemp() / "damaged"
    bundles.memory_bundle(folder)
    bundles.replace_file(folder, "bridge/fp32.onnx", bytes(content[: data.draw(st.integers(1, len(content)))]))
    bundle = load_bundle(folder)
    try:
        session = load(bundle.component("bridge"), threads=1)
        session.step({"segment": np.ones((2, 4), np.float32)}, session.new_state())
    except Error as error:
        assert "bridge" in error.message  # noqa: PT017
