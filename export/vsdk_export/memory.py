"""Export of a memory bridge: the recurrent step, and the projector into a language model, beside an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from torch import nn

from vsdk_models.preprocessing import pixel_size
from vsdk_models.videollamb import MemoryStep
from vsdk_runtimes import Bundle, load, load_bundle
from vsdk_runtimes.errors import ExportError
from vsdk_runtimes.manifest import Origin

from .build import Progress, Target, Video, check_calibration, checked_precisions, export_networks, no_progress
from .frames import pixels
from .memory_samples import drawn_tokens, memory_samples
from .network import Array, Network, Recurrence
from .report import ExportReport

# The cache is copied through a matrix product in every step, and padding may hold anything.
_KEEP_FLOAT = ("patches", "mix", "write", "valid", "keys_in", "values_in")
_UNNAMED = Origin(checkpoint="unnamed")


def export_memory(
    step: MemoryStep,
    *,
    projector: nn.Module | None = None,
    out: str | PathLike[str] | None = None,
    into: str | PathLike[str] | None = None,
    encoder: str | PathLike[str] | None = None,
    origin: Origin = _UNNAMED,
    name: str = "bridge",
    role: str = "bridge",
    family: str = "videollamb",
    bundle_name: str | None = None,
    precisions: Sequence[str] = ("fp32",),
    calibrate: Sequence[Video] = (),
    progress: Progress = no_progress,
) -> ExportReport:
    """Export a memory bridge as a component of a bundle; the module itself, in fp32, is the reference.

    A bundle with a small random bridge, for a test: `export_memory(MemoryStep(BridgeConfig(width=32, heads=2,
    hidden=64, patches=16, grid=0, capacity=4)), out=folder)`.

    Args:
        step: The bridge. Its inputs, outputs and state are those of the component.
        projector: Tokens `[batch, width]` to `[batch, any]`; becomes the component "projector". None: there is none.
        out: Folder of a new bundle.
        into: Existing bundle to add to. Exactly one of `out` and `into` is needed.
        encoder: Existing bundle whose components the new one at `out` shall have, too. The bridge is calibrated and
            verified with its encoder's patch tokens; where there is no encoder (`into` may have one), with drawn ones.
        origin: Where the weights come from, and their licence.
        name: Name of the component.
        role: What it is used for; the pipeline looks for `bridge`.
        family: Model family, for the reader of the manifest.
        bundle_name: Name of a new bundle; None takes the folder's.
        precisions: Of `PRECISIONS`.
        calibrate: Videos or folders of pictures like those that it will see: the encoder of the bundle reads them, and
            int8 and fp16 take the states that their scenes lead to. Without, int8 takes those that its samples lead to.
        progress: Called with a description and the fraction that is done.

    Raises:
        ExportError: The target cannot be used, the encoder's patch tokens do not fit the bridge, or the module cannot
            be exported.
        ParityError: The graph does not reproduce the module, step by step or in the closed loop.
    """
    chosen = checked_precisions(precisions)
    if calibrate:
        check_calibration(chosen, calibrate)
    target = Target(_path(out), _path(into), bundle_name, base=_path(encoder))
    existing = target.base or target.into
    tokens = None
    if existing is not None and (bundle := load_bundle(existing)).has("encoder"):
        check_encoder(bundle, step.config.patches, step.config.width)
        tokens = encoder_tokens(bundle)
    networks = memory_networks(step, projector, origin, tokens=tokens, name=name, role=role, family=family)
    return export_networks(networks, target, precisions=chosen, calibrate=calibrate, progress=progress)


def memory_networks(
    step: MemoryStep,
    projector: nn.Module | None,
    origin: Origin,
    *,
    tokens: Array | None = None,
    name: str = "bridge",
    role: str = "bridge",
    family: str = "videollamb",
) -> list[Network]:
    """The networks of a bridge and of its projector.

    Args:
        step: The bridge.
        projector: See `export_memory`.
        origin: Where the weights come from.
        tokens: Patch tokens of real-looking frames, float32 `[frames, patches, width]`; None draws some.
        name: Of the bridge's component.
        role: Of the bridge's component.
        family: Of both.
    """
    if tokens is None:
        tokens = drawn_tokens(step.config.patches, step.config.width)
    bridge = Network(
        name=name,
        role=role,
        family=family,
        module=step,
        outputs=step.output_names,
        samples=memory_samples(step, tokens),
        origin=origin,
        recurrence=Recurrence(step.state, step.initial_state(), step.memory),
        keep_float=tuple(item for item in _KEEP_FLOAT if item in step.input_names),
    )
    if projector is None:
        return [bridge]
    return [bridge, projector_network(projector, bridged_tokens(bridge), origin, family)]


def projector_network(projector: nn.Module, tokens: Array, origin: Origin, family: str) -> Network:
    """The network of a projector.

    Args:
        projector: Tokens `[batch, width]` to `[batch, any]`.
        tokens: Such tokens as it will get, float32 `[at least 8, width]`.
        origin: Where the weights come from.
        family: Model family.
    """
    return Network("projector", "projector", family, projector, ("projected",), {"tokens": tokens}, origin)


def bridged_tokens(bridge: Network, count: int = 16) -> Array:
    """Tokens as the bridge of the first segment gives them out, `[count, width]`."""
    _, outputs = next(iter(bridge.steps()))
    flat: Array = outputs["visual"].reshape(-1, outputs["visual"].shape[-1])
    return flat[:: max(1, len(flat) // count)][:count]


def check_encoder(bundle: Bundle, patches: int, width: int) -> None:
    """Hold a bundle's encoder against what a bridge reads.

    Raises:
        ExportError: The bridge cannot read such patch tokens.
    """
    found = bundle.component("encoder").spec.outputs.get("patches")
    shape = tuple(found.shape[1:]) if found is not None else None
    if shape != (patches, width):
        gives = "no patch tokens" if shape is None else f"{shape[0]} patch tokens of width {shape[1]}"
        raise ExportError(
            f"the encoder of bundle {bundle.folder} gives {gives} a frame, and the bridge reads {patches} of width "
            f"{width}",
            hint="A bridge fits the encoder that it was trained with; its layer and image size count, too.",
        )


def encoder_tokens(bundle: Bundle) -> Array:
    """Patch tokens that the encoder of a bundle gives for drawn pictures, `[pictures, patches, width]`.

    Raises:
        ExportError: The encoder does not take pictures.
    """
    component = bundle.component("encoder")
    if component.spec.preprocessing is None:
        raise ExportError(f"the encoder of bundle {bundle.folder} does not say how pictures become its input")
    samples = pixels(component.spec.preprocessing, pixel_size(component.spec.preprocessing))
    with load(component, device="cpu", engine="onnxruntime") as session:
        return session.run({"pixels": samples}, ["patches"])["patches"]


def _path(value: str | PathLike[str] | None) -> Path | None:
    return None if value is None else Path(value)
