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
from torch.nn import functional

from vsdk.bench.controls import mean_weights

from ..videollamb.bridge import ABSENT, Attention
from .bridge import WINDOW, RecurrentReader, WindowReader, only_layer
from .haystacks import PATCHES, VIEWS
from .sequences import Videos


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
    frames = videos.frames.flatten(1, 2)
    kept = [videos.frames_until(end, haystack)[-WINDOW:] for haystack in range(len(frames))]
    counts = torch.tensor([len(numbers) for numbers in kept])
    windows = torch.zeros(len(frames), 1, int(counts.max()), *frames.shape[2:])
    for window, numbers, haystack in zip(windows, kept, frames, strict=True):
        window[0, : len(numbers)] = haystack[numbers]
    places = [_place(kept[video // videos.each], videos, video) for video in range(len(videos.label))]
    as_videos = replace(
        videos,
        frames=windows,
        counts=counts[:, None],
        segment=torch.tensor([0 if place is not None else 1 for place in places]),
        slot=torch.tensor([place or 0 for place in places]),
    )
    layer = only_layer(reader.bridge)
    initial = reader.bridge.read_memory_emb.expand(len(places), -1, -1)
    attended = _SharedSegments(layer.selfattention, as_videos).attend(initial, 0)
    return _readout(reader, attended)


def read_means(reader: WindowReader, videos: Videos, end: int) -> Tensor:
    """What the control `mean` says of each video after segment `end`: scores `[videos, classes + 1]`.

    A needle changes each mean by its weight times what it changes in its frame, and keys and values with it.
    """
    frames = videos.frames.flatten(1, 2)
    means = torch.empty(len(frames), WINDOW, *frames.shape[2:])
    shares = torch.zeros(len(videos.label), WINDOW)
    changes = torch.zeros_like(videos.needles)
    for haystack in range(len(frames)):
        numbers = videos.frames_until(end, haystack)
        weights = torch.from_numpy(mean_weights(WINDOW, len(numbers), len(numbers)))
        means[haystack] = (weights @ frames[haystack, numbers].flatten(1)).unflatten(1, frames.shape[2:])
        for video in range(haystack * videos.each, (haystack + 1) * videos.each):
            place = _place(numbers, videos, video)
            if place is not None:
                shares[video] = weights[:, place]
                changes[video] = videos.needles[video] - frames[haystack, numbers[place]]
    layer = only_layer(reader.bridge)
    return _readout(
        reader, _attend_to_means(layer.selfattention, reader.bridge.read_memory_emb, means, shares, changes)
    )


def _attend_to_means(attention: Attention, memory: Tensor, means: Tensor, shares: Tensor, changes: Tensor) -> Tensor:
    """Attention of the initial memory `[tokens, width]` to itself and to means `[haystacks, WINDOW, 64, width]`.

    Those of video v are its haystack's, plus `shares [videos, WINDOW]` times `changes [videos, 64, width]`.
    """
    each = len(shares) // len(means)

    def by_head(tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (attention.heads, -1)).transpose(-2, -3)

    query = by_head(attention.q_proj(memory))
    query = query * query.shape[-1] ** -0.5
    keys, values = (by_head(item) for item in attention.project(means.flatten(1, 2)))
    own_keys, own_values = (by_head(item) for item in attention.project(memory))
    changed_keys = by_head(functional.linear(changes, attention.k_proj.weight))
    changed_values = by_head(functional.linear(changes, attention.v_proj.weight))
    same = (query @ keys.transpose(-1, -2)).unflatten(-1, (WINDOW, -1)).repeat_interleave(each, dim=0)
    by_share = (query @ changed_keys.transpose(-1, -2))[:, :, :, None] * shares[:, None, None, :, None].to(query.dtype)
    itself = (query @ own_keys.transpose(-1, -2)).expand(len(shares), -1, -1, -1)
    scores = torch.cat([(same + by_share).flatten(-2), itself], dim=-1)
    weights = torch.softmax(scores.float(), dim=-1).to(query.dtype)
    on_means, on_itself = weights.split([same.shape[-2] * same.shape[-1], itself.shape[-1]], dim=-1)
    mixed = (on_means.unflatten(0, (-1, each)) @ values[:, None]).flatten(0, 1)
    shared = torch.einsum("vhmrp,vr->vhmp", on_means.unflatten(-1, (WINDOW, -1)), shares.to(query.dtype))
    mixed = mixed + shared @ changed_values + on_itself @ own_values
    result: Tensor = attention.residual(mixed.transpose(1, 2).flatten(2), memory)
    return result


def _readout(reader: WindowReader, attended: Tensor) -> Tensor:
    layer = only_layer(reader.bridge)
    what: Tensor = reader.readout.what(layer.residual(layer.mlp(attended), attended).flatten(1))
    return what


def _place(numbers: Tensor, videos: Videos, video: int) -> int | None:
    """Where among these frames (numbers counted in eights) the needle of a video is; None if it is not."""
    if videos.segment[video] >= videos.segments:
        return None
    found = (numbers == videos.segment[video] * VIEWS + videos.slot[video]).nonzero()
    return int(found[0]) if len(found) else None
