"""Which TensorRT is here: `tensorrt` (10.3 to 11.x) or `tensorrt_rtx`, found when it is asked for."""

from __future__ import annotations

import importlib
import re
from typing import Final, Literal, cast

from ..errors import EngineUnavailableError
from .api import TensorRT

EngineName = Literal["tensorrt", "tensorrt-rtx"]
MODULES: Final[dict[EngineName, str]] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
TITLES: Final[dict[EngineName, str]] = {"tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT for RTX"}
INSTALL: Final[dict[EngineName, str]] = {
    "tensorrt": "On a Jetson, TensorRT comes with JetPack (apt install python3-libnvinfer; a virtual environment needs "
    "--system-site-packages); on a desktop: pip install 'vsdk[tensorrt]'",
    "tensorrt-rtx": "Install it: pip install wheel setuptools 'vsdk[tensorrt-rtx]'",
}
_OLDEST, _NEWEST = (10, 3), 12


def import_tensorrt(engine: EngineName) -> TensorRT:
    """The module.

    Raises:
        EngineUnavailableError: Not installed, its native libraries do not load, or it is of a version that vsdk does
            not know.
    """
    try:
        trt = importlib.import_module(MODULES[engine])
    except (ImportError, OSError) as error:  # the libraries are loaded by ctypes, which raises OSError
        raise EngineUnavailableError(f"{TITLES[engine]} cannot be imported: {error}", hint=INSTALL[engine]) from error
    version = str(getattr(trt, "__version__", ""))
    if engine == "tensorrt" and not _OLDEST <= _numbers(version) < (_NEWEST,):
        raise EngineUnavailableError(
            f"TensorRT {version or 'of an unknown version'} is not one that vsdk runs on; those are 10.3 to 11.x",
            hint=INSTALL[engine],
        )
    return cast(TensorRT, trt)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])
