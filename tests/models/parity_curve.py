"""Full width: how far the exported memory is from the published computation, segment by segment.

python tests/models/parity_curve.py --variant base --width 1024 --segments 200 --png curve.png --json curve.json

The same comparison as `test_videollamb_parity.py`, which runs it at a small width: weights drawn at random under the
published names, segments of 1 to 8 frames, a cache that fills up and then forgets and merges, garbage where nothing is;
each step from the reference's state, and in the closed loop each from its own. Errors are relative to the root mean
square of the reference in float64. It exits with 1 past the limits of 1e-4 (fp32) and a cosine of 0.999 (fp16). At the
published sizes the base variant takes about a quarter of an hour on one core.

Whether errors fade also depends on the weights (see `random_weights`), so `--yardstick` draws the published computation
itself in float32 beside the graph.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from memory_host import Array, Host, cosine, relative, segment
from videollamb_reference import Reference, random_weights

from vsdk.bench.chart import Axis, Curve, line_chart
from vsdk_export import export_memory
from vsdk_models.videollamb import BridgeConfig, MemoryStep
from vsdk_runtimes import Precision, load, load_bundle

RELATIVE, COSINE = 1e-4, 0.999
YARDSTICK = "published, float32"
TOKENS = ("bridged", "visual", "memory_out")
# Published: pooling, patch tokens, capacity that vsdk takes, segment embeddings.
VARIANTS = {"base": (12, 256, 32, 0), "mem": (14, 576, 8, 1024)}


def config_for(options: argparse.Namespace) -> BridgeConfig:
    grid, patches, capacity, positions = VARIANTS[options.variant]
    return BridgeConfig(
        width=options.width, heads=8, hidden=4 * options.width, patches=patches, grid=grid, capacity=capacity,
        positions=positions, variant="patches" if positions else "memories",
    )  # fmt: skip


def reference_for(config: BridgeConfig, weights: dict[str, torch.Tensor], dtype: torch.dtype) -> Reference:
    return Reference(
        {name: tensor.to(dtype) for name, tensor in weights.items()}, config.heads, config.side, config.pooled_side,
        caches_patches=config.variant == "patches",
    )  # fmt: skip


Curves = dict[str, dict[str, list[float]]]
Tokens = Mapping[str, torch.Tensor]


def measure(
    config: BridgeConfig, segments: int, precisions: list[Precision], *, size: float, yardstick: bool
) -> Curves:
    """By what computed it, the worst relative error and the worst cosine of all tokens of each segment."""
    weights = random_weights(config.width, config.hidden, config.memory_tokens, positions=config.positions, size=size)
    step = MemoryStep(config).eval()
    step.load_state_dict({name: weights[name] for name in step.state_dict()})
    exact, single = (reference_for(config, weights, dtype) for dtype in (torch.float64, torch.float32))
    references = [exact, single] if yardstick else [exact]
    rng = np.random.default_rng(6)
    host = Host(config, rng)
    curves: Curves = {}
    with tempfile.TemporaryDirectory() as folder:
        export_memory(step, out=Path(folder) / "bundle", precisions=precisions, progress=tell)
        component = load_bundle(Path(folder) / "bundle").component("bridge")
        sessions = {name: load(component, precision=name) for name in precisions}
        states = {name: session.new_state() for name, session in sessions.items()}
        for number in range(segments):
            count = int(rng.integers(1, config.frames + 1))
            patches, frames = segment(rng, config, count)
            given = {"patches": patches, "frames": frames, "restart": np.zeros(1, np.float32)}
            if config.positions:
                given["position"] = np.array([min(number, config.positions - 1)], np.int64)
            state = host.state(exact)
            given |= host.write(count, *references)
            there = torch.from_numpy(patches[0, :count])
            expected = dict(zip(TOKENS, exact.segment(there.double(), number), strict=True))
            for name, session in sessions.items():
                add(curves, f"{name}, each step", session.run({**given, **state}, TOKENS), expected)
                add(curves, f"{name}, closed loop", session.step(given, states[name], TOKENS), expected)
            if yardstick:
                found = zip(TOKENS, single.segment(there, number), strict=True)
                add(curves, YARDSTICK, {name: tensor[None].numpy() for name, tensor in found}, expected)
            latest = ", ".join(f"{name} {curve['relative'][-1]:.1e}" for name, curve in curves.items())
            tell(f"segment {number + 1}: {latest}", (number + 1) / segments)
    return curves


def add(curves: Curves, name: str, found: Mapping[str, Array], expected: Tokens) -> None:
    """The worst of a segment's tokens, at the end of a curve."""
    curve = curves.setdefault(name, {"relative": [], "cosine": []})
    pairs = [(found[item][0, : len(wanted)], wanted) for item, wanted in expected.items()]
    curve["relative"].append(float(f"{max(relative(*pair) for pair in pairs):.3g}"))
    curve["cosine"].append(round(min(cosine(*pair) for pair in pairs), 8))


def tell(description: str, fraction: float) -> None:
    print(f"\r{100 * fraction:4.0f} %  {description:60}", end="", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Error of the exported memory over many segments.")
    parser.add_argument("--variant", choices=tuple(VARIANTS), default="base")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--segments", type=int, default=200)
    parser.add_argument("--precision", default="fp32", help="fp32, fp16 or both with a comma")
    parser.add_argument("--size", type=float, default=1.0, help="of the weights, see random_weights")
    parser.add_argument("--yardstick", action="store_true", help="also the published computation in float32")
    parser.add_argument("--png", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    precisions: list[Precision] = [name for name in ("fp32", "fp16") if name in options.precision.split(",")]
    curves = measure(
        config_for(options), options.segments, precisions, size=options.size, yardstick=options.yardstick
    )  # fmt: skip
    print(file=sys.stderr)
    passed = True
    for name, curve in curves.items():
        worst, least = max(curve["relative"]), min(curve["cosine"])
        print(f"{options.variant}, width {options.width}, {name}: relative error {worst:.2e}, cosine {least:.8f}")
        passed &= not name.startswith("fp32") or worst <= RELATIVE
        passed &= not name.startswith("fp16") or least >= COSINE
    if options.json:
        options.json.write_text(
            json.dumps({"variant": options.variant, "width": options.width, "size": options.size, **curves}) + "\n"
        )
    if options.png:
        drawn = [Curve(name, range(1, options.segments + 1), curve["relative"]) for name, curve in curves.items()]
        remark = f"{options.variant} variant, width {options.width}; worst error of a segment's tokens over their RMS"
        across, upward = Axis("segments read, each state from the one before"), Axis("relative error", log=True)
        line_chart("Exported memory against the published computation", remark, drawn, across, upward).save(options.png)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
