"""When runs are recorded on a GPU that is pretended, and which; `test_onnxruntime_cuda_conformance.py` has the rest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bundles
import numpy as np
import pretended_gpu
import pytest
import test_engine_conformance as conformance
from test_engine_conformance import assert_close, pixels, segment

from vsdk_runtimes import Session, load, load_bundle, onnxruntime_engine
from vsdk_runtimes.errors import EngineUnavailableError, GraphError, InputError
from vsdk_runtimes.onnxruntime_graphs import MOST_RECORDINGS, SWITCH


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime_engine, "import_onnxruntime", lambda kind: pretended_gpu.runtime())


@pytest.fixture(params=["0", "1"], ids=["plain", "recorded"])
def switch(request: pytest.FixtureRequest, gpu: None, monkeypatch: pytest.MonkeyPatch) -> str:
    value: str = request.param
    monkeypatch.setenv(SWITCH, value)
    return value


@pytest.fixture
def recorded(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "1")


def opened(folder: Path, role: str) -> Session:
    return load(load_bundle(folder).component(role), device="cuda", threads=1)


@pytest.fixture
def encoder(tmp_path: Path) -> Iterator[Session]:
    with opened(bundles.encoder_bundle(tmp_path / "encoder"), "encoder") as session:
        yield session


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[Session]:
    with opened(bundles.memory_bundle(tmp_path / "bridge"), "bridge") as session:
        yield session


def runs(session: Any) -> list[str]:
    """The graph ids of a session's runs so far."""
    return list(session._engine.runs)


@pytest.mark.usefixtures("switch")
def test_device_tensors_go_from_session_to_session(encoder: Session, bridge: Session) -> None:
    """The bridge finds the encoder's output in the same place, with other content."""
    state = bridge.new_state()
    segments = []
    for seed in range(6):
        kept = encoder.run({"pixels": pixels(seed=seed)}, outputs=["cls"], to="device")["cls"]
        segments.append(bundles.encoder_reference(pixels(seed=seed))["cls"].astype(np.float32))
        bridge.step({"segment": kept}, state)
    _, memory, count = conformance.unrolled(segments)
    assert_close(state.snapshot(), {"memory_in": memory, "count_in": count})


@pytest.mark.usefixtures("recorded")
def test_each_batch_size_is_recorded_once(encoder: Session) -> None:
    for batch in (1, 3, 1, 3, 3, 1):
        given = pixels(batch, seed=batch)
        assert_close(encoder.run({"pixels": given}), bundles.encoder_reference(given))
    assert runs(encoder) == ["1", "2", "1", "2", "2", "1"]


@pytest.mark.usefixtures("recorded")
def test_a_state_has_two_recordings(bridge: Session) -> None:
    first, second = bridge.new_state(), bridge.new_state()
    for _ in range(3):
        bridge.step({"segment": segment()}, first)
    bridge.step({"segment": segment()}, second)
    assert runs(bridge) == ["1", "2", "1", "3"]


@pytest.mark.usefixtures("recorded")
def test_there_is_a_most_of_recordings_and_later_runs_go_on_without(encoder: Session) -> None:
    sizes = range(1, MOST_RECORDINGS + 3)
    for batch in (*sizes, *sizes):
        given = pixels(batch, seed=batch)
        assert_close(encoder.run({"pixels": given}), bundles.encoder_reference(given))
    once = [*map(str, range(1, MOST_RECORDINGS + 1)), "-1", "-1"]
    assert runs(encoder) == once * 2


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("value", [None, "0"])
def test_nothing_is_recorded_unasked(value: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(SWITCH, raising=False)
    if value is not None:
        monkeypatch.setenv(SWITCH, value)
    with opened(bundles.encoder_bundle(tmp_path), "encoder") as session:
        session.run({"pixels": pixels()})
        assert runs(session) == [""]


@pytest.mark.usefixtures("recorded")
def test_a_component_with_another_open_axis_is_not_recorded(tmp_path: Path) -> None:
    """Its shapes would be without number; the typed test component has `[2, n]` only among its outputs."""
    inputs: bundles.Tensors = {"x": ("float32", ["batch", "slots"])}
    outputs: bundles.Tensors = {"y": ("float32", ["batch", "slots"])}
    content = bundles.graph([bundles.node("Relu", ["x"], ["y"])], inputs, outputs)
    part = bundles.component("net", {"fp32": "net.onnx"}, inputs, outputs)
    with opened(bundles.write_bundle(tmp_path, {"net": part}, {"net.onnx": content}), "net") as session:
        session.run({"x": np.ones((2, 3), np.float32)})
        assert runs(session) == [""]


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("value", ["yes", "2", ""])
def test_a_switch_that_is_neither_on_nor_off(value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(SWITCH, value)
    with pytest.raises(InputError, match=SWITCH):
        opened(bundles.encoder_bundle(tmp_path), "encoder")


def test_a_graph_that_cannot_be_recorded_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In the words of ONNX Runtime 1.31."""

    def refuse(path: str, settings: Any, **options: Any) -> Any:
        raise RuntimeError(
            "This session cannot use the graph capture feature as requested by the user  as all compute graph nodes "
            "have not been partitioned to the CUDAExecutionProvider"
        )

    monkeypatch.setenv(SWITCH, "1")
    changed = pretended_gpu.runtime(InferenceSession=refuse)
    monkeypatch.setattr(onnxruntime_engine, "import_onnxruntime", lambda kind: changed)
    with pytest.raises(GraphError, match=r"cannot be recorded as a CUDA graph.*partitioned") as caught:
        opened(bundles.encoder_bundle(tmp_path), "encoder")
    assert caught.value.hint == f"Run it without: unset {SWITCH}"


@pytest.mark.usefixtures("switch")
def test_what_is_uploaded_is_not_sent_again(encoder: Session) -> None:
    kept = encoder.upload(pixels())
    assert not isinstance(kept, np.ndarray)
    for _ in range(3):
        assert_close(encoder.run({"pixels": kept}), bundles.encoder_reference(pixels()))


def test_on_the_cpu_there_is_nothing_to_upload(tmp_path: Path) -> None:
    with load(load_bundle(bundles.encoder_bundle(tmp_path)).component("encoder"), threads=1) as session:
        given = pixels()
        assert session.upload(given) is given


def test_a_session_that_fell_back_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As ONNX Runtime 1.31 does where a library of CUDA is missing: no exception, and another provider."""

    class FellBack(pretended_gpu.GpuSession):
        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    changed = pretended_gpu.runtime(InferenceSession=FellBack)
    monkeypatch.setattr(onnxruntime_engine, "import_onnxruntime", lambda kind: changed)
    with pytest.raises(EngineUnavailableError, match="chose CPUExecutionProvider") as caught:
        opened(bundles.encoder_bundle(tmp_path), "encoder")
    assert "pip install" in caught.value.hint
