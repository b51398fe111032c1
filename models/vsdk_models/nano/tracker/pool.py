"""A pool of clips on disk, which processes beside the training fill and the training draws from.

    python -m vsdk_models.nano.tracker.pool --out runs/tracker/pool --clips 3200 --seed 1

Every chunk is a pair of files, `NAME.pictures.npy` and `NAME.owners.npy` (see `video.Clip`, with an axis of clips in
front). A chunk is drawn from its own seed, so that a killed process goes on where it was; several processes with
different seeds fill one pool.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .video import Bank, Clip, Pictures, draw_clip

CHUNK = 32
FRAMES = 32


def fill(folder: Path, clips: int, seed: int, frames: int = FRAMES, chunk: int = CHUNK, held_out: bool = False) -> None:
    """Draw so many clips, a whole number of chunks, into a folder; chunks that are there already are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    bank = Bank(np.random.default_rng((seed, 0)), held_out)
    for number in range(-(-clips // chunk)):
        name = f"{seed:03d}-{number:05d}"
        done = folder / f"{name}.owners.npy"
        if done.exists():
            continue
        rng = bank.rng = np.random.default_rng((seed, number + 1))
        drawn: list[Clip] = []
        for _ in range(chunk):
            bank.renew(min(300, 2 * clips))
            drawn.append(draw_clip(rng, bank, frames))
        np.save(folder / f"{name}.pictures.npy", np.stack([clip.pictures for clip in drawn]))
        partial = folder / f"{name}.partial.npy"
        np.save(partial, np.stack([clip.owners for clip in drawn]))
        partial.replace(done)


@dataclass
class Pool:
    """The clips of a folder, read as they are needed.

    Attributes:
        folder: Where the chunks are.
    """

    folder: Path

    def __post_init__(self) -> None:
        self._chunks: dict[str, tuple[Pictures, Pictures]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Take in the chunks that were finished since."""
        for path in sorted(self.folder.glob("*.owners.npy")):
            name = path.name.removesuffix(".owners.npy")
            if name not in self._chunks:
                pictures = np.load(self.folder / f"{name}.pictures.npy", mmap_mode="r")
                self._chunks[name] = (pictures, np.load(path, mmap_mode="r"))
        self._places = [(name, i) for name, (pictures, _) in self._chunks.items() for i in range(len(pictures))]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> tuple[Pictures, Pictures]:
        """Pictures `[frames, side, side, 3]` and owners `[frames, side, side]`."""
        name, place = self._places[index]
        pictures, owners = self._chunks[name]
        return pictures[place], owners[place]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the pool")
    parser.add_argument("--clips", type=int, default=3200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--chunk", type=int, default=CHUNK)
    parser.add_argument("--held-out", action="store_true", help="with the shapes and textures that are not trained on")
    options = parser.parse_args()
    torch.set_num_threads(1)
    fill(options.out, options.clips, options.seed, options.frames, options.chunk, options.held_out)


if __name__ == "__main__":
    main()
