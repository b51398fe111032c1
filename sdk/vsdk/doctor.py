"""What this machine can run: findings about Python, libraries, engines, hardware and the embedded bundle.

Nothing here raises: what goes wrong is a finding. The default path is decoding with PyAV and the embedded bundle on
ONNX Runtime's CPU provider; only what it needs can be `broken`, everything else is at worst `absent`.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from vsdk_runtimes import onnxruntime_cuda
from vsdk_runtimes.errors import EngineUnavailableError, Error
from vsdk_runtimes.onnxruntime_engine import available_threads, import_onnxruntime

State = Literal["ok", "absent", "broken"]


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: What was looked at.
        state: `"ok"`, `"absent"` (optional and not here) or `"broken"` (needed by default, and does not work).
        detail: Version, or what went wrong.
        fix: The command that puts it right; empty when there is nothing to do.
    """

    name: str
    state: State
    detail: str
    fix: str = ""


@dataclass(frozen=True)
class Report:
    """All findings."""

    findings: tuple[Finding, ...]

    @property
    def works(self) -> bool:
        """Whether the default path works."""
        return all(item.state != "broken" for item in self.findings)


def examine() -> Report:
    """Look at everything; takes about a second, most of it for loading the engine."""
    from . import __version__

    findings = [
        Finding("Python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        Finding("vsdk", "ok", __version__),
        Finding("processor", "ok", f"{available_threads()} cores for this process"),
        Finding("memory", "ok", _memory()),
    ]
    for name in ("numpy", "pydantic", "pillow"):
        findings.append(_library(name, "broken", f"pip install {name}"))
    findings += [_pyav(), *_onnxruntime(), _nvidia_driver(), _cuda(), *_tensorrt(), _engines()]
    findings.append(_library("tokenizers", "absent", "pip install 'vsdk[text]'  (search by words)"))
    findings.append(_library("prometheus-client", "absent", "pip install 'vsdk[metrics]'  (vsdk run --metrics)"))
    findings.append(_library("paho-mqtt", "absent", "pip install 'vsdk[mqtt]'  (vsdk run --mqtt)"))
    findings.append(_library("uvicorn", "absent", "pip install 'vsdk[serve]'  (vsdk serve)"))
    for name in ("torch", "transformers", "onnx", "onnxscript", "optimum"):
        findings.append(_library(name, "absent", "pip install 'vsdk[export]'  (vsdk export)"))
    findings.append(_embedded_bundle())
    return Report(tuple(findings))


def _library(name: str, missing: State, fix: str) -> Finding:
    try:
        return Finding(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, missing, "", fix)


def _pyav() -> Finding:
    try:
        import av
    except ImportError as error:
        return Finding("av", "broken", str(error), "pip install --force-reinstall av")
    codec = ".".join(map(str, av.library_versions["libavcodec"]))
    return Finding("av", "ok", f"{av.__version__} with FFmpeg {av.ffmpeg_version_info}, libavcodec {codec}")


def _onnxruntime() -> Iterator[Finding]:
    try:
        runtime = import_onnxruntime()
    except EngineUnavailableError as error:
        yield Finding("onnxruntime on cpu", "broken", error.message, "pip install 'vsdk[cpu]'")
        return
    providers = runtime.get_available_providers()
    yield _provider(runtime.__version__, providers, "CPUExecutionProvider", "cpu", "broken", "vsdk[cpu]")
    cuda = _provider(runtime.__version__, providers, "CUDAExecutionProvider", "cuda", "absent", "vsdk[gpu]")
    if cuda.state == "ok":
        onnxruntime_cuda.preload_libraries(runtime)
        if why := onnxruntime_cuda.missing_library(runtime):
            cuda = Finding(cuda.name, "absent", f"{cuda.detail}: {why}", onnxruntime_cuda.INSTALL)
    yield cuda


def _provider(version: str, providers: list[str], name: str, device: str, missing: State, extra: str) -> Finding:
    if name in providers:
        return Finding(f"onnxruntime on {device}", "ok", version)
    fix = f"pip uninstall onnxruntime onnxruntime-gpu && pip install '{extra}'"
    return Finding(f"onnxruntime on {device}", missing, f"{version} without {name}", fix)


def _nvidia_driver() -> Finding:
    """The kernel's own word on the driver; Jetson boards name themselves in the device tree instead."""
    for path in (Path("/proc/driver/nvidia/version"), Path("/proc/device-tree/model")):
        try:
            first = path.read_text(encoding="utf-8", errors="replace").split("\n")[0].strip("\0 ")
        except OSError:
            continue
        if "nvidia" in first.lower():
            return Finding("NVIDIA GPU", "ok", first)
    return Finding("NVIDIA GPU", "absent", "no driver is loaded")


def _cuda() -> Finding:
    """Whether the CUDA driver works: TensorRT crashes where it does not."""
    from vsdk_runtimes.tensorrt.cuda_driver import CudaDriver

    try:
        driver = CudaDriver()
    except Error as error:
        return Finding("CUDA driver", "absent", error.message.rpartition("used here: ")[2])
    version = f"{driver.version // 1000}.{driver.version % 1000 // 10}"
    return Finding("CUDA driver", "ok", f"CUDA {version}, {driver.name} ({driver.capability})")


def _tensorrt() -> Iterator[Finding]:
    from vsdk_runtimes.tensorrt.library import INSTALL, MODULES, TITLES, import_tensorrt

    for name in MODULES:
        try:
            yield Finding(TITLES[name], "ok", import_tensorrt(name).__version__)
        except EngineUnavailableError as error:
            yield Finding(TITLES[name], "absent", error.message, INSTALL[name])


def _engines() -> Finding:
    """Engines that were built, whatever for: running one says whether it fits."""
    from vsdk_runtimes.tensorrt.cache import default_folder

    try:
        folder = default_folder()
    except Error as error:
        return Finding("built engines", "absent", error.message, error.hint)
    count = len(list(folder.glob("*.plan")))
    detail = f"{count} in {folder}"
    if count:
        return Finding("built engines", "ok", detail)
    return Finding("built engines", "absent", detail, "vsdk export BUNDLE --target tensorrt")


def _embedded_bundle() -> Finding:
    """Hash every file of the embedded bundle and send one picture through it."""

    def run() -> str:
        from .encoder import Encoder
        from .loading import load

        bundle = load(verify=True)
        encoder = Encoder(bundle, threads=1)
        ramp = np.linspace(0, 255, 180 * 320 * 3).astype(np.uint8).reshape(180, 320, 3)
        features = encoder.encode_images([ramp])
        encoder.close()
        if not np.isfinite(features.cls).all():
            raise ArithmeticError("the encoder gave numbers that are not finite")
        return f"{bundle.manifest.name}, digest {bundle.digest[:12]}, encodes a picture"

    return _attempt("embedded bundle", run, "pip install --force-reinstall --no-deps vsdk")


def _attempt(name: str, run: Callable[[], str], fix: str) -> Finding:
    try:
        return Finding(name, "ok", run())
    except Error as error:
        return Finding(name, "broken", error.message, error.hint or fix)
    except (ArithmeticError, ImportError, OSError) as error:
        return Finding(name, "broken", f"{type(error).__name__}: {error}", fix)


def _memory() -> str:
    """Total and available memory, as Linux states them."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        total = os.sysconf("SC_PHYS_PAGES") * page / 1e9
        available = os.sysconf("SC_AVPHYS_PAGES") * page / 1e9
    except (AttributeError, OSError, ValueError):
        return "unknown"
    return f"{total:.1f} GB, {available:.1f} GB free"
