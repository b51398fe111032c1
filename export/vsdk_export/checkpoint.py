"""`vsdk export CHECKPOINT`: a Hugging Face checkpoint becomes the components of a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vsdk_models.checkpoint import Checkpoint, open_checkpoint
from vsdk_models.families import Architecture, load_model, read_architecture
from vsdk_models.layers import Layer, parse_layer
from vsdk_models.preprocessing import pixel_size, read_preprocessing
from vsdk_models.sam2.loading import TrackerOptions, is_tracker
from vsdk_models.sam2.model import CONDITIONING_SLOTS
from vsdk_models.text import text_encoder, text_reference
from vsdk_models.tokenizer import TextTokenizer, has_tokenizer
from vsdk_models.videollamb.checkpoint import is_videollamb
from vsdk_runtimes import Precision
from vsdk_runtimes.errors import CheckpointError, InputError
from vsdk_runtimes.manifest import Origin, Preprocessing, TensorSpec

from .build import Progress, Target, Video, check_calibration, checked_precisions, export_networks, no_progress
from .encoder import encoder_network, encoder_plan, graph_files
from .graph import SINGLE_FILE_LIMIT
from .network import Array, Arrays, Asset, Network
from .report import ComponentPlan, ExportReport
from .tracker import export_tracker_checkpoint
from .videollamb import export_videollamb
from .writer import check_target

# How much of the progress bar belongs to finding and loading the checkpoint.
_LOADING = 0.1


@dataclass(frozen=True)
class _Plan:
    """Everything that is decided before any weights are loaded."""

    checkpoint: Checkpoint
    architecture: Architecture
    preprocessing: Preprocessing
    layer: Layer
    with_text: bool
    precisions: tuple[Precision, ...]
    notes: tuple[str, ...]

    @property
    def size(self) -> tuple[int, int]:
        return pixel_size(self.preprocessing)

    def components(self) -> tuple[ComponentPlan, ...]:
        """The components as a dry run shows them."""
        found = self.architecture
        encoder = encoder_plan(found, self.size, self.precisions)
        if not self.with_text:
            return (encoder,)
        assert found.text_length is not None
        ids = TensorSpec(dtype="int64", shape=("batch", found.text_length))
        embedding = {"embedding": encoder.outputs["embedding"]}
        files = graph_files("text", self.precisions)
        return encoder, ComponentPlan("text", "text", found.family, {"input_ids": ids}, embedding, files)


def export_checkpoint(
    checkpoint: str | PathLike[str],
    *,
    out: str | PathLike[str] | None = None,
    into: str | PathLike[str] | None = None,
    precisions: Sequence[str] = ("fp32",),
    layer: int | str | None = None,
    dry_run: bool = False,
    revision: str | None = None,
    encoder: str | PathLike[str] | None = None,
    image_size: int | None = None,
    conditioning_slots: int | None = None,
    family: str | None = None,
    calibrate: Sequence[Video] = (),
    progress: Progress = no_progress,
    single_file_limit: int = SINGLE_FILE_LIMIT,
) -> ExportReport:
    """Export the encoder of a checkpoint, and its text tower where it has one with a tokenizer, into a bundle.

    A VideoLLaMB checkpoint gives its image tower as the encoder, its video tower, its memory bridge and its projector.
    A SAM-2 or EdgeTAM video checkpoint gives the four components of a tracker.

    The result is verified against PyTorch before anything is put in its place; a failed export leaves nothing behind.

    Args:
        checkpoint: A folder, or a hub id; the weights must be safetensors.
        out: Folder of a new bundle. An existing bundle there is replaced, anything else is refused.
        into: Existing bundle to add the components to. Exactly one of `out` and `into` is needed (none in a dry run).
        precisions: Of `PRECISIONS`; one typed graph is written for each. int8 needs `calibrate`.
        layer: Which layer's tokens are given out: `"last"` is `last_hidden_state`; `-k` is `hidden_states[-k]`, without
            the final norm; `n >= 0` is `hidden_states[n]`, the tokens after n blocks. None means -2 for CLIP, `"last"`
            for the others. SigLIP's `cls`, its pooled output, and every `embedding` come from the last layer always.
        dry_run: Only say what would be exported: no weights are fetched or loaded, nothing is written.
        revision: Branch, tag or commit on the hub.
        encoder: Bundle whose encoder a VideoLLaMB bridge is to read instead of the checkpoint's own; the new bundle at
            `out` has everything of it. `into` a bundle with an encoder does the same in place.
        image_size: For a tracker, the side of its square input in pixels; None is what the checkpoint says.
        conditioning_slots: For a tracker, how many prompted frames its bank keeps; None is 4.
        family: For SAM-2 weights with the key names of the original repository, which model it is, as `sam2.1-tiny`;
            None finds out.
        calibrate: Videos or folders of pictures like those that it will see. Graphs in int8 are calibrated with them,
            those in fp16 find their ranges on them, and both are measured on them.
        progress: Called with a description and the fraction that is done.
        single_file_limit: Bytes of weights beyond which they go to a file beside the graph.

    Raises:
        CheckpointError: The checkpoint is missing, incomplete, damaged, or its parts contradict each other.
        UnsafeCheckpointError: Its weights exist only as a pickle.
        UnsupportedModelError: A model family, variant or precision that cannot be exported.
        InputError: Not a layer of this model, or not a precision; int8 without a video, or one that is too short.
        SourceError: A video cannot be read.
        ExportError: The target cannot be used.
        ParityError: A graph does not reproduce PyTorch; the message names the worst output.
    """
    chosen = checked_precisions(precisions)
    check_calibration(chosen, calibrate, str(checkpoint))
    progress("finding the checkpoint", 0.0)
    source = open_checkpoint(str(checkpoint), revision=revision, weights=not dry_run)
    target = Target(_path(out), _path(into), source.name.rpartition("/")[2], base=_path(encoder))
    if is_tracker(source, family):
        options = TrackerOptions(
            image_size, CONDITIONING_SLOTS if conditioning_slots is None else conditioning_slots, family
        )
        return export_tracker_checkpoint(
            source, target, options, precisions=chosen, calibrate=calibrate, dry_run=dry_run, progress=progress,
            single_file_limit=single_file_limit,
        )  # fmt: skip
    if image_size is not None or conditioning_slots is not None:
        raise InputError(f"{source.name} is not a tracker: --image-size and --cond-slots say nothing about it")
    if is_videollamb(source):
        return export_videollamb(
            source, target, precisions=chosen, calibrate=calibrate, layer=layer, dry_run=dry_run, progress=progress,
            single_file_limit=single_file_limit,
        )  # fmt: skip
    if encoder is not None:
        raise InputError(
            f"{source.name} has no memory bridge that could read another bundle's encoder",
            hint="Leave --encoder out.",
        )
    plan = _plan(source, chosen, layer)
    components = plan.components()
    if target.out is not None or target.into is not None or not dry_run:
        check_target(target.out, target.into, tuple(component.name for component in components))
    if dry_run:
        folder = target.out or target.into
        return ExportReport(
            folder, target.name or "", dry_run=True, plan=components, preprocessing=plan.preprocessing, notes=plan.notes
        )
    progress("loading the weights", _LOADING / 2)
    networks = _networks(plan, load_model(source, plan.architecture), source.origin())
    return export_networks(
        networks,
        target,
        precisions=chosen,
        calibrate=calibrate,
        progress=lambda description, done: progress(description, _LOADING + (1 - _LOADING) * done),
        notes=plan.notes,
        single_file_limit=single_file_limit,
    )


def _plan(checkpoint: Checkpoint, precisions: tuple[Precision, ...], layer: int | str | None) -> _Plan:
    architecture = read_architecture(checkpoint)
    preprocessing = read_preprocessing(
        checkpoint, architecture.family, architecture.image_size, architecture.patch_size
    )  # fmt: skip
    _check_size(checkpoint.name, architecture, pixel_size(preprocessing))
    notes = list(checkpoint.notes)
    with_text = architecture.text_length is not None and has_tokenizer(checkpoint)
    if architecture.text_length is not None and not with_text:
        notes.append("the text tower is left out, because the checkpoint has no tokenizer")
    return _Plan(
        checkpoint=checkpoint,
        architecture=architecture,
        preprocessing=preprocessing,
        layer=parse_layer(architecture.default_layer if layer is None else layer, architecture.blocks),
        with_text=with_text,
        precisions=precisions,
        notes=tuple(notes),
    )


def _check_size(name: str, architecture: Architecture, size: tuple[int, int]) -> None:
    """The image processor must give the pixels that the model takes."""
    fixed = architecture.family in ("clip", "siglip")
    if fixed and size != (architecture.image_size, architecture.image_size):
        raise CheckpointError(
            f"{name} contradicts itself: its image processor gives {size[0]}x{size[1]} pixels, and its model takes "
            f"{architecture.image_size}x{architecture.image_size}"
        )
    if any(side < architecture.patch_size or side % architecture.patch_size for side in size):
        raise CheckpointError(
            f"{name}: {size[0]}x{size[1]} pixels do not divide into patches of {architecture.patch_size}"
        )


def _networks(plan: _Plan, model: Any, origin: Origin) -> list[Network]:
    networks = [encoder_network(model, plan.architecture, plan.preprocessing, plan.layer, origin)]
    if plan.with_text:
        networks.append(_text(plan, model, origin))
    return networks


def _text(plan: _Plan, model: Any, origin: Origin) -> Network:
    family, length = plan.architecture.family, plan.architecture.text_length
    assert length is not None
    tokenizer = TextTokenizer(plan.checkpoint, length, lower_cased_training=family in ("siglip", "siglip2"))

    def reference(batch: Arrays) -> dict[str, Array]:
        with torch.inference_mode():
            return {"embedding": text_reference(model, torch.from_numpy(np.array(batch["input_ids"]))).numpy()}

    return Network(
        name="text",
        role="text",
        family=family,
        module=text_encoder(model, family),
        outputs=("embedding",),
        samples={"input_ids": np.array(tokenizer.sample_ids(), np.int64)},
        origin=origin,
        reference=reference,
        text=tokenizer.text,
        assets={"tokenizer": Asset("tokenizer.json", tokenizer.to_json())},
    )


def _path(value: str | PathLike[str] | None) -> Path | None:
    return None if value is None else Path(value)
