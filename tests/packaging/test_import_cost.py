"""`import vsdk` and the command line start quickly and stay thin."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

RUNS = 5
HEAVY = {"av", "PIL", "onnxruntime", "tokenizers", "tensorrt", "typer", "rich", "pydantic"} | {
    "torch", "transformers", "optimum", "onnx", "onnxscript", "safetensors", "huggingface_hub",
}  # fmt: skip


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout


def seconds_of(*command: str) -> float:
    """Processor time of the fastest of several runs: what the work itself takes, whatever else the machine does."""
    times = []
    for _ in range(RUNS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *command], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return min(times)


def test_import_takes_less_than_three_tenths_of_a_second() -> None:
    assert seconds_of("-c", "import vsdk") < 0.3


def test_import_loads_nothing_heavy() -> None:
    loaded = json.loads(python("import vsdk, sys, json; print(json.dumps([n.split('.')[0] for n in sys.modules]))"))
    assert not HEAVY & set(loaded)


def test_help_appears_within_half_a_second() -> None:
    assert seconds_of("-m", "vsdk", "--help") < 0.5


def test_help_decodes_nothing_and_loads_no_engine() -> None:
    code = """
import sys
from vsdk.cli.app import app
try:
    app(["run", "--help"])
except SystemExit:
    pass
print("LOADED", *sorted({name.split(".")[0] for name in sys.modules}))
"""
    loaded = set(python(code).rpartition("LOADED")[2].split())
    assert not (HEAVY - {"typer", "rich", "pydantic"}) & loaded  # typer itself looks for pydantic
