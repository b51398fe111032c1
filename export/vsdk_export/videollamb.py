"""`vsdk export` of a VideoLLaMB checkpoint: image tower, video tower, memory bridge and projector of one folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from vsdk_models.checkpoint import Checkpoint
from vsdk_models.layers import Layer, parse_layer
from vsdk_models.preprocessing import pixel_size, read_preprocessing
from vsdk_models.tensors import CheckpointTensors
from vsdk_models.videollamb import MemoryStep
from vsdk_models.videollamb.checkpoint import BridgePlan, load_adapter, load_bridge, plan_bridge
from vsdk_models.videollamb.towers import (
    IMAGE_PREFIXES,
    VIDEO_PREFIXES,
    TowerPlan,
    load_image_tower,
    looked_for,
    plan_tower,
    select_layer,
)
from vsdk_models.videollamb.video_tower import FRAMES, VideoEncoder, load_video_tower
from vsdk_runtimes import Bundle, Precision, load_bundle
from vsdk_runtimes.errors import CheckpointError, InputError
from vsdk_runtimes.manifest import Origin, Preprocessing, TensorSpec

from .build import Progress, Target, Video, export_networks
from .encoder import encoder_network, encoder_plan, floats, graph_files
from .frames import pixels
from .memory import check_encoder, encoder_tokens, memory_networks, projector_network
from .network import Array, Network
from .report import ComponentPlan, ExportReport
from .writer import check_target

_FAMILY = "videollamb"
# How much of the progress bar belongs to loading.
_LOADING = 0.1


@dataclass(frozen=True)
class _Tower:
    """A tower to export: its plan, the layer whose tokens it gives, and what it takes."""

    plan: TowerPlan
    layer: Layer
    preprocessing: Preprocessing

    @property
    def size(self) -> tuple[int, int]:
        return pixel_size(self.preprocessing)


@dataclass(frozen=True)
class _Plan:
    """Everything that is decided before any weights are read. Without towers, the encoder is that of `bundle`."""

    bridge: BridgePlan
    image: _Tower | None
    video: _Tower | None
    bundle: Bundle | None
    notes: tuple[str, ...]

    def components(self, precisions: tuple[Precision, ...]) -> tuple[ComponentPlan, ...]:
        """The components as a dry run shows them."""
        found = []
        if self.image is not None:
            found.append(encoder_plan(self.image.plan.architecture, self.image.size, precisions))
        if self.video is not None:
            found.append(_video_plan(self.video, precisions))
        if self.bridge.config is not None:
            with torch.device("meta"):  # only the shapes are wanted
                step = MemoryStep(self.bridge.config)
            inputs = {name: _whole(step.input_shape(name), name) for name in step.input_names}
            outputs = {name: _whole(step.output_shape(name), name) for name in step.output_names}
            files = graph_files("bridge", precisions)
            found.append(ComponentPlan("bridge", "bridge", _FAMILY, inputs, outputs, files))
        projected = {"projected": floats("batch", self.bridge.language_width)}
        tokens = {"tokens": floats("batch", self.bridge.width)}
        files = graph_files("projector", precisions)
        return (*found, ComponentPlan("projector", "projector", _FAMILY, tokens, projected, files))


def export_videollamb(
    checkpoint: Checkpoint,
    target: Target,
    *,
    precisions: tuple[Precision, ...],
    calibrate: Sequence[Video] = (),
    layer: int | str | None,
    dry_run: bool,
    progress: Progress,
    single_file_limit: int,
) -> ExportReport:
    """Export a VideoLLaMB checkpoint; the arguments are those of `export_checkpoint`.

    Where the target has an encoder already, the towers are left out and the bridge reads that encoder's patch tokens.

    Raises:
        CheckpointError: Something is missing from the checkpoint, has the wrong shape, or is of an unknown type.
        ExportError: The target cannot be used, or its encoder does not fit the bridge.
        ParityError: A graph does not reproduce PyTorch.
    """
    tensors = CheckpointTensors(checkpoint)
    plan = _plan(checkpoint, tensors, target, layer)
    components = plan.components(precisions)
    if target.out is not None or target.into is not None or not dry_run:
        check_target(target.out, target.into, tuple(item.name for item in components), target.base)
    preprocessing = plan.image.preprocessing if plan.image else None
    if dry_run:
        folder = target.out or target.into
        return ExportReport(folder, target.name or "", True, components, preprocessing, notes=plan.notes)
    progress("loading the weights", _LOADING / 2)
    return export_networks(
        _networks(plan, tensors, checkpoint.origin()),
        target,
        precisions=precisions,
        calibrate=calibrate,
        progress=lambda description, done: progress(description, _LOADING + (1 - _LOADING) * done),
        notes=plan.notes,
        single_file_limit=single_file_limit,
    )


def _plan(checkpoint: Checkpoint, tensors: CheckpointTensors, target: Target, layer: int | str | None) -> _Plan:
    if not checkpoint.weights:
        raise CheckpointError(
            f"the config.json of {checkpoint.name} does not state the sizes of its towers; its weights do",
            hint="For a dry run, download it first (hf download) and give the folder.",
        )
    notes = list(checkpoint.notes)
    image = video = bundle = None
    existing = target.base or target.into
    if existing is not None and (found := load_bundle(existing)).has("encoder"):
        bundle = found
        patches = _patches(bundle)
        notes.append(f"the bridge reads the encoder of {existing}; the towers of {checkpoint.name} are left out")
        if layer is not None:
            raise InputError("--layer chooses a layer of an encoder that is exported, and this one is already")
    else:
        image = _tower(checkpoint, plan_tower(tensors, IMAGE_PREFIXES), layer)
        video = _tower(checkpoint, plan_tower(tensors, VIDEO_PREFIXES), layer)
        if image is None:
            raise CheckpointError(
                f"{checkpoint.name} has no image tower under any known name: {looked_for(IMAGE_PREFIXES)}",
                hint="Export an encoder first, and give its bundle: --encoder BUNDLE",
            )
        patches = image.plan.patches
        notes += [_inferred(tower) for tower in (image, video) if tower is not None]
    bridge = plan_bridge(checkpoint, tensors, patches)
    if bundle is not None:
        check_encoder(bundle, patches, bridge.width)
    for tower in (image, video):
        if tower is not None and tower.plan.architecture.width != bridge.width:
            raise CheckpointError(
                f"{checkpoint.name} contradicts itself: the tower {tower.plan.prefix} has a width of "
                f"{tower.plan.architecture.width}, and mm_hidden_size in its config.json is {bridge.width}"
            )
    notes += [f"not known and not used: {name}" for name in bridge.unknown]
    return _Plan(bridge, image, video, bundle, tuple(notes))


def _tower(checkpoint: Checkpoint, plan: TowerPlan | None, layer: int | str | None) -> _Tower | None:
    if plan is None:
        return None
    sizes = plan.architecture
    preprocessing = read_preprocessing(checkpoint, "clip", sizes.image_size, sizes.patch_size)
    if pixel_size(preprocessing) != (sizes.image_size, sizes.image_size):
        raise CheckpointError(
            f"{checkpoint.name} contradicts itself: its image processor gives {pixel_size(preprocessing)} pixels, and "
            f"the tower {plan.prefix} takes {sizes.image_size}x{sizes.image_size}"
        )
    asked = select_layer(checkpoint.config) if layer is None else layer
    return _Tower(plan, parse_layer(asked, sizes.blocks), preprocessing)


def _inferred(tower: _Tower) -> str:
    sizes = tower.plan.architecture
    return (
        f"{tower.plan.prefix}*: sizes inferred from the shapes ({sizes.blocks} blocks, {sizes.image_size} pixels, "
        f"patches of {sizes.patch_size}), activation {tower.plan.activation} from the name"
    )


def _patches(bundle: Bundle) -> int:
    """Patch tokens of a frame; 1 where the encoder gives none, which `check_encoder` refuses."""
    found = bundle.component("encoder").spec.outputs.get("patches")
    return 1 if found is None else int(found.shape[1])


def _networks(plan: _Plan, tensors: CheckpointTensors, origin: Origin) -> list[Network]:
    networks = []
    if plan.image is not None:
        model = load_image_tower(plan.image.plan, tensors)
        found = plan.image
        networks.append(encoder_network(model, found.plan.architecture, found.preprocessing, found.layer, origin))
    if plan.video is not None:
        networks.append(_video_network(plan.video, tensors, origin))
    tokens = _tokens(plan, networks)
    step, adapter = load_bridge(plan.bridge, tensors), load_adapter(plan.bridge, tensors)
    if step is not None:
        return networks + memory_networks(step, adapter, origin, tokens=tokens)
    return [*networks, projector_network(adapter, tokens.reshape(-1, plan.bridge.width)[::7][:16], origin, _FAMILY)]


def _tokens(plan: _Plan, networks: list[Network]) -> Array:
    """Patch tokens of the encoder that the bridge will read."""
    if plan.bundle is not None:
        return encoder_tokens(plan.bundle)
    encoder = networks[0]
    return encoder.expected(encoder.samples)["patches"]


def _video_network(tower: _Tower, tensors: CheckpointTensors, origin: Origin) -> Network:
    """The video tower; its clips are the drawn pictures in every rotation."""
    module: nn.Module = VideoEncoder(load_video_tower(tower.plan, tensors), tower.layer)
    frames = pixels(tower.preprocessing, tower.size)
    clips = np.stack([np.roll(frames[:FRAMES], -start, axis=0) for start in range(FRAMES)])
    return Network(
        "video_encoder", "video_encoder", "languagebind_video", module, VideoEncoder.output_names, {"pixels": clips},
        origin, layer=tower.layer, preprocessing=tower.preprocessing, frames_per_call=FRAMES, look_ahead=FRAMES - 1,
    )  # fmt: skip


def _video_plan(tower: _Tower, precisions: tuple[Precision, ...]) -> ComponentPlan:
    width = tower.plan.architecture.width
    return ComponentPlan(
        "video_encoder", "video_encoder", "languagebind_video",
        {"pixels": floats("batch", FRAMES, 3, *tower.size)},
        {"cls": floats("batch", FRAMES, width), "patches": floats("batch", FRAMES, tower.plan.patches, width)},
        graph_files("video_encoder", precisions),
    )  # fmt: skip


def _whole(shape: tuple[int, ...], name: str) -> TensorSpec:
    return TensorSpec(dtype="int64" if name == "position" else "float32", shape=shape)
