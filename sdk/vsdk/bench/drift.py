"""How far a memory of lower precision strays from fp32 when both read the same long video.

A recurrent graph is fed its own output, so an error may add up. Both memories see the same segments of a drawn video
and never each other's state; after each segment their memory tokens are compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vsdk_runtimes import Bundle, Precision
from vsdk_runtimes.errors import InputError

from ..encoder import Encoder
from ..memory.bridge import MemoryBridge
from .chart import Axis, Curve, line_chart
from .haystacks import drawn_haystack
from .niavh import encode

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class DriftReport:
    """How near two memories stayed.

    Attributes:
        bundle, digest: What ran.
        precision: What was compared with fp32.
        cosine: For each segment the mean cosine of the memory tokens after retrieval with those at fp32.
        worst: For each segment that of the token that is furthest off.
    """

    bundle: str
    digest: str
    precision: Precision
    cosine: tuple[float, ...]
    worst: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return asdict(self)

    def chart(self) -> Any:
        """A picture (`PIL.Image.Image`): distance from fp32 over segments."""
        segments = range(1, len(self.cosine) + 1)
        curves = [
            Curve(name, list(segments), [max(0.0, 1 - value) for value in values])
            for name, values in (("furthest token", self.worst), ("mean of all tokens", self.cosine))
        ]
        return line_chart(
            f"Memory of {self.bundle} at {self.precision}: distance from fp32",
            "1 - cosine of the memory tokens after each segment; both memories run on their own state",
            curves,
            Axis("segments read"),
            Axis("1 - cosine"),
        )


def measure_drift(
    bundle: Bundle,
    *,
    precision: Precision = "int8",
    segments: int = 200,
    seed: int = 0,
    progress: Progress = lambda says, fraction: None,
) -> DriftReport:
    """Run the memory of a bundle at fp32 and at another precision over the same video, on the CPU.

    Args:
        bundle: What to run; its encoder runs at fp32 for both.
        precision: Of the bridge that is compared.
        segments: How many segments to read.
        seed: Of the drawn video.
        progress: Called with what is being done and the fraction that is done.

    Raises:
        InputError: No segments.
        BundleSchemaError, EngineError: The bundle has no bridge, or it cannot be run as asked.
    """
    if segments < 1:
        raise InputError(f"a drift needs at least one segment, not {segments}")
    plain = MemoryBridge(bundle, precision="fp32", threads=1)
    lower = MemoryBridge(bundle, precision=precision, threads=1)
    encoder = Encoder(bundle, precision="fp32", threads=1, patches=True)
    side = int(encoder.session.inputs["pixels"].shape[-1])
    pictures = drawn_haystack(seed, segments * plain.frames, side)
    cosine, worst = [], []
    for number in range(segments):
        progress(f"segment {number}", number / segments)
        start = number * plain.frames
        patches = encode(encoder, pictures[start : start + plain.frames])
        alike = _cosines(plain.step(patches).memory, lower.step(patches).memory)
        cosine.append(float(alike.mean()))
        worst.append(float(alike.min()))
    progress("done", 1.0)
    for closing in (plain, lower, encoder):
        closing.close()
    return DriftReport(bundle.manifest.name, bundle.digest, precision, tuple(cosine), tuple(worst))


def _cosines(one: np.ndarray[Any, np.dtype[np.float32]], other: np.ndarray[Any, np.dtype[np.float32]]) -> Any:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return (one * other).sum(axis=1) / np.maximum(lengths, np.finfo(np.float32).tiny)
