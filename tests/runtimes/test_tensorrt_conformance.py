"""The conformance suite on the session for TensorRT, with stand-ins for the GPU and for TensorRT itself.

It shows what the session does with memory, states, graphs, threads and errors. It does not show that TensorRT does
what its documentation says; on a machine that has it, `test_engine_conformance.py` does.
"""

from __future__ import annotations

import pytest
import stand_in_tensorrt
import test_engine_conformance as suite
from test_engine_conformance import *  # noqa: F403  (every test of the suite, and its fixtures)

# These are about the machine, or run in processes of their own, where there is no stand-in.
del test_absent_engine_says_why, test_plain_cpu_runs_everywhere, test_threads_are_capped  # noqa: F821
del engine  # noqa: F821
del test_unknown_engine, test_unknown_device  # noqa: F821
del test_state_with_a_dynamic_axis  # noqa: F821  (found when the engine is built: the graph contradicts the manifest)


@pytest.fixture(name="engine", params=[suite.Engine("tensorrt", "cuda"), suite.Engine("tensorrt", "cuda:0")], ids=str)
def _engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> suite.Engine:
    """In the place of the suite's own."""
    stand_in_tensorrt.install(monkeypatch)
    monkeypatch.setattr(suite, "address", lambda tensor: tensor.address)
    chosen: suite.Engine = request.param
    return chosen
