"""The recurrence for training: what `MemoryStep` computes, for many videos at once, in a fraction of the time.

Only the memory tokens are followed: nothing in the loss depends on the bridged patch tokens. Keys and values of a
haystack's frames are computed once for all videos of that haystack; a needle's frame brings its own, and hides those of
the frame that it replaces. The bridge has no positions, so the order of the tokens does not matter. The controls share
what can be shared in the same way.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import torch
from torch import Tensor

from vsdk.bench.controls import stretch

from ..videollamb.bridge import ABSENT, Attention
from .bridge import WINDOW, RecurrentReader, WindowReader, only_layer
from .haystacks import PATCHES, VIEWS
from .sequences import Videos

NOTHING = -1


def read_videos(reader: RecurrentReader, videos: Videos, restarts: Collection[int]) -> tuple[Tensor, Tensor]:
    """Run a bridge over videos.

    Args:
        reader: Bridge and readout.
        videos: Of any length.
        restarts: Numbers of the segments that start from the initial memory; the first always does.

    Returns:
        After each segment: `what` `[videos, segments, classes + 1]`, from the memory tokens, and `here`
        `[videos, segments]`, from the bridged ones.
    """
    step = reader.step
    layer = only_layer(step.projector)
    segments = _SharedSegments(layer.selfattention, videos)
    initial = step.projector.read_memory_emb.expand(len(videos.label), -1, -1)
    memory = initial
    keys: list[Tensor] = []
    values: list[Tensor] = []
    what, here = [], []
    for number in range(videos.segments):
        attended = segments.attend(initial if number in restarts else memory, number)
        bridged = layer.residual(layer.mlp(attended), attended)
        memory = bridged
        if step.retrieval is not None:
            for kept, new in zip((keys, values), step.retrieval.project(bridged), strict=True):
                kept.append(new)
            memory = step.retrieval(bridged, torch.cat(keys, dim=1), torch.cat(values, dim=1))
        what.append(reader.readout.what(memory.flatten(1)))
        here.append(reader.readout.here(bridged.flatten(1))[:, 0])
    return torch.stack(what, dim=1), torch.stack(here, dim=1)


class _SharedSegments:
    """Attention of memory tokens to themselves, to a haystack's segment and to the frame with the needle."""

    def __init__(self, attention: Attention, videos: Videos) -> None:
        self.attention, self.videos = attention, videos
        heads = attention.heads
        keys, values = attention.project(videos.frames.flatten(2, 3))
        self.keys = keys.unflatten(-1, (heads, -1)).permute(0, 1, 3, 4, 2)  # haystack, segment, head, part, token
        self.values = values.unflatten(-1, (heads, -1)).transpose(2, 3)
        keys, values = attention.project(videos.needles)
        self.needle_keys, self.needle_values = self._by_head(keys).transpose(2, 3), self._by_head(values)
        self.there = (torch.arange(videos.frames.shape[2]) < videos.counts[..., None]).repeat_interleave(
            videos.each, dim=0
        )

    def attend(self, memory: Tensor, number: int) -> Tensor:
        """The attention part of a bridge layer: `[videos, memory tokens, width]` to the same."""
        attention = self.attention
        keys, values = attention.project(memory)
        query = self._by_head(attention.q_proj(memory))
        query = query * query.shape[-1] ** -0.5
        scores = [
            self._apart(self._together(query) @ self.keys[:, number]),
            query @ self.needle_keys,
            query @ self._by_head(keys).transpose(2, 3),
        ]
        sizes = [item.shape[-1] for item in scores]
        bias = self._bias(number, memory.shape[1]).to(query.dtype)
        weights = torch.softmax((torch.cat(scores, dim=-1) + bias).float(), dim=-1).to(query.dtype)
        frames, needle, itself = weights.split(sizes, dim=-1)
        mixed = self._apart(self._together(frames) @ self.values[:, number])
        mixed = mixed + needle @ self.needle_values + itself @ self._by_head(values)
        result: Tensor = attention.residual(mixed.transpose(1, 2).flatten(2), memory)
        return result

    def _bias(self, number: int, tokens: int) -> Tensor:
        """`[videos, 1, 1, tokens of all three]`: frames that are not there or replaced, and needles elsewhere."""
        videos = self.videos
        inside = videos.segment == number
        frames = self.there[:, number].clone()
        frames[inside, videos.slot[inside]] = False
        present = [
            frames.repeat_interleave(PATCHES, dim=1),
            inside[:, None].expand(-1, PATCHES),
            torch.ones(len(inside), tokens, dtype=torch.bool),
        ]
        return torch.where(torch.cat(present, dim=1), 0.0, ABSENT)[:, None, None]

    def _by_head(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (self.attention.heads, -1)).transpose(1, 2)

    def _together(self, tensor: Tensor) -> Tensor:
        """`[videos, heads, rows, n]` to `[haystacks, heads, videos of each * rows, n]`."""
        return tensor.unflatten(0, (-1, self.videos.each)).transpose(1, 2).flatten(2, 3)

    def _apart(self, tensor: Tensor) -> Tensor:
        """The way back."""
        return tensor.unflatten(2, (self.videos.each, -1)).transpose(1, 2).flatten(0, 1)


def read_last_frames(reader: WindowReader, videos: Videos, end: int) -> Tensor:
    """What the control `last_n` says of each video after segment `end`: scores `[videos, classes + 1]`."""
    return _read_windows(reader, videos, [videos.frames_until(end, owner)[-WINDOW:, None] for owner in videos.owners])


def read_means(reader: WindowReader, videos: Videos, end: int) -> Tensor:
    """What the control `mean` says of each video after segment `end`: scores `[videos, classes + 1]`."""
    windows = []
    for owner in videos.owners:
        numbers = videos.frames_until(end, owner)
        size = stretch(WINDOW, len(numbers))
        padded = torch.cat([numbers, numbers.new_full((-len(numbers) % size,), NOTHING)])
        windows.append(padded.view(-1, size))
    return _read_windows(reader, videos, windows)


def _read_windows(reader: WindowReader, videos: Videos, windows: list[Tensor]) -> Tensor:
    """Scores from means of frames.

    Args:
        reader: Of the control.
        videos: Of which it keeps the means.
        windows: For each haystack, the numbers of the frames that go into each mean, `[means, frames]`; frames are
            counted in eights, and `NOTHING` is padding.
    """
    frames = videos.frames.flatten(1, 2)
    counts = torch.tensor([len(numbers) for numbers in windows])
    means = torch.zeros(len(frames), 1, int(counts.max()), *frames.shape[2:])
    for owner, numbers in enumerate(windows):
        there = (numbers != NOTHING).float()
        shares = there / there.sum(1, keepdim=True)
        means[owner, 0, : len(numbers)] = torch.einsum("mf,mfpd->mpd", shares, frames[owner, numbers.clamp(min=0)])
    needles, inside, slot = videos.needles.clone(), [], []
    for video, owner in enumerate(videos.owner.tolist()):
        number = int(videos.segment[video]) * VIEWS + int(videos.slot[video])
        place = (windows[owner] == number).any(1).nonzero()[:, 0]
        inside.append(len(place) > 0)
        slot.append(int(place[0]) if len(place) else 0)
        if inside[-1]:
            share = 1 / (windows[owner][slot[-1]] != NOTHING).sum()
            needles[video] = means[owner, 0, slot[-1]] + share * (videos.needles[video] - frames[owner, number])
    as_videos = replace(
        videos,
        frames=means,
        counts=counts[:, None],
        needles=needles,
        segment=torch.where(torch.tensor(inside), 0, 1),
        slot=torch.tensor(slot),
    )
    layer = only_layer(reader.bridge)
    initial = reader.bridge.read_memory_emb.expand(len(slot), -1, -1)
    attended = _SharedSegments(layer.selfattention, as_videos).attend(initial, 0)
    what: Tensor = reader.readout.what(layer.residual(layer.mlp(attended), attended).flatten(1))
    return what
