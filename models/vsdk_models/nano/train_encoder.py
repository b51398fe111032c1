"""Train the nano encoder from nothing on procedural scenes, on two CPU threads, in about an hour.

    python -m vsdk_models.nano.train_encoder --out runs/nano --minutes 60

The run can be killed at any time and started again with the same command: it goes on from its last checkpoint.

Three losses are added:

* supervised contrastive on the class token: the views of a scene are each other's positives, all other views negatives;
* blends: a cross-dissolve of two scenes must lie between them in proportion, so that gradual transitions are seen as
  gradual (the i-Mix idea, Lee et al., ICLR 2021);
* sprites on the patch tokens: each token tells which shape and which colour covers it, so that what an object is
  survives in the tokens for the memory and the tracker built on them.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import cast

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from .encoder import WIDTH, NanoEncoder
from .sprites import COLOURS, SHAPES
from .textures import backdrop
from .views import NOTHING, SceneRenderer, ViewBatch

BANK_SIDE = 224
TEMPERATURE = 0.1


def _backdrops(job: tuple[int, int]) -> np.ndarray:
    seed, count = job
    rng = np.random.default_rng(seed)
    pictures = [backdrop(rng, BANK_SIDE) for _ in range(count)]
    return np.stack([(picture * 255).astype(np.uint8).transpose(2, 0, 1) for picture in pictures])


def backdrop_bank(count: int, seed: int, cache: Path, workers: int = 2) -> Tensor:
    """`count` backdrops as uint8 `[count, 3, 224, 224]`, drawn once and kept in `cache`."""
    if not cache.exists():
        jobs = [(seed * 100_003 + i, 50) for i in range(math.ceil(count / 50))]
        with ProcessPoolExecutor(workers) as pool:
            pictures = np.concatenate(list(pool.map(_backdrops, jobs)))[:count]
        partial = cache.with_suffix(".partial.npy")
        np.save(partial, pictures)
        partial.rename(cache)
    return torch.from_numpy(np.load(cache))


class Objective(nn.Module):
    """The encoder together with the two token heads that exist only in training."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = NanoEncoder()
        self.shape_head = nn.Linear(WIDTH, len(SHAPES) + 1)
        self.colour_head = nn.Linear(WIDTH, len(COLOURS) + 1)

    def forward(self, batch: ViewBatch, blends: int) -> dict[str, Tensor]:
        """The losses by name, for a batch of views and `blends` cross-dissolves made of them."""
        pixels = (batch.pixels * 2 - 1).contiguous(memory_format=torch.channels_last)
        mixed, first, second, share = blend(pixels, batch.scene, blends)
        cls, patches = (tokens.float() for tokens in self.encoder(torch.cat([pixels, mixed])))
        views = functional.normalize(cls[: len(pixels)], dim=1)
        return {
            "contrastive": contrastive_loss(views, batch.scene),
            "blend": blend_loss(
                functional.normalize(cls[len(pixels) :], dim=1), views, batch.scene, first, second, share
            ),
            "shape": token_loss(self.shape_head(patches[: len(pixels)]), batch.shape),
            "colour": token_loss(self.colour_head(patches[: len(pixels)]), batch.colour),
        }


def blend(pixels: Tensor, scene: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`count` cross-dissolves of random views, with their two scenes and the share of the first."""
    a, b = torch.randint(len(pixels), (2, count)).unbind(0)
    share = torch.rand(count)
    return torch.lerp(pixels[b], pixels[a], share[:, None, None, None]), scene[a], scene[b], share


def contrastive_loss(views: Tensor, scene: Tensor) -> Tensor:
    """Supervised contrastive loss (Khosla et al. 2020, the form with the sum outside the logarithm)."""
    logits = views @ views.T / TEMPERATURE
    logits.fill_diagonal_(-1e4)
    positive = (scene[:, None] == scene[None]).float().fill_diagonal_(0)
    log_probability = functional.log_softmax(logits, dim=1)
    return -(log_probability * positive).sum(1).div(positive.sum(1)).mean()


def blend_loss(mixed: Tensor, views: Tensor, scene: Tensor, first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """Cross-entropy of a blend against the two scenes' mean directions, weighted by their shares."""
    scenes = int(scene.max()) + 1
    centres = functional.normalize(torch.zeros(scenes, views.shape[1]).index_add(0, scene, views), dim=1)
    logits = mixed @ centres.T / TEMPERATURE
    return (
        share * functional.cross_entropy(logits, first, reduction="none")
        + (1 - share) * functional.cross_entropy(logits, second, reduction="none")
    ).mean()


def token_loss(logits: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy a patch token; bare tokens are many, so they weigh a tenth."""
    classes = logits.shape[-1]
    target = torch.where(label == NOTHING, classes - 1, label)
    weight = torch.ones(classes)
    weight[-1] = 0.1
    return functional.cross_entropy(logits.flatten(0, 1), target.flatten(), weight=weight)


@torch.no_grad()
def evaluate(objective: Objective, renderer: SceneRenderer, rounds: int = 4) -> dict[str, float]:
    """Unseen scenes: cosine of views of the same and of different scenes, their overlap, and token accuracy."""
    objective.eval()
    same, other, shape_hits, colour_hits = [], [], [], []
    for _ in range(rounds):
        batch = renderer.batch(32, 4)
        cls, patches = objective.encoder(batch.pixels * 2 - 1)
        views = functional.normalize(cls, dim=1)
        cosine = views @ views.T
        alike = batch.scene[:, None] == batch.scene[None]
        same.append(cosine[alike & ~torch.eye(len(views), dtype=torch.bool)])
        other.append(cosine[~alike])
        covered = batch.shape != NOTHING
        shape_hits.append((objective.shape_head(patches).argmax(-1) == batch.shape)[covered].float())
        colour_hits.append((objective.colour_head(patches).argmax(-1) == batch.colour)[covered].float())
    objective.train()
    near, far = torch.cat(same), torch.cat(other)
    threshold = torch.quantile(far[torch.randperm(len(far))[:20000]], 0.99)
    return {
        "same_median": near.median().item(),
        "same_p05": near.quantile(0.05).item(),
        "other_median": far.median().item(),
        "other_p99": threshold.item(),
        "recall_at_1_percent_false": (near > threshold).float().mean().item(),
        "shape_accuracy": torch.cat(shape_hits).mean().item(),
        "colour_accuracy": torch.cat(colour_hits).mean().item(),
    }


def learning_rate(progress: float, peak: float) -> float:
    """Linear warm-up over the first 5 %, then a cosine down to a hundredth."""
    if progress < 0.05:
        return peak * (progress / 0.05 + 1e-3)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (progress - 0.05) / 0.95)))


def train(
    out: Path, minutes: float, scenes: int, views: int, seed: int, peak: float, bank_size: int, bfloat16: bool
) -> None:
    """Train until `minutes` are spent, going on from `out/state.pt`; writes `out/encoder.safetensors`."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    bank = backdrop_bank(bank_size, seed, out / "bank.npy")
    unseen = backdrop_bank(300, seed + 1, out / "bank-unseen.npy")
    objective = Objective()
    objective.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # PyTorch's stub leaves it out
    average = torch.optim.swa_utils.AveragedModel(
        objective, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995), use_buffers=True
    )
    decayed = [p for p in objective.parameters() if p.ndim > 1]
    plain = [p for p in objective.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}], lr=peak
    )
    smooth = cast(Objective, average.module)
    state_file = out / "state.pt"
    step, spent, threads = 0, 0.0, torch.get_num_threads()
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        objective.load_state_dict(state["objective"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        step, spent = state["step"], state["spent"]
        torch.manual_seed(seed + step)
    renderer = SceneRenderer(bank, seed=seed + step + 1)
    weights = {"contrastive": 1.0, "blend": 0.3, "shape": 0.3, "colour": 0.2}
    log = (out / "log.jsonl").open("a")
    while spent < minutes * 60:
        started = time.process_time()
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(spent / (minutes * 60), peak)
        batch = renderer.batch(scenes, views)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            losses = objective(batch, blends=scenes // 2)
        total = torch.stack([losses[name] * weight for name, weight in weights.items()]).sum()
        optimiser.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
        optimiser.step()
        average.update_parameters(objective)
        step += 1
        spent += (time.process_time() - started) / threads
        if step % 20 == 0:
            record = {"step": step, "minutes": round(spent / 60, 2)} | {
                k: round(v.item(), 4) for k, v in losses.items()
            }
            if step % 200 == 0:
                record |= evaluate(smooth, SceneRenderer(unseen, seed=7))
            print(json.dumps(record), file=log, flush=True)
        if step % 50 == 0 or spent >= minutes * 60:
            partial = state_file.with_suffix(".partial")
            state = {
                "objective": objective.state_dict(),
                "average": average.state_dict(),
                "optimiser": optimiser.state_dict(),
                "step": step,
                "spent": spent,
            }
            torch.save(state, partial)
            partial.replace(state_file)
    weights_of = smooth.encoder.state_dict()
    save_file({name: tensor.contiguous() for name, tensor in weights_of.items()}, out / "encoder.safetensors")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and logs")
    parser.add_argument(
        "--minutes", type=float, default=60, help="training time in processor minutes for each thread, drawing included"
    )
    parser.add_argument("--scenes", type=int, default=40, help="scenes a step")
    parser.add_argument("--views", type=int, default=4, help="views of each scene")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--peak", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument(
        "--bfloat16", action="store_true", help="mixed precision: twice as fast where the processor has avx512_bf16"
    )
    parser.add_argument("--bank", type=int, default=5000, help="backdrops drawn before training")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    train(
        arguments.out,
        arguments.minutes,
        arguments.scenes,
        arguments.views,
        arguments.seed,
        arguments.peak,
        arguments.bank,
        arguments.bfloat16,
    )


if __name__ == "__main__":
    main()
