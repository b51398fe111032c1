"""What the device can do at best: matrix products and copies, measured with PyTorch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Ceilings:
    """Best of several runs.

    Attributes:
        flops: Operations a second of a square matrix product, by precision (`fp32` without TF32, `fp16`).
        copied: Bytes a second of a copy on the device, read and written counted.
    """

    flops: dict[str, float]
    copied: float


def synchronise(device: str) -> None:
    """Wait until the device has done all that it was asked for."""
    if device != "cpu":
        torch.cuda.synchronize()


def seconds(work: Callable[[], Any], device: str, rounds: int) -> list[float]:
    """How long each of so many runs takes, after one that does not count."""
    found = []
    for number in range(rounds + 1):
        synchronise(device)
        start = time.perf_counter()
        work()
        synchronise(device)
        if number:
            found.append(time.perf_counter() - start)
    return found


def measure_ceilings(device: str, *, quick: bool) -> Ceilings:
    """Large products and copies; small ones where `quick`."""
    side, floats, rounds = (256, 2**18, 3) if quick else (8192, 2**28, 10)
    torch.backends.cuda.matmul.allow_tf32 = False
    flops = {}
    for name, kind in (("fp32", torch.float32), ("fp16", torch.float16)):
        left, right = (torch.randn(side, side, device=device).to(kind) for _ in range(2))
        best = min(seconds(lambda a=left, b=right: a @ b, device, rounds))  # type: ignore[misc]
        flops[name] = 2 * side**3 / best
        del left, right
    source = torch.zeros(floats, device=device)
    target = torch.empty_like(source)
    copied = 2 * source.nbytes / min(seconds(lambda: target.copy_(source), device, rounds))
    return Ceilings(flops, copied)
