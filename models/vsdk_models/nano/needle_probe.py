"""Are needles in the features at all? A plain probe on the frame that shows the needle, without any memory.

    python -m vsdk_models.nano.needle_probe --encoder encoder.safetensors --out runs/memory

A memory cannot remember what its encoder does not tell. The probe (attention pooling of the 64 patch tokens with four
queries, then a small network) is trained on the pool of `train_bridge` and judged on its unseen needles and scenes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vsdk.bench.needles import CLASSES

from .encoder import WIDTH
from .haystacks import Pool, Recipe, build_pool
from .train_bridge import UNSEEN

QUERIES, HEADS, HIDDEN = 4, 8, 384
BATCH, PEAK, DECAY = 128, 2e-3, 0.05


class Probe(nn.Module):
    """Patch tokens of one frame `[batch, 64, 192]` to scores `[batch, classes]`."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(QUERIES, WIDTH) * 0.5)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        inputs = QUERIES * WIDTH
        self.head = nn.Sequential(
            nn.LayerNorm(inputs), nn.Linear(inputs, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, len(CLASSES))
        )

    def forward(self, patches: Tensor) -> Tensor:
        """See the class."""
        queries = self.queries.expand(len(patches), -1, -1)
        pooled, _ = self.attention(queries, patches, patches, need_weights=False)
        scores: Tensor = self.head(pooled.flatten(1))
        return scores


def needle_frames(pool: Pool) -> tuple[Tensor, Tensor]:
    """All frames with needles, overlays first: float16 `[frames, 64, 192]`, and their classes."""
    features = np.concatenate([pool.overlays.reshape(-1, *pool.overlays.shape[2:]), pool.splices])
    labels = np.concatenate([pool.overlay_labels.ravel(), pool.splice_labels])
    return torch.from_numpy(features), torch.from_numpy(labels)


def train_probe(pool: Pool, epochs: int, seed: int = 0) -> Probe:
    """Fit a probe to a pool."""
    torch.manual_seed(seed)
    features, labels = needle_frames(pool)
    probe, steps = Probe(), epochs * len(labels) // BATCH
    optimiser = torch.optim.AdamW(probe.parameters(), lr=PEAK, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK, steps)
    for _ in range(steps):
        chosen = torch.randint(len(labels), (BATCH,))
        loss = functional.cross_entropy(probe(features[chosen].float()), labels[chosen])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(probe.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return probe.eval()


@torch.inference_mode()
def hits(probe: Probe, pool: Pool) -> tuple[Tensor, Tensor]:
    """Which needles of a pool are named rightly: overlays, splices."""
    features, labels = needle_frames(pool)
    found = torch.cat([probe(part.float()).argmax(1) for part in features.split(250)]) == labels
    overlays = pool.overlay_labels.size
    return found[:overlays], found[overlays:]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", type=Path, required=True, help="weights of the nano encoder, .safetensors")
    parser.add_argument("--out", type=Path, required=True, help="folder that train_bridge draws its pictures in")
    parser.add_argument("--bank", type=Path, help="folder with the backdrops of train_encoder; by default --out")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--scenes", type=int, default=1500, help="as for train_bridge")
    parser.add_argument("--splices", type=int, default=3000, help="as for train_bridge")
    options = parser.parse_args()
    torch.set_num_threads(1)
    bank = options.bank or options.out
    recipe = Recipe(scenes=options.scenes, splices=options.splices, seed=1, first_needle=0)
    pool = build_pool(options.out / "training", options.encoder, bank / "bank.npy", recipe)
    unseen = build_pool(options.out / "unseen", options.encoder, bank / "bank-unseen.npy", UNSEEN)
    overlays, splices = hits(train_probe(pool, options.epochs), unseen)
    both = torch.cat([overlays, splices]).float().mean()
    print(f"{both:.4f} of {len(overlays) + len(splices)} unseen needles ({len(CLASSES)} classes) are named rightly:")
    print(f"{overlays.float().mean():.4f} of the overlays, {splices.float().mean():.4f} of the splices")


if __name__ == "__main__":
    main()
