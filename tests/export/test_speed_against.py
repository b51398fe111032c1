"""`vsdk bench speed --against`: who takes part, what is measured, and what is said when it cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_checkpoints import MakeCheckpoint
from typer.testing import CliRunner

from vsdk.cli.app import app
from vsdk_export import export_checkpoint
from vsdk_export.speed import PIPELINE, Against, measure_against
from vsdk_export.speed.picture import picture_of
from vsdk_runtimes import load_bundle
from vsdk_runtimes.errors import ExportError, InputError


@pytest.fixture(scope="module")
def checkpoint(make_checkpoint: MakeCheckpoint) -> Path:
    return make_checkpoint("dinov2")


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speed") / "bundle"
    export_checkpoint(checkpoint, out=folder)
    return folder


@pytest.fixture(scope="module")
def report(bundle: Path, checkpoint: Path) -> Against:
    return measure_against(load_bundle(bundle), str(checkpoint), rounds=5, compiled=False)


def test_every_contender_runs_the_encoder_and_the_pipeline(report: Against) -> None:
    contenders = ["PyTorch eager fp32, cpu", "ONNX Runtime fp32, cpu"]
    assert report.components() == ["encoder", PIPELINE]
    for component in report.components():
        assert [row.contender for row in report.of(component)] == contenders
        assert all(len(row.wall.seconds) == len(row.processor.seconds) == 5 for row in report.of(component))
    assert report.skipped == {}


def test_graphs_are_compared_with_what_pytorch_gives(report: Against) -> None:
    eager, graph = report.of("encoder")
    assert eager.error is None
    assert report.ratio(eager) == 1
    assert graph.error is not None
    assert 0 < graph.error.relative < 1e-4
    assert graph.resident < eager.resident  # a process without PyTorch


def test_figures_fit_together(report: Against) -> None:
    for row in report.rows:
        assert row.wall.least <= row.wall.median <= row.wall.p95
        assert row.processor.least > 0
    assert report.operations["encoder"] > 2 * 16 * 48 * 48  # one product of one block over 16 patches
    assert report.ceilings.keys() == {"fp32", "copy"}
    nodes = {item.operator: item for item in report.nodes["encoder"]["fp32"]}
    assert nodes["LayerNormalization"].nodes == 5  # two in each of two blocks, and the last
    assert all(item.milliseconds > 0 for item in nodes.values())


def test_json_and_picture_hold_everything(report: Against) -> None:
    read = json.loads(json.dumps(report.to_dict()))
    assert [(row["component"], row["contender"]) for row in read["rows"]] == [
        (row.component, row.contender) for row in report.rows
    ]
    assert {"min", "median", "p95"} == read["rows"][0]["wall_ms"].keys()
    assert {"load_before", "load_after", "busy", "cores"} <= read.keys()
    assert picture_of(report).width == 1400


def test_what_cannot_be_compared_is_refused(bundle: Path, checkpoint: Path, tmp_path: Path) -> None:
    loaded = load_bundle(bundle)
    with pytest.raises(InputError, match="at least 5 rounds"):
        measure_against(loaded, str(checkpoint), rounds=4)
    with pytest.raises(InputError, match="no component 'text'"):
        measure_against(loaded, str(checkpoint), components=["text"])
    with pytest.raises(ExportError, match=r"nothing to compare .encoder. with.*nowhere"):
        measure_against(loaded, str(tmp_path / "nowhere"), compiled=False)


def test_options_that_need_a_checkpoint() -> None:
    for options in (["--plot", "ratios.png"], ["--device", "cuda"]):
        result = CliRunner().invoke(app, ["bench", "speed", *options])
        assert result.exit_code == 2
        assert "--against" in result.output
