"""Who may import whom: the table of folders, checked on the source, function-level imports included."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "vsdk_runtimes": ROOT / "runtimes" / "vsdk_runtimes",
    "vsdk": ROOT / "sdk" / "vsdk",
    "vsdk_models": ROOT / "models" / "vsdk_models",
    "vsdk_export": ROOT / "export" / "vsdk_export",
}
ORDER = list(FOLDERS)
BUILD_SIDE_LIBRARIES = {"torch", "transformers", "optimum", "onnx", "onnxscript", "safetensors", "huggingface_hub"}
LAZY = {"onnxruntime", "tensorrt", "tokenizers"}
BUILD_SIDE_COMMANDS = ("export.py", "bench_against.py")
COMMAND_LINE_ONLY = {"typer", "rich", "click"}


def imports(path: Path, package: str) -> Iterator[tuple[str, bool]]:
    """Absolute names of the modules that a file imports, and whether that happens when the file is imported."""
    for node, nested in _walk(ast.parse(path.read_text(encoding="utf-8")), nested=False):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, not nested
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield package, not nested
            elif node.module:
                yield node.module, not nested


def _walk(node: ast.AST, *, nested: bool) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        inside = nested or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) or _only_for_types(child)
        yield child, inside
        yield from _walk(child, nested=inside)


def _only_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def files(package: str) -> list[Path]:
    found = sorted(FOLDERS[package].rglob("*.py"))
    assert found, f"no sources of {package} at {FOLDERS[package]}"
    return found


@pytest.mark.parametrize("package", ORDER)
def test_arrows_never_point_up(package: str) -> None:
    above = set(ORDER[ORDER.index(package) + 1 :])
    commands = [FOLDERS["vsdk"] / "cli" / name for name in BUILD_SIDE_COMMANDS]
    for path in files(package):
        allowed = {"vsdk_export"} if path in commands else set()
        used = {name.split(".")[0] for name, _ in imports(path, package)}
        assert not (used & above) - allowed, f"{path} imports {used & above}"


@pytest.mark.parametrize("command", BUILD_SIDE_COMMANDS)
def test_commands_import_the_build_side_only_when_they_run(command: str) -> None:
    path = FOLDERS["vsdk"] / "cli" / command
    at_import = {name.split(".")[0] for name, at_import in imports(path, "vsdk") if at_import}
    assert "vsdk_export" not in at_import


@pytest.mark.parametrize("package", ["vsdk_runtimes", "vsdk"])
def test_the_run_side_never_imports_a_library_of_the_build_side(package: str) -> None:
    for path in files(package):
        used = {name.split(".")[0] for name, _ in imports(path, package)}
        assert not used & BUILD_SIDE_LIBRARIES, f"{path} imports {used & BUILD_SIDE_LIBRARIES}"


@pytest.mark.parametrize("package", ["vsdk_runtimes", "vsdk"])
def test_engines_and_tokenizers_are_imported_where_they_are_used(package: str) -> None:
    for path in files(package):
        at_import = {name.split(".")[0] for name, at_import in imports(path, package) if at_import}
        assert not at_import & LAZY, f"{path} imports {at_import & LAZY} at module level"


def test_typer_and_rich_stay_in_the_command_line() -> None:
    for package in ("vsdk_runtimes", "vsdk"):
        for path in files(package):
            if FOLDERS["vsdk"] / "cli" in path.parents:
                continue
            used = {name.split(".")[0] for name, _ in imports(path, package)}
            assert not used & COMMAND_LINE_ONLY, f"{path} imports {used & COMMAND_LINE_ONLY}"


def test_the_walk_sees_function_level_imports(tmp_path: Path) -> None:
    """The rules above are only as good as the walk: it must find what they forbid."""
    source = tmp_path / "sample.py"
    source.write_text("import os\ndef f():\n    from torch import nn\nif TYPE_CHECKING:\n    import onnx\n")
    assert list(imports(source, "vsdk")) == [("os", True), ("torch", False), ("onnx", False)]
