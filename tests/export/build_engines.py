"""Build engines of bundles with TensorRT for RTX, in an environment that has it, NumPy and pydantic, and no torch.

    python build_engines.py FOLDER PRECISION BUNDLE [...]

Prints one JSON object a line for each component that has the precision: what was built, or why it was refused. The
plans are deleted again.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).parents[2] / "runtimes"))

from vsdk_runtimes import Precision, load_bundle
from vsdk_runtimes.errors import Error
from vsdk_runtimes.tensorrt.targets import Settings, build_engines


def build(folder: Path, precision: Precision, bundle: str) -> None:
    """Build every component of a bundle on its own."""
    loaded = load_bundle(bundle)
    for name, component in loaded.components.items():
        if precision not in component.spec.files:
            continue
        row: dict[str, Any] = {"component": name, "precision": precision}
        progress: list[float] = []
        try:
            (built,) = build_engines(
                loaded,
                "tensorrt-rtx",
                Settings(precisions=[precision], components=[name], folder=folder),
                lambda graph, says, done, kept=progress: kept.append(done),  # type: ignore[misc]
            )
            built.path.unlink()
            row |= json.loads(built.sidecar.model_dump_json(include={"bytes", "seconds", "asked", "key", "layers"}))
        except Error as error:
            row |= {"refused": error.message, "error": type(error).__name__}
        row["steps"] = len(set(progress))
        row["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    for bundle in sys.argv[3:]:
        build(Path(sys.argv[1]), cast(Precision, sys.argv[2]), bundle)
