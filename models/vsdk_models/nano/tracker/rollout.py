"""The closed loop of a tracker in PyTorch, as training and validation run it: the run side's rules, in a batch.

The first frame is prompted and read without a memory; every later one reads the bank of the prompted frames and of the
six before it, and is remembered in turn.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .network import RECENT, NanoTracker

Kind = Literal["mask", "box", "click"]
POINTERS = 15


@dataclass(frozen=True)
class Prompt:
    """Prompts of a batch, as the decoder takes them: `points`, `labels`, `mask`, `mask_given`."""

    points: Tensor
    labels: Tensor
    mask: Tensor
    mask_given: Tensor

    def to(self, device: torch.device) -> Prompt:
        """The same on another device."""
        return Prompt(self.points.to(device), self.labels.to(device), self.mask.to(device), self.mask_given.to(device))


@dataclass(frozen=True)
class Step:
    """What one frame gave: logits `[batch, 1, m, m]`, predicted IoU `[batch]` and object score `[batch]`; and the mask
    that was carried over from the frame before, `[batch, 1, m, m]`, if there was one.
    """

    logits: Tensor
    iou: Tensor
    object_score: Tensor
    carried: Tensor | None


@dataclass
class Bank:
    """Memories and pointers so far, with the number of their frame and whether it was prompted."""

    frames: list[int] = field(default_factory=list)
    prompted: list[bool] = field(default_factory=list)
    memories: list[Tensor] = field(default_factory=list)
    pointers: list[Tensor] = field(default_factory=list)

    def write(self, frame: int, prompted: bool, memory: Tensor, pointer: Tensor) -> None:
        """Remember a frame."""
        self.frames.append(frame)
        self.prompted.append(prompted)
        self.memories.append(memory)
        self.pointers.append(pointer)

    def read(self, frame: int, recent: int = RECENT) -> tuple[Tensor, ...]:
        """The bank's inputs of the attention on a frame, with at most so many recent slots."""
        device, batch = self.memories[0].device, self.memories[0].shape[0]
        slots = [n for n, old in enumerate(self.frames) if self.prompted[n] or frame - old <= recent]
        notes = [n for n, old in enumerate(self.frames) if self.prompted[n] or frame - old <= POINTERS]
        ages = torch.tensor([0 if self.prompted[n] else frame - self.frames[n] for n in slots], device=device)
        past = torch.tensor([float(frame - self.frames[n]) for n in notes], device=device)
        return (
            torch.stack([self.memories[n] for n in slots], 1),
            ages.expand(batch, -1),
            torch.ones(batch, len(slots), device=device),
            torch.stack([self.pointers[n] for n in notes], 1),
            past.expand(batch, -1),
            torch.ones(batch, len(notes), device=device),
        )

    def detach(self) -> None:
        """Cut the gradient to all that is remembered."""
        self.memories = [memory.detach() for memory in self.memories]
        self.pointers = [pointer.detach() for pointer in self.pointers]


class Rollout:
    """A batch of objects, the same number in every clip, on their way through their clips.

    Args:
        tracker: The networks.
        pixels: All frames, float32 `[clips, frames, 3, side, side]`, normalised, on the tracker's device.
        objects: Objects of every clip; the batch has the first clip's, then the second's, and so on.
    """

    def __init__(self, tracker: NanoTracker, pixels: Tensor, objects: int = 1) -> None:
        self.tracker, self.bank, self.objects = tracker, Bank(), objects
        clips, frames = pixels.shape[:2]
        self.batch = clips * objects
        maps = tracker.encoder(pixels.flatten(0, 1).contiguous(memory_format=torch.channels_last))
        self.maps = [part.unflatten(0, (clips, frames)) for part in maps]
        side, nothing = tracker.config.side, pixels.new_zeros(self.batch)
        self.nothing = Prompt(
            pixels.new_zeros(self.batch, 2, 2),
            torch.full((self.batch, 2), -1, device=pixels.device),
            pixels.new_zeros(self.batch, 1, side, side),
            nothing,
        )

    def step(self, frame: int, prompt: Prompt | None = None, recent: int = RECENT) -> Step:
        """Prompt or track one frame, and remember it."""
        high0, high1, top, initial = (part[:, frame].repeat_interleave(self.objects, 0) for part in self.maps)
        features = initial if prompt else self.tracker.attention(top, *self.bank.read(frame, recent))
        asked = prompt.to(top.device) if prompt else self.nothing
        none = features.new_zeros(self.batch, 1, self.tracker.config.width)
        logits, iou, score, pointers = self.tracker.decoder(
            features, high0, high1, asked.points, asked.labels, none, none[..., 0], asked.mask, asked.mask_given
        )
        hard = torch.full_like(asked.mask_given, float(prompt is not None))
        seen = torch.where(score[:, None, None, None] > 0, logits, torch.full_like(logits, -32.0))
        score_of_memory = torch.where(asked.mask_given > 0, torch.full_like(score, 10.0), score)
        memory = self.tracker.memory(top, seen, asked.mask, asked.mask_given, hard, score_of_memory)
        self.bank.write(frame, prompt is not None, memory, pointers[:, 0])
        return Step(logits, iou[:, 0], score, None if prompt else self._carried(features))

    def _carried(self, features: Tensor) -> Tensor:
        config = self.tracker.config
        parts = functional.pixel_shuffle(features[:, config.coarse :], config.cell)[:, : config.parts]
        return functional.pixel_shuffle(parts, config.mask_side // config.fine_side)


def draw_prompt(rng: np.random.Generator, masks: Tensor, kinds: list[Kind]) -> Prompt:
    """Prompts for the visible part of objects.

    Args:
        rng: Decides where clicks fall, and how exact boxes are.
        masks: `[batch, side, side]`, 0 or 1, none of them empty.
        kinds: One for each of the batch.
    """
    batch, side = masks.shape[:2]
    points, labels = np.zeros((batch, 4, 2), np.float32), np.full((batch, 4), -10)
    given = np.array([kind == "mask" for kind in kinds], np.float32)
    for row, kind in enumerate(kinds):
        y, x = np.nonzero(masks[row].numpy() > 0.5)
        if kind == "box":
            jitter = rng.normal(0, 0.02, 4) * np.array([np.ptp(x), np.ptp(y)] * 2)
            corners = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1]) + jitter
            points[row, :2], labels[row, :2] = corners.reshape(2, 2).clip(0, side), (2, 3)
            labels[row, 2] = -1
        elif kind == "click":
            count = int(rng.integers(1, 4))
            inner = functional.avg_pool2d(masks[row][None, None], 7, 1, 3)[0, 0].numpy()[y, x]
            weight = inner**6 + 1e-6
            for n in rng.choice(len(x), count, p=weight / weight.sum()):
                points[row, count - 1], labels[row, count - 1] = (x[n] + 0.5, y[n] + 0.5), 1
                count -= 1
            labels[row, labels[row].argmin()] = -1
        else:
            labels[row, :2] = -1
    chosen = masks[:, None] * torch.from_numpy(given)[:, None, None, None]
    return Prompt(torch.from_numpy(points), torch.from_numpy(labels), chosen, torch.from_numpy(given))


def normalised(pictures: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Tensor:
    """RGB pictures `[..., side, side, 3]` uint8 to pixels `[..., 3, side, side]`."""
    from .network import DEVIATION, MEAN

    scaled = torch.from_numpy(np.array(pictures)).float() / 255
    return ((scaled - torch.tensor(MEAN)) / torch.tensor(DEVIATION)).movedim(-1, -3)
