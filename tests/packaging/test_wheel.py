"""What is in the wheel, and that a device can be set up with nothing but the wheel and `vsdk[cpu]`."""

from __future__ import annotations

import json
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import av
import numpy as np
import pytest
from environments import environment, run

MAX_BYTES = 45_000_000
PACKAGES = ("vsdk", "vsdk_runtimes", "vsdk_models", "vsdk_export")
BUILD_SIDE_LIBRARIES = ("torch", "transformers", "optimum", "onnx", "onnxscript")
PYTHONS = ("3.10", "3.11", "3.12", "3.13")


@pytest.fixture(scope="session")
def contents(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


@pytest.mark.install
@pytest.mark.parametrize("package", PACKAGES)
def test_the_wheel_has_the_four_packages_with_their_types(package: str, contents: list[str]) -> None:
    assert f"{package}/__init__.py" in contents
    assert f"{package}/py.typed" in contents


@pytest.mark.install
def test_the_wheel_has_the_data_that_the_sdk_opens(contents: list[str]) -> None:
    assert "vsdk/events.schema.json" in contents
    assert "vsdk/bundles/nano/manifest.json" in contents
    for name in ("index.html", "page.css", "page.js", "icon.svg"):
        assert f"vsdk/serving/page/{name}" in contents
    assert any(name.endswith("licenses/LICENSE") for name in contents)


@pytest.mark.install
def test_every_file_of_the_embedded_bundle_is_there_and_whole(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        manifest = json.loads(archive.read("vsdk/bundles/nano/manifest.json"))
        for name, entry in manifest["files"].items():
            assert archive.getinfo(f"vsdk/bundles/nano/{name}").file_size == entry["bytes"]


@pytest.mark.install
def test_the_wheel_has_nothing_else(contents: list[str]) -> None:
    tops = {name.split("/")[0] for name in contents}
    assert tops - set(PACKAGES) == {top for top in tops if top.endswith(".dist-info")}
    assert not [name for name in contents if "test" in Path(name).name.lower() or name.endswith((".pyc", ".mp4"))]


@pytest.mark.install
def test_the_wheel_is_small(wheel: Path) -> None:
    assert wheel.stat().st_size < MAX_BYTES


def write_clip(path: Path) -> None:
    """Fifty frames with a cut in the middle."""
    generator = np.random.default_rng(0)
    scenes = [np.kron(generator.integers(0, 256, (n, n, 3)), np.ones((256 // n, 256 // n, 1))) for n in (4, 32)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 256
        stream.pix_fmt = "yuv420p"
        for number in range(50):
            picture = np.roll(scenes[number // 25], number, axis=1).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


@pytest.mark.install
@pytest.mark.slow
@pytest.mark.parametrize("version", PYTHONS)
def test_a_device_needs_only_the_wheel_and_one_engine(version: str, wheel: Path, tmp_path: Path) -> None:
    """No constraints, a fresh environment: `vsdk run` works and nothing of the build side can be imported."""
    python = environment(version, tmp_path / "env", f"{wheel}[cpu]")
    write_clip(tmp_path / "clip.mp4")
    out = run(python.parent / "vsdk", "run", "clip.mp4", "--jsonl", "-", "--quiet", cwd=tmp_path)
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["type"] for event in events] == ["start", *("scene", "memory") * 2, "end"]
    assert events[3]["start_frame"] == 25
    probe = f"""
import importlib.util
print([name for name in {BUILD_SIDE_LIBRARIES!r} if importlib.util.find_spec(name)])
"""
    assert run(python, "-c", probe, cwd=tmp_path).strip() == "[]"
    assert "True" in run(python, "-c", "import vsdk.doctor; print(vsdk.doctor.examine().works)", cwd=tmp_path)


def test_the_entry_point_is_the_command() -> None:
    (entry,) = [item for item in distribution("vsdk").entry_points if item.group == "console_scripts"]
    assert (entry.name, entry.value) == ("vsdk", "vsdk.cli:main")
