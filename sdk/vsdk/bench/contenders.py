"""A contender in a process of its own: it has its threads, its memory and nothing of the others'.

The parent asks for one run at a time, so all contenders take turns. Times are taken in the contender, by the clock on
the wall and by that of the thread that works; on a machine with other work to do only the second says something.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vsdk_runtimes import Bundle, Precision, load, load_bundle
from vsdk_runtimes.errors import Error

from ..preprocessing import Preprocessor
from ..scene_tilling import SceneTilling
from ..settings import scene_settings
from ..sources.opening import open_source
from ..stream import BATCH

Array = npt.NDArray[Any]
Inputs = Mapping[str, Array]
Kind = Literal["eager", "compile", "onnxruntime"]


@dataclass(frozen=True)
class Contender:
    """Who runs what.

    Attributes:
        kind: PyTorch eager, PyTorch compiled, or the bundle's graph in ONNX Runtime.
        precision: Of the graph; PyTorch runs in fp32.
        device: `cpu` or `cuda`.
        bundle, checkpoint, component: What is measured.
        threads: How many each has.
    """

    kind: Kind
    precision: Precision
    device: str
    bundle: str
    checkpoint: str
    component: str
    threads: int

    @property
    def name(self) -> str:
        """For the table."""
        what = {"eager": "PyTorch eager", "compile": "torch.compile", "onnxruntime": "ONNX Runtime"}[self.kind]
        return f"{what} {self.precision}, {self.device}"


class Running:
    """The parent's end of a contender's process.

    Args:
        contender: Who runs there.
        worker: What it can be asked for, a class that is imported there and not here.
    """

    def __init__(self, contender: Contender, worker: type[Worker]) -> None:
        self.contender = contender
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, contender, worker), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, command: str, *arguments: Any) -> Any:
        """Have it do something, and wait for the answer.

        Raises:
            ContenderError: It could not.
        """
        try:
            self._pipe.send((command, arguments))
            done, answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise ContenderError(f"{self.contender.name}: its process ended") from error
        if not done:
            raise ContenderError(f"{self.contender.name}: {answer}")
        return answer

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


class ContenderError(Exception):
    """A contender cannot be measured; the message says why."""


def _serve(pipe: Connection, contender: Contender, kind: type[Worker]) -> None:
    """The child: do what the parent asks until it hangs up."""
    worker = kind(contender)
    while True:
        try:
            command, arguments = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            pipe.send((True, getattr(worker, command)(*arguments)))
        except Error as error:
            pipe.send((False, error.message))
        except Exception as error:  # whatever a compiler or an engine raises belongs into the table
            lines = str(error).strip().splitlines() or traceback.format_exc().splitlines()[-1:]
            pipe.send((False, f"{type(error).__name__}: {lines[0]}"))


class Worker:
    """What a contender can be asked for: the public methods.

    Attributes:
        contender: Which it is.
        inputs: What it runs on, once `prepare` was asked for.
    """

    def __init__(self, contender: Contender) -> None:
        self.contender = contender
        self.inputs: Inputs = {}

    def load(self) -> None:
        """Make it ready to run."""
        raise NotImplementedError

    def run(self, inputs: Inputs) -> Any:
        """One run."""
        raise NotImplementedError

    def named(self, result: Any) -> dict[str, Array] | None:
        """The result's arrays by name; None where they have no names."""
        raise NotImplementedError

    def versions(self) -> dict[str, str]:
        """Of the library that runs it."""
        raise NotImplementedError

    @property
    def bundle(self) -> Bundle:
        """The bundle that is measured."""
        return load_bundle(self.contender.bundle)

    def prepare(self, inputs: Inputs) -> dict[str, Array] | None:
        """Load, and run twice (a compiler works in the first run); the outputs, where they have names."""
        self.inputs = inputs
        self.load()
        self.run(inputs)
        return self.named(self.run(inputs))

    def once(self) -> tuple[float, float]:
        """Seconds of one run, on the wall and of this thread."""
        return _timed(lambda: self.run(self.inputs))

    def pipeline(self, path: str, frames: int) -> tuple[float, float]:
        """Seconds a frame from a video file to scenes, all in this thread, every frame encoded."""
        bundle = self.bundle
        spec = bundle.components[self.contender.component].spec
        assert spec.preprocessing is not None
        preprocessor, scenes = Preprocessor(spec.preprocessing), SceneTilling(scene_settings(bundle))
        with open_source(path, threads=1) as source:
            source.read()  # opening and the first packet are no frame's

            def run() -> None:
                pictures = []
                for _ in range(frames):
                    frame = source.read()
                    if frame is None:
                        return
                    pictures.append(preprocessor.resize(frame.image))
                    if len(pictures) == BATCH:
                        for row in _vectors(self.run({"pixels": preprocessor.normalise(pictures)})):
                            scenes.push(row)
                        pictures = []

            wall, processor = _timed(run)
        return wall / frames, processor / frames

    def memory(self) -> tuple[int, int | None]:
        """Resident bytes of this process, and bytes on the GPU where it uses one."""
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        resident = pages * os.sysconf("SC_PAGE_SIZE")
        return resident, None if self.contender.device == "cpu" else _device_bytes()


class GraphWorker(Worker):
    """The bundle's graph in ONNX Runtime."""

    def load(self) -> None:
        """See `Worker.load`."""
        contender = self.contender
        self._session = load(
            self.bundle.components[contender.component], precision=contender.precision, device=contender.device,
            engine="onnxruntime", threads=contender.threads,
        )  # fmt: skip

    def run(self, inputs: Inputs) -> dict[str, Array]:
        """See `Worker.run`."""
        return self._session.run(inputs)

    def named(self, result: Any) -> dict[str, Array]:
        """See `Worker.named`."""
        return dict(result)

    def versions(self) -> dict[str, str]:
        """See `Worker.versions`."""
        return {self._session.info.engine: self._session.info.engine_version}


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    wall, processor = time.perf_counter(), time.thread_time()
    work()
    return time.perf_counter() - wall, time.thread_time() - processor


def _vectors(result: Any) -> Array:
    """A vector for each picture, from whatever an encoder gives."""
    if isinstance(result, Mapping) and "cls" in result:
        return np.asarray(result["cls"])
    tokens = getattr(result, "last_hidden_state", result)
    tokens = tokens[0] if isinstance(tokens, tuple) else tokens
    vectors = tokens[:, 0] if tokens.ndim == 3 else tokens
    return np.asarray(vectors.float().cpu().numpy())


def _device_bytes() -> int | None:
    """What the driver says this process has on the GPU; None where it does not say."""
    command = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return None
    mine = [line.split(",")[1] for line in lines if line.split(",")[0].strip() == str(os.getpid())]
    return int(mine[0]) * 1024**2 if mine and mine[0].strip().isdigit() else None
