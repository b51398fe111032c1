"""Building, caching and running TensorRT engines, on stand-ins for the driver and the library."""

from __future__ import annotations

import gc
import json
import shutil
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import bundles
import numpy as np
import pytest
import stand_in_tensorrt
from stand_in_tensorrt import StandIn

from vsdk_runtimes import Bundle, Session, load, load_bundle
from vsdk_runtimes.errors import (
    BundleDamagedError,
    EngineError,
    EngineRunError,
    EngineUnavailableError,
    GraphError,
    InputError,
    PrecisionUnavailableError,
)
from vsdk_runtimes.tensorrt import cuda_driver
from vsdk_runtimes.tensorrt.cache import EngineCache, Sidecar
from vsdk_runtimes.tensorrt.cuda_driver import CudaDriver
from vsdk_runtimes.tensorrt.library import import_tensorrt
from vsdk_runtimes.tensorrt.lookup import Machine, find_engine
from vsdk_runtimes.tensorrt.profiles import AxisRange, component_ranges, parse_ranges
from vsdk_runtimes.tensorrt.targets import BuiltEngine, Settings, build_engines

PIXELS = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    return stand_in_tensorrt.install(monkeypatch)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return load_bundle(bundles.encoder_bundle(tmp_path / "bundle"))


def built(bundle: Bundle, **settings: Any) -> BuiltEngine:
    (engine,) = build_engines(bundle, "tensorrt", Settings(**{"precisions": ["fp32"], **settings}))
    return engine


def session(bundle: Bundle, role: str = "encoder", **options: Any) -> Session:
    return load(bundle.component(role), engine="tensorrt", device="cuda", **{"precision": "fp32", **options})


# --- What is kept ---


def test_a_plan_is_pure_and_described_beside_it(machine: StandIn, bundle: Bundle) -> None:
    engine = built(bundle)
    assert machine.trt.Runtime(None).deserialize_cuda_engine(engine.path.read_bytes()) is not None
    said = json.loads(engine.path.with_suffix(".json").read_text())
    assert said["key"] == {
        "engine": "tensorrt", "version": "10.3.0", "platform": engine.sidecar.key.platform, "gpu": "NVIDIA Stand-in",
        "targets": ["sm86"], "graph": bundle.manifest.files["encoder/fp32.onnx"].sha256, "precision": "fp32",
        "profile": {"batch": [1, 1, 8]},
    }  # fmt: skip
    assert (said["bytes"], said["driver"]) == (engine.path.stat().st_size, 13000)
    assert said["asked"] == {"fp32": 1}
    assert said["layers"] == {"fp32": 1}
    for path in (engine.path, engine.path.with_suffix(".json")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(engine.path.parent.stat().st_mode) == 0o700
    assert not list(engine.path.parent.glob(".*"))


def test_engines_are_built_once(machine: StandIn, bundle: Bundle) -> None:
    first = built(bundle)
    again = built(bundle)
    assert (first.fresh, again.fresh) == (True, False)
    assert again.path == first.path
    assert len(machine.trt.built) == 1


@pytest.mark.parametrize(
    "other", [{"precisions": ["fp16"]}, {"ranges": {"batch": AxisRange(1, 4, 4)}}], ids=["precision", "profile"]
)
def test_each_key_has_an_engine(machine: StandIn, bundle: Bundle, other: dict[str, Any]) -> None:
    assert built(bundle).path != built(bundle, **other).path
    assert len(machine.trt.built) == 2


def test_what_was_measured_is_used_for_the_next_engine(machine: StandIn, bundle: Bundle) -> None:
    folder = built(bundle).path.parent
    (timing,) = folder.glob("timing-*.cache")
    assert timing.name == "timing-tensorrt-10.3.0-sm86.cache"
    assert timing.read_bytes() == b"measured;"
    built(bundle, precisions=["fp16"])
    assert timing.read_bytes() == b"measured;measured;"


def test_profile_workspace_and_threads_are_what_was_asked_for(machine: StandIn, bundle: Bundle) -> None:
    built(bundle, ranges={"batch": AxisRange(2, 3, 5)}, workspace=123 * 2**20, threads=3)
    assert machine.trt.built == [
        {"workspace": 123 * 2**20, "threads": 3, "profile": {"pixels": [[n, 3, 8, 8] for n in (2, 3, 5)]}}
    ]


def test_a_folder_of_ones_own(machine: StandIn, bundle: Bundle, tmp_path: Path, monkeypatch: Any) -> None:
    assert built(bundle, folder=tmp_path / "mine").path.parent == tmp_path / "mine"
    with pytest.raises(EngineUnavailableError, match="there is no TensorRT engine"):
        session(bundle)
    monkeypatch.setenv("VSDK_ENGINES", str(tmp_path / "mine"))
    session(bundle).close()


def test_a_build_that_is_cut_short_leaves_no_engine(
    machine: StandIn, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(EngineError, match="No space left on device"):
        built(bundle)
    monkeypatch.undo()
    stand_in_tensorrt.install(monkeypatch)
    cache = EngineCache()
    assert not list(cache.folder.iterdir())


# --- Whose it is ---


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_folder_that_others_may_write_to_is_refused(
    machine: StandIn, bundle: Bundle, tmp_path: Path, mode: int
) -> None:
    (tmp_path / "engines").mkdir()
    (tmp_path / "engines").chmod(mode)
    with pytest.raises(EngineError, match="can be written by other users") as caught:
        built(bundle, folder=tmp_path / "engines")
    assert "chmod go-w" in caught.value.hint
    assert not machine.trt.built


def test_a_folder_of_somebody_else_is_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 4711)
    with pytest.raises(EngineError, match="belongs to another user"):
        EngineCache()


def test_a_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "theirs")
    with pytest.raises(EngineError, match="is a link"):
        EngineCache(tmp_path / "link")


def test_a_plan_that_others_may_write_is_not_loaded(machine: StandIn, bundle: Bundle) -> None:
    path = built(bundle).path
    path.chmod(0o622)
    with pytest.raises(EngineError, match="can be written by other users"):
        session(bundle)


@pytest.mark.parametrize("change", [lambda plan: plan[:-5], lambda plan: plan[:-1] + b"?"], ids=["cut", "flipped"])
def test_a_damaged_plan_is_not_loaded(machine: StandIn, bundle: Bundle, change: Any) -> None:
    path = built(bundle).path
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(EngineError, match="SHA-256 differs") as caught:
        session(bundle)
    assert f"rm '{path}'" in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"{", b"\xff"])
def test_a_plan_without_its_description_is_not_there(machine: StandIn, bundle: Bundle, content: bytes) -> None:
    built(bundle).path.with_suffix(".json").write_bytes(content)
    with pytest.raises(EngineUnavailableError, match="there is no TensorRT engine"):
        session(bundle)
    assert built(bundle).fresh
    session(bundle).close()


# --- Graphs ---


def test_a_graph_that_was_edited_after_it_was_verified_is_refused(machine: StandIn, bundle: Bundle) -> None:
    path = bundle.folder / "encoder" / "fp32.onnx"
    content = bytearray(path.read_bytes())
    content[content.index(bundles.ENCODER_WEIGHT.tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleDamagedError, match=r"fp32\.onnx is not the graph that the manifest lists"):
        built(bundle)
    assert not machine.trt.built


def test_every_unsupported_node_is_named_before_anything_is_built(machine: StandIn, tmp_path: Path) -> None:
    shape: bundles.Tensors = {"x": ("float32", [4])}
    result: bundles.Tensors = {"y": ("float32", ["n"])}
    nodes = [bundles.node("Unique", ["x"], ["y"], name="odd"), bundles.node("Unique", ["y"], ["z"], name="odder")]
    content = {
        "good.onnx": bundles.graph([bundles.node("Neg", ["x"], ["y"])], shape, {"y": ("float32", [4])}),
        "odd.onnx": bundles.graph(nodes, shape, result),
    }
    part = bundles.component("good", {"fp32": "good.onnx"}, shape, {"y": ("float32", [4])})
    odd = bundles.component("odd", {"fp32": "odd.onnx"}, shape, {"y": ("float32", [4])})
    bundle = bundles.loaded(tmp_path / "b", {"good": part, "odd": odd}, content)
    with pytest.raises(GraphError) as caught:
        build_engines(bundle, "tensorrt")
    assert "nothing was built" in caught.value.message
    for name in ("odd", "odder"):
        assert f"odd.onnx: Unique {name}: UNSUPPORTED_NODE: there is no layer for it" in caught.value.message
    assert not machine.trt.built
    assert not list(EngineCache().folder.iterdir())
    assert [engine.component for engine in build_engines(bundle, "tensorrt", Settings(components=["good"]))] == ["good"]


def test_a_dry_run_builds_nothing(machine: StandIn, bundle: Bundle) -> None:
    assert build_engines(bundle, "tensorrt", Settings(dry_run=True)) == []
    assert not machine.trt.built


def test_an_engine_in_fp32_of_a_graph_in_fp16_is_refused(machine: StandIn, bundle: Bundle) -> None:
    """The worst bug of the field: fp16 asked for, fp32 built, and everything works, at half the speed."""
    machine.trt.forgotten_precision = True
    with pytest.raises(GraphError, match=r"without a single fp16 layer.*its layers are .* fp32"):
        built(bundle, precisions=["fp16"])
    assert not list(EngineCache().folder.glob("*.plan"))


def test_layers_that_cannot_be_seen_are_remarked_on(machine: StandIn, bundle: Bundle) -> None:
    machine.trt.unseen_layers = True
    engine = built(bundle, precisions=["fp16"])
    assert engine.remarks == ("fp16 was asked for and cannot be seen in the engine's layers (2 unseen)",)


def test_an_engine_from_elsewhere_is_read_back_when_it_is_first_loaded(machine: StandIn, bundle: Bundle) -> None:
    path = built(bundle, precisions=["fp16"]).path
    note = path.with_suffix(".json")
    elsewhere = Sidecar.model_validate_json(note.read_text()).model_copy(update={"layers": None})
    note.write_text(elsewhere.model_dump_json())
    machine.trt.forgotten_precision = True
    with pytest.raises(GraphError, match="without a single fp16 layer"):
        session(bundle, precision="fp16")
    machine.trt.forgotten_precision = False
    session(bundle, precision="fp16").close()
    assert json.loads(note.read_text())["layers"] == {"fp16": 1, "fp32": 1}


def test_a_graph_that_is_called_fp16_and_computes_in_fp32_is_refused(machine: StandIn, tmp_path: Path) -> None:
    folder = bundles.encoder_bundle(tmp_path)
    bundles.replace_file(folder, "encoder/fp16.onnx", bundles.encoder_graph("float32"))
    with pytest.raises(PrecisionUnavailableError, match="is listed as fp16, but none of its 1"):
        built(load_bundle(folder), precisions=["fp16"])


# --- What can be asked for ---


def test_ranges_as_they_are_written() -> None:
    assert parse_ranges("batch=1:4:16, points=2") == {"batch": AxisRange(1, 4, 16), "points": AxisRange(2, 2, 2)}


@pytest.mark.parametrize("text", ["", "batch", "batch=", "batch=1:2", "batch=4:2:8", "batch=0", "b=1:2:3:4", "a=-1"])
def test_ranges_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="range"):
        parse_ranges(text)


def test_ranges_nobody_asked_for_follow_the_manifest() -> None:
    import vsdk

    nano = vsdk.load()
    slots = component_ranges(nano.component("tracker.attention"), {})
    assert slots == {"batch": AxisRange(1, 1, 4), "slots": AxisRange(1, 10, 10)}
    assert component_ranges(nano.component("encoder"), {}) == {"batch": AxisRange(1, 1, 8)}
    decoder = component_ranges(nano.component("tracker.decoder"), {"points": AxisRange(2, 2, 2)})
    assert decoder == {
        "batch": AxisRange(1, 1, 4), "embeddings": AxisRange(1, 1, 4), "points": AxisRange(2, 2, 2),
    }  # fmt: skip
    assert component_ranges(nano.component("bridge"), {}) == {}


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"components": ["encoder", "decoder"]}, InputError, "no component 'decoder'; it has encoder"),
        ({"ranges": {"bach": AxisRange(1, 1, 1)}}, InputError, "no component has the dynamic axis 'bach', only batch"),
        ({"precisions": ["bf16"]}, InputError, "unknown precision 'bf16'"),
        ({"precisions": ["int8"]}, PrecisionUnavailableError, "has no int8 graph"),
        ({"gpus": ["sm87"]}, InputError, "--gpu goes with --target tensorrt-rtx"),
        ({"workspace": 2**19}, EngineError, "no tactic fits into the workspace"),
    ],
)
def test_what_cannot_be_built(
    machine: StandIn, bundle: Bundle, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        built(bundle, **settings)


def test_progress_rises_to_the_end(machine: StandIn, bundle: Bundle) -> None:
    seen: list[tuple[str, str, float]] = []
    build_engines(bundle, "tensorrt", Settings(), lambda *report: seen.append(report))
    assert {graph for graph, _, _ in seen} == {"encoder fp32"}
    building = [done for _, says, done in seen if says in ("Building engine", "Timing tactics")]
    assert building == sorted(building)
    assert len(set(building)) > 5
    assert seen[-1] == ("encoder fp32", "built", 1.0)


def test_an_interrupt_ends_the_build(machine: StandIn, bundle: Bundle) -> None:
    def interrupt(graph: str, says: str, done: float) -> None:
        if done > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_engines(bundle, "tensorrt", Settings(), interrupt)
    assert not machine.trt.built


# --- What is not here ---


def test_no_engine_yet(machine: StandIn, bundle: Bundle) -> None:
    with pytest.raises(EngineUnavailableError, match=r"no TensorRT engine for component 'encoder' \(fp32\)") as caught:
        session(bundle)
    assert caught.value.hint == f"Build it here: vsdk export {bundle.folder} --target tensorrt --precision fp32"


def test_an_engine_of_another_version(machine: StandIn, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    built(bundle)
    stand_in_tensorrt.install(monkeypatch, "11.4.0.106")
    with pytest.raises(EngineUnavailableError, match=r"is of TensorRT 10\.3\.0, and this is 11\.4\.0\.106") as caught:
        session(bundle)
    assert "--target tensorrt" in caught.value.hint
    assert built(bundle).fresh
    session(bundle).close()


@pytest.mark.parametrize(
    ("here", "message"),
    [
        ({"gpu": "Orin", "capability": "sm87"}, r"is for sm86, and this GPU \(Orin\) is sm87"),
        ({"gpu": "NVIDIA RTX A4000"}, r"was built on another GPU \(NVIDIA Stand-in\), and this is NVIDIA RTX A4000"),
    ],
)
def test_an_engine_of_another_gpu(machine: StandIn, bundle: Bundle, here: dict[str, str], message: str) -> None:
    built(bundle)
    whole = {"engine": "tensorrt", "version": "10.3.0", "gpu": "NVIDIA Stand-in", "capability": "sm86", **here}
    with pytest.raises(EngineUnavailableError, match=message) as caught:
        find_engine(EngineCache(), Machine(**whole), bundle.component("encoder"), "fp32")  # type: ignore[arg-type]
    assert "vsdk export" in caught.value.hint


def test_an_engine_that_the_library_refuses(machine: StandIn, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    path = built(bundle).path
    monkeypatch.setattr(machine.trt, "Runtime", lambda logger: _Refusing(logger, machine.trt))
    with pytest.raises(EngineUnavailableError, match=r"refuses the engine .*: the plan is damaged") as caught:
        session(bundle)
    assert str(path) in caught.value.hint


class _Refusing:
    def __init__(self, logger: Any, trt: Any) -> None:
        self._logger, self._trt = logger, trt

    def deserialize_cuda_engine(self, content: bytes) -> None:
        self._logger.log(self._trt.ILogger.ERROR, "the plan is damaged")


def test_no_driver(machine: StandIn, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_driver, "LIBRARY", "libcuda-that-is-not-here.so.1")
    for use in (built, session):
        with pytest.raises(EngineUnavailableError, match=r"needs an NVIDIA GPU.*libcuda-that-is-not-here") as caught:
            use(bundle)
        assert "nvidia-smi" in caught.value.hint


def test_a_driver_that_crashes_takes_only_a_child_process_with_it(
    machine: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, library = tmp_path / "crash.c", tmp_path / "libcuda.so.1"
    source.write_text("#include <stdlib.h>\nint cuInit(unsigned flags) { abort(); }\n")
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    monkeypatch.setattr(cuda_driver, "LIBRARY", str(library))
    with pytest.raises(EngineUnavailableError, match=r"the driver crashed \(signal 6\)"):
        CudaDriver()


def test_no_such_gpu(machine: StandIn, bundle: Bundle) -> None:
    built(bundle)
    with pytest.raises(EngineUnavailableError, match="there is no GPU cuda:3; the driver sees 1"):
        load(bundle.component("encoder"), engine="tensorrt", device="cuda:3")


def test_not_on_a_processor(machine: StandIn, bundle: Bundle) -> None:
    with pytest.raises(EngineUnavailableError, match="runs on NVIDIA GPUs, not on the device 'cpu'") as caught:
        load(bundle.component("encoder"), engine="tensorrt", device="cpu")
    assert "--device cuda" in caught.value.hint


@pytest.mark.parametrize("version", ["8.6.1", "10.2.0", "12.0.0.1", ""])
def test_a_version_that_is_not_known(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_tensorrt.install(monkeypatch, version)
    with pytest.raises(EngineUnavailableError, match=r"is not one that vsdk runs on; those are 10\.3 to 11\.x"):
        import_tensorrt("tensorrt")


# --- How it runs ---


def test_a_size_that_the_engine_was_not_built_for(machine: StandIn, bundle: Bundle) -> None:
    built(bundle, ranges={"batch": AxisRange(2, 2, 4)})
    with session(bundle) as running:
        running.run({"pixels": PIXELS})
        for count, wider in ((1, "batch=1:2:4"), (5, "batch=2:2:5")):
            with pytest.raises(InputError, match=f"batch={count} is not in 2 to 4") as caught:
                running.run({"pixels": np.resize(PIXELS, (count, 3, 8, 8))})
            assert caught.value.hint.endswith(f"--target tensorrt --precision fp32 --shapes {wider}")


def test_a_frame_is_sent_once_and_only_what_is_asked_for_comes_back(machine: StandIn, bundle: Bundle) -> None:
    built(bundle)
    with session(bundle) as running:
        before = machine.driver.counts()
        running.run({"pixels": PIXELS}, outputs=["cls"])
        running.run({"pixels": PIXELS}, to="device")
        after = machine.driver.counts()
        assert after["uploads"] - before["uploads"] == 2
        assert after["downloads"] - before["downloads"] == 1
        uploaded = running.upload(PIXELS)
        start = machine.driver.counts()
        running.run({"pixels": uploaded}, outputs=["cls"])
        assert machine.driver.counts()["uploads"] == start["uploads"]


def test_a_state_stays_on_the_gpu(machine: StandIn, tmp_path: Path) -> None:
    bundle = load_bundle(bundles.memory_bundle(tmp_path))
    built(bundle)
    with session(bundle, "bridge") as running:
        state = running.new_state()
        segment = np.ones((5, 4), np.float32)
        running.step({"segment": segment}, state)
        before = machine.driver.counts()
        for _ in range(10):
            running.step({"segment": segment}, state, outputs=())
        after = machine.driver.counts()
        assert after["downloads"] == before["downloads"]
        assert after["uploads"] - before["uploads"] == 10  # the segment, and nothing else
        assert after["bytes"] == before["bytes"]
        assert state.snapshot()["count_in"] == [11]


def test_runs_are_recorded_as_cuda_graphs(machine: StandIn, bundle: Bundle) -> None:
    built(bundle)
    with session(bundle) as running:
        expected = bundles.encoder_reference(PIXELS)["cls"]
        for count in range(6):
            before = machine.driver.counts()["launches"]
            np.testing.assert_allclose(running.run({"pixels": PIXELS})["cls"], expected, rtol=1e-5, atol=1e-5)
            assert machine.driver.counts()["launches"] - before == (count > 0)
        assert machine.driver.counts()["graphs"] == 1
        running.run({"pixels": PIXELS[:1]})  # graphs hold for one set of shapes
        assert machine.driver.counts()["graphs"] == 0


def test_an_engine_that_cannot_be_recorded_runs_all_the_same(machine: StandIn, bundle: Bundle) -> None:
    machine.trt.refuses_capture = True
    built(bundle)
    expected = bundles.encoder_reference(PIXELS)["cls"]
    with session(bundle) as running:
        before = machine.driver.counts()["launches"]
        for _ in range(4):
            np.testing.assert_allclose(running.run({"pixels": PIXELS})["cls"], expected, rtol=1e-5, atol=1e-5)
        assert machine.driver.counts()["launches"] == before


def test_everything_is_given_back(machine: StandIn, tmp_path: Path) -> None:
    bundle = load_bundle(bundles.memory_bundle(tmp_path))
    built(bundle)
    names = ("blocks", "streams", "graphs", "contexts")
    gc.collect()  # what a test before this one left in a cycle would be given back in the middle of it
    before = [machine.driver.counts()[name] for name in names]
    running = session(bundle, "bridge")
    state = running.new_state()
    for _ in range(5):
        running.step({"segment": np.ones((5, 4), np.float32)}, state)
    running.close()
    del running, state
    assert [machine.driver.counts()[name] for name in names] == before


# --- What the bindings raise ---


@pytest.mark.parametrize(
    ("broken", "use", "kind", "says"),
    [
        ("Builder", built, GraphError, "cannot check .*fp32.onnx: factory function returned nullptr"),
        ("Runtime", session, EngineUnavailableError, "cannot load the engine .*: factory function returned nullptr"),
    ],
)
def test_what_the_bindings_raise_is_mapped(
    machine: StandIn, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, broken: str, use: Any, kind: Any, says: str
) -> None:
    built(bundle)

    def fail(logger: Any) -> None:
        logger.log(machine.trt.ILogger.ERROR, "CUDA initialization failure with error: 35")
        raise TypeError("factory function returned nullptr")

    monkeypatch.setattr(machine.trt, broken, fail)
    with pytest.raises(kind, match=f"{says}; CUDA initialization failure with error: 35") as caught:
        use(bundle)
    assert isinstance(caught.value.__cause__, TypeError)


def test_what_a_run_raises_is_mapped(machine: StandIn, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    built(bundle)

    def fail(context: Any, stream: int) -> bool:
        raise RuntimeError("it broke")

    with session(bundle) as running:
        monkeypatch.setattr(stand_in_tensorrt._Context, "execute_async_v3", fail)
        with pytest.raises(EngineRunError, match=r"component 'encoder' \(fp32.*failed: TensorRT: it broke"):
            running.run({"pixels": PIXELS})


def test_a_report_that_raises_is_not_mistaken_for_the_builder(machine: StandIn, bundle: Bundle) -> None:
    def report(graph: str, says: str, done: float) -> None:
        if done > 0:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        build_engines(bundle, "tensorrt", Settings(), report)


def test_tensors_are_read_while_another_thread_records(
    machine: StandIn, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy on the stream that is being recorded would become part of the graph."""
    built(bundle)
    execute = stand_in_tensorrt._Context.execute_async_v3
    read: list[Any] = []

    def execute_and_read(context: Any, stream: int) -> bool:
        if machine.driver.capturing():
            with ThreadPoolExecutor(1) as pool:
                read.append(pool.submit(kept.numpy).result(30))
        return execute(context, stream)

    with session(bundle) as running:
        kept = running.run({"pixels": PIXELS}, ["cls"], to="device")["cls"]
        monkeypatch.setattr(stand_in_tensorrt._Context, "execute_async_v3", execute_and_read)
        found = [running.run({"pixels": PIXELS})["cls"] for _ in range(3)]
    np.testing.assert_array_equal(read, [found[0]])


def test_a_workspace_that_is_too_small_is_told_from_a_full_gpu(
    machine: StandIn, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The words are those of TensorRT for RTX on the memory attention of a large tracker."""

    def fail(builder: Any, network: Any, config: Any) -> None:
        builder._logger.log(
            machine.trt.ILogger.ERROR, "Error Code 2: OutOfMemory (Requested size was 1098019328 bytes.)"
        )

    monkeypatch.setattr(stand_in_tensorrt._Builder, "build_serialized_network", fail)
    with pytest.raises(EngineError, match="OutOfMemory") as caught:
        built(bundle, workspace=2**30)
    assert "wants more than the 1024 MB that it may have: use --workspace 2048, or smaller" in caught.value.hint
    with pytest.raises(EngineError, match="OutOfMemory") as caught:
        built(bundle, workspace=2**31)
    assert "close other programs" in caught.value.hint
