"""Run every graph of a bundle once, on whatever Python and ONNX Runtime this is started with.

    python every_precision.py BUNDLE RESULTS.npz

Which components and precisions there are is read from the manifest. Inputs are drawn from a fixed seed; a recurrent
component runs three steps. Results are stored as `component/precision/output`. Needs the run side and nothing else.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

import vsdk_runtimes as runtimes

BATCH, STEPS = 2, 3


def inputs_of(session: runtimes.Session) -> dict[str, Any]:
    """Values of the size that features have; what says that something is there, in few numbers, is 1."""
    generator = np.random.default_rng(0)
    drawn: dict[str, Any] = {}
    for name, spec in session.inputs.items():
        shape = [BATCH if isinstance(size, str) else size for size in spec.shape]
        values = generator.standard_normal(shape) if len(shape) > 2 else np.ones(shape)
        drawn[name] = values.astype(spec.dtype)
    return drawn


def results_of(session: runtimes.Session) -> dict[str, Any]:
    """All outputs of a run, or of the last step."""
    given = inputs_of(session)
    recurrent = {item.input for item in session.component.spec.state}
    if not recurrent:
        return session.run(given)
    state = session.new_state()
    for _ in range(STEPS):
        found = session.step({name: value for name, value in given.items() if name not in recurrent}, state)
    return {**found, **state.snapshot()}


def every_result(folder: str) -> Iterator[tuple[str, Any]]:
    """Name and values of every output of every component at every precision of the bundle in this folder."""
    bundle = runtimes.load_bundle(folder)
    for component in bundle.components.values():
        for precision in component.spec.files:
            with runtimes.load(component, precision=precision, threads=1) as session:
                assert session.info.precision == precision
                for name, values in results_of(session).items():
                    yield f"{component.name}/{precision}/{name}", values


if __name__ == "__main__":
    import onnxruntime

    np.savez(sys.argv[2], **dict(every_result(sys.argv[1])))
    print(f"{sys.version_info[0]}.{sys.version_info[1]}", onnxruntime.__version__)
