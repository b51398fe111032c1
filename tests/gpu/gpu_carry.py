"""What to carry to a machine with a GPU that reaches no package index, in parts that are small enough to send."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

PACKAGES = {
    "onnxruntime-gpu": "onnxruntime", "av": "av", "pydantic": "pydantic", "pydantic-core": "pydantic_core",
    "annotated-types": "annotated_types", "typing-inspection": "typing_inspection", "typer": "typer", "rich": "rich",
    "onnx-ir": "onnx_ir", "onnxscript": "onnxscript", "optimum": "optimum", "hypothesis": "hypothesis",
    "sortedcontainers": "sortedcontainers", "psutil": "psutil", "pytest": "pytest", "pytest-timeout": "pytest_timeout",
    "safetensors": "safetensors", "sentencepiece": "sentencepiece",
}  # fmt: skip
"""What the checks import beyond PyTorch, transformers, NumPy and Pillow; by package, the module's name."""

_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64",
              "manylinux1_x86_64")  # fmt: skip


def missing() -> list[str]:
    """Packages of the list that this machine lacks."""
    return [name for name, module in PACKAGES.items() if importlib.util.find_spec(module) is None]


def download(folder: Path, packages: Sequence[str], python: str) -> None:
    """Fetch wheels for x86-64 Linux, without what they need in turn."""
    platforms = [word for platform in _PLATFORMS for word in ("--platform", platform)]
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--only-binary=:all:", "--python-version", python, "--implementation", "cp", *platforms,
        "--dest", str(folder), *packages,
    ]  # fmt: skip
    subprocess.run(command, check=True)


def cut(folder: Path, size: int) -> None:
    """Cut what is larger than `size` bytes into pieces `NAME.piece00`, `NAME.piece01` and so on."""
    for path in sorted(folder.iterdir()):
        if ".piece" in path.name or path.stat().st_size <= size:
            continue
        with path.open("rb") as stream:
            for number in range(-(-path.stat().st_size // size)):
                path.with_name(f"{path.name}.piece{number:02d}").write_bytes(stream.read(size))
        path.unlink()


def parts(sizes: Mapping[str, int], size: int) -> list[list[str]]:
    """Files by part: as few parts as filling them one after the other gives, the largest files first."""
    found: list[list[str]] = []
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        fitting = (part for part in found if sum(sizes[other] for other in part) + sizes[name] <= size)
        part = next(fitting, None)
        if part is None:
            found.append(part := [])
        part.append(name)
    return found


def describe(folder: Path, size: int) -> str:
    """The parts with their sizes, and the command that puts pieces together again."""
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    lines = []
    for number, part in enumerate(parts(sizes, size), 1):
        lines.append(f"part {number}: {sum(sizes[name] for name in part) / 1e6:.1f} MB")
        lines += [f"  {sizes[name] / 1e6:6.1f} MB  {name}" for name in part]
    lines += [
        "on the other machine, when all parts are in one folder:",
        "  python3 tests/gpu/checks.py --join FOLDER",
        "  python3 -m pip install --no-index --no-deps --target SITE FOLDER/*.whl && export PYTHONPATH=SITE",
    ]
    return "\n".join(lines)


def join(folder: Path) -> list[Path]:
    """Put pieces together; returns the files that were made."""
    made = []
    for first in sorted(folder.glob("*.piece00")):
        whole = first.with_name(first.name.removesuffix(".piece00"))
        pieces = sorted(folder.glob(f"{whole.name}.piece*"))
        with whole.open("wb") as stream:
            for piece in pieces:
                stream.write(piece.read_bytes())
        for piece in pieces:
            piece.unlink()
        made.append(whole)
    return made
