"""The hardest control: the class tokens of all frames, in a list that is as long as the video.

    python -m vsdk_models.nano.class_token_control --encoder encoder.safetensors --out runs/memory

A class token is a 64th of a frame's patch tokens, so the floats of nano's memory would hold those of 1,552 frames: all
of the needle test's videos. This is no bounded memory, and it ships with nothing; it says how far a plain list gets. A
reader of the bridge's size is trained on the pictures of `train_bridge` (which must have been drawn before), on videos
of up to 80 seconds, and asked on drawn videos and needles of `vsdk bench niavh`.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vsdk.bench.haystacks import drawn_haystack
from vsdk.bench.needles import CLASSES, Needle
from vsdk.bench.niavh import GRID, HAYSTACKS, LONGEST, plan_trials
from vsdk.bench.niavh_report import Rate

from .bridge import NONE, WindowReader
from .encoder import IMAGE_SIZE, NanoEncoder
from .haystacks import SETS, load_encoder
from .sequences import WITHOUT, scene_views
from .train_bridge import DECAY, PEAK, learning_rate

BATCH = 160
VIDEOS = 64
STEPS = 1500
PROGRESS = (0.0, 0.16, 0.45, 0.6, 0.75)
LENGTHS = (8.0, 13.0, 27.0, 53.0, 80.0)
"""Seconds of the videos at those points of training."""


@dataclass(frozen=True)
class Tokens:
    """Class tokens of `haystacks.Pool`'s pictures: `[scenes, 8, 192]` twice, `[splices, 192]`; classes of needles."""

    scenes: np.ndarray[Any, np.dtype[np.float32]]
    overlays: np.ndarray[Any, np.dtype[np.float32]]
    splices: np.ndarray[Any, np.dtype[np.float32]]
    overlay_labels: np.ndarray[Any, np.dtype[np.int64]]
    splice_labels: np.ndarray[Any, np.dtype[np.int64]]


@torch.no_grad()
def class_tokens(encoder: NanoEncoder, pictures: np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
    """Class tokens `[pictures, 192]` of uint8 `[pictures, 128, 128, 3]`."""
    found = []
    for start in range(0, len(pictures), BATCH):
        batch = torch.from_numpy(np.array(pictures[start : start + BATCH])).permute(0, 3, 1, 2)
        pixels = (batch.float() * (2 / 255) - 1).contiguous(memory_format=torch.channels_last)
        found.append(encoder(pixels)[0])
    return torch.cat(found)


def read_pool(folder: Path, encoder: NanoEncoder) -> Tokens:
    """Encode the pictures that `haystacks.build_pool` has drawn."""
    tokens = {}
    for name in SETS:
        pictures = np.load(folder / f"{name}_pictures.npy", mmap_mode="r")
        flat = class_tokens(encoder, pictures.reshape(-1, *pictures.shape[-3:]))
        tokens[name] = flat.view(*pictures.shape[:-3], -1).numpy()
    labels = {f"{name}_labels": np.load(folder / f"{name}_labels.npy") for name in ("overlay", "splice")}
    return Tokens(**tokens, **labels)


def draw_lists(pool: Tokens, rng: np.random.Generator, videos: int, seconds: int) -> tuple[Tensor, Tensor]:
    """Class tokens of videos with a needle each, `[videos, seconds, 192]`, and what is to be answered."""
    lists, labels = [], []
    for _ in range(videos):
        source = scene_views(len(pool.scenes), rng, seconds)
        tokens, at = pool.scenes[source[:, 0], source[:, 1]], int(rng.integers(seconds))
        label = NONE
        if rng.random() >= WITHOUT:
            if rng.random() < 0.5:
                tokens[at], label = pool.overlays[tuple(source[at])], int(pool.overlay_labels[tuple(source[at])])
            else:
                number = int(rng.integers(len(pool.splices)))
                tokens[at], label = pool.splices[number], int(pool.splice_labels[number])
        lists.append(tokens)
        labels.append(label)
    return torch.from_numpy(np.stack(lists)), torch.tensor(labels)


def train(pool: Tokens, steps: int, seed: int = 0) -> WindowReader:
    """Train a reader of lists."""
    torch.manual_seed(seed)
    rng, reader = np.random.default_rng(seed), WindowReader()
    optimiser = torch.optim.AdamW(reader.parameters(), lr=PEAK, weight_decay=DECAY)
    for step in range(steps):
        seconds = int(np.interp(step / steps, PROGRESS, LENGTHS))
        lists, labels = draw_lists(pool, rng, VIDEOS, seconds)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, steps)
        loss = functional.cross_entropy(reader(lists[:, :, None], torch.ones(VIDEOS, seconds)), labels)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimiser.step()
    return reader.eval()


@torch.no_grad()
def ask(reader: WindowReader, encoder: NanoEncoder, seed: int) -> dict[str, Rate]:
    """The drawn half of the needle test, one needle in each cell: how many are named, in all and by length."""
    pictures = [drawn_haystack(seed * HAYSTACKS + number, LONGEST, IMAGE_SIZE) for number in range(HAYSTACKS)]
    tokens = [class_tokens(encoder, np.stack(haystack)) for haystack in pictures]
    named = []
    for trial in plan_trials(GRID, 1, len(CLASSES), seed):
        needle = Needle(trial.label, trial.way, trial.kind, "test", trial.seed)
        shown = needle.show(pictures[trial.haystack][trial.second], trial.moment)
        video = tokens[trial.haystack][: trial.length].clone()
        video[trial.second] = class_tokens(encoder, shown[None])[0]
        scores = reader(video[None, :, None], torch.ones(1, trial.length))[0, :NONE]
        named.append((trial.length, int(scores.argmax()) == trial.label))
    parts = {"all": (0, LONGEST), "up to 80 s": (0, 80), "longer": (80, LONGEST), "longer than 160 s": (160, LONGEST)}
    rates = {}
    for part, (above, most) in parts.items():
        hits = [hit for length, hit in named if above < length <= most]
        rates[part] = Rate(sum(hits), len(hits))
    return rates


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", type=Path, required=True, help="weights of the nano encoder, .safetensors")
    parser.add_argument("--out", type=Path, required=True, help="folder that train_bridge has drawn its pictures in")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0, help="of the needle test")
    options = parser.parse_args()
    torch.set_num_threads(1)
    encoder = load_encoder(options.encoder)
    reader = train(read_pool(options.out / "training", encoder), options.steps)
    for part, rate in ask(reader, encoder, options.seed).items():
        low, high = rate.bounds
        print(f"{part}: {rate.accuracy:.3f} ({low:.3f} to {high:.3f}) of {rate.of}")


if __name__ == "__main__":
    main()
