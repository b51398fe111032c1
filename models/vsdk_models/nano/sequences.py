"""Batches of videos for training the bridge, put together from the features of `haystacks.Pool`.

A few haystacks are drawn for each batch, and each is used with several needles: what is computed of a haystack's frames
serves all of its needles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .bridge import NONE
from .encoder import WIDTH
from .haystacks import PATCHES, VIEWS, Labels, Pool

SCENE_SECONDS = (4, 33)
"""Shortest and (exclusive) longest scene."""
FULL = 0.8
"""Share of segments that have all eight frames."""
WITHOUT = 0.15
"""Share of videos without a needle."""


@dataclass(frozen=True)
class Videos:
    """`haystacks` haystacks of `segments` segments of 8 frames, and `videos` videos: each a haystack with a needle.

    Attributes:
        frames: Patch tokens of the haystacks, `[haystacks, segments, 8, 64, 192]`.
        counts: Frames of each segment that are there, `[haystacks, segments]`, int64.
        needles: Patch tokens of the frame with the needle, `[videos, 64, 192]`. Video v is of haystack
            `v // (videos // haystacks)`.
        segment: In which segment it is, `[videos]`; the number of segments for videos without a needle.
        slot: Which of the segment's frames it replaces, `[videos]`.
        label: Its class, `[videos]`; `NONE` without a needle.
    """

    frames: Tensor
    counts: Tensor
    needles: Tensor
    segment: Tensor
    slot: Tensor
    label: Tensor

    @property
    def segments(self) -> int:
        """Length of the videos."""
        return self.frames.shape[1]

    @property
    def each(self) -> int:
        """Videos of each haystack."""
        return len(self.label) // len(self.frames)

    @property
    def owners(self) -> range:
        """Numbers of the haystacks."""
        return range(len(self.frames))

    @property
    def owner(self) -> Tensor:
        """The haystack of each video, `[videos]`."""
        return torch.arange(len(self.label)) // self.each

    def seen(self) -> tuple[Tensor, Tensor]:
        """What is right after each segment, both `[videos, segments]`.

        The class of the needle that has been seen by then (int64), and whether it is in that segment (float).
        """
        number = torch.arange(self.segments)[None]
        what = torch.where(number >= self.segment[:, None], self.label[:, None], NONE)
        return what, (number == self.segment[:, None]).float()

    def frames_until(self, end: int, haystack: int) -> Tensor:
        """Numbers of the frames of a haystack that are there before the end of segment `end`, counted in eights."""
        slots = torch.arange(VIEWS)[None] < self.counts[haystack, : end + 1, None]
        return slots.flatten().nonzero()[:, 0]


def draw_videos(
    pool: Pool, rng: np.random.Generator, haystacks: int, each: int, segments: int, *, full: bool = False
) -> Videos:
    """A batch of `haystacks * each` videos.

    Args:
        pool: Where the features come from.
        rng: Decides everything.
        haystacks: How many haystacks.
        each: How many videos of each.
        segments: How long.
        full: Whether all segments have eight frames.
    """
    sources = np.stack([scene_views(len(pool.scenes), rng, segments * VIEWS) for _ in range(haystacks)])
    frames = pool.scenes[sources[..., 0], sources[..., 1]]
    some = rng.integers(1, VIEWS + 1, (haystacks, segments))
    counts = np.where(full | (rng.random((haystacks, segments)) < FULL), VIEWS, some)
    videos = haystacks * each
    owner = np.arange(videos) // each
    segment = rng.integers(0, segments, videos)
    slot = (rng.random(videos) * counts[owner, segment]).astype(np.int64)
    place = sources[owner, segment * VIEWS + slot]
    spliced = rng.random(videos) < 0.5
    splice = rng.integers(0, len(pool.splices), videos)
    needles = np.where(
        spliced[:, None, None], pool.splices[splice], pool.overlays[place[:, 0], place[:, 1]]
    )  # fmt: skip
    label = np.where(spliced, pool.splice_labels[splice], pool.overlay_labels[place[:, 0], place[:, 1]])
    without = rng.random(videos) < WITHOUT
    return Videos(
        torch.from_numpy(frames).float().view(haystacks, segments, VIEWS, PATCHES, WIDTH),
        torch.from_numpy(counts),
        torch.from_numpy(needles).float(),
        torch.from_numpy(np.where(without, segments, segment)),
        torch.from_numpy(slot),
        torch.from_numpy(np.where(without, NONE, label)),
    )


def scene_views(scenes: int, rng: np.random.Generator, seconds: int) -> Labels:
    """Scene and view of each second, int64 `[seconds, 2]`: scenes of random length, their views in random order."""
    source = np.empty((seconds, 2), np.int64)
    start = 0
    while start < seconds:
        end = min(start + int(rng.integers(*SCENE_SECONDS)), seconds)
        source[start:end, 0] = rng.integers(scenes)
        source[start:end, 1] = rng.permutation(VIEWS)[np.arange(end - start) % VIEWS]
        start = end
    return source
