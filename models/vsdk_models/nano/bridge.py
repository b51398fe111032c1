"""The nano bridge, what reads its memory tokens, and the controls that it is compared with.

The bridge is VideoLLaMB's (`vsdk_models.videollamb`) at nano's width, over patch tokens that are not pooled. It starts
from its initial memory every eight segments while the cache stays: a memory that is only ever carried on drifts over
long stretches in which nothing happens.

The controls keep as many floats as the memory, and are read by a bridge layer of the same size with a readout of the
same size, trained by the same script for the same steps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vsdk.bench.controls import frames_for, memory_floats
from vsdk.bench.needles import CLASSES

from ..videollamb import BridgeConfig, MemoryStep
from ..videollamb.bridge import Bridge, BridgeLayer, absent_bias
from .encoder import GRID, WIDTH

PATCHES = GRID * GRID
CONFIG = BridgeConfig(
    width=WIDTH,
    heads=6,
    hidden=4 * WIDTH,
    memory_tokens=16,
    patches=PATCHES,
    grid=0,
    frames=8,
    capacity=32,
    restart_every=8,
    epsilon=1e-6,
)
WITHOUT_RETRIEVAL = BridgeConfig(
    width=WIDTH, heads=6, hidden=4 * WIDTH, memory_tokens=16, patches=PATCHES, grid=0, frames=8, retrieval=False,
    epsilon=1e-6,
)  # fmt: skip
WINDOW = frames_for(memory_floats(CONFIG.memory, WIDTH), PATCHES, WIDTH)
"""How many frames (or means) of patch tokens take the floats of the memory."""
NONE = len(CLASSES)
"""The class that says that no needle was seen."""
CONTENDERS = ("memory", "no_retrieval", "last_n", "mean")


class Readout(nn.Module):
    """Memory tokens `[batch, 16, 192]` to scores.

    `what` `[batch, classes + 1]` of the needle that was seen, the last for none; `here` `[batch, 1]`, whether it was in
    the segment whose bridged tokens these are (a logit).
    """

    def __init__(self, hidden: int = 64) -> None:
        super().__init__()
        inputs = CONFIG.memory_tokens * WIDTH
        self.what = nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, len(CLASSES) + 1))
        self.here = nn.Linear(inputs, 1)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        flat = tokens.flatten(1)
        return self.what(flat), self.here(flat)


class RecurrentReader(nn.Module):
    """A bridge, with or without retrieval, and its readout."""

    def __init__(self, config: BridgeConfig) -> None:
        super().__init__()
        self.step = MemoryStep(config)
        self.readout = Readout()
        nn.init.normal_(self.step.projector.read_memory_emb, std=0.5)


class WindowReader(nn.Module):
    """A control: reads the patch tokens of so many frames, or so many means of frames, at once."""

    def __init__(self) -> None:
        super().__init__()
        self.bridge = Bridge(CONFIG)
        self.readout = Readout()
        nn.init.normal_(self.bridge.read_memory_emb, std=0.5)

    def forward(self, frames: Tensor, there: Tensor) -> Tensor:
        """Scores `[batch, classes + 1]`.

        Args:
            frames: `[batch, n, 64, 192]`, exported with n = `WINDOW`; those not there may hold anything finite.
            there: 1 for a frame that is there, else 0, `[batch, n]`.
        """
        memory = self.bridge.read_memory_emb.expand(frames.shape[0], -1, -1)  # len() would fix the batch in a graph
        present = there[:, :, None].expand(-1, -1, frames.shape[2]).flatten(1)
        what: Tensor = self.readout(memory_rows(self.bridge, memory, frames.flatten(1, 2), present))[0]
        return what


def only_layer(bridge: Bridge) -> BridgeLayer:
    """The layer of a bridge that has one."""
    (layer,) = bridge.layers
    assert isinstance(layer, BridgeLayer)
    return layer


def memory_rows(bridge: Bridge, memory: Tensor, tokens: Tensor, present: Tensor) -> Tensor:
    """The memory tokens of `Bridge.forward`, without computing the patch tokens that it gives too; one layer only."""
    layer = only_layer(bridge)
    keys, values = layer.selfattention.project(torch.cat([memory, tokens], dim=1))
    bias = absent_bias(torch.cat([torch.ones_like(memory[:, :, 0]), present], dim=1))
    attended = layer.selfattention(memory, keys, values, bias)
    rows: Tensor = layer.residual(layer.mlp(attended), attended)
    return rows


def contenders() -> nn.ModuleDict:
    """The memory and its controls, by name of `CONTENDERS`."""
    return nn.ModuleDict(
        {
            "memory": RecurrentReader(CONFIG),
            "no_retrieval": RecurrentReader(WITHOUT_RETRIEVAL),
            "last_n": WindowReader(),
            "mean": WindowReader(),
        }
    )
