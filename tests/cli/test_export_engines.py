"""`vsdk export BUNDLE --target tensorrt`, in this process, on stand-ins for the driver and the library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bundles
import pytest
import stand_in_tensorrt
from typer.testing import CliRunner

from vsdk.cli.app import app


@pytest.fixture
def export(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    machine = stand_in_tensorrt.install(monkeypatch)
    folder = bundles.encoder_bundle(tmp_path / "bundle")

    def run(*arguments: str) -> Any:
        done = CliRunner().invoke(app, ["export", str(folder), "--target", "tensorrt", *arguments])
        return done, machine, folder

    return run


def test_engines_are_built_and_shown(export: Any, tmp_path: Path) -> None:
    done, machine, _ = export("--precision", "fp32,fp16", "--shapes", "batch=1:2:4", "--workspace", "64")
    assert done.exit_code == 0, done.output
    assert "NVIDIA Stand-in" in done.stderr
    assert f"2 engines in {tmp_path / 'cache' / 'vsdk' / 'engines'}" in done.stderr
    assert [engine["workspace"] for engine in machine.trt.built] == [64 * 2**20] * 2
    again, _, _ = export("--precision", "fp32,fp16", "--shapes", "batch=1:2:4")
    assert again.stderr.count("in the cache") == 2
    assert len(machine.trt.built) == 2


def test_the_default_precision_is_the_bundles(export: Any) -> None:
    done, _, folder = export("--dry-run")
    assert done.exit_code == 0
    assert "nothing was built" in done.stderr
    bundles.edit_manifest(folder, lambda manifest: manifest.update(default_precision={"cuda": "fp16"}))
    done, _, _ = export("--out", str(folder.parent / "engines"))
    assert done.exit_code == 0
    assert [path.name[:12] for path in (folder.parent / "engines").glob("*.plan")] == ["encoder-fp16"]


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--shapes", "batch=8:4"], 1, "'batch=8:4' is not a range"),
        (["--component", "decoder"], 1, "no component 'decoder'"),
        (["--precision", "int8"], 1, "has no int8 graph"),
        (["--gpu", "sm86"], 1, "--gpu goes with --target tensorrt-rtx"),
        (["--into", "other"], 2, "--into and --encoder go with a checkpoint"),
        (["--workspace", "0"], 2, "workspace"),
    ],
)
def test_what_is_wrong_is_said(export: Any, arguments: list[str], status: int, says: str) -> None:
    done, machine, _ = export(*arguments)
    assert done.exit_code == status
    assert says in done.stderr
    assert not machine.trt.built


def test_an_edited_graph_is_refused(export: Any) -> None:
    _, machine, folder = export("--dry-run")
    path = folder / "encoder" / "fp32.onnx"
    content = bytearray(path.read_bytes())
    content[content.index(bundles.ENCODER_WEIGHT.tobytes())] ^= 1
    path.write_bytes(content)
    done, _, _ = export()
    assert done.exit_code == 1
    assert "fp32.onnx" in done.stderr
    assert "SHA-256" in done.stderr
    assert not machine.trt.built
