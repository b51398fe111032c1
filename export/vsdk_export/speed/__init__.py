"""How fast the components of a bundle are beside the checkpoint that they came from.

Every contender is a process of its own; they take turns, one run each, round after round, so that a machine that slows
down for a while slows them all. PyTorch runs transformers' untouched model where there is one for the component, and
the module that was exported elsewhere; what it gives in fp32 is what errors are measured against.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from vsdk.bench.clip import render_clip
from vsdk.bench.contenders import Contender, ContenderError, GraphWorker, Inputs, Running
from vsdk.stream import BATCH
from vsdk_runtimes import Bundle, Precision
from vsdk_runtimes.errors import ExportError, InputError
from vsdk_runtimes.manifest import Deviation
from vsdk_runtimes.onnxruntime_engine import available_threads

from ..network import Array
from ..parity import deviation
from .node_times import OperatorTime, node_times
from .report import PIPELINE, Against, Row, Times
from .torch_side import TorchWorker

__all__ = ["PIPELINE", "Against", "OperatorTime", "Row", "Times", "measure_against"]

MIN_ROUNDS = 5
PIPELINE_FRAMES = 4 * BATCH
Progress = Callable[[str, float], None]


def measure_against(
    bundle: Bundle,
    checkpoint: str,
    *,
    components: Sequence[str] = (),
    precisions: Sequence[Precision] = (),
    device: str = "cpu",
    threads: int = 1,
    rounds: int = 20,
    compiled: bool = True,
    source: str | None = None,
    progress: Progress = lambda says, fraction: None,
) -> Against:
    """Measure components of a bundle, and the way from a video file to scenes, beside PyTorch.

    Args:
        bundle: What was exported.
        checkpoint: What it was exported from: a folder, a hub id, or a .safetensors file of a nano encoder.
        components: Names; none means the encoder and the text tower, or the parts of a tracker.
        precisions: Of the graphs; none means all that each component has.
        device: `cpu` or `cuda`.
        threads: Of each contender.
        rounds: How often each runs, after two runs to warm up.
        compiled: Also measure `torch.compile`.
        source: A video file for the pipeline; None renders a clip.
        progress: Called with what is being done and the fraction that is done.

    Raises:
        InputError: Too few rounds, or a component that is not there.
        ExportError: PyTorch cannot run the checkpoint.
    """
    if rounds < MIN_ROUNDS:
        raise InputError(f"a measurement needs at least {MIN_ROUNDS} rounds")
    names = _components(bundle, components)
    load = os.getloadavg()[0]
    rows: list[Row] = []
    skipped: dict[str, str] = {}
    nodes: dict[str, dict[str, list[OperatorTime]]] = {}
    operations: dict[str, int] = {}
    ceilings: dict[str, float] = {}
    share = 1 / len(names)
    with tempfile.TemporaryDirectory(prefix="vsdk-bench-") as folder:
        for number, name in enumerate(names):
            spec = bundle.manifest.components[name]
            wanted = [item for item in spec.files if not precisions or item in precisions]
            clip = source
            if spec.role == "encoder" and clip is None:
                clip = str(Path(folder) / "clip.mp4")
                render_clip(Path(clip), PIPELINE_FRAMES + 1)
            contenders = _contenders(bundle, checkpoint, name, wanted, device, threads, compiled=compiled)

            def says(text: str, fraction: float, *, start: float = number * share) -> None:
                progress(text, start + fraction * share)

            group = _Group(contenders, rounds, clip if spec.role == "encoder" else None, says)
            rows += group.measure()
            skipped.update(group.skipped)
            operations[name], ceilings = group.operations, group.ceilings
            if device == "cpu":
                nodes[name] = {item: node_times(bundle, name, item, group.inputs) for item in wanted}
    return Against(
        bundle=bundle.manifest.name,
        digest=bundle.digest,
        checkpoint=checkpoint,
        device=device,
        threads=threads,
        cores=available_threads(),
        load_before=load,
        load_after=os.getloadavg()[0],
        rows=tuple(rows),
        skipped=skipped,
        nodes=nodes,
        operations=operations,
        ceilings=ceilings,
    )


def _components(bundle: Bundle, asked: Sequence[str]) -> list[str]:
    have = bundle.manifest.components
    if missing := [name for name in asked if name not in have]:
        raise InputError(f"the bundle has no component {missing[0]!r}", hint=f"It has: {', '.join(have)}")
    comparable = [
        name for name, spec in have.items() if spec.role in ("encoder", "text") or spec.role.startswith("tracker.")
    ]
    found = list(asked) or [
        name for name in comparable if have[name].source == have[comparable[0]].source
    ]  # a bundle may hold components of several checkpoints
    if not found:
        raise InputError("the bundle has neither an encoder nor a tracker to compare")
    return found


def _contenders(
    bundle: Bundle, checkpoint: str, component: str, precisions: Sequence[Precision], device: str, threads: int,
    *, compiled: bool,
) -> list[Contender]:  # fmt: skip
    folder = str(bundle.folder)
    torch_kinds = ("eager", "compile") if compiled else ("eager",)
    made = [Contender(kind, "fp32", device, folder, checkpoint, component, threads) for kind in torch_kinds]  # type: ignore[arg-type]
    graphs = [
        Contender("onnxruntime", precision, device, folder, checkpoint, component, threads) for precision in precisions
    ]
    return made + graphs


class _Group:
    """All contenders at one component."""

    def __init__(self, contenders: Sequence[Contender], rounds: int, clip: str | None, says: Progress) -> None:
        self._contenders, self._rounds, self._clip, self._says = contenders, rounds, clip, says
        self._component = contenders[0].component
        self.skipped: dict[str, str] = {}
        self.inputs: Inputs = {}
        self.operations = 0
        self.ceilings: dict[str, float] = {}

    def measure(self) -> list[Row]:
        """The rows: of the component, then of the pipeline if there is a clip."""
        with ExitStack() as stack:
            running, errors = self._start(stack)
            rows = self._rows(self._component, running, "once", (), errors)
            if self._clip is not None:
                arguments = (self._clip, PIPELINE_FRAMES)
                for runner in list(running):  # another batch size than before: a compiler works again
                    self._says(f"{PIPELINE}: warming up {runner.contender.name}", 0.6)
                    try:
                        runner.ask("pipeline", *arguments)
                    except ContenderError as error:
                        self._skip(PIPELINE, runner.contender, error)
                        running.remove(runner)
                rows += self._rows(PIPELINE, running, "pipeline", arguments, {})
        return rows

    def _start(self, stack: ExitStack) -> tuple[list[Running], dict[str, Deviation]]:
        """Those that can run, the first of them PyTorch, and the errors of the graphs by contender."""
        running: list[Running] = []
        errors: dict[str, Deviation] = {}
        expected = self._reference()
        for contender in self._contenders:
            self._says(f"{self._component}: loading {contender.name}", 0.05)
            runner = Running(contender, GraphWorker if contender.kind == "onnxruntime" else TorchWorker)
            stack.callback(runner.close)
            try:
                outputs = runner.ask("prepare", self.inputs)
            except ContenderError as error:
                self._skip(self._component, contender, error)
                continue
            if outputs is not None:
                errors[contender.name] = _worst(outputs, expected)
            running.append(runner)
        return running, errors

    def _reference(self) -> Mapping[str, Array]:
        """What PyTorch gives; asked of a process that ends then, since it leaves more in memory than a run needs."""
        first = self._contenders[0]
        self._says(f"{self._component}: running the reference", 0.0)
        runner = Running(first, TorchWorker)
        try:
            self.inputs, expected, self.operations, self.ceilings = runner.ask("reference")
        except ContenderError as error:
            raise ExportError(f"nothing to compare {self._component!r} with: {error}") from error
        finally:
            runner.close()
        found: Mapping[str, Array] = expected
        return found

    def _rows(
        self, label: str, running: Sequence[Running], command: str, arguments: tuple[object, ...],
        errors: Mapping[str, Deviation],
    ) -> list[Row]:  # fmt: skip
        times: dict[str, list[tuple[float, float]]] = {runner.contender.name: [] for runner in running}
        for number in range(self._rounds):
            self._says(label, (0.2 if command == "once" else 0.6) + 0.35 * number / self._rounds)
            for runner in running:
                times[runner.contender.name].append(runner.ask(command, *arguments))
        return [self._row(label, runner, times[runner.contender.name], errors) for runner in running]

    def _row(
        self, label: str, runner: Running, times: Sequence[tuple[float, float]], errors: Mapping[str, Deviation]
    ) -> Row:
        name = runner.contender.name
        resident, device_bytes = runner.ask("memory")
        wall, processor = (Times(seconds) for seconds in zip(*times, strict=True))
        ceiling = None
        if label != PIPELINE and self.operations:
            spent = processor if runner.contender.device == "cpu" and runner.contender.threads == 1 else wall
            ceiling = self.operations / spent.least / self.ceilings["fp32"]
        return Row(
            label, name, wall, processor, resident, device_bytes, errors.get(name), ceiling, runner.ask("versions")
        )  # fmt: skip

    def _skip(self, label: str, contender: Contender, error: ContenderError) -> None:
        self.skipped[f"{label}: {contender.name}"] = str(error).removeprefix(f"{contender.name}: ")


def _worst(outputs: Mapping[str, Array], expected: Mapping[str, Array]) -> Deviation:
    """The output that is farthest off."""
    measured = [
        deviation([outputs[name]], [np.asarray(wanted)]) for name, wanted in expected.items() if name in outputs
    ]
    return max(measured, key=lambda item: item.relative)
