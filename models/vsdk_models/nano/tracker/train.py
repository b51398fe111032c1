"""Training of the nano tracker: closed loops over clips of growing length.

    python -m vsdk_models.nano.tracker.pool --out runs/tracker/pool --clips 4000
    python -m vsdk_models.nano.tracker.pool --out runs/tracker/held_out --clips 32 --seed 900 --frames 72 --chunk 16
    python -m vsdk_models.nano.tracker.train --pool runs/tracker/pool --held-out runs/tracker/held_out \\
        --out runs/tracker

A killed run goes on from its last checkpoint when it is started again with the same `--out`. The weights that are kept
are an average over the last steps; `tracker.safetensors` in `--out` is replaced at each validation.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, distributed, nn
from torch.multiprocessing.spawn import spawn
from torch.nn import functional

from .curtains import draw_curtain
from .network import NanoTracker
from .pool import Pool
from .rollout import Kind, Rollout, draw_prompt, normalised

SCHEDULE: tuple[tuple[float, tuple[int, ...]], ...] = (
    (0.1, (2, 3)), (0.25, (3, 4, 6)), (0.55, (6, 8)), (0.8, (8, 12)), (1.0, (12, 16, 24)),
)  # fmt: skip
"""Lengths of clips in frames by the share of the training that is done."""
OBJECTS = 2
"""Objects that are followed in each clip: the features of its frames are shared."""
FRAMES_PER_STEP = 48
DETACH_EVERY = 6
AREA = (0.01, 0.2)
"""Least and largest share of the picture that an object to track takes where it is prompted."""
KINDS: tuple[Kind, ...] = ("mask", "mask", "mask", "mask", "mask", "box", "box", "box", "click", "click")
AVERAGE = 0.99
CARRIED = 5.0
"""Weight of the squared error of the mask that is carried over, before anything is made of it."""
CURTAINS = 0.5
"""How many of the clips have something drawn in front."""
SCALARS = ("temperature", "locality", "attention.bias", "absent", "pointer_decay", "resemblance", "carried")
"""Parameters of the attention that have to move far, and so learn ten times as fast."""
VISIBLE = 12
"""Pixels from which on an object counts as visible."""


@dataclass(frozen=True)
class Batch:
    """Clips: pixels `[clips, frames, 3, side, side]`, masks `[clips * OBJECTS, frames, side, side]`."""

    pixels: Tensor
    masks: Tensor


def draw_batch(rng: np.random.Generator, pool: Pool, clips: int, frames: int) -> Batch:
    """Parts of random clips, at a random pace, turned and mirrored, each with objects that its first frame shows."""
    pictures: list[npt.NDArray[np.uint8]] = []
    masks: list[npt.NDArray[np.bool_]] = []
    while len(pictures) < clips:
        whole, owners = pool[int(rng.integers(len(pool)))]
        pace = min(int(rng.choice([1, 1, 1, 1, 2, 3])), (len(whole) - 1) // max(frames - 1, 1))
        start = int(rng.integers(0, len(whole) - (frames - 1) * pace))
        part = slice(start, start + (frames - 1) * pace + 1, pace)
        if rng.random() < 0.5:
            part = slice(part.stop - 1, part.start - 1 if part.start else None, -pace)
        owner, picture = np.asarray(owners[part]), np.asarray(whole[part])
        shown = np.bincount(owner[0].ravel(), minlength=2) / owner[0].size
        able = [n for n in range(1, len(shown)) if AREA[0] < shown[n] < AREA[1]]
        if not able:
            continue
        chosen = rng.choice(able, OBJECTS, replace=len(able) < OBJECTS)
        if able[0] == 1 and rng.random() < 0.4:
            chosen[0] = 1
        if frames > 2 and rng.random() < CURTAINS:
            other = pool[int(rng.integers(len(pool)))][0]
            covered = draw_curtain(rng, picture, owner, int(chosen[0]), other[int(rng.integers(len(other)))])
            if all((covered[1][0] == each).mean() > AREA[0] for each in chosen):
                picture, owner = covered
        if rng.random() < 0.5:
            picture, owner = picture[:, :, ::-1], owner[:, :, ::-1]
        if rng.random() < 0.3:
            picture = picture[..., rng.permutation(3)]
        pictures.append(picture)
        masks.extend(owner == number for number in chosen)
    return Batch(normalised(np.stack(pictures)), torch.from_numpy(np.stack(masks)).float())


def frame_loss(logits: Tensor, iou: Tensor, score: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy, dice, presence and predicted IoU; masks `[batch, side, side]`.

    The pixels of small objects do not weigh more: that makes masks too large, and a little more so with every frame
    that reads the last one's.
    """
    target = functional.avg_pool2d(mask[:, None], mask.shape[-1] // logits.shape[-1])
    visible = (mask.sum((1, 2)) > VISIBLE).float()
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none").mean((1, 2, 3)) * 4
    found = logits.sigmoid()
    both = (found * target).sum((1, 2, 3))
    dice = 1 - (2 * both + 1) / (found.sum((1, 2, 3)) + target.sum((1, 2, 3)) + 1)
    with torch.no_grad():
        hard, real = logits > 0, target > 0.5
        reached = (hard & real).sum((1, 2, 3)) / (hard | real).sum((1, 2, 3)).clamp(min=1)
    judged = (iou - reached) ** 2 * visible
    presence = functional.binary_cross_entropy_with_logits(score, visible)
    return (entropy * (0.3 + 0.7 * visible) + dice * visible + judged).mean() + 0.5 * presence


def train_step(rng: np.random.Generator, tracker: NanoTracker, batch: Batch) -> Tensor:
    """The mean loss over the frames of one batch, in a closed loop."""
    frames = batch.pixels.shape[1]
    kinds: list[Kind] = [KINDS[int(rng.integers(len(KINDS)))] for _ in range(len(batch.masks))]
    device = next(tracker.parameters()).device
    rollout = Rollout(tracker, batch.pixels.to(device), OBJECTS)
    again = int(rng.integers(2, frames)) if frames > 4 and rng.random() < 0.15 else None
    recent = int(rng.choice([1, 2, 2, 3, 3, 4, 6, 6]))
    losses = []
    for frame in range(frames):
        masks = batch.masks[:, frame]
        prompted = frame == 0 or (frame == again and bool((masks.sum((1, 2)) > VISIBLE).all()))
        prompt = draw_prompt(rng, masks, kinds if frame == 0 else ["mask"] * len(kinds)) if prompted else None
        step = rollout.step(frame, prompt, recent)
        masks = masks.to(device)
        losses.append(frame_loss(step.logits, step.iou, step.object_score, masks))
        if step.carried is not None:
            losses[-1] = losses[-1] + CARRIED * functional.mse_loss(step.carried[:, 0].float(), masks)
        if frame % DETACH_EVERY == DETACH_EVERY - 1:
            rollout.bank.detach()
    return torch.stack(losses).mean()


@torch.inference_mode()
def validate(tracker: NanoTracker, pool: Pool, kind: Kind = "mask", frames: int = 24, clips: int = 24) -> list[float]:
    """Mean IoU by frame of the first object that each held-out clip shows; 1 where it is rightly found absent."""
    rng = np.random.default_rng(5)
    pictures, truths = [], []
    for index in range(min(clips, len(pool))):
        picture, owners = pool[index]
        shown = np.bincount(owners[0].ravel(), minlength=2) / owners[0].size
        able = [n for n in range(1, len(shown)) if AREA[0] < shown[n] < AREA[1]]
        if able:
            pictures.append(np.asarray(picture[:frames]))
            truths.append(np.asarray(owners[:frames]) == able[0])
    masks = torch.from_numpy(np.stack(truths))
    device = next(tracker.parameters()).device
    rollout = Rollout(tracker.eval(), normalised(np.stack(pictures)).to(device))
    found = []
    for frame in range(masks.shape[1]):
        prompt = draw_prompt(rng, masks[:, 0].float(), [kind] * len(masks)) if frame == 0 else None
        step = rollout.step(frame, prompt)
        large = functional.interpolate(step.logits, masks.shape[2:], mode="bilinear", align_corners=False)[:, 0] > 0
        found.append((large & (step.object_score > 0)[:, None, None]).cpu())
    overlap = (torch.stack(found, 1) & masks).sum((2, 3))
    union = (torch.stack(found, 1) | masks).sum((2, 3))
    return [float(value) for value in torch.where(union > 0, overlap / union.clamp(min=1), 1.0).mean(0)]


class Optimizers:
    """Muon (Jordan et al., 2024) for the weights of convolutions and linear layers, AdamW for everything else.

    Muon takes matrices: a convolution's is a view of its weights, one row for each output channel. The scalars of the
    attention have to move far, learn ten times as fast and do not decay.

    Args:
        tracker: Its weights, in channels-last order.
        rate: Largest learning rate.
    """

    def __init__(self, tracker: NanoTracker, rate: float) -> None:
        named = list(tracker.named_parameters())
        self._weights = [weight for _, weight in named if weight.ndim in (2, 4) and min(weight.shape[:2]) > 1]
        matrix = {id(weight) for weight in self._weights}
        scalars = [weight for name, weight in named if name.endswith(SCALARS)]
        others = [weight for name, weight in named if id(weight) not in matrix and not name.endswith(SCALARS)]
        self._matrices = [nn.Parameter(_as_matrix(weight.data)) for weight in self._weights]
        self.muon = torch.optim.Muon(self._matrices, rate, weight_decay=0.02, adjust_lr_fn="match_rms_adamw")
        self.adam = torch.optim.AdamW(
            [{"params": others, "speed": 1.0}, {"params": scalars, "speed": 10.0, "weight_decay": 0.0}], rate,
            weight_decay=0.02,
        )  # fmt: skip

    def step(self, rate: float) -> None:
        """Move all weights along their gradients, and forget these."""
        for matrix, weight in zip(self._matrices, self._weights, strict=True):
            matrix.grad = None if weight.grad is None else _as_matrix(weight.grad)
            weight.grad = None
        for group in (*self.muon.param_groups, *self.adam.param_groups):
            group["lr"] = rate * group.get("speed", 1.0)
        self.muon.step()
        self.adam.step()
        self.adam.zero_grad()

    def state_dict(self) -> dict[str, object]:
        """Of both."""
        return {"muon": self.muon.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict[str, dict[str, object]]) -> None:
        """Go on from there."""
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])


def _as_matrix(weight: Tensor) -> Tensor:
    """A view, where the weights are in channels-last order."""
    return weight if weight.ndim == 2 else weight.permute(0, 2, 3, 1).flatten(1)


class Training:
    """A run that can be killed and started again.

    Args:
        out: Folder of checkpoint, log and weights.
        minutes: How long it takes in all.
        rate: Largest learning rate.
        seed: Of the weights and of what is drawn.
        worker: Number of this process; the first one validates and saves.
        workers: Processes that train together, each with a batch of its own.
        start: Weights to begin with, as far as their names and shapes fit; None begins with random ones.
        device: Where it runs; with one that is not the CPU, `workers` should be 1.
        frames_per_step: Frames of one worker's batch, each counted once an object.
    """

    def __init__(
        self,
        out: Path,
        minutes: float,
        rate: float,
        seed: int,
        worker: int = 0,
        workers: int = 1,
        start: Path | None = None,
        device: str = "cpu",
        frames_per_step: int = FRAMES_PER_STEP,
    ) -> None:
        self.out, self.seconds, self.rate, self.seed = out, minutes * 60, rate, seed
        self.worker, self.workers = worker, workers
        self.device, self.frames_per_step = torch.device(device), frames_per_step
        torch.manual_seed(seed)
        self.tracker = NanoTracker().to(self.device)
        self.tracker.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.tracker)
        self.optimizers = Optimizers(self.tracker, rate)
        self.steps, self.spent = 0, 0.0
        out.mkdir(parents=True, exist_ok=True)
        if start is not None:
            for network in (self.tracker, self.average):
                own = network.state_dict()
                fitting = {
                    name: old for name, old in load_file(start).items() if name in own and own[name].shape == old.shape
                }
                network.load_state_dict(fitting, strict=False)
        if self._checkpoint.exists():
            saved = torch.load(self._checkpoint, weights_only=True, map_location=self.device)
            self.tracker.load_state_dict(saved["tracker"])
            self.average.load_state_dict(saved["average"])
            self.optimizers.load_state_dict(saved["optimizers"])
            self.steps, self.spent = saved["steps"], saved["spent"]
        self.rng = np.random.default_rng((seed, self.steps, worker))

    @property
    def _checkpoint(self) -> Path:
        return self.out / "checkpoint.pt"

    def run(self, pool: Pool, held_out: Pool, validate_every: float = 240) -> None:
        """Train until the time is spent; clips that join the pool meanwhile are used as well."""
        checked = self.spent
        while self.spent < self.seconds:
            began = time.monotonic()
            loss = self._step(pool)
            self.spent += self._agreed(min(time.monotonic() - began, 60.0))  # a stopped process has not trained
            self.steps += 1
            if self.steps % 20 == 0 and not self.worker:
                print(f"{self.spent:.0f} s, step {self.steps}: loss {loss:.4f}", flush=True)
            if self.spent - checked > validate_every or self.spent >= self.seconds:
                checked = self.spent
                pool.refresh()
                if not self.worker:
                    self.save(validate(self.average, held_out), loss)

    def _step(self, pool: Pool) -> float:
        done = self.spent / self.seconds
        lengths = next(lengths for share, lengths in SCHEDULE if done <= share)
        frames = int(np.random.default_rng((self.seed, self.steps)).choice(lengths))
        batch = draw_batch(self.rng, pool, max(1, round(self.frames_per_step / frames / OBJECTS)), frames)
        rate = self.rate * min(1, (self.steps + 1) / 60) * (0.02 + 0.98 * min(1, (1 - done) / 0.6))
        self.tracker.train()
        with torch.autocast(self.device.type, torch.bfloat16):
            loss = train_step(self.rng, self.tracker, batch)
        loss.backward()
        self._share()
        nn.utils.clip_grad_norm_(self.tracker.parameters(), 1.0)
        self.optimizers.step(rate)
        keep = min(AVERAGE, self.steps / (self.steps + 10))
        with torch.no_grad():
            for kept, new in zip(self.average.state_dict().values(), self.tracker.state_dict().values(), strict=True):
                if kept.dtype.is_floating_point:
                    kept.lerp_(new, 1 - keep)
        return float(loss.detach())

    def _share(self) -> None:
        """Average the gradients of all workers."""
        if self.workers == 1:
            return
        grads = [weight.grad for weight in self.tracker.parameters() if weight.grad is not None]
        flat = torch.cat([grad.flatten() for grad in grads])
        distributed.all_reduce(flat)
        flat /= self.workers
        for grad, part in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
            grad.copy_(part.view_as(grad))

    def _agreed(self, seconds: float) -> float:
        """The mean of all workers', so that all stop after the same step."""
        if self.workers == 1:
            return seconds
        total = torch.tensor(seconds, dtype=torch.float64)
        distributed.all_reduce(total)
        return float(total) / self.workers

    def save(self, overlaps: list[float], loss: float) -> None:
        """Write checkpoint, weights and a line of the log."""
        part = self._checkpoint.with_suffix(".part")
        state = {"tracker": self.tracker.state_dict(), "average": self.average.state_dict(),
                 "optimizers": self.optimizers.state_dict(), "steps": self.steps, "spent": self.spent}  # fmt: skip
        torch.save(state, part)
        part.replace(self._checkpoint)
        weights = {name: tensor.cpu().contiguous() for name, tensor in self.average.state_dict().items()}
        save_file(weights, self.out / "tracker.part")
        (self.out / "tracker.part").replace(self.out / "tracker.safetensors")
        line = {"seconds": round(self.spent), "step": self.steps, "loss": round(loss, 4),
                "iou": round(float(np.mean(overlaps)), 4),
                "iou_by_frame": [round(value, 3) for value in overlaps[::8]]}  # fmt: skip
        with (self.out / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        print(line, flush=True)


def work(worker: int, options: argparse.Namespace) -> None:
    """One of the processes."""
    torch.set_num_threads(1)
    if options.workers > 1:
        meeting = f"file://{(options.out / 'meeting').absolute()}"
        distributed.init_process_group("gloo", init_method=meeting, rank=worker, world_size=options.workers)
    training = Training(
        options.out, options.minutes, options.rate, options.seed, worker, options.workers, options.start,
        options.device, options.frames_per_step,
    )  # fmt: skip
    training.run(Pool(options.pool), Pool(options.held_out))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, required=True, help="clips to train on")
    parser.add_argument("--held-out", type=Path, required=True, help="clips to watch the training with")
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoint, log and weights")
    parser.add_argument("--start", type=Path, help="weights to begin with, instead of random ones")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda with --workers 1 and a larger batch")
    parser.add_argument(
        "--frames-per-step", type=int, default=FRAMES_PER_STEP, help="of one worker, each counted once an object"
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "meeting").unlink(missing_ok=True)
    spawn(work, (options,), nprocs=options.workers)


if __name__ == "__main__":
    main()
