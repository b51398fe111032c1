"""Each graph that was written, measured against PyTorch: on drawn samples, and on what a video showed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vsdk_runtimes import Bundle, Precision
from vsdk_runtimes.manifest import ComponentSpec, Deviation, FileEntry, Manifest

from .calibration_calls import Seen
from .network import Network
from .parity import LIMITS, Limit, Pairs, limit_of, measure, referenced, sample_batches
from .recurrent_parity import measure_recurrent


def limit_for(spec: ComponentSpec, precision: Precision, output: str) -> Limit:
    """What an output was held against."""
    if spec.state:
        return LIMITS[precision]
    return limit_of(precision, len(spec.outputs[output].shape))


class References:
    """What a network's graphs are compared with, each of its batches run once."""

    def __init__(self, network: Network, seen: Seen | None) -> None:
        self.network, self._seen = network, seen
        self._ordinary: Pairs | None = None
        self._held_out: Pairs | None = None

    def recurrent(self, precision: Precision) -> Network:
        """The network with the samples that this precision is measured on."""
        lower = precision == "int8" and self._seen is not None
        return replace(self.network, samples=self._seen.samples) if lower and self._seen else self.network

    def ordinary(self, precision: Precision) -> Pairs:
        """Samples with reference outputs; none for int8 where there is a video."""
        if precision == "int8" and self._seen is not None:
            return ()
        if self._ordinary is None:
            self._ordinary = referenced(self.network, sample_batches(self.network))
        return self._ordinary

    def held_out(self, precision: Precision) -> Pairs:
        """What a video showed, with reference outputs; none for fp32, which is not calibrated."""
        if precision == "fp32" or self._seen is None:
            return ()
        if self._held_out is None:
            self._held_out = referenced(self.network, self._seen.held_out)
        return self._held_out


def measured(
    spec: ComponentSpec, folder: Path, files: dict[str, FileEntry], precision: Precision, references: References
) -> dict[str, Deviation]:
    """Verify through a bundle that holds only this component: the run side's own reading of what was written."""
    network = references.network
    manifest = Manifest(
        name=network.name, created_with={}, components={network.name: spec}, files=files
    )  # fmt: skip
    component = Bundle(folder, manifest).components[network.name]
    if network.recurrence is not None:
        return measure_recurrent(component, precision, references.recurrent(precision))
    return measure(component, precision, network, references.ordinary(precision), references.held_out(precision))
