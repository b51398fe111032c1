"""The trained nano tracker as what is exported: its four networks, and how they are to be used."""

from __future__ import annotations

from pathlib import Path

from vsdk_runtimes.manifest import Preprocessing, Resize, TrackerSpec

from ...tracking import TrackerNetworks
from .network import DEVIATION, MEAN, RECENT, WEIGHTS, NanoTracker, load_tracker
from .rollout import POINTERS

SPEC = TrackerSpec(
    recent_slots=RECENT,
    recent_pointers=POINTERS,
    multimask_points=None,
    multimask_tracking=False,
    stability_threshold=None,
    rounding="none",
    binarise="object",
)
"""One mask, nothing to choose; only prompted objects enter the memory as hard masks, as in training."""


def nano_networks(weights: Path = WEIGHTS) -> TrackerNetworks:
    """The networks of the nano tracker.

    Args:
        weights: What the training left, a .safetensors file.
    """
    return as_networks(load_tracker(weights))


def as_networks(tracker: NanoTracker) -> TrackerNetworks:
    """The networks of a nano tracker, trained or not."""
    config = tracker.config
    resize = Resize(height=config.side, width=config.side, filter="bilinear")
    return TrackerNetworks(
        family="nano",
        encoder=tracker.encoder,
        attention=tracker.attention,
        decoder=tracker.decoder,
        memory=tracker.memory,
        spec=SPEC,
        preprocessing=Preprocessing(resize=resize, mean=MEAN, std=DEVIATION),
        width=config.width,
    )
