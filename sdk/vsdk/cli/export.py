"""`vsdk export`: a checkpoint becomes a verified bundle. The only place of the run side that knows the build side.

With `--target` a bundle's engines are built instead, and that needs the run side only.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from .console import examples, shape, size, stderr

if TYPE_CHECKING:
    from vsdk_export.report import ExportReport
    from vsdk_runtimes.manifest import QuantisedSpec

EXAMPLES = examples(
    ("vsdk export openai/clip-vit-base-patch32 --out clip-bundle", "A checkpoint of the Hugging Face hub."),
    ("vsdk export ./my-dinov2 --out dinov2-bundle --precision fp32,fp16 --layer last", "A local folder, both types."),
    ("vsdk export ./my-videollamb --encoder clip-bundle --out memory-bundle", "A memory bridge for that encoder."),
    ("vsdk export facebook/sam2.1-hiera-tiny --image-size 512 --out tracker", "A tracker, four times cheaper."),
    ("vsdk export ./my-clip --out clip-bundle --precision fp32,int8 --calibrate street.mp4", "int8, for that camera."),
    ("vsdk export ./my-siglip --out siglip-bundle --dry-run", "Only say what would be exported."),
    ("vsdk export clip-bundle --target tensorrt --precision fp16", "On the device: engines for its GPU."),
    ("vsdk export clip-bundle --target tensorrt-rtx --gpu sm86,sm89 --out engines", "Ahead of time, without a GPU."),
)


def export(
    checkpoint: Annotated[
        str, typer.Argument(help="A local folder, or an id on the Hugging Face hub.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the new bundle; with --target, of the engines.", metavar="DIR"),
    ] = None,
    into: Annotated[Path | None, typer.Option(help="Existing bundle to add components to.", metavar="BUNDLE")] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="fp32, fp16, int8, or several with commas. With --target by default what the bundle prefers on GPUs.",
            show_default="fp32",
        ),
    ] = None,
    calibrate: Annotated[
        list[str] | None,
        typer.Option(
            help="Video or folder of pictures like those that it will see; int8 needs it. May be repeated.",
            metavar="VIDEO",
            show_default=False,
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            help="Whose tokens: last, or -k from the end. By default -2 for CLIP, else last.", show_default=False
        ),
    ] = None,
    encoder: Annotated[
        Path | None,
        typer.Option(
            help="Bundle whose encoder a memory bridge is to read; --out begins as its copy.", metavar="BUNDLE"
        ),
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Of a tracker: side of its square input in pixels.", show_default=False)
    ] = None,
    cond_slots: Annotated[
        int | None, typer.Option(help="Of a tracker: prompted frames that it keeps; 4.", show_default=False)
    ] = None,
    family: Annotated[
        str | None,
        typer.Option(help="Of SAM-2 weights with the original key names: as sam2.1-tiny.", show_default=False),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing; say what would be exported.")] = False,
    target: Annotated[
        str | None,
        typer.Option(
            help="Build engines of a bundle: tensorrt (for this machine's GPU), or tensorrt-rtx (anywhere).",
            metavar="ENGINE",
            show_default=False,
        ),
    ] = None,
    component: Annotated[
        str | None, typer.Option(help="With --target: names of components; by default all.", show_default=False)
    ] = None,
    shapes: Annotated[
        str | None,
        typer.Option(
            help="With --target: sizes of dynamic axes, as batch=1:4:8 (least, usual, largest).",
            metavar="AXIS=SIZES,...",
            show_default=False,
        ),
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option(help="Of tensorrt-rtx: architectures, as sm86,sm89; by default from sm80 on.", show_default=False),
    ] = None,
    workspace: Annotated[
        int, typer.Option(min=1, help="With --target: most GPU memory of a layer beside its tensors, in MB.")
    ] = 2048,
    threads: Annotated[
        int | None, typer.Option(min=1, help="With --target: most processor threads.", show_default=False)
    ] = None,
) -> None:
    """Turn a checkpoint into a bundle, and verify it against PyTorch; or build a bundle's engines for a GPU."""
    if target is not None:
        if into is not None or encoder is not None:
            raise typer.BadParameter("--into and --encoder go with a checkpoint, --target with a bundle")
        from .export_engines import build_for_target

        build_for_target(
            checkpoint, target, out=out, precision=precision, component=component, shapes=shapes, gpu=gpu,
            workspace=workspace, threads=threads, dry_run=dry_run,
        )  # fmt: skip
        return
    if (out is None) == (into is None) and not (dry_run and out is None):
        raise typer.BadParameter("one of --out and --into is needed, and not both")
    if encoder is not None and into is not None:
        raise typer.BadParameter("--encoder goes with --out; --into uses the encoder of its own bundle")
    if (Path(checkpoint) / "manifest.json").is_file():
        from vsdk_runtimes.errors import InputError

        raise InputError(
            f"{checkpoint} is a bundle already, not a checkpoint",
            hint=f"Engines are built with: vsdk export {checkpoint} --target tensorrt",
        )
    export_checkpoint = _build_side()
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), console=stderr
    ) as progress:
        task = progress.add_task("loading", total=1.0)
        report: ExportReport = export_checkpoint(
            checkpoint,
            out=out,
            into=into,
            precisions=tuple(name.strip() for name in (precision or "fp32").split(",")),
            layer=layer,
            dry_run=dry_run,
            revision=revision,
            encoder=encoder,
            image_size=image_size,
            conditioning_slots=cond_slots,
            family=family,
            calibrate=tuple(calibrate or ()),
            progress=lambda says, fraction: progress.update(task, description=says, completed=fraction),
        )
    _show(report)


def _build_side() -> Callable[..., Any]:
    """`vsdk_export.export_checkpoint`.

    Raises:
        ExportError: The libraries of the build side are not installed.
    """
    try:
        from vsdk_export import export_checkpoint
    except ImportError as error:
        from vsdk_runtimes.errors import ExportError

        raise ExportError(
            f"exporting needs the build side, and its libraries are not all installed: {error}",
            hint="Install it: pip install 'vsdk[export]'",
        ) from error
    return export_checkpoint


def _show(report: ExportReport) -> None:
    if report.dry_run:
        table = Table("component", "role", "family", "inputs", "outputs", "files", title="would export")
        for plan in report.plan:
            inputs = "\n".join(f"{name} {shape(spec)}" for name, spec in plan.inputs.items())
            outputs = "\n".join(f"{name} {shape(spec)}" for name, spec in plan.outputs.items())
            cells = (plan.name, plan.role, plan.family, inputs, outputs, "\n".join(plan.files.values()))
            table.add_row(*map(Text, cells))
    else:
        table = Table("component", "precision", "output", "largest error", "relative", "cosine", "limit")
        for row in report.parity:
            measured = row.deviation
            table.add_row(
                row.component,
                row.precision,
                row.output,
                f"{measured.max_abs:.2e}",
                f"{measured.relative:.2e}",
                f"{measured.cosine:.6f}",
                row.limit,
            )
    stderr.print(table)
    for name, component in report.components.items():
        if component.quantised is not None:
            _show_quantised(name, component.quantised)
    for note in report.notes:
        stderr.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    if not report.dry_run:
        total = size(sum(report.files.values()))
        stderr.print(
            f"bundle {report.folder} ({total}), digest {report.digest}", markup=False, highlight=False, soft_wrap=True
        )


def _show_quantised(component: str, spec: QuantisedSpec) -> None:
    """What is in int8, what is not and what that would have cost, and what it was calibrated with."""
    says = [
        f"{component} at int8: {spec.nodes} of {spec.nodes + len(spec.left)} nodes with weights, {spec.share:.1%} of "
        f"their multiply-adds; calibrated on {spec.calibration}",
        *(f"  left in float: {name} (alone in int8: 1 - cosine {cost:.2g})" for name, cost in spec.left.items()),
    ]
    stderr.print("\n".join(says), markup=False, highlight=False, soft_wrap=True)
