"""`vsdk inspect`: what a bundle holds, where it comes from, and how well it was verified."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from .console import examples, shape, size, stdout

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vsdk_runtimes import Bundle, Component
    from vsdk_runtimes.manifest import ComponentSpec, MemorySpec, Preprocessing, TensorSpec

EXAMPLES = examples(
    ("vsdk inspect", "The model that ships with vsdk."),
    ("vsdk inspect clip-bundle --verify", "Another bundle, with every file hashed again."),
    ("vsdk inspect clip-bundle --json | jq -r .digest", "The digest, to pin it: vsdk.load(path, digest=...)"),
)

_EVICTION = {
    "merge": "merge: when every slot is taken, the two neighbours that are most alike become one",
    "oldest": "oldest: when every slot is taken, the oldest entry is forgotten",
}


def inspect(
    bundle: Annotated[
        Path | None, typer.Argument(help="Bundle folder; by default the model that ships with vsdk.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the manifest, digest and size as JSON.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Hash every file again.")] = False,
) -> None:
    """Show what a bundle holds."""
    from ..loading import load

    loaded = load(bundle, verify=verify)
    if json:
        content = {
            "folder": str(loaded.folder),
            "digest": loaded.digest,
            "bytes": _total(loaded),
            "manifest": loaded.manifest.model_dump(mode="json"),
        }
        typer.echo(json_module.dumps(content, indent=2))
    else:
        _show(loaded)


def _total(bundle: Bundle) -> int:
    return sum(entry.bytes for entry in bundle.manifest.files.values())


def _show(bundle: Bundle) -> None:
    manifest = bundle.manifest
    for name, value in (("bundle", manifest.name), ("folder", bundle.folder), ("digest", bundle.digest)):
        stdout.print(f"{name}  {value}", markup=False, highlight=False, soft_wrap=True)  # in one piece, to be copied
    _show_pairs(
        "",
        {
            "size": f"{size(_total(bundle))} in {len(manifest.files)} files",
            "made with": ", ".join(f"{name} {version}" for name, version in manifest.created_with.items()),
            "default precision": ", ".join(f"{name} on {kind}" for kind, name in manifest.default_precision.items()),
            "scenes": _settings(manifest.pipeline.scenes.model_dump(exclude_none=True)),
            "gate": _settings(manifest.pipeline.gate.model_dump(exclude_none=True)),
        },
    )
    for name, component in bundle.components.items():
        _show_pairs(f"component {name}", _component(component))
        _show_parity(component.spec)


def _component(component: Component) -> dict[str, str]:
    bundle, spec = component.bundle, component.spec
    graphs = [f"{kind}: {path} ({size(bundle.manifest.files[path].bytes)})" for kind, path in spec.files.items()]
    revision = f", revision {spec.source.revision}" if spec.source.revision else ""
    pairs = {
        "role": spec.role,
        "family": spec.family,
        "from": f"{spec.source.checkpoint}{revision}",
        "licence": spec.source.license,
        "graphs": "\n".join(graphs),
        "inputs": _tensors(spec.inputs),
        "outputs": _tensors(spec.outputs),
    }
    if spec.layer is not None:
        pairs["layer"] = str(spec.layer)
    if spec.preprocessing is not None:
        pairs["preprocessing"] = _preprocessing(spec.preprocessing)
    if spec.state:
        pairs["state"] = "\n".join(f"{item.output} -> {item.input}" for item in spec.state)
    if spec.memory is not None:
        pairs |= _memory(component, spec.memory)
    if spec.assets:
        pairs["assets"] = "\n".join(f"{name}: {path}" for name, path in spec.assets.items())
    return pairs


def _memory(component: Component, spec: MemorySpec) -> dict[str, str]:
    from ..memory.bridge import memory_bytes

    taken = memory_bytes(component)
    pairs = {
        "memory": f"{spec.tokens} memory tokens; segments of at most {spec.frames} frames, "
        f"{spec.grid} x {spec.grid} tokens a frame",
        "restart": "only with the stream"
        if spec.restart_every is None
        else f"the working memory starts anew every {spec.restart_every} segments",
        "memory size": f"{size(taken.state)} in all (an engine keeps it twice)",
    }
    if spec.capacity:
        kept = "memory tokens" if spec.variant == "memories" else "patch tokens"
        pairs["cache"] = f"{spec.capacity} slots of {size(taken.slot)}, each with the keys and values of {kept}"
        pairs["eviction"] = _EVICTION[spec.eviction]
    if spec.positions:
        pairs["positions"] = f"{spec.positions} segment embeddings; later segments share the last one"
    return pairs


def _preprocessing(spec: Preprocessing) -> str:
    resize = spec.resize
    edge = f"shortest edge {resize.shortest_edge}" if resize.shortest_edge else f"{resize.height} x {resize.width}"
    crop = f", centre crop {spec.crop[0]} x {spec.crop[1]}" if spec.crop else ""
    return f"resize to {edge} ({resize.filter}){crop}, scale {spec.scale:.6g}, mean {spec.mean}, std {spec.std}"


def _tensors(specs: Mapping[str, TensorSpec]) -> str:
    return "\n".join(f"{name}: {spec.dtype} {shape(spec)}" for name, spec in specs.items())


def _settings(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items()) or "the SDK's defaults"


def _show_pairs(title: str, pairs: Mapping[str, str]) -> None:
    table = Table(title=title or None, title_justify="left", show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs.items():
        table.add_row(Text(name), Text(value))
    stdout.print(table)


def _show_parity(spec: ComponentSpec) -> None:
    if not spec.parity:
        return
    table = Table("precision", "output", "largest error", "relative", "cosine", title="measured against the reference")
    for precision, outputs in spec.parity.items():
        for output, found in outputs.items():
            table.add_row(precision, output, f"{found.max_abs:.2e}", f"{found.relative:.2e}", f"{found.cosine:.6f}")
    stdout.print(table)
