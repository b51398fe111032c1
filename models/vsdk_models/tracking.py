"""What every tracker is made of, whichever family it comes from: four networks and how they are to be used."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from vsdk_runtimes.manifest import Preprocessing, TrackerSpec


@dataclass(frozen=True)
class TrackerNetworks:
    """The four networks of a tracker; `docs/tracking.md` states their inputs and outputs.

    Attributes:
        family: Model family, such as `sam2`.
        encoder: Pixels to the maps of a frame.
        attention: The frame's features read the bank.
        decoder: Features and prompts to masks.
        memory: Features and a mask to what the bank keeps.
        spec: How the bank is kept.
        preprocessing: From a picture to pixels; its size is the side of the square input.
        width: Channels of the features.
        keep_float: Inputs of the attention that must not be rounded to half precision before they are used.
    """

    family: str
    encoder: nn.Module
    attention: nn.Module
    decoder: nn.Module
    memory: nn.Module
    spec: TrackerSpec
    preprocessing: Preprocessing
    width: int
    keep_float: tuple[str, ...] = ("pointer_age",)

    @property
    def image_size(self) -> int:
        """Side of the square input in pixels."""
        side = self.preprocessing.resize.height
        assert side is not None
        return side
