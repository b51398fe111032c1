"""The least that a host has to do for a memory graph: slots in order of time, and what becomes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from videollamb_reference import Reference

from vsdk_models.videollamb import BridgeConfig

Array = npt.NDArray[Any]
GARBAGE = 1e6


class Host:
    """Says what a graph's cache is to do, and does the same to a reference.

    Entries are spread over the slots in no order, and the oldest goes or the two at a random place become one.
    """

    def __init__(self, config: BridgeConfig, rng: np.random.Generator) -> None:
        self.config, self._rng = config, rng
        self._free = list(rng.permutation(config.slots))
        self._order: list[int] = []
        self._counts = np.zeros((config.blocks, config.slots))
        self.evicted = {"forget": 0, "merge": 0}

    def write(self, frames: int, *references: Reference) -> dict[str, Array]:
        """Inputs of the graph for a segment of so many frames, after which the references have made room, too."""
        mix = np.zeros((self.config.blocks, self.config.slots, self.config.slots), np.float32)
        mix[:, self._order, self._order] = 1
        if not self._free:
            self._make_room(mix, references)
        slot = self._free.pop()
        mix[:, slot] = 0
        self._counts[:, slot] = np.arange(self.config.blocks) < (frames if self.config.blocks > 1 else 1)
        self._order.append(slot)
        write = np.zeros(self.config.slots, np.float32)
        write[slot] = 1
        return {"mix": mix, "write": write, "valid": (self._counts > 0).astype(np.float32)}

    def _make_room(self, mix: Array, references: tuple[Reference, ...]) -> None:
        if len(self._order) > 1 and self._rng.random() < 0.5:
            position = int(self._rng.integers(len(self._order) - 1))
            one, other = self._order[position], self._order.pop(position + 1)
            total = self._counts[:, one] + self._counts[:, other]
            for block in np.flatnonzero(total):
                mix[block, one, one] = self._counts[block, one] / total[block]
                mix[block, one, other] = self._counts[block, other] / total[block]
            self._counts[:, one] = total
            for reference in references:
                reference.merge(position)
            self._free.append(other)
            self.evicted["merge"] += 1
        else:
            self._free.append(self._order.pop(0))
            for reference in references:
                reference.forget(0)
            self.evicted["forget"] += 1

    def state(self, reference: Reference) -> dict[str, Array]:
        """The reference's state as the graph keeps it, with garbage wherever nothing is."""
        config = self.config
        memory = reference.memory
        if memory is None:
            memory = reference.weights["projector.read_memory_emb"]
        shape = (config.blocks, config.slots, config.block_tokens, config.width)
        found: dict[str, Array] = {"memory_in": memory.numpy()[None].astype(np.float32)}
        for name, part in (("keys_in", "k_proj"), ("values_in", "v_proj")):
            tensor = self._rng.normal(0, GARBAGE, shape)
            for slot, entry in zip(self._order, reference.cache, strict=True):
                for block, count in enumerate(entry.counts):
                    if count:
                        projected = reference.linear(f"retrieval.layers.0.crossattention.{part}", entry.blocks[block])
                        tensor[block, slot] = projected.numpy()
            found[name] = tensor.astype(np.float32)
        return found


def segment(rng: np.random.Generator, config: BridgeConfig, count: int) -> tuple[Array, Array]:
    """`patches` and `frames` of a segment of `count` frames that resemble one another, with garbage behind them."""
    patches = rng.normal(0, GARBAGE, (1, config.frames, config.patches, config.width)).astype(np.float32)
    scene = rng.normal(size=(config.patches, config.width))
    patches[0, :count] = scene + 0.4 * rng.normal(size=(count, config.patches, config.width))
    return patches, (np.arange(config.frames) < count).astype(np.float32)[None]


def relative(found: Array, expected: torch.Tensor) -> float:
    """Largest absolute error, in units of the reference's root mean square."""
    wanted = expected.numpy()
    return float(np.abs(found - wanted).max() / np.sqrt(np.mean(wanted**2)))


def cosine(found: Array, expected: torch.Tensor) -> float:
    """The smallest cosine between a token and its reference."""
    wanted = expected.numpy()
    product = (found * wanted).sum(-1)
    return float((product / np.linalg.norm(found, axis=-1) / np.linalg.norm(wanted, axis=-1)).min())
