"""Built engines of this user: a plan file that other tools can read, and beside it a JSON file that says what it is.

A plan is executable code, tied to one GPU architecture and one TensorRT version. So engines are kept in a folder that
belongs to this user and that nobody else may write to; it is checked at each use. They never become part of a bundle.
What an engine is tied to is its key: the graph's digest, the GPU, the version, the precision and the profile.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

from ..engine import Precision
from ..errors import EngineError
from .library import EngineName

ENVIRONMENT: Final = "VSDK_ENGINES"
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def this_platform() -> str:
    """Operating system and processor, as `Linux-aarch64`."""
    return f"{platform.system()}-{platform.machine()}"


class EngineKey(BaseModel):
    """What an engine is built from and for.

    Attributes:
        engine: `tensorrt` or `tensorrt-rtx`.
        version: Of TensorRT, in full.
        platform: Operating system and processor, as `Linux-x86_64`.
        gpu: Name of the GPU that it was built on; empty when it was built ahead of time.
        targets: Architectures that it runs on, as `sm87`.
        graph: SHA-256 of the graph.
        precision: Of the graph.
        profile: Least, usual and largest size of each dynamic axis.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: EngineName
    version: str
    platform: str = Field(default_factory=this_platform)
    gpu: str = ""
    targets: tuple[str, ...]
    graph: str
    precision: Precision
    profile: dict[str, tuple[int, int, int]]

    @property
    def digest(self) -> str:
        """SHA-256 of the key."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


class Sidecar(BaseModel):
    """The JSON file beside a plan.

    Attributes:
        format: 1.
        component: Name of the component in its bundle.
        key: See `EngineKey`.
        bytes, sha256: Of the plan.
        asked: Types that the graph computes in.
        layers: Types of the engine's layers as read back; None when it was built where that cannot be done.
        driver: Version of the CUDA driver that it was built with, as 13000; 0 without one.
        seconds: How long the build took.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    component: str
    key: EngineKey
    bytes: NonNegativeInt
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    asked: dict[str, int]
    layers: dict[str, int] | None = None
    driver: int = 0
    seconds: float


class EngineCache:
    """A folder of engines.

    Args:
        folder: None takes `VSDK_ENGINES` from the environment, or `vsdk/engines` in the user's cache folder.

    Raises:
        EngineError: The folder cannot be made, belongs to somebody else, or others may write to it.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_folder()
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise EngineError(
                f"the folder of engines {self.folder} cannot be made: {error.strerror}",
                hint=f"Name another one in the environment: {ENVIRONMENT}=DIR",
            ) from error
        self._check(self.folder)

    def plan_path(self, component: str, key: EngineKey) -> Path:
        """Where the plan with this key is, or would be."""
        target = "-".join(key.targets) if len(key.targets) < 3 else f"{key.targets[0]}-to-{key.targets[-1]}"
        name = f"{component}-{key.precision}-{key.engine}-{key.version}-{target}-{key.digest[:16]}.plan"
        return self.folder / name.replace("/", "_")

    def sidecar(self, plan: Path) -> Sidecar | None:
        """What the plan at this path is; None when it is not there, or the JSON file beside it is not one of ours."""
        try:
            found = Sidecar.model_validate_json(plan.with_suffix(".json").read_bytes())
        except (OSError, ValidationError):
            return None
        return found if plan.is_file() else None

    def sidecars(self, graph: str) -> Iterator[tuple[Path, Sidecar]]:
        """All engines that were built from a graph, newest first."""
        plans = [path for path in self.folder.glob("*.plan") if path.is_file()]
        for path in sorted(plans, key=lambda plan: plan.stat().st_mtime_ns, reverse=True):
            found = self.sidecar(path)
            if found is not None and found.key.graph == graph:
                yield path, found

    def write(self, sidecar: Sidecar, content: bytes) -> Path:
        """Keep a plan. Either both files are there afterwards, whole, or what was there before.

        Raises:
            EngineError: The disk is full, or the folder cannot be written.
        """
        path = self.plan_path(sidecar.component, sidecar.key)
        try:
            path.with_suffix(".json").unlink(missing_ok=True)  # a plan without it is not used, whatever happens now
            _write_atomically(path, content)
            _write_atomically(path.with_suffix(".json"), sidecar.model_dump_json(indent=1).encode())
        except OSError as error:
            raise EngineError(
                f"the engine {path} cannot be written: {error.strerror}", hint="Make room on the disk, then try again."
            ) from error
        return path

    def add_layers(self, path: Path, sidecar: Sidecar, layers: dict[str, int]) -> None:
        """Note what an engine's layers turned out to be, so that they are read back only once."""
        noted = sidecar.model_copy(update={"layers": layers})
        with contextlib.suppress(OSError):
            _write_atomically(path.with_suffix(".json"), noted.model_dump_json(indent=1).encode())

    def read(self, path: Path, sidecar: Sidecar) -> bytes:
        """A plan, if it is the one that its JSON file describes.

        Raises:
            EngineError: It is not, cannot be read, belongs to somebody else, or others may write to it.
        """
        again = f"Delete it and build it again: rm '{path}'"
        self._check(path)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise EngineError(f"the engine {path} cannot be read: {error.strerror}", hint=again) from error
        if hashlib.sha256(content).hexdigest() != sidecar.sha256:
            raise EngineError(f"the engine {path} is not the one that was built: its SHA-256 differs", hint=again)
        return content

    def timing_cache(self, engine: EngineName, version: str, target: str) -> Path:
        """Where the builder's measurements are kept for a version and a GPU."""
        return self.folder / f"timing-{engine}-{version}-{target}.cache"

    def read_timing_cache(self, path: Path) -> bytes:
        """The builder's earlier measurements; empty when there are none, or when others could have written them."""
        try:
            self._check(path)
            return path.read_bytes()
        except (OSError, EngineError):
            return b""

    def write_timing_cache(self, path: Path, content: bytes) -> None:
        """Keep measurements. Losing them costs only time, so a full disk is no error here."""
        with contextlib.suppress(OSError):
            _write_atomically(path, content)

    def _check(self, path: Path) -> None:
        """Refuse what another user owns or may change.

        Raises:
            EngineError: So it is.
        """
        try:
            status = path.lstat()
        except OSError as error:
            raise EngineError(f"{path} cannot be read: {error.strerror}") from error
        why = ""
        if stat.S_ISLNK(status.st_mode):
            why = "is a link"
        elif hasattr(os, "geteuid") and status.st_uid != os.geteuid():
            why = f"belongs to another user (number {status.st_uid})"
        elif status.st_mode & _OTHERS_MAY_WRITE:
            why = "can be written by other users"
        if why:
            raise EngineError(
                f"{path} {why}; engines are executable code, so they are loaded only from what is yours alone",
                hint=f"chmod go-w '{path}', or name a folder of yours in the environment: {ENVIRONMENT}=DIR",
            )


def default_folder() -> Path:
    """Where engines are kept when nothing is said.

    Raises:
        EngineError: There is no home folder.
    """
    if named := os.environ.get(ENVIRONMENT):
        return Path(named)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "vsdk", "engines")
    except RuntimeError as error:
        raise EngineError(f"there is no folder for engines: {error}", hint=f"Name one: {ENVIRONMENT}=DIR") from error


def _write_atomically(path: Path, content: bytes) -> None:
    """Write beside, then rename; readable and writable by this user only, on the disk before it has its name."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
