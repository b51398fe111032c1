"""The conformance suite on the session for CUDA, with and without CUDA graphs, on a GPU that is pretended.

It shows what the session does with memory, states, recordings, threads and errors. That CUDA does what is pretended
here only a GPU can show, where `test_engine_conformance.py` runs on it.
"""

from __future__ import annotations

import pretended_gpu
import pytest
import test_engine_conformance as suite
from test_engine_conformance import *  # noqa: F403  (every test of the suite, and its fixtures)

from vsdk_runtimes import onnxruntime_engine
from vsdk_runtimes.onnxruntime_graphs import SWITCH

# These are about the machine, or run in processes of their own, where nothing is pretended.
del test_absent_engine_says_why, test_plain_cpu_runs_everywhere, test_threads_are_capped  # noqa: F821
del test_unknown_engine, test_unknown_device  # noqa: F821


@pytest.fixture(params=["0", "1"], ids=["plain", "recorded"])  # type: ignore[no-redef]
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> suite.Engine:
    monkeypatch.setattr(onnxruntime_engine, "import_onnxruntime", lambda kind: pretended_gpu.runtime())
    monkeypatch.setattr(suite, "address", lambda tensor: tensor.value.data_ptr())
    monkeypatch.setenv(SWITCH, request.param)
    return suite.Engine("onnxruntime", "cuda")
