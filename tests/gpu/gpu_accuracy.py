"""Whether results on the device are right: each output against its reference, and recurrence in closed loop."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np

import vsdk
from vsdk.bench.haystacks import drawn_haystack
from vsdk.bench.niavh import encode
from vsdk.memory.bridge import MemoryBridge
from vsdk_export.network import Network
from vsdk_runtimes import Bundle, Component, load

LIMITS = {"fp32": 1e-3, "fp16": 5e-2}
"""Most distance of any output, relative to its root mean square: that of the arithmetic on a GPU, TF32 excluded."""


def deviation(found: Any, expected: Any) -> dict[str, float]:
    """Largest error in units of the root mean square, and the cosine of the whole."""
    one, other = found.astype(np.float64).ravel(), expected.astype(np.float64).ravel()
    scale = float(np.sqrt(np.mean(other**2))) or 1.0
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return {
        "relative": float(np.abs(one - other).max()) / scale,
        "cosine": float(one @ other) / lengths if lengths else 1.0,
    }


def parity(
    network: Network, component: Component, device: str, precision: Any, calls: int
) -> dict[str, dict[str, float]]:
    """The worst deviation of each output from the network in PyTorch on the CPU in fp32, over so many calls."""
    worst: dict[str, dict[str, float]] = {}
    with load(component, precision=precision, device=device) as session:
        for given in islice(network.calls(), calls):
            found = session.run(given)
            for name, expected in network.expected(given).items():
                now = deviation(found[name], expected)
                then = worst.get(name, now)
                worst[name] = {
                    "relative": max(now["relative"], then["relative"]), "cosine": min(now["cosine"], then["cosine"])
                }  # fmt: skip
    return worst


def within(precision: str, worst: dict[str, dict[str, float]]) -> bool:
    """Whether all outputs are finite, and within the limit where the precision has one."""
    figures = [value["relative"] for value in worst.values()]
    return bool(np.isfinite(figures).all()) and max(figures) <= LIMITS.get(precision, np.inf)


def bridge_drift(bundle: Bundle, device: str, precision: Any, steps: int) -> list[float]:
    """1 - cosine of the memory tokens after each segment with those at fp32 on the CPU, each on its own state."""
    plain = MemoryBridge(bundle, precision="fp32")
    other = MemoryBridge(bundle, precision=precision, device=device)
    segments = _segments(bundle, plain, steps)
    found = []
    for segment in segments:
        found.append(1 - deviation(other.step(segment).memory, plain.step(segment).memory)["cosine"])
    for closing in (plain, other):
        closing.close()
    return found


def _segments(bundle: Bundle, bridge: MemoryBridge, steps: int) -> Any:
    """Patch tokens of a drawn video where there is an encoder, of drawn scenes where there is none."""
    generator = np.random.default_rng(0)
    if not bundle.has("encoder"):
        for _ in range(steps):
            scene = generator.standard_normal((bridge.patches, bridge.width))
            noise = generator.standard_normal((bridge.frames, bridge.patches, bridge.width))
            yield (scene + 0.4 * noise).astype(np.float32)
        return
    encoder = vsdk.Encoder(bundle, precision="fp32", patches=True)
    side = int(encoder.session.inputs["pixels"].shape[-1])
    pictures = drawn_haystack(0, steps * bridge.frames, side)
    for number in range(steps):
        yield encode(encoder, pictures[number * bridge.frames : (number + 1) * bridge.frames])
    encoder.close()


def tracker_overlap(bundle: Bundle, device: str, precision: Any, frames: int) -> list[float]:
    """Overlap of the masks with those at fp32 on the same device, frame by frame; two empty masks are equal."""
    masks = [_masks(bundle, device, kind, frames) for kind in ("fp32", precision)]
    found = []
    for one, other in zip(*masks, strict=True):
        union = int((one | other).sum())
        found.append(int((one & other).sum()) / union if union else 1.0)
    return found


def _masks(bundle: Bundle, device: str, precision: Any, frames: int) -> list[Any]:
    ground = np.random.default_rng(0).integers(60, 120, (180, 320, 3), np.uint8)
    found = []
    with vsdk.Tracker(bundle, device=device, precision=precision) as tracker:
        for number in range(frames):
            picture, left = ground.copy(), 40 + 4 * number
            picture[60:110, left : left + 50] = (220, 40, 40)
            if number == 0:
                tracker.prompt(picture, 1, box=(left, 60, left + 50, 110))
            (tracked,) = tracker.track(picture)
            found.append(tracked.mask)
    return found
