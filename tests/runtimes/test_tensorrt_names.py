"""Every name of TensorRT that vsdk calls is there in every version that vsdk says it runs on.

The names come from the real bindings of each version (`data/tensorrt_names.py`). The calls are found in the code: the
types of variables are followed from annotations and from what calls return, as `api.py` and `rtx.py` describe it.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import vsdk_runtimes.tensorrt

PACKAGE = Path(vsdk_runtimes.tensorrt.__file__).parent
NAMES: dict[str, dict[str, list[str]]] = json.loads((Path(__file__).parent / "data/tensorrt_names.json").read_text())
VERSIONS = ("10.3.0", "10.13.3.9", "10.16.1.11", "11.0.0.114", "11.4.0.106", "rtx 1.7.1.116")
MODULE = "TensorRT"
# What only TensorRT for RTX has is described by classes of its own.
RTX_ONLY = {"RtxBuilderConfig": "IBuilderConfig", "TensorRTForRTX": MODULE}
Use = tuple[str, str]
"""A class and one of its members."""


def described() -> dict[str, dict[str, str | None]]:
    """Of each class in `api.py` and `rtx.py` the members, with the class that each one is or returns."""
    trees = [ast.parse((PACKAGE / name).read_text()) for name in ("api.py", "rtx.py")]
    classes = {
        node.name: node
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "Protocol" for base in node.bases)
    }

    def members(node: ast.ClassDef) -> Iterator[tuple[str, str | None]]:
        for item in node.body:
            if isinstance(item, ast.FunctionDef):
                yield item.name, class_in(item.returns, set(classes))
            elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                yield item.target.id, class_in(item.annotation, set(classes))

    return {name: dict(members(node)) for name, node in classes.items()}


def class_in(annotation: ast.expr | None, classes: set[str]) -> str | None:
    """The described class that an annotation names."""
    if annotation is None:
        return None
    named = [node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)]
    named += [node.attr for node in ast.walk(annotation) if isinstance(node, ast.Attribute)]
    return next((name for name in named if name in classes), None)


DESCRIBED = described()


class Calls(ast.NodeVisitor):
    """Collects which members of which classes a module uses."""

    def __init__(self) -> None:
        self.used: set[Use] = set()
        self._known: list[dict[str, str]] = [{}]

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        self._known.append(
            {item.arg: name for item in arguments if (name := class_in(item.annotation, set(DESCRIBED)))}
        )
        self.generic_visit(node)
        self._known.pop()

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.generic_visit(node)
        self._remember(node.target, class_in(node.annotation, set(DESCRIBED)))

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        for target in node.targets:
            self._remember(target, self._type(node.value))

    def visit_For(self, node: ast.For) -> None:
        self._remember(node.target, self._type(node.iter))
        self.generic_visit(node)

    def visit_DictComp(self, node: ast.DictComp) -> None:
        for generator in node.generators:
            self._remember(generator.target, self._type(generator.iter))
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.generic_visit(node)
        owner = self._type(node.value)
        if owner in DESCRIBED:
            self.used.add((owner, node.attr))

    def _remember(self, target: ast.expr, name: str | None) -> None:
        # What a method keeps in `self` is known in the methods after it.
        scope = self._known[0] if isinstance(target, ast.Attribute) else self._known[-1]
        if name is not None:
            scope[ast.unparse(target)] = name

    def _type(self, node: ast.expr) -> str | None:
        """The described class of an expression."""
        text = ast.unparse(node)
        for scope in reversed(self._known):
            if text in scope:
                return scope[text]
        if isinstance(node, ast.Attribute):
            return DESCRIBED.get(self._type(node.value) or "", {}).get(node.attr)
        if isinstance(node, ast.Call):
            if ast.unparse(node.func) == "cast":
                return class_in(node.args[0], set(DESCRIBED))
            return self._type(node.func)
        return None


def calls(source: str) -> set[Use]:
    visitor = Calls()
    visitor.visit(ast.parse(source))
    return {(owner, member) for owner, member in visitor.used if not member.startswith("__")}


def missing(used: set[Use], version: str) -> set[Use]:
    """Those that a version does not have."""
    names = NAMES[version]
    rtx = version.startswith("rtx")
    absent = set()
    for owner, member in used:
        if owner in RTX_ONLY and not rtx:
            continue
        owner = RTX_ONLY.get(owner, owner)
        there = member in names if owner == MODULE else member in names.get(owner, [])
        if not there:
            absent.add((owner, member))
    return absent


CALLED = {path.name: calls(path.read_text()) for path in sorted(PACKAGE.glob("*.py"))}


def test_the_names_are_those_of_every_version_in_the_documentation() -> None:
    assert tuple(NAMES) == VERSIONS


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("module", CALLED)
def test_every_name_that_is_called_is_there(module: str, version: str) -> None:
    assert not missing(CALLED[module], version)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_name_that_the_type_checker_allows_is_there(version: str) -> None:
    """Calls that the search above cannot follow are still checked: mypy takes no member that is not described."""
    used = {(owner, member) for owner, members in DESCRIBED.items() for member in members if member[0] != "_"}
    assert not missing(used, version)


def test_the_search_finds_what_there_is() -> None:
    """As many as a reader counts; a search that found nothing would let everything pass."""
    assert ("OnnxParser", "supports_model_v2") in CALLED["network.py"]
    assert ("ITensor", "get_dimension_name") not in CALLED["network.py"]
    assert ("LayerType", "QUANTIZE") in CALLED["network.py"]
    assert ("IBuilderConfig", "progress_monitor") in CALLED["builder.py"]
    assert ("Builder", "build_serialized_network") in CALLED["builder.py"]
    assert ("Runtime", "deserialize_cuda_engine") in CALLED["session.py"]
    assert ("IExecutionContext", "execute_async_v3") in CALLED["execution.py"]
    assert ("RtxBuilderConfig", "set_compute_capability") in CALLED["rtx.py"]
    used = set().union(*CALLED.values())
    members = {
        (owner, member) for owner, all_of in DESCRIBED.items() for member in all_of if not member.startswith("_")
    }
    assert used <= members
    assert len(used) >= 55


@pytest.mark.parametrize(
    ("line", "gone_in", "use"),
    [
        ("config.int8_calibrator = None", "11.0.0.114", ("IBuilderConfig", "int8_calibrator")),
        ("trt.Builder(0).create_builder_config().calibrate", "11.4.0.106", ("IBuilderConfig", "calibrate")),
        ("engine.device_memory_size", "11.0.0.114", ("ICudaEngine", "device_memory_size")),
        ("trt.IInt8Calibrator", "11.0.0.114", ("TensorRT", "IInt8Calibrator")),
        ("trt.OnnxParser(network, 0).supports_model(b'')", "11.0.0.114", ("OnnxParser", "supports_model")),
        ("layer = network.get_layer(0)\n    layer.precision", "11.0.0.114", ("ILayer", "precision")),
        ("engine.get_engine_stat(0)", "10.3.0", ("ICudaEngine", "get_engine_stat")),
        ("trt.DataType.FP4", "10.3.0", ("DataType", "FP4")),
        ("trt.LayerType.ATTENTION_INPUT", "10.13.3.9", ("LayerType", "ATTENTION_INPUT")),
    ],
)  # fmt: skip
def test_a_name_that_one_version_lacks_is_found(line: str, gone_in: str, use: Use) -> None:
    """The same code with one call more, which was removed in 11 or came after 10.3."""
    source = (
        "def build(trt: TensorRT, network: INetworkDefinition, config: IBuilderConfig, engine: ICudaEngine) -> None:\n"
        f"    {line}\n"
    )
    assert missing(calls(source), gone_in) == {use}
