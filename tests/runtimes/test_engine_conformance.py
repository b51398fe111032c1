"""What an engine is, in code: every engine that runs on this machine passes every test of this file.

The tests' ids name the engine. An engine that cannot run here appears as `test_absent_engine_says_why[...]` only, which
checks that it refuses to load, says why, and is not replaced by another one silently. The end of the test run lists
both kinds, with the reasons (`conftest.py`).
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import bundles
import numpy as np
import psutil
import pytest
from bundles import Array

from vsdk_runtimes import Bundle, Component, DeviceTensor, Session, State, Tensor, load, load_bundle
from vsdk_runtimes.errors import (
    ClosedError,
    EngineUnavailableError,
    GraphError,
    InputError,
    PrecisionUnavailableError,
)
from vsdk_runtimes.loading import choose_precision
from vsdk_runtimes.tensorrt.profiles import AxisRange
from vsdk_runtimes.tensorrt.targets import Settings, build_engines


@dataclass(frozen=True)
class Engine:
    """An engine on a device."""

    engine: str
    device: str

    def __str__(self) -> str:
        return f"{self.engine}-{self.device}"

    def load(self, bundle: Bundle, role: str, **options: Any) -> Session:
        component = bundle.component(role)
        if self.engine != "onnxruntime":
            self._build(component, options.get("precision"))
        return load(component, engine=self.engine, device=self.device, **{"threads": 1, **options})

    def _build(self, component: Component, precision: Any) -> None:
        """TensorRT runs only what was built."""
        axes = {axis for tensor in component.spec.inputs.values() for axis in tensor.dynamic_axes}
        settings = Settings(
            precisions=[choose_precision(component, precision, "cuda")],
            components=[component.name],
            ranges={axis: AxisRange(1, 2, 64) for axis in axes},
        )
        build_engines(component.bundle, self.engine, settings)

    def obstacle(self) -> EngineUnavailableError | None:
        """Why it cannot run on this machine."""
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            patch.setenv("VSDK_ENGINES", str(Path(folder, "engines")))
            bundle = load_bundle(bundles.encoder_bundle(Path(folder, "bundle")))
            try:
                self.load(bundle, "encoder").close()
            except EngineUnavailableError as error:
                return error
        return None


PRODUCTS = {"onnxruntime": "ONNX Runtime", "tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT"}
"""What the message of an engine that cannot run has to name."""

# A new engine is one more entry.
ENGINES = (
    Engine("onnxruntime", "cpu"),
    Engine("onnxruntime", "cuda"),
    Engine("tensorrt", "cuda"),
    Engine("tensorrt-rtx", "cuda"),
)
ABSENT = {engine: obstacle for engine in ENGINES if (obstacle := engine.obstacle()) is not None}
PRESENT = [engine for engine in ENGINES if engine not in ABSENT]


@pytest.fixture(params=PRESENT, ids=str)
def engine(request: pytest.FixtureRequest) -> Engine:
    chosen: Engine = request.param
    return chosen


@pytest.fixture
def encoder(engine: Engine, tmp_path: Path) -> Iterator[Session]:
    with engine.load(load_bundle(bundles.encoder_bundle(tmp_path / "encoder")), "encoder") as session:
        yield session


@pytest.fixture
def bridge(engine: Engine, tmp_path: Path) -> Iterator[Session]:
    with engine.load(load_bundle(bundles.memory_bundle(tmp_path / "bridge")), "bridge") as session:
        yield session


def pixels(batch: int = 2, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((batch, 3, 8, 8)).astype(np.float32)


def segment(rows: int = 5, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((rows, 4)).astype(np.float32)


def assert_close(found: Mapping[str, Any], expected: Mapping[str, Array], tolerance: float = 1e-5) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=tolerance, atol=tolerance)


def on_host(tensor: DeviceTensor) -> Array:
    """A device tensor read through DLPack where NumPy can, copied where it cannot."""
    on_cpu = tensor.__dlpack_device__()[0] == 1
    return np.from_dlpack(tensor) if on_cpu else tensor.numpy()


def address(tensor: DeviceTensor) -> int:
    if tensor.__dlpack_device__()[0] == 1:
        return int(np.from_dlpack(tensor).ctypes.data)
    torch = pytest.importorskip("torch")
    return int(torch.from_dlpack(tensor).data_ptr())


# --- Which engines there are ---


def test_plain_cpu_runs_everywhere() -> None:
    assert Engine("onnxruntime", "cpu") in PRESENT


@pytest.mark.parametrize("engine", ABSENT, ids=str)
def test_absent_engine_says_why(engine: Engine) -> None:
    error = ABSENT[engine]
    assert PRODUCTS[engine.engine] in error.message
    assert re.search("pip install|nvidia-smi|vsdk doctor", error.hint)


@pytest.mark.parametrize("name", ["onnx", "", "TensorRT", "tensorrt;cpu"])
def test_unknown_engine(name: str, tmp_path: Path) -> None:
    component = load_bundle(bundles.encoder_bundle(tmp_path)).component("encoder")
    with pytest.raises(InputError, match="unknown engine") as caught:
        load(component, engine=name)
    assert "onnxruntime" in caught.value.hint


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cpu:0", "CPU", "", "cuda:0\n"])
def test_unknown_device(device: str, tmp_path: Path) -> None:
    component = load_bundle(bundles.encoder_bundle(tmp_path)).component("encoder")
    with pytest.raises(InputError, match="unknown device") as caught:
        load(component, device=device)
    assert "cuda" in caught.value.hint


# --- Loading ---


def test_info_is_what_was_asked_for(engine: Engine, tmp_path: Path) -> None:
    bundle = load_bundle(bundles.encoder_bundle(tmp_path))
    with engine.load(bundle, "encoder", precision="fp16", threads=2) as session:
        assert session.info.engine == engine.engine
        assert session.info.device == engine.device
        assert session.info.precision == "fp16"
        assert session.info.threads == 2
        assert session.info.engine_version
        assert session.component is bundle.component("encoder")


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_default_precision_is_the_bundles(engine: Engine, precision: str, tmp_path: Path) -> None:
    kind = engine.device.partition(":")[0]
    folder = bundles.encoder_bundle(tmp_path)
    bundles.edit_manifest(folder, lambda m: m.update(default_precision={kind: precision}))
    with engine.load(load_bundle(folder), "encoder") as session:
        assert session.info.precision == precision


def test_default_precision_is_the_best_there_is_where_the_default_is_missing(engine: Engine, tmp_path: Path) -> None:
    folder = bundles.encoder_bundle(tmp_path)
    kind = engine.device.partition(":")[0]
    bundles.edit_manifest(folder, lambda m: m.update(default_precision={kind: "int8"}))
    bundles.edit_manifest(
        folder, lambda m: m["components"]["encoder"].update(files=dict(reversed(bundles.ENCODER_FILES.items())))
    )
    with engine.load(load_bundle(folder), "encoder") as session:
        assert session.info.precision == "fp32"


def test_missing_precision(engine: Engine, tmp_path: Path) -> None:
    bundle = load_bundle(bundles.encoder_bundle(tmp_path))
    with pytest.raises(PrecisionUnavailableError, match=r"'encoder'.*no int8 graph \(it has fp32, fp16\)") as caught:
        engine.load(bundle, "encoder", precision="int8")
    assert "--precision int8" in caught.value.hint


def test_unknown_precision(engine: Engine, tmp_path: Path) -> None:
    bundle = load_bundle(bundles.encoder_bundle(tmp_path))
    with pytest.raises(InputError, match="unknown precision 'bf16'"):
        engine.load(bundle, "encoder", precision="bf16")


@pytest.mark.parametrize("threads", [0, -1])
def test_too_few_threads(engine: Engine, threads: int, tmp_path: Path) -> None:
    bundle = load_bundle(bundles.encoder_bundle(tmp_path))
    with pytest.raises(InputError, match="threads"):
        engine.load(bundle, "encoder", threads=threads)


def _rename(side: str, old: str, new: str) -> Any:
    def change(part: dict[str, Any]) -> None:
        part[side][new] = part[side].pop(old)

    return change


def _respecify(side: str, name: str, **fields: Any) -> Any:
    return lambda part: part[side][name].update(fields)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        pytest.param(_rename("inputs", "pixels", "image"), "pixels", id="input-name"),
        pytest.param(_rename("outputs", "cls", "embedding"), "embedding", id="output-name"),
        pytest.param(lambda part: part["outputs"].pop("patches"), "patches", id="output-missing"),
        pytest.param(_respecify("inputs", "pixels", dtype="float16"), "'pixels' is float32", id="input-dtype"),
        pytest.param(_respecify("outputs", "cls", dtype="int64"), "'cls' is float32", id="output-dtype"),
        pytest.param(_respecify("inputs", "pixels", shape=["batch", 3, 16, 8]), "'pixels'.*16", id="input-size"),
        pytest.param(_respecify("outputs", "cls", shape=["batch", 5]), "'cls'.*5", id="output-size"),
        pytest.param(_respecify("inputs", "pixels", shape=["batch", 3, 8]), "'pixels'", id="input-rank"),
        pytest.param(_respecify("inputs", "pixels", shape=["batch", 3, "h", 8]), "'pixels'.*'h'", id="fixed-in-graph"),
    ],
)
def test_graph_that_contradicts_the_manifest(engine: Engine, change: Any, named: str, tmp_path: Path) -> None:
    folder = bundles.encoder_bundle(tmp_path)
    bundles.edit_manifest(folder, lambda manifest: change(manifest["components"]["encoder"]))
    with pytest.raises(GraphError, match=f"encoder/fp32.onnx.*{named}") as caught:
        engine.load(load_bundle(folder), "encoder")
    assert caught.value.hint


def test_manifest_may_fix_a_size_that_the_graph_leaves_open(engine: Engine, tmp_path: Path) -> None:
    folder = bundles.encoder_bundle(tmp_path)

    def fix(manifest: dict[str, Any]) -> None:
        part = manifest["components"]["encoder"]
        for tensor in (*part["inputs"].values(), *part["outputs"].values()):
            tensor["shape"][0] = 1

    bundles.edit_manifest(folder, fix)
    with engine.load(load_bundle(folder), "encoder") as session:
        assert_close(session.run({"pixels": pixels(1)}), bundles.encoder_reference(pixels(1)))
        with pytest.raises(InputError, match="'pixels'"):
            session.run({"pixels": pixels(2)})


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(bundles.encoder_graph()[:100], id="truncated-early"),
        pytest.param(bundles.encoder_graph()[:-40], id="truncated-late"),
        pytest.param(np.random.default_rng(0).bytes(4000), id="garbage"),
        pytest.param(b"<html>404</html>", id="html"),
    ],
)
def test_graph_that_no_engine_can_read(engine: Engine, content: bytes, tmp_path: Path) -> None:
    folder = bundles.encoder_bundle(tmp_path)
    bundles.replace_file(folder, "encoder/fp32.onnx", content)
    with pytest.raises(GraphError, match=r"encoder/fp32\.onnx") as caught:
        engine.load(load_bundle(folder), "encoder")
    assert caught.value.__cause__ is not None or caught.value.hint


# --- run ---


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_run_equals_the_reference_at_any_batch_size(encoder: Session, batch: int) -> None:
    assert_close(encoder.run({"pixels": pixels(batch)}), bundles.encoder_reference(pixels(batch)))


def test_half_precision_runs_too(engine: Engine, tmp_path: Path) -> None:
    bundle = load_bundle(bundles.encoder_bundle(tmp_path))
    with engine.load(bundle, "encoder", precision="fp16") as session:
        found = session.run({"pixels": pixels()})
    assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}
    assert_close(found, bundles.encoder_reference(pixels()), 2e-2)


@pytest.mark.parametrize("names", [("cls",), ("patches", "cls"), ["patches"]])
def test_only_the_outputs_asked_for(encoder: Session, names: tuple[str, ...]) -> None:
    found = encoder.run({"pixels": pixels()}, outputs=names)
    assert list(found) == list(names)
    assert_close(found, {name: bundles.encoder_reference(pixels())[name] for name in names})


def test_every_dtype(engine: Engine, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    given = {f"in_{name}": random.integers(0, 100, (5, 2)).astype(name) for name in bundles.DTYPES}
    given["in_scalar"] = np.array(2.5, np.float32)
    with engine.load(load_bundle(bundles.typed_bundle(tmp_path)), "typed") as session:
        found = session.run(given)
        kept = session.run(given, to="device")
        for name in bundles.DTYPES:
            assert found[f"out_{name}"].dtype == np.dtype(name)
            np.testing.assert_array_equal(found[f"out_{name}"], given[f"in_{name}"].T)
            assert kept[f"out_{name}"].dtype == np.dtype(name)
            assert kept[f"out_{name}"].shape == (2, 5)
            np.testing.assert_array_equal(kept[f"out_{name}"].numpy(), given[f"in_{name}"].T)
        assert found["out_scalar"].shape == ()
        assert found["out_scalar"] == -2.5


def test_host_arrays_belong_to_the_caller(encoder: Session) -> None:
    first = encoder.run({"pixels": pixels(seed=1)})
    expected = {name: array.copy() for name, array in first.items()}
    for seed in range(2, 6):
        encoder.run({"pixels": pixels(seed=seed)})
    assert_close(first, expected, 0)
    for array in first.values():
        assert array.flags.writeable
        array[:] = 0
    assert_close(encoder.run({"pixels": pixels(seed=1)}), expected, 0)
    encoder.close()
    assert all((array == 0).all() for array in first.values())


def test_inputs_are_only_read(encoder: Session) -> None:
    array = pixels()
    array.flags.writeable = False
    before = array.copy()
    encoder.run({"pixels": array})
    np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize(
    "view",
    [
        pytest.param(lambda x: x[:, ::-1], id="reversed"),
        pytest.param(lambda x: x[::2], id="every-second"),
        pytest.param(lambda x: x.transpose(0, 1, 3, 2), id="transposed"),
        pytest.param(lambda x: np.asfortranarray(x), id="fortran"),
        pytest.param(lambda x: np.broadcast_to(x[:1, :1, :1], x.shape), id="broadcast"),
        pytest.param(lambda x: np.frombuffer(b"\0" + x.tobytes(), x.dtype, x.size, 1).reshape(x.shape), id="unaligned"),
    ],
)
def test_any_memory_layout(encoder: Session, view: Any) -> None:
    given = view(pixels(4))
    assert_close(encoder.run({"pixels": given}), bundles.encoder_reference(given.copy()))


class Foreign:
    """A tensor of some other library: nothing but DLPack."""

    def __init__(self, array: Array, device: tuple[int, int] = (1, 0)) -> None:
        self._array = array
        self._device = device

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._device


def test_inputs_through_dlpack(encoder: Session) -> None:
    assert_close(encoder.run({"pixels": Foreign(pixels())}), bundles.encoder_reference(pixels()))


def test_inputs_from_torch(encoder: Session) -> None:
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    tensor = torch.from_numpy(pixels())
    assert_close(encoder.run({"pixels": tensor}), bundles.encoder_reference(pixels()))
    turned = tensor.permute(0, 1, 3, 2)
    assert_close(encoder.run({"pixels": turned}), bundles.encoder_reference(turned.numpy()))
    with pytest.raises(InputError, match=r"'pixels'.*DLPack"):
        encoder.run({"pixels": tensor.clone().requires_grad_()})
    with pytest.raises(InputError, match="'pixels'"):
        encoder.run({"pixels": tensor.to(torch.bfloat16)})
    with pytest.raises(InputError, match="'pixels'"):
        encoder.run({"pixels": tensor.to("meta")})


def test_input_on_another_device_is_not_moved_silently(encoder: Session) -> None:
    with pytest.raises(InputError, match="'pixels' lives on cuda:5") as caught:
        encoder.run({"pixels": Foreign(pixels(), (2, 5))})
    assert "host" in caught.value.hint


# --- run(to="device") ---


def test_device_outputs_equal_host_outputs(encoder: Session) -> None:
    expected = encoder.run({"pixels": pixels()})
    kept = encoder.run({"pixels": pixels()}, to="device")
    assert list(kept) == ["cls", "patches"]
    for name, tensor in kept.items():
        assert isinstance(tensor, DeviceTensor)
        assert tensor.shape == expected[name].shape
        assert tensor.dtype == expected[name].dtype
        np.testing.assert_array_equal(on_host(tensor), expected[name])
        np.testing.assert_array_equal(tensor.numpy(), expected[name])


def test_device_outputs_are_where_the_session_is(encoder: Session, engine: Engine) -> None:
    kept = encoder.run({"pixels": pixels()}, outputs=["cls"], to="device")["cls"]
    kind, _, index = engine.device.partition(":")
    assert tuple(map(int, kept.__dlpack_device__())) == ({"cpu": 1, "cuda": 2}[kind], int(index or 0))


def test_device_outputs_live_in_buffers_that_are_reused(encoder: Session) -> None:
    first = encoder.run({"pixels": pixels(seed=1)}, to="device")
    addresses = {name: address(tensor) for name, tensor in first.items()}
    copied = {name: tensor.numpy() for name, tensor in first.items()}
    second = encoder.run({"pixels": pixels(seed=2)}, to="device")
    assert {name: address(tensor) for name, tensor in second.items()} == addresses
    assert_close({name: tensor.numpy() for name, tensor in first.items()}, encoder.run({"pixels": pixels(seed=2)}), 0)
    assert_close(copied, encoder.run({"pixels": pixels(seed=1)}), 0)
    for batch in (1, 3, 1, 3, 2):
        encoder.run({"pixels": pixels(batch)}, to="device")
    third = encoder.run({"pixels": pixels()}, to="device")
    assert {name: address(tensor) for name, tensor in third.items()} == addresses


def test_device_outputs_stay_through_runs_to_the_host(encoder: Session) -> None:
    kept = encoder.run({"pixels": pixels(seed=1)}, to="device")
    expected = encoder.run({"pixels": pixels(seed=1)})
    encoder.run({"pixels": pixels(seed=2)})
    assert_close({name: tensor.numpy() for name, tensor in kept.items()}, expected, 0)


def test_other_sessions_on_the_device_take_device_outputs(engine: Engine, encoder: Session, bridge: Session) -> None:
    kept = encoder.run({"pixels": pixels(6)}, outputs=["cls"], to="device")["cls"]
    host = encoder.run({"pixels": pixels(6)}, outputs=["cls"])["cls"]
    ours, theirs = bridge.new_state(), bridge.new_state()
    assert_close(bridge.step({"segment": kept}, ours), bridge.step({"segment": host}, theirs), 0)
    assert_close(ours.snapshot(), theirs.snapshot(), 0)


def test_an_uploaded_array_is_an_input_for_every_session_on_the_device(engine: Engine, encoder: Session) -> None:
    given = pixels()
    kept = encoder.upload(given)
    assert kept.shape == given.shape
    assert kept.dtype == given.dtype
    expected = encoder.run({"pixels": given})
    with engine.load(encoder.component.bundle, "encoder") as other:
        for session in (encoder, other, encoder):
            assert_close(session.run({"pixels": kept}), expected, 0)
        device = encoder.run({"pixels": kept}, to="device")
        assert_close({name: tensor.numpy() for name, tensor in device.items()}, expected, 0)


def test_a_chain_of_sessions_may_stay_on_the_device(engine: Engine, encoder: Session, tmp_path: Path) -> None:
    shape: bundles.Tensors = {"x": ("float32", ["n", 4])}
    result: bundles.Tensors = {"y": ("float32", ["n", 4])}
    content = bundles.graph([bundles.node("Neg", ["x"], ["y"])], shape, result)
    part = bundles.component("negate", {"fp32": "n.onnx"}, shape, result)
    bundle = load_bundle(bundles.write_bundle(tmp_path / "negate", {"negate": part}, {"n.onnx": content}))
    with engine.load(bundle, "negate") as negate:
        kept = encoder.run({"pixels": pixels(3)}, outputs=["cls"], to="device")["cls"]
        once = negate.run({"x": kept}, to="device")["y"]
        np.testing.assert_array_equal(on_host(once), -encoder.run({"pixels": pixels(3)})["cls"])
        with pytest.raises(InputError, match="'x' is an output of this session"):
            negate.run({"x": once}, to="device")
        np.testing.assert_array_equal(negate.run({"x": once})["y"], encoder.run({"pixels": pixels(3)})["cls"])


def test_device_outputs_of_the_wrong_shape_or_dtype_are_refused(encoder: Session, bridge: Session) -> None:
    kept = encoder.run({"pixels": pixels()}, to="device")
    state = bridge.new_state()
    with pytest.raises(InputError, match=r"'segment' has shape \[2, 16, 4\]"):
        bridge.step({"segment": kept["patches"]}, state)


def test_unknown_destination(encoder: Session) -> None:
    with pytest.raises(InputError, match="'gpu'"):
        encoder.run({"pixels": pixels()}, to="gpu")  # type: ignore[call-overload]


# --- Wrong inputs ---


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param({}, "needs the input 'pixels'", id="missing"),
        pytest.param({"pixels": pixels(), "mask": pixels()}, "has no input 'mask'", id="unknown"),
        pytest.param({"image": pixels()}, "needs the input 'pixels'", id="misnamed"),
        pytest.param({"pixels": pixels().astype(np.float64)}, "'pixels' has dtype float64, expected", id="float64"),
        pytest.param({"pixels": pixels().astype(np.uint8)}, "'pixels' has dtype uint8, expected", id="uint8"),
        pytest.param({"pixels": pixels().astype(">f4")}, "'pixels' has dtype >f4, expected float32", id="byte-order"),
        pytest.param({"pixels": pixels().astype(object)}, "'pixels' has dtype object", id="objects"),
        pytest.param({"pixels": pixels()[:, :1]}, r"'pixels' has shape \[2, 1, 8, 8\], expected", id="size"),
        pytest.param({"pixels": pixels()[0]}, r"'pixels' has shape \[3, 8, 8\], expected", id="rank"),
        pytest.param({"pixels": pixels(0)}, r"'pixels' has shape \[0, 3, 8, 8\], expected", id="empty"),
        pytest.param({"pixels": pixels().tolist()}, "'pixels' is a list", id="list"),
        pytest.param({"pixels": None}, "'pixels' is a NoneType", id="none"),
        pytest.param({"pixels": Foreign(pixels().astype(np.float64))}, "'pixels' has dtype float64", id="dlpack"),
    ],
)
def test_wrong_inputs(encoder: Session, given: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        encoder.run(given)
    assert "component 'encoder'" in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_a_dynamic_axis_has_one_size(engine: Engine, tmp_path: Path) -> None:
    given = {f"in_{name}": np.zeros((5, 2), name) for name in bundles.DTYPES}
    given["in_scalar"] = np.array(0, np.float32)
    given["in_int32"] = given["in_int32"][:4]
    with (
        engine.load(load_bundle(bundles.typed_bundle(tmp_path)), "typed") as session,
        pytest.raises(InputError, match=r"'in_int32' has shape \[4, 2\], expected \['n', 2\] with n=5"),
    ):
        session.run(given)


@pytest.mark.parametrize(("outputs", "message"), [(["clss"], "no output 'clss'"), ([], "at least one"), ("cls", "cls")])
def test_wrong_outputs(encoder: Session, outputs: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        encoder.run({"pixels": pixels()}, outputs=outputs)


# --- step ---


def unrolled(segments: list[Array]) -> tuple[list[Array], Array, Array]:
    """Tokens of every step, and the last memory and count, from the loop in NumPy."""
    memory, count = bundles.INITIAL_MEMORY, np.zeros(1, np.int64)
    tokens = []
    for one in segments:
        step, memory, count = bundles.memory_reference(one, memory, count)
        tokens.append(step)
    return tokens, memory, count


def test_steps_equal_the_unrolled_loop(bridge: Session) -> None:
    segments = [segment(rows=1 + seed % 5, seed=seed) for seed in range(60)]
    state = bridge.new_state()
    np.testing.assert_array_equal(state.snapshot()["memory_in"], bundles.INITIAL_MEMORY)
    np.testing.assert_array_equal(state.snapshot()["count_in"], [0])
    tokens, memory, count = unrolled(segments)
    for one, expected in zip(segments, tokens, strict=True):
        found = bridge.step({"segment": one}, state)
        assert_close(found, {"tokens": expected})
    assert_close(state.snapshot(), {"memory_in": memory, "count_in": count})


def test_a_step_returns_state_outputs_when_asked(bridge: Session) -> None:
    state = bridge.new_state()
    found = bridge.step({"segment": segment()}, state, outputs=["memory_out", "tokens", "count_out"])
    assert list(found) == ["memory_out", "tokens", "count_out"]
    tokens, memory, count = unrolled([segment()])
    assert_close(found, {"memory_out": memory, "tokens": tokens[0], "count_out": count})
    kept = {name: array.copy() for name, array in found.items()}
    for seed in range(4):
        bridge.step({"segment": segment(seed=seed)}, state)
    assert_close(found, kept, 0)


def test_a_step_may_return_nothing(bridge: Session) -> None:
    state = bridge.new_state()
    assert bridge.step({"segment": segment()}, state, outputs=()) == {}
    assert state.snapshot()["count_in"] == [1]


def test_a_recurrent_component_runs_without_a_state_too(bridge: Session) -> None:
    given = {"segment": segment(), "memory_in": bundles.INITIAL_MEMORY, "count_in": np.array([41])}
    tokens, memory, _ = unrolled([segment()])
    expected = {"tokens": tokens[0], "memory_out": memory, "count_out": np.array([42])}
    assert_close(bridge.run(given), expected)


def test_state_alternates_between_two_buffers(bridge: Session) -> None:
    state = bridge.new_state()
    visited: dict[str, list[int]] = {"memory_in": [], "count_in": []}
    for seed in range(20):
        for name, tensor in state.tensors.items():
            visited[name].append(address(tensor))
        bridge.step({"segment": segment(seed=seed)}, state)
        if seed == 11:
            state.reset()
        if seed == 14:
            state.restore(state.snapshot())
    for addresses in visited.values():
        assert len(set(addresses)) == 2
        assert all(a != b for a, b in pairwise(addresses))
    assert not set(visited["memory_in"]) & set(visited["count_in"])


def test_state_tensors_feed_other_sessions(bridge: Session, engine: Engine, tmp_path: Path) -> None:
    state = bridge.new_state()
    bridge.step({"segment": segment()}, state)
    given: dict[str, Tensor] = {"segment": segment(), **state.tensors}
    found = bridge.run(given, outputs=["count_out"])
    assert found["count_out"] == [2]
    assert state.snapshot()["count_in"] == [1]


def test_nothing_grows_over_many_steps(bridge: Session) -> None:
    state = bridge.new_state()
    one = segment()
    process = psutil.Process()

    def steps(count: int) -> None:
        for _ in range(count):
            bridge.step({"segment": one}, state)

    steps(1000)
    resident = process.memory_info().rss
    steps(20_000)
    assert process.memory_info().rss - resident < 2**20
    tracemalloc.start()
    try:
        steps(100)
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        steps(1000)
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert now - held < 1000
    assert peak - held < 100_000
    assert state.snapshot()["count_in"] == [22_100]


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({}, id="missing"),
        pytest.param({"segment": np.zeros((5, 3), np.float32)}, id="shape"),
        pytest.param({"segment": np.zeros((5, 4))}, id="dtype"),
        pytest.param({"segment": segment(), "memory_in": bundles.INITIAL_MEMORY}, id="state-as-input"),
    ],
)
def test_a_step_that_raises_leaves_the_state(bridge: Session, given: Any) -> None:
    state = bridge.new_state()
    bridge.step({"segment": segment()}, state)
    before = state.snapshot()
    with pytest.raises(InputError):
        bridge.step(given, state)
    with pytest.raises(InputError, match="no output 'nope'"):
        bridge.step({"segment": segment()}, state, outputs=["nope"])
    assert_close(state.snapshot(), before, 0)
    bridge.step({"segment": segment(seed=2)}, state)
    _, memory, _ = unrolled([segment(), segment(seed=2)])
    np.testing.assert_allclose(state.snapshot()["memory_in"], memory, rtol=1e-5)


def test_snapshot_and_restore_are_exact(bridge: Session) -> None:
    state = bridge.new_state()
    for seed in range(7):
        bridge.step({"segment": segment(seed=seed)}, state)
    snapshot = state.snapshot()
    kept = {name: array.copy() for name, array in snapshot.items()}
    first = [bridge.step({"segment": segment(seed=seed)}, state)["tokens"] for seed in range(7, 12)]
    after = state.snapshot()
    assert_close(snapshot, kept, 0)
    for other in (state, bridge.new_state()):
        other.restore(snapshot)
        again = [bridge.step({"segment": segment(seed=seed)}, other)["tokens"] for seed in range(7, 12)]
        assert [array.tobytes() for array in again] == [array.tobytes() for array in first]
        assert {name: array.tobytes() for name, array in other.snapshot().items()} == {
            name: array.tobytes() for name, array in after.items()
        }


def test_restore_refuses_what_is_not_a_snapshot_of_it(bridge: Session) -> None:
    state = bridge.new_state()
    good = state.snapshot()
    for bad in (
        {},
        {"memory_in": good["memory_in"]},
        {**good, "more": good["count_in"]},
        {**good, "memory_in": good["memory_in"][:2]},
        {**good, "count_in": good["count_in"].astype(np.int32)},
    ):
        with pytest.raises(InputError):
            state.restore(bad)
    assert_close(state.snapshot(), good, 0)


def test_reset(bridge: Session) -> None:
    state = bridge.new_state()
    first = bridge.step({"segment": segment()}, state)
    bridge.step({"segment": segment(seed=9)}, state)
    state.reset()
    np.testing.assert_array_equal(state.snapshot()["memory_in"], bundles.INITIAL_MEMORY)
    assert_close(bridge.step({"segment": segment()}, state), first, 0)


def test_states_are_independent(bridge: Session) -> None:
    states = [bridge.new_state() for _ in range(3)]
    for turn in range(10):
        for stream, state in enumerate(states):
            bridge.step({"segment": segment(seed=100 * stream + turn)}, state)
    for stream, state in enumerate(states):
        _, memory, count = unrolled([segment(seed=100 * stream + turn) for turn in range(10)])
        assert_close(state.snapshot(), {"memory_in": memory, "count_in": count})


def test_a_state_belongs_to_its_session(bridge: Session, engine: Engine) -> None:
    with engine.load(bridge.component.bundle, "bridge") as other:
        state = other.new_state()
        before = state.snapshot()
        with pytest.raises(InputError, match="another session"):
            bridge.step({"segment": segment()}, state)
        assert_close(state.snapshot(), before, 0)
    with pytest.raises(InputError, match="another session"):
        bridge.step({"segment": segment()}, {"memory_in": bundles.INITIAL_MEMORY})  # type: ignore[arg-type]


def test_a_stateless_component_has_no_state(encoder: Session, bridge: Session) -> None:
    with pytest.raises(InputError, match="not recurrent"):
        encoder.new_state()
    with pytest.raises(InputError, match="another session"):
        encoder.step({"pixels": pixels()}, bridge.new_state())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(bundles.npy(np.zeros((3, 5), np.float32)), r"memory\.npy is float32 \[3, 5\]", id="shape"),
        pytest.param(bundles.npy(np.zeros((3, 4))), r"memory\.npy is float64 \[3, 4\]", id="dtype"),
        pytest.param(b"", r"cannot read the initial state .*memory\.npy", id="empty"),
        pytest.param(b"PK\x03\x04" + bytes(100), r"cannot read the initial state .*memory\.npy", id="archive"),
        pytest.param(bundles.npy(bundles.INITIAL_MEMORY)[:-1], r"cannot read the initial state", id="truncated"),
        pytest.param(bundles.npy(np.array([{}], object)), r"cannot read the initial state", id="pickle"),
    ],
)
def test_wrong_initial_state(engine: Engine, content: bytes, message: str, tmp_path: Path) -> None:
    folder = bundles.memory_bundle(tmp_path)
    bundles.replace_file(folder, "bridge/memory.npy", content)
    with pytest.raises(GraphError, match=message):
        engine.load(load_bundle(folder), "bridge")


def test_state_with_a_dynamic_axis(engine: Engine, tmp_path: Path) -> None:
    folder = bundles.memory_bundle(tmp_path)

    def loosen(manifest: dict[str, Any]) -> None:
        part = manifest["components"]["bridge"]
        part["inputs"]["memory_in"]["shape"] = part["outputs"]["memory_out"]["shape"] = ["n", 4]

    bundles.edit_manifest(folder, loosen)
    with pytest.raises(GraphError, match="'memory_in' has a dynamic axis"):
        engine.load(load_bundle(folder), "bridge")


# --- Threads and the end ---


def test_threads_share_a_session(encoder: Session, bridge: Session) -> None:
    barrier = threading.Barrier(4)

    def stream(number: int) -> None:
        state = bridge.new_state()
        barrier.wait()
        segments = []
        for turn in range(50):
            given = pixels(1 + number, seed=50 * number + turn)
            found = encoder.run({"pixels": given})
            assert_close(found, bundles.encoder_reference(given))
            segments.append(found["cls"])
            bridge.step({"segment": found["cls"]}, state)
        _, memory, count = unrolled(segments)
        assert_close(state.snapshot(), {"memory_in": memory, "count_in": count})

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(stream, number) for number in range(4)]:
            done.result()


def test_close(engine: Engine, tmp_path: Path) -> None:
    session = engine.load(load_bundle(bundles.memory_bundle(tmp_path)), "bridge")
    state: State = session.new_state()
    kept = session.run({"segment": segment(), **state.snapshot()}, to="device")["tokens"]
    expected = kept.numpy()
    session.step({"segment": segment()}, state)
    snapshot = state.snapshot()
    session.close()
    session.close()
    with pytest.raises(ClosedError, match="'bridge'"):
        session.run({"segment": segment(), **snapshot})
    with pytest.raises(ClosedError, match="'bridge'"):
        session.step({"segment": segment()}, state)
    with pytest.raises(ClosedError, match="'bridge'"):
        session.new_state()
    assert_close(state.snapshot(), snapshot, 0)
    np.testing.assert_array_equal(kept.numpy(), expected)


def test_close_while_others_run(engine: Engine, tmp_path: Path) -> None:
    session = engine.load(load_bundle(bundles.encoder_bundle(tmp_path)), "encoder")
    started = threading.Event()

    def run_until_closed() -> int:
        runs = 0
        while True:
            try:
                session.run({"pixels": pixels()})
            except ClosedError:
                return runs
            runs += 1
            started.set()

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(run_until_closed) for _ in range(2)]
        assert started.wait(30)
        session.close()
        assert sum(done.result(30) for done in running) > 0


_COUNT_THREADS = """
import os, sys, numpy
import vsdk_runtimes
component = vsdk_runtimes.load_bundle(sys.argv[1]).component("encoder")
vsdk_runtimes.load(component, threads=1, engine=sys.argv[2], device=sys.argv[3]).close()
before = len(os.listdir("/proc/self/task"))
session = vsdk_runtimes.load(component, threads=int(sys.argv[4]), engine=sys.argv[2], device=sys.argv[3])
session.run({"pixels": numpy.ones((64, 3, 8, 8), numpy.float32)})
print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads in /proc")
@pytest.mark.parametrize("threads", [1, 4])
def test_threads_are_capped(engine: Engine, threads: int, tmp_path: Path) -> None:
    """The calling thread is one of them. Four are more than a small machine's cores and fewer than a large one's."""
    folder = bundles.encoder_bundle(tmp_path)
    command = [sys.executable, "-c", _COUNT_THREADS, str(folder), engine.engine, engine.device, str(threads)]
    more = int(_output(command))
    assert more <= threads - 1
    if engine.device == "cpu":
        assert more == threads - 1


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
