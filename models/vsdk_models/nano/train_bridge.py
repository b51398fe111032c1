"""Train the nano bridge, its readout and its controls on features of the frozen nano encoder, on one CPU thread.

    python -m vsdk_models.nano.train_bridge --encoder encoder.safetensors --out runs/memory

The first run draws and encodes the pictures (some minutes), which are kept. Training can be killed at any time and
started again with the same command: it goes on from its last checkpoint.

Each batch is a few haystacks with several needles each. The memory is asked after every segment what needle it has seen
so far, and whether that was in this segment; the controls are asked once a video. Videos grow from one segment to ten
(80 seconds), and the bridge restarts from its initial memory after two to eight segments, at random, so that reading
back from the cache is learnt well within that length. All contenders see the same batches and take the same steps.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
from pathlib import Path
from typing import cast

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from vsdk.bench.needles import CLASSES

from .bridge import CONFIG, NONE, RecurrentReader, WindowReader, contenders
from .bridge_training import read_last_frames, read_means, read_videos
from .haystacks import VIEWS, Pool, Recipe, build_pool
from .sequences import Videos, draw_videos
from .train_encoder import backdrop_bank

SEGMENTS = 10
"""Length of the longest videos in training."""
CURRICULUM = ((0.16, 1), (0.3, 2), (0.45, 4), (0.6, 8), (1.0, SEGMENTS))
"""Up to which part of the steps how many segments."""
STEPS = 1200
VIDEOS = 32
SHARED = 8
"""Videos of one haystack."""
PEAK, DECAY = 1.2e-3, 0.05
UNSEEN = Recipe(scenes=150, splices=300, seed=2, first_needle=10_000_000)
"""What is evaluated on during training: other backdrops, other needles."""


def draw_batch(pool: Pool, rng: np.random.Generator, segments: int) -> Videos:
    """A training batch: the shorter the videos, the more haystacks and the fewer needles in each."""
    each = min(SHARED, 2 * segments)
    return draw_videos(pool, rng, VIDEOS // each, each, segments)


def recurrent_loss(reader: RecurrentReader, videos: Videos, restarts: set[int]) -> tuple[Tensor, float]:
    """The loss after every segment, and how many of the needles seen are named rightly."""
    what, here = read_videos(reader, videos, restarts)
    wanted, inside = videos.seen()
    loss = functional.cross_entropy(what.float().flatten(0, 1), wanted.flatten())
    weight = torch.tensor(3.0)
    loss = loss + 0.3 * functional.binary_cross_entropy_with_logits(here.float(), inside, pos_weight=weight)
    return loss, _named(what, wanted)


def control_loss(what: Tensor, wanted: Tensor) -> tuple[Tensor, float]:
    """The same for a control, which is asked once."""
    return functional.cross_entropy(what.float(), wanted), _named(what, wanted)


def _named(what: Tensor, wanted: Tensor) -> float:
    seen = wanted != NONE
    return float((what[seen].argmax(-1) == wanted[seen]).float().mean()) if seen.any() else math.nan


def losses(models: nn.ModuleDict, videos: Videos, rng: np.random.Generator) -> dict[str, tuple[Tensor, float]]:
    """Loss and share of needles named rightly, by contender, on one batch."""
    every, end = int(rng.integers(2, 9)), int(rng.integers(videos.segments))
    offset = int(rng.integers(every))
    restarts = {0} | {number for number in range(videos.segments) if (number + offset) % every == 0}
    wanted = videos.seen()[0][:, end]
    return {
        "memory": recurrent_loss(cast(RecurrentReader, models["memory"]), videos, restarts),
        "no_retrieval": recurrent_loss(cast(RecurrentReader, models["no_retrieval"]), videos, {0}),
        "last_n": control_loss(read_last_frames(cast(WindowReader, models["last_n"]), videos, end), wanted),
        "mean": control_loss(read_means(cast(WindowReader, models["mean"]), videos, end), wanted),
    }


@torch.inference_mode()
def evaluate(models: nn.ModuleDict, pool: Pool, segments: int, rounds: int = 8) -> dict[str, float]:
    """Unseen needles in unseen scenes: share named rightly at the end of videos of this length."""
    rng = np.random.default_rng(segments)
    found: dict[str, list[Tensor]] = {name: [] for name in models}
    when: list[Tensor] = []
    for _ in range(rounds):
        videos = draw_videos(pool, rng, 2, 8, segments, full=True)
        seen = videos.label != NONE
        restarts = set(range(0, segments, CONFIG.restart_every or segments))
        what, here = read_videos(cast(RecurrentReader, models["memory"]), videos, restarts)
        ends = {"memory": what[:, -1]}
        ends["no_retrieval"] = read_videos(cast(RecurrentReader, models["no_retrieval"]), videos, {0})[0][:, -1]
        ends["last_n"] = read_last_frames(cast(WindowReader, models["last_n"]), videos, segments - 1)
        ends["mean"] = read_means(cast(WindowReader, models["mean"]), videos, segments - 1)
        for name, scores in ends.items():
            found[name].append(scores[seen, :NONE].argmax(-1) == videos.label[seen])
        when.append(here[seen].argmax(1) == videos.segment[seen])
    shares = {name: torch.cat(hits).float().mean().item() for name, hits in found.items()}
    return {**shares, "when": torch.cat(when).float().mean().item()}


def learning_rate(step: int, steps: int) -> float:
    """A short linear warm-up, then a cosine down to a hundredth."""
    return PEAK * min(1, (step + 1) / 60) * (0.01 + 0.495 * (1 + math.cos(math.pi * step / steps)))


def train(out: Path, pool: Pool, unseen: Pool, steps: int, seed: int, bfloat16: bool) -> nn.ModuleDict:
    """Train for so many steps in all, going on from `out/state.pt`."""
    torch.manual_seed(seed)
    models = contenders()
    optimisers = {
        name: torch.optim.AdamW(model.parameters(), lr=PEAK, weight_decay=DECAY) for name, model in models.items()
    }
    state_file, threads = out / "state.pt", torch.get_num_threads()
    step, spent = 0, 0.0
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        models.load_state_dict(state["models"])
        for name, optimiser in optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        step, spent = state["step"], state["spent"]
    rng = np.random.default_rng((seed, step))
    with (out / "log.jsonl").open("a") as log:
        while step < steps:
            started = time.process_time()
            progress = step / steps
            segments = next(length for until, length in CURRICULUM if progress < until)
            videos = draw_batch(pool, rng, segments)
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                found = losses(models, videos, rng)
            for name, optimiser in optimisers.items():
                for group in optimiser.param_groups:
                    group["lr"] = learning_rate(step, steps)
                optimiser.zero_grad()
                found[name][0].backward()
                nn.utils.clip_grad_norm_(models[name].parameters(), 1.0)
                optimiser.step()
            step += 1
            spent += (time.process_time() - started) / threads
            if step % 20 == 0:
                record: dict[str, object] = {"step": step, "minutes": round(spent / 60, 2), "segments": segments}
                record |= {name: [round(loss.item(), 4), round(named, 3)] for name, (loss, named) in found.items()}
                if step % 200 == 0:
                    record["unseen"] = {k: round(v, 3) for k, v in evaluate(models, unseen, SEGMENTS).items()}
                print(json.dumps(record), file=log, flush=True)
            if step % 50 == 0 or step == steps:
                _save(state_file, models, optimisers, step, spent)
    return models


def log_extrapolation(out: Path, models: nn.ModuleDict, unseen: Pool) -> None:
    """Evaluate at one, two and four times the length of training, into the log."""
    with (out / "log.jsonl").open("a") as log:
        for length in (SEGMENTS, 2 * SEGMENTS, 4 * SEGMENTS):
            shares = {k: round(v, 3) for k, v in evaluate(models, unseen, length, rounds=12).items()}
            print(json.dumps({"seconds": length * VIEWS, "unseen": shares}), file=log, flush=True)


def _save(path: Path, models: nn.ModuleDict, optimisers: dict[str, torch.optim.AdamW], step: int, spent: float) -> None:
    partial = path.with_suffix(".partial")
    states = {name: optimiser.state_dict() for name, optimiser in optimisers.items()}
    torch.save({"models": models.state_dict(), "optimisers": states, "step": step, "spent": spent}, partial)
    partial.replace(path)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", type=Path, required=True, help="weights of the nano encoder, .safetensors")
    parser.add_argument("--out", type=Path, required=True, help="folder for features, checkpoints and logs")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--scenes", type=int, default=1500, help="scenes to draw for training")
    parser.add_argument("--splices", type=int, default=3000, help="needles in pictures of their own")
    parser.add_argument("--bank", type=Path, help="folder with the backdrops of train_encoder; by default --out")
    parser.add_argument("--bfloat16", action="store_true", help="mixed precision, where the processor has avx512_bf16")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    bank = options.bank or out
    banks = {"bank.npy": (5000, 1), "bank-unseen.npy": (300, 2)}
    for name, (count, seed) in banks.items():
        backdrop_bank(count, seed, bank / name)
    recipe = Recipe(scenes=options.scenes, splices=options.splices, seed=1, first_needle=0)
    pool = build_pool(out / "training", options.encoder, bank / "bank.npy", recipe)
    unseen = build_pool(out / "unseen", options.encoder, bank / "bank-unseen.npy", UNSEEN)
    models = train(out, pool, unseen, options.steps, options.seed, options.bfloat16)
    log_extrapolation(out, models, unseen)
    told = {
        "classes": str(len(CLASSES)),
        "trained_length": str(SEGMENTS * VIEWS),
        "encoder": hashlib.sha256(options.encoder.read_bytes()).hexdigest(),
    }
    save_file(models.state_dict(), out / "bridge.safetensors", metadata=told)


if __name__ == "__main__":
    main()
