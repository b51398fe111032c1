"""Export of a tracker: four components, traced and verified on what they see in a short run over drawn frames."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vsdk_models.checkpoint import Checkpoint
from vsdk_models.sam2.loading import TrackerOptions, load_tracker_checkpoint
from vsdk_models.tracking import TrackerNetworks
from vsdk_runtimes import Precision
from vsdk_runtimes.manifest import Origin

from .build import Progress, Target, Video, check_calibration, checked_precisions, export_networks, no_progress
from .encoder import graph_files
from .frames import pixels
from .network import SAMPLES, Array, Network
from .report import ComponentPlan, ExportReport
from .writer import check_target

ROLES = ("tracker.encoder", "tracker.attention", "tracker.decoder", "tracker.memory")
OUTPUTS = (
    ("high0", "high1", "top", "initial"), ("conditioned",), ("masks", "iou", "object_score", "pointers"), ("memory",),
)  # fmt: skip
_DYNAMIC = {
    "memory": "slots", "slot_age": "slots", "slot_valid": "slots", "points": "points", "labels": "points",
    "embeddings": "embeddings", "embedding_valid": "embeddings",
}  # fmt: skip
_SHARED = ("top", "high0", "high1")


def export_tracker(
    tracker: TrackerNetworks,
    *,
    origin: Origin,
    out: str | PathLike[str] | None = None,
    into: str | PathLike[str] | None = None,
    bundle_name: str | None = None,
    precisions: Sequence[str] = ("fp32",),
    calibrate: Sequence[Video] = (),
    progress: Progress = no_progress,
) -> ExportReport:
    """Export a tracker as four components of a bundle; its modules, in fp32, are the reference.

    Args:
        tracker: The networks.
        origin: Where the weights come from, and their licence.
        out: Folder of a new bundle.
        into: Existing bundle to add to. Exactly one of `out` and `into` is needed.
        bundle_name: Name of a new bundle; None takes the folder's.
        precisions: Of `PRECISIONS`; int8 needs `calibrate`.
        calibrate: Videos or folders of pictures like those that it will see: things are followed through them.
        progress: Called with a description and the fraction that is done.

    Raises:
        ExportError: The target cannot be used, or a module cannot be exported.
        ParityError: A graph does not reproduce its module.
    """
    target = Target(None if out is None else Path(out), None if into is None else Path(into), bundle_name)
    chosen = checked_precisions(precisions)
    check_calibration(chosen, calibrate)
    networks = tracker_networks(tracker, origin)
    return export_networks(networks, target, precisions=chosen, calibrate=calibrate, progress=progress)


def export_tracker_checkpoint(
    checkpoint: Checkpoint,
    target: Target,
    options: TrackerOptions,
    *,
    precisions: tuple[Precision, ...],
    calibrate: Sequence[Video] = (),
    dry_run: bool,
    progress: Progress,
    single_file_limit: int,
) -> ExportReport:
    """Export a tracker's checkpoint; the arguments are those of `export_checkpoint`.

    Raises:
        CheckpointError: Something is missing from the checkpoint, or has the wrong shape.
        InputError: An option does not fit.
        ExportError: The target cannot be used.
        ParityError: A graph does not reproduce PyTorch.
    """
    names = tuple(role.replace(".", "_") for role in ROLES)
    if target.out is not None or target.into is not None or not dry_run:
        check_target(target.out, target.into, names)
    if dry_run and not checkpoint.weights:
        return ExportReport(
            target.out or target.into, target.name or "", True, (),
            notes=(f"would be a tracker; its sizes are known once the weights are here: {', '.join(ROLES)}",),
        )  # fmt: skip
    progress("loading the weights", 0.02)
    tracker = load_tracker_checkpoint(checkpoint, options)
    if dry_run:
        plan = tuple(
            ComponentPlan(name, role, tracker.family, {}, {}, graph_files(name, precisions))
            for name, role in zip(names, ROLES, strict=True)
        )
        return ExportReport(
            target.out or target.into, target.name or "", True, plan, preprocessing=tracker.preprocessing
        )
    progress("running PyTorch on drawn frames", 0.05)
    networks = tracker_networks(tracker, checkpoint.origin())
    return export_networks(
        networks,
        target,
        precisions=precisions,
        calibrate=calibrate,
        progress=lambda description, done: progress(description, 0.1 + 0.9 * done),
        notes=checkpoint.notes,
        single_file_limit=single_file_limit,
    )


def tracker_networks(tracker: TrackerNetworks, origin: Origin) -> list[Network]:
    """The networks to export, each with samples from a run of the whole."""
    samples = _Samples(tracker)
    modules = (tracker.encoder, tracker.attention, tracker.decoder, tracker.memory)
    inputs = (samples.encoder, samples.attention, samples.decoder, samples.memory)
    return [
        Network(
            name=role.replace(".", "_"),
            role=role,
            family=tracker.family,
            module=module.eval(),
            outputs=names,
            samples={name: array.numpy() for name, array in taken.items()},
            origin=origin,
            preprocessing=tracker.preprocessing if role == "tracker.encoder" else None,
            keep_float=tracker.keep_float if role == "tracker.attention" else (),
            shared=tuple(name for name in taken if name in _SHARED),
            dynamic={name: _DYNAMIC[name] for name in taken if name in _DYNAMIC},
            tracker=tracker.spec if role == "tracker.attention" else None,
        )
        for role, names, module, taken in zip(ROLES, OUTPUTS, modules, inputs, strict=True)
    ]


class _Samples:
    """Inputs of the four networks, `SAMPLES` of each: every drawn frame is prompted, then tracked from a bank of all.

    Args:
        tracker: Its modules are run.
    """

    def __init__(self, tracker: TrackerNetworks) -> None:
        size, self.tracker = tracker.image_size, tracker
        rng = np.random.default_rng(6)
        with torch.inference_mode():
            frames = _tensor(pixels(tracker.preprocessing, (size, size)))
            self.encoder = {"pixels": frames}
            maps = [tracker.encoder.eval()(frame[None]) for frame in frames]
            high0, high1, top, initial = (torch.cat(parts) for parts in zip(*maps, strict=True))
            # A network that is told of one frame at a time is shown several as a batch; what it is told once is one.
            prompt = self._prompts(rng, size)
            first = self._decoded(initial, high0, high1, prompt)
            memory = {"top": top, **self._masks(rng, first[0], prompt["mask"]), "object_score": _signs(first[2])}
            encoded = torch.cat([tracker.memory.eval()(*_one(memory, index)) for index in range(SAMPLES)])
            self.attention = self._bank(rng, top, encoded, first[3][:, 0])
            conditioned = torch.cat([tracker.attention.eval()(*_one(self.attention, n)) for n in range(SAMPLES)])
            features = torch.where((torch.arange(SAMPLES) % 2 > 0)[:, None, None, None], conditioned, initial)
            self.decoder = {"features": features, "high0": high0, "high1": high1, **prompt}
            self.memory = memory

    def _decoded(self, features: Tensor, high0: Tensor, high1: Tensor, prompt: dict[str, Tensor]) -> list[Tensor]:
        inputs = {"features": features, "high0": high0, "high1": high1, **prompt}
        results = [self.tracker.decoder.eval()(*_one(inputs, index)) for index in range(SAMPLES)]
        return [torch.cat(parts) for parts in zip(*results, strict=True)]

    def _prompts(self, rng: np.random.Generator, size: int) -> dict[str, Tensor]:
        """A click, two, a box, a box with a click, a mask, an embedding, and nothing."""
        near, far = rng.uniform(0.1, 0.5, (SAMPLES, 1, 2)), rng.uniform(0.5, 0.9, (SAMPLES, 1, 2))
        points = np.concatenate([near, far, rng.uniform(0, 1, (SAMPLES, 2, 2))], axis=1) * size
        labels = np.array(
            [[1, -1, -10, -10], [1, 0, -1, -10], [2, 3, -1, -10], [2, 3, 1, -1], [-1, -1, -10, -10]], np.int64
        )[[0, 1, 2, 3, 4, 4, 4, 1]]
        mask = np.zeros((SAMPLES, 1, size, size), np.float32)
        mask[:, :, size // 4 : size // 2, size // 5 : size // 2] = 1
        given = (np.arange(SAMPLES) == 4).astype(np.float32)
        embedded = (np.arange(SAMPLES) == 5).astype(np.float32)[:, None] * [1, 0]
        return {
            "points": _tensor(points), "labels": torch.from_numpy(labels),
            "embeddings": _tensor(rng.normal(0, 1, (SAMPLES, 2, self.tracker.width))),
            "embedding_valid": _tensor(embedded), "mask": _tensor(mask), "mask_given": _tensor(given),
        }  # fmt: skip

    def _masks(self, rng: np.random.Generator, masks: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """What the memory encoder reads: predicted logits, one drawn mask, hard and soft."""
        given = _tensor(np.arange(SAMPLES) == 3)
        return {
            "logits": masks[:, :1].clamp(-32, 32), "mask": mask, "mask_given": given,
            "binarise": _tensor(rng.random(SAMPLES) < 0.5),
        }  # fmt: skip

    def _bank(self, rng: np.random.Generator, top: Tensor, memory: Tensor, pointers: Tensor) -> dict[str, Tensor]:
        """A bank for each sample, filled with memories of other samples: one slot, all, and numbers between."""
        spec = self.tracker.spec
        fill = np.linspace(1, spec.slots, SAMPLES).round().astype(int)[::-1]
        chosen = np.stack([np.roll(np.arange(spec.slots), n) % SAMPLES for n in range(SAMPLES)])
        ages = np.stack([[0] * spec.conditioning_slots + list(range(1, spec.recent_slots + 1))] * SAMPLES)
        valid = np.arange(spec.slots) < fill[:, None]
        known = np.arange(spec.pointers) < np.linspace(1, spec.pointers, SAMPLES).round()[::-1, None]
        return {
            "top": top, "memory": memory[torch.from_numpy(chosen)], "slot_age": torch.from_numpy(ages),
            "slot_valid": _tensor(valid),
            "pointers": pointers[torch.from_numpy(rng.integers(0, SAMPLES, (SAMPLES, spec.pointers)))],
            "pointer_age": _tensor(np.sort(rng.integers(1, 40, (SAMPLES, spec.pointers)), axis=1)),
            "pointer_valid": _tensor(known),
        }  # fmt: skip


def _one(inputs: dict[str, Tensor], index: int) -> list[Tensor]:
    return [array[index : index + 1] for array in inputs.values()]


def _tensor(array: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))


def _signs(scores: Tensor) -> Tensor:
    """Object scores of both signs, whatever the decoder gave."""
    return torch.where(torch.arange(len(scores)) % 4 == 1, -scores.abs() - 0.1, scores.abs() + 0.1)
