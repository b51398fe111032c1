"""Parity: is the exported graph still the network it came from?

Every output is compared by name with the PyTorch reference, on real-looking inputs and several batch sizes, through
the same engine that will run the bundle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

import vsdk_runtimes
from vsdk_runtimes import Component, Precision
from vsdk_runtimes.errors import ParityError
from vsdk_runtimes.manifest import Deviation

from .network import Array, Arrays, Network

# One frame, the batch that was traced, and one that the exporter has not seen.
BATCHES = (1, 2, 5)
Pairs = Sequence[tuple[Arrays, Arrays]]
"""All inputs of a run by name, and the reference's outputs for them."""
_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class Limit:
    """How far an output may be from its reference.

    Attributes:
        relative: Largest absolute error, in units of the reference's root mean square.
        cosine: Smallest cosine between a vector and its reference (see `deviation`).
    """

    relative: float | None = None
    cosine: float | None = None

    def exceeded_by(self, deviation: Deviation) -> bool:
        """Whether a measured deviation is past this limit."""
        too_far = self.relative is not None and deviation.relative > self.relative
        return too_far or (self.cosine is not None and deviation.cosine < self.cosine)

    def __str__(self) -> str:
        return f"relative <= {self.relative:g}" if self.relative is not None else f"cosine >= {self.cosine:g}"


LIMITS: Mapping[Precision, Limit] = {
    "fp32": Limit(relative=1e-4),
    "fp16": Limit(cosine=0.999),
    "int8": Limit(cosine=0.98),
}
INT8_VECTOR = Limit(cosine=0.99)
"""At int8, where an output is one vector for each of the batch, such as a class token or an embedding."""


def limit_of(precision: Precision, axes: int) -> Limit:
    """The limit for an output with so many axes."""
    return INT8_VECTOR if precision == "int8" and axes == 2 else LIMITS[precision]


def referenced(network: Network, batches: Sequence[Arrays]) -> Pairs:
    """Each batch with the reference's outputs for it."""
    return [(batch, network.expected(dict(batch))) for batch in batches]


def measure(
    component: Component,
    precision: Precision,
    network: Network,
    ordinary: Pairs,
    seen: Pairs = (),
) -> dict[str, Deviation]:
    """Run a component of a bundle and say how far each output is from the reference.

    Args:
        component: What is run.
        precision: At which precision.
        network: Where it came from.
        ordinary: From `referenced`, for samples.
        seen: From `referenced`, for what a video showed.

    Raises:
        ParityError: An output is past the limit or not finite; the message names the worst one.
    """
    with vsdk_runtimes.load(component, precision=precision, device="cpu", engine="onnxruntime") as session:
        found = [session.run(dict(batch)) for batch, _ in (*ordinary, *seen)]
    for outputs in found:
        check_finite(network.name, precision, outputs, "on ordinary pictures")
    deviations: dict[str, Deviation] = {}
    limits: dict[str, Limit] = {}
    runs = list(zip(found, (expected for _, expected in (*ordinary, *seen)), strict=True))
    for name in network.outputs:
        for part, whole in ((runs[: len(ordinary)], precision == "int8"), (runs[len(ordinary) :], True)):
            if part:
                actual, wanted = [outputs[name] for outputs, _ in part], [expected[name] for _, expected in part]
                deviations[name] = worse(deviation(actual, wanted, whole_maps=whole), deviations.get(name))
                limits[name] = limit_of(precision, wanted[0].ndim)
    return judged(network.name, precision, deviations, limits)


def check_finite(component: str, precision: Precision, outputs: Arrays, when: str) -> None:
    """Refuse outputs that are not finite.

    Raises:
        ParityError: It says of which component, and when.
    """
    for name, array in outputs.items():
        if not np.isfinite(array).all():
            raise ParityError(
                f"component {component!r} at {precision}: output {name!r} is not finite {when}",
                hint="Export it at fp32 only, and please report the checkpoint's name.",
            )


def judged(
    component: str, precision: Precision, deviations: Mapping[str, Deviation], limits: Mapping[str, Limit] | None = None
) -> dict[str, Deviation]:
    """The deviations as the manifest holds them, if all are within their limits.

    Args:
        component: For the message.
        precision: What was measured.
        deviations: By output.
        limits: By output; by default the precision's own.

    Raises:
        ParityError: One is not; the message names the worst.
    """
    _judge(component, precision, deviations, {name: (limits or {}).get(name, LIMITS[precision]) for name in deviations})
    return {name: _rounded(item) for name, item in deviations.items()}


def worse(one: Deviation, other: Deviation | None) -> Deviation:
    """The worse of both in each respect."""
    if other is None:
        return one
    return Deviation(
        max_abs=max(one.max_abs, other.max_abs),
        relative=max(one.relative, other.relative),
        cosine=min(one.cosine, other.cosine),
    )


def deviation(found: list[Array], expected: list[Array], *, whole_maps: bool = False) -> Deviation:
    """Compare lists of arrays `[batch, ..., width]` pairwise; cosines are of vectors along the last axis.

    Arrays `[batch]` are compared as one vector, and each channel of maps `[batch, channels, height, width]` as one: a
    row of pixels is no vector of anything, and one in which nothing is seen has no direction. With `whole_maps` all
    channels are one vector: at int8, and on videos, where some channels have next to nothing in them.
    """
    if whole_maps and expected[0].ndim == 4:
        found, expected = ([array.reshape(len(array), -1) for array in arrays] for arrays in (found, expected))
    if expected[0].ndim == 1:  # a number for each of the batch: one vector, since a number alone has no direction
        found, expected = [np.concatenate(found)[None]], [np.concatenate(expected)[None]]
    width = int(np.prod(expected[0].shape[2:])) if expected[0].ndim == 4 else expected[0].shape[-1]
    actual = np.concatenate([array.reshape(-1, width) for array in found]).astype(np.float64)
    wanted = np.concatenate([array.reshape(-1, width) for array in expected]).astype(np.float64)
    largest = float(np.abs(actual - wanted).max())
    rms = float(np.sqrt(np.mean(wanted**2)))
    lengths, wanted_lengths = np.linalg.norm(actual, axis=1), np.linalg.norm(wanted, axis=1)
    cosines = (actual * wanted).sum(axis=1) / np.maximum(lengths * wanted_lengths, _TINY)
    cosines[(lengths == 0) & (wanted_lengths == 0)] = 1  # two zero vectors agree, such as those of an unused slot
    return Deviation(max_abs=largest, relative=largest / max(rms, _TINY), cosine=float(cosines.min()))


def _judge(
    component: str, precision: Precision, deviations: Mapping[str, Deviation], limits: Mapping[str, Limit]
) -> None:
    failed = [(name, item) for name, item in deviations.items() if limits[name].exceeded_by(item)]
    if not failed:
        return
    name, worst = (
        max(failed, key=lambda pair: pair[1].relative)
        if LIMITS[precision].relative is not None
        else min(failed, key=lambda pair: pair[1].cosine)
    )
    raise ParityError(
        f"component {component!r} at {precision}: output {name!r} differs from PyTorch by {worst.relative:.3g} of its "
        f"RMS (largest absolute error {worst.max_abs:.3g}, worst cosine {worst.cosine:.6f}); the limit is "
        f"{limits[name]}",
        hint="Nothing was written. Leave this precision out, or report the checkpoint's name.",
    )


def sample_batches(network: Network) -> list[dict[str, Array]]:
    """The network's samples in several sizes of batch; the smallest has one entry on every other dynamic axis, too."""
    ends = np.cumsum(BATCHES)
    return [
        network.batch(int(end) - size, size, entries=1 if size == 1 else None)
        for size, end in zip(BATCHES, ends, strict=True)
    ]


def _rounded(item: Deviation) -> Deviation:
    """Three significant digits (of the distance from 1 for a cosine): what a measurement on other machines repeats."""
    return Deviation(
        max_abs=float(f"{item.max_abs:.3g}"),
        relative=float(f"{item.relative:.3g}"),
        cosine=round(1 - float(f"{1 - item.cosine:.3g}"), 9),
    )
