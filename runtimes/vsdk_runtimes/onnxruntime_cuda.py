"""What stands between ONNX Runtime and a GPU: CUDA's libraries and the driver.

ONNX Runtime finds CUDA libraries that pip installed only when it is asked to look for them, replaces a provider whose
libraries are missing by the CPU with no more than a printed line, and reports a missing driver as a failure to parse
the option `device_id`. Here each becomes a sentence.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import re
from pathlib import Path
from typing import Any

INSTALL = "pip install 'onnxruntime-gpu[cuda,cudnn]'"
_FAILURE = re.compile(r"CUDA failure \d+: [^;\n]+")


def preload_libraries(runtime: Any) -> None:
    """Load the CUDA libraries that pip installed, so that the CUDA provider finds them."""
    if hasattr(runtime, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find, and may try in vain
            runtime.preload_dlls()


def missing_library(runtime: Any) -> str:
    """Why the CUDA provider does not load, in the dynamic linker's words; empty when it does."""
    folder = Path(runtime.__file__).parent / "capi"
    for library in sorted(folder.glob("*onnxruntime_providers_cuda.*")):
        try:
            for shared in folder.glob("*onnxruntime_providers_shared.*"):
                ctypes.CDLL(str(shared), ctypes.RTLD_GLOBAL)  # has what the provider expects to find in the process
            ctypes.CDLL(str(library))
        except OSError as error:
            return str(error)
    return ""


def cuda_failure(error: BaseException) -> str:
    """CUDA's own words in an exception of ONNX Runtime, such as a missing driver or GPU; empty if there are none."""
    found = _FAILURE.search(str(error))
    return found.group().strip() if found else ""
