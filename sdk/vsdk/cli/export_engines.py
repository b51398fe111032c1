"""`vsdk export BUNDLE --target ...`: a bundle's engines. Needs the run side only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from .console import size, stderr

if TYPE_CHECKING:
    from vsdk_runtimes import Precision
    from vsdk_runtimes.tensorrt.targets import BuiltEngine


def build_for_target(
    folder: str,
    target: str,
    *,
    out: Path | None,
    precision: str | None,
    component: str | None,
    shapes: str | None,
    gpu: str | None,
    workspace: int,
    threads: int | None,
    dry_run: bool,
) -> None:
    """Build what was asked for, with a progress bar, and say what came of it; the arguments are the options' texts.

    Raises:
        BundleError, EngineError, InputError: As `vsdk_runtimes.tensorrt.targets.build_engines` does.
    """
    from vsdk_runtimes import load_bundle
    from vsdk_runtimes.tensorrt.profiles import parse_ranges
    from vsdk_runtimes.tensorrt.targets import Settings, build_engines

    bundle = load_bundle(folder, verify=True)
    settings = Settings(
        precisions=cast("list[Precision] | None", _listed(precision)),
        components=_listed(component),
        ranges=parse_ranges(shapes) if shapes else {},
        gpus=_listed(gpu),
        workspace=workspace * 2**20,
        threads=threads,
        folder=out,
        dry_run=dry_run,
    )
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), console=stderr
    ) as progress:
        task = progress.add_task("loading", total=1.0)
        built = build_engines(
            bundle,
            target,
            settings,
            lambda graph, says, done: progress.update(task, description=f"{graph}: {says}", completed=done),
        )
    if dry_run:
        stderr.print("every node is supported; nothing was built", highlight=False)
        return
    _show(built)


def _listed(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",")]


def _show(built: list[BuiltEngine]) -> None:
    table = Table("component", "precision", "for", "plan", "seconds", "graph computes in", "engine's layers")
    for engine in built:
        sidecar = engine.sidecar
        table.add_row(
            engine.component,
            engine.precision,
            sidecar.key.gpu or " ".join(sidecar.key.targets),
            size(sidecar.bytes),
            f"{sidecar.seconds:.1f}" if engine.fresh else "in the cache",
            _counts(sidecar.asked),
            "when it is first run" if sidecar.layers is None else _counts(sidecar.layers),
        )
    stderr.print(table)
    for engine in built:
        for remark in engine.remarks:
            stderr.print(f"note: {engine.component}: {remark}", markup=False, highlight=False, soft_wrap=True)
    said = f"{len(built)} {'engine' if len(built) == 1 else 'engines'} in {built[0].path.parent}"
    stderr.print(said, markup=False, highlight=False, soft_wrap=True)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "-"
