"""No exception of ONNX Runtime gets through bare, whatever its class."""

from __future__ import annotations

import builtins
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bundles
import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime.capi import onnxruntime_inference_collection, onnxruntime_pybind11_state

from vsdk_runtimes import load, load_bundle, onnxruntime_cuda, onnxruntime_engine
from vsdk_runtimes.errors import BundleDamagedError, EngineRunError, EngineUnavailableError, Error, GraphError
from vsdk_runtimes.onnxruntime_engine import import_onnxruntime, mapped_errors


def exception_classes() -> list[type[Exception]]:
    """All that ONNX Runtime defines, and the built-in ones that its bindings raise."""
    found = {
        value
        for module in (onnxruntime_pybind11_state, onnxruntime_inference_collection)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    return [*sorted(found, key=lambda kind: kind.__name__), RuntimeError, ValueError, TypeError, MemoryError]


def test_there_are_exceptions_to_map() -> None:
    names = {kind.__name__ for kind in exception_classes()}
    assert {"Fail", "InvalidArgument", "InvalidProtobuf", "InvalidGraph", "NoSuchFile", "NotImplemented"} <= names


@pytest.mark.parametrize("raised", exception_classes(), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("kind", [GraphError, EngineRunError])
def test_every_exception_class_is_mapped(raised: type[Exception], kind: type[Error]) -> None:
    original = raised("[ONNXRuntimeError] : 1 : FAIL : no such kernel\nsecond line")
    with pytest.raises(kind) as caught, mapped_errors("cannot do it", kind):
        raise original
    assert caught.value.message == "cannot do it: [ONNXRuntimeError] : 1 : FAIL : no such kernel"
    assert caught.value.__cause__ is original


def test_an_exception_without_words_is_named() -> None:
    with pytest.raises(EngineRunError, match="failed: MemoryError"), mapped_errors("failed", EngineRunError):
        raise MemoryError


def test_our_own_errors_and_interrupts_pass() -> None:
    with pytest.raises(EngineUnavailableError), mapped_errors("failed", EngineRunError):
        raise EngineUnavailableError("not there")
    with pytest.raises(KeyboardInterrupt), mapped_errors("failed", EngineRunError):
        raise KeyboardInterrupt


def test_onnxruntime_that_does_not_import(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **options: Any) -> Any:
        if name == "onnxruntime":
            raise ImportError("libonnxruntime.so.1: cannot open shared object file")
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(EngineUnavailableError, match="cannot open shared object file") as caught:
        import_onnxruntime()
    assert caught.value.hint == "Install it: pip install 'vsdk[cpu]'"
    with pytest.raises(EngineUnavailableError) as caught:
        import_onnxruntime("cuda")
    assert caught.value.hint == "Install it: pip install 'vsdk[gpu]'"


# --- A GPU that cannot be used ---

NO_DRIVER = (
    'provider_options_utils.h:187 Parse Failed to parse provider option "device_id": CUDA failure 35: CUDA driver '
    "version is insufficient for CUDA runtime version ; GPU=-1 ; hostname=box ; expr=cudaGetDeviceCount(&num_devices);"
)


def test_cuda_failures_are_recognised() -> None:
    """The message of ONNX Runtime 1.23 with CUDA 12 on a machine without a driver."""
    words = "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version"
    assert onnxruntime_cuda.cuda_failure(RuntimeError(NO_DRIVER)) == words
    assert onnxruntime_cuda.cuda_failure(RuntimeError("No graph was found in the protobuf.")) == ""


def test_a_provider_library_that_does_not_load_is_explained(tmp_path: Path) -> None:
    installed = SimpleNamespace(__file__=str(tmp_path / "__init__.py"))
    assert onnxruntime_cuda.missing_library(installed) == ""
    (tmp_path / "capi").mkdir()
    (tmp_path / "capi" / "libonnxruntime_providers_cuda.so").write_bytes(b"not a library")
    assert "libonnxruntime_providers_cuda.so" in onnxruntime_cuda.missing_library(installed)


def test_a_provider_library_that_loads_is_not_blamed(tmp_path: Path) -> None:
    """It finds `Provider_GetHost` in a library that ONNX Runtime loads before it, and names no such dependency."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler here")
    (tmp_path / "capi").mkdir()
    for name, code in (
        ("shared", "void *Provider_GetHost(void) { return 0; }"),
        ("cuda", "void *Provider_GetHost(void); void *GetProvider(void) { return Provider_GetHost(); }"),
    ):
        source = tmp_path / f"{name}.c"
        source.write_text(code)
        library = tmp_path / "capi" / f"libonnxruntime_providers_{name}.so"
        subprocess.run([compiler, "-shared", "-fPIC", "-Wl,-z,now", "-o", str(library), str(source)], check=True)
    code = (
        "import sys, types; from vsdk_runtimes import onnxruntime_cuda; "
        "print(onnxruntime_cuda.missing_library(types.SimpleNamespace(__file__=sys.argv[1])))"
    )  # in a process of its own: where ONNX Runtime was imported, it has loaded its own one already
    command = [sys.executable, "-c", code, str(tmp_path / "__init__.py")]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "\n"


def test_preloading_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    calls = []

    def preload_dlls() -> None:
        calls.append(1)
        print("Failed to load libcublasLt.so.12")

    onnxruntime_cuda.preload_libraries(SimpleNamespace(preload_dlls=preload_dlls))
    onnxruntime_cuda.preload_libraries(SimpleNamespace())  # before ONNX Runtime 1.21
    assert calls == [1]
    assert capsys.readouterr().out == ""


@pytest.fixture
def pretended_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """ONNX Runtime as it is, but it says that it has CUDA; `session` says what becomes of the request."""
    runtime = SimpleNamespace(**vars(onnxruntime))
    runtime.get_available_providers = lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    runtime.preload_dlls = lambda: None
    monkeypatch.setattr(onnxruntime_engine, "import_onnxruntime", lambda kind: runtime)
    component = load_bundle(one_node_bundle(tmp_path, unchecked(lambda model: None))).component("net")
    return SimpleNamespace(runtime=runtime, load=lambda device: load(component, device=device))


def test_an_onnxruntime_without_cuda_is_unavailable(pretended_gpu: Any) -> None:
    """As the package for the CPU is: whoever asks for CUDA needs the other one instead of it."""
    pretended_gpu.runtime.get_available_providers = lambda: ["CPUExecutionProvider"]
    with pytest.raises(
        EngineUnavailableError, match=r"no CUDAExecutionProvider \(it has CPUExecutionProvider\)"
    ) as caught:
        pretended_gpu.load("cuda")
    assert caught.value.hint.startswith("Replace it: pip uninstall onnxruntime, then pip install 'vsdk[gpu]'")


def test_a_library_that_is_missing_is_named(pretended_gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime 1.31 without CUDA's libraries prints this and takes the CPU; the linker's words are real."""
    words = "libcublasLt.so.13: cannot open shared object file: No such file or directory"
    monkeypatch.setattr(onnxruntime_cuda, "missing_library", lambda runtime: words)

    def fall_back(path: str, settings: Any, **options: Any) -> Any:
        return onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])

    pretended_gpu.runtime.InferenceSession = fall_back
    with pytest.raises(EngineUnavailableError, match=r"chose CPUExecutionProvider: libcublasLt\.so\.13") as caught:
        pretended_gpu.load("cuda")
    assert onnxruntime_cuda.INSTALL in caught.value.hint


def test_a_session_that_fell_back_to_the_cpu_is_refused(pretended_gpu: Any) -> None:
    def fall_back(path: str, settings: Any, **options: Any) -> Any:
        return onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])

    pretended_gpu.runtime.InferenceSession = fall_back
    with pytest.raises(EngineUnavailableError, match=r"CUDAExecutionProvider.*chose CPUExecutionProvider") as caught:
        pretended_gpu.load("cuda")
    assert "pip install" in caught.value.hint


def test_a_gpu_without_a_driver_is_unavailable(pretended_gpu: Any) -> None:
    def no_driver(path: str, settings: Any, **options: Any) -> Any:
        raise RuntimeError(NO_DRIVER)

    pretended_gpu.runtime.InferenceSession = no_driver
    with pytest.raises(EngineUnavailableError, match="cannot use cuda:3: CUDA failure 35") as caught:
        pretended_gpu.load("cuda:3")
    assert "nvidia-smi" in caught.value.hint
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_the_gpu_asked_for_is_the_gpu_requested_and_fp32_is_fp32(pretended_gpu: Any) -> None:
    requests = []

    def record(path: str, settings: Any, **options: Any) -> Any:
        requests.append(options)
        raise RuntimeError(NO_DRIVER)

    pretended_gpu.runtime.InferenceSession = record
    for device, index in (("cuda", "0"), ("cuda:0", "0"), ("cuda:11", "11")):
        with pytest.raises(EngineUnavailableError):
            pretended_gpu.load(device)
        assert requests.pop() == {
            "providers": [("CUDAExecutionProvider", {"device_id": index, "use_tf32": "0"})],
            "enable_fallback": False,
        }


# --- Real failures ---

X: bundles.Tensors = {"x": ("float32", ["n", 4])}
Y: bundles.Tensors = {"y": ("float32", ["n", 4])}


def one_node_bundle(folder: Path, content: bytes, inputs: bundles.Tensors = X, outputs: bundles.Tensors = Y) -> Path:
    part = bundles.component("net", {"fp32": "net.onnx"}, inputs, outputs)
    return bundles.write_bundle(folder, {"net": part}, {"net.onnx": content})


def unchecked(change: Any) -> bytes:
    """A graph that ONNX's own checker would not let pass."""
    model = onnx.load_from_string(bundles.graph([bundles.node("Relu", ["x"], ["y"])], X, Y))
    change(model)
    content: bytes = model.SerializeToString()
    return content


def _ir_version(model: Any) -> None:
    model.ir_version = 99


def _opset(model: Any) -> None:
    model.opset_import[0].version = 999


def _operator(model: Any) -> None:
    model.graph.node[0].op_type = "Nonesuch"


def _domain(model: Any) -> None:
    model.graph.node[0].domain = "org.example"


def _cut_wire(model: Any) -> None:
    model.graph.node[0].input[0] = "elsewhere"


def _no_graph(model: Any) -> None:
    model.ClearField("graph")


@pytest.mark.parametrize("change", [_ir_version, _opset, _operator, _domain, _cut_wire, _no_graph])
def test_graphs_that_onnxruntime_refuses(change: Any, tmp_path: Path) -> None:
    bundle = load_bundle(one_node_bundle(tmp_path, unchecked(change)))
    with pytest.raises(GraphError, match=r"net\.onnx") as caught:
        load(bundle.component("net"))
    assert type(caught.value.__cause__) in exception_classes()


def test_graph_that_vanished_after_the_bundle_was_loaded(tmp_path: Path) -> None:
    bundle = load_bundle(one_node_bundle(tmp_path, unchecked(lambda model: None)))
    (tmp_path / "net.onnx").unlink()
    with pytest.raises(BundleDamagedError, match=r"net\.onnx is missing") as caught:
        load(bundle.component("net"))
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_graph_that_computes_another_shape_than_the_manifest_promises(tmp_path: Path) -> None:
    """Compress gives as many rows as `mask` has true values; the manifest says one for each row of x."""
    inputs: bundles.Tensors = {"x": ("float32", ["n", 4]), "mask": ("bool", ["n"])}
    content = bundles.graph(
        [bundles.node("Compress", ["x", "mask"], ["y"], axis=0)], inputs, {"y": ("float32", ["m", 4])}
    )
    bundle = load_bundle(one_node_bundle(tmp_path, content, inputs))
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    with load(bundle.component("net"), threads=1) as session:
        np.testing.assert_array_equal(session.run({"x": x, "mask": np.ones(3, bool)})["y"], x)
        for to in ("host", "device"):
            with pytest.raises(EngineRunError, match=r"component 'net'.*failed") as caught:
                session.run({"x": x, "mask": np.array([True, False, True])}, to=to)
            assert type(caught.value.__cause__) in exception_classes()
        np.testing.assert_array_equal(session.run({"x": x, "mask": np.ones(3, bool)})["y"], x)


@pytest.fixture
def fallible(tmp_path: Path) -> Iterator[Any]:
    """A recurrent session: total_out = total_in + table[index]; an index past the table fails while it runs."""
    inputs: bundles.Tensors = {"index": ("int64", [1]), "total_in": ("float32", [1])}
    outputs: bundles.Tensors = {"total_out": ("float32", [1])}
    nodes = [
        bundles.node("Add", ["total_in", "one"], ["more"]),
        bundles.node("Gather", ["table", "index"], ["value"]),
        bundles.node("Add", ["more", "value"], ["total_out"]),
    ]
    weights = {"table": np.array([10, 20], np.float32), "one": np.ones(1, np.float32)}
    part = bundles.component(
        "adder", {"fp32": "a.onnx"}, inputs, outputs, state=[{"input": "total_in", "output": "total_out"}]
    )
    content = bundles.graph(nodes, inputs, outputs, weights)
    bundle = load_bundle(bundles.write_bundle(tmp_path, {"adder": part}, {"a.onnx": content}))
    with load(bundle.component("adder"), threads=1) as session:
        yield session


def test_a_step_that_fails_while_it_runs_leaves_the_state(fallible: Any) -> None:
    state = fallible.new_state()
    fallible.step({"index": np.array([0])}, state)
    for _ in range(2):
        with pytest.raises(EngineRunError, match=r"component 'adder'.*failed") as caught:
            fallible.step({"index": np.array([7])}, state)
        assert type(caught.value.__cause__) in exception_classes()
        assert state.snapshot()["total_in"] == [11]
    fallible.step({"index": np.array([1])}, state)
    assert state.snapshot()["total_in"] == [32]
