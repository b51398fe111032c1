"""Writes tensorrt_names.json: the names of TensorRT that vsdk's own code can be checked against.

    python tensorrt_names.py MODULE OUT.json       for each version, in an environment that has it

MODULE is `tensorrt`, `tensorrt_rtx`, or `tensorrt_bindings`: the packages tensorrt-cu12-bindings and
tensorrt-cu13-bindings hold only bindings, and can be imported without the libraries when LD_LIBRARY_PATH leads to
empty shared objects with their names. Kept are the classes that `vsdk_runtimes.tensorrt.api` and `.rtx` describe.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

CLASSES = (
    "Builder", "ComputeCapability", "DataType", "EngineInspector", "IBuilderConfig", "ICudaEngine",
    "IExecutionContext", "ILayer", "ILogger", "INetworkDefinition", "IOptimizationProfile", "IProgressMonitor",
    "ITensor", "ITimingCache", "LayerInformationFormat", "LayerType", "MemoryPoolType", "NetworkDefinitionCreationFlag",
    "OnnxParser", "ParserError", "ProfilingVerbosity", "Runtime", "TensorIOMode", "TensorLocation",
)  # fmt: skip


def names(module: str) -> dict[str, dict[str, list[str]]]:
    """Members of each class, by version."""
    trt = importlib.import_module(module)
    found = {
        name: [member for member in dir(getattr(trt, name)) if not member.startswith("_")]
        for name in CLASSES
        if hasattr(trt, name)
    }
    version = f"{'rtx ' if module == 'tensorrt_rtx' else ''}{trt.__version__}"
    return {version: found}


if __name__ == "__main__":
    out = Path(sys.argv[2])
    known = json.loads(out.read_text()) if out.exists() else {}
    known.update(names(sys.argv[1]))
    lines = [
        f' "{version}": {{\n'
        + ",\n".join(f'  "{name}": {json.dumps(members)}' for name, members in sorted(classes.items()))
        + "\n }"
        for version, classes in known.items()
    ]
    out.write_text("{\n" + ",\n".join(lines) + "\n}\n")
