"""Sizes of a memory bridge."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from vsdk_runtimes.errors import InputError
from vsdk_runtimes.manifest import MemorySpec

Variant = Literal["memories", "patches"]
_CAPACITIES = {"memories": 32, "patches": 8}


@dataclass(frozen=True)
class BridgeConfig:
    """Sizes of a memory bridge; the defaults are those of the published base model.

    Attributes:
        width: Components of a token.
        heads: Attention heads.
        hidden: Components between the two linear layers of a bridge layer.
        layers: Bridge layers.
        memory_tokens: Memory tokens.
        patches: Patch tokens of a frame as the encoder gives them, a square number.
        grid: Side of the square that a frame's tokens are pooled to; 0 leaves them as they are.
        frames: Most frames of a segment.
        variant: What the cache holds: memory tokens (the base model), or patch tokens (the "Mem" model).
        capacity: Slots of the cache. None takes 32 for memories and 8 for patches. The published code has no bound.
        retrieval: Whether there is a cache that the memory is read back from (`rmt_r_...`, not `rmt_...`).
        positions: Embeddings of segment numbers (the "Mem" model has 1024); 0 for none.
        restart_every: See `MemorySpec`; the published models never restart within a video.
        eviction: See `MemorySpec`.
        epsilon: Of the layer norms.

    Raises:
        InputError: The sizes do not fit together.
    """

    width: int = 1024
    heads: int = 8
    hidden: int = 4096
    layers: int = 1
    memory_tokens: int = 32
    patches: int = 256
    grid: int = 12
    frames: int = 8
    variant: Variant = "memories"
    capacity: int | None = None
    retrieval: bool = True
    positions: int = 0
    restart_every: int | None = None
    eviction: Literal["merge", "oldest"] = "merge"
    epsilon: float = 1e-12

    def __post_init__(self) -> None:
        sizes = (self.width, self.heads, self.hidden, self.layers, self.memory_tokens, self.patches, self.frames)
        if min(sizes) < 1 or min(self.grid, self.positions) < 0:
            raise InputError(f"a memory bridge needs positive sizes: {self}")
        if self.width % self.heads:
            raise InputError(f"a width of {self.width} does not divide into {self.heads} attention heads")
        if self.side**2 != self.patches:
            raise InputError(f"{self.patches} patch tokens of a frame are not a square, so they cannot be pooled")
        if self.slots < (1 if self.retrieval else 0):
            raise InputError(f"a cache needs at least one slot, not {self.slots}")

    @property
    def side(self) -> int:
        """Side of the square of patch tokens that a frame has before pooling."""
        return math.isqrt(self.patches)

    @property
    def pooled_side(self) -> int:
        """Side of the square of tokens that a frame has after pooling."""
        return self.grid or self.side

    @property
    def frame_tokens(self) -> int:
        """Tokens of a frame after pooling."""
        return self.pooled_side**2

    @property
    def segment_tokens(self) -> int:
        """Tokens of a whole segment after pooling."""
        return self.frames * self.frame_tokens

    @property
    def slots(self) -> int:
        """Slots of the cache; 0 without retrieval."""
        if not self.retrieval:
            return 0
        return _CAPACITIES[self.variant] if self.capacity is None else self.capacity

    @property
    def blocks(self) -> int:
        """Blocks of a cache entry: one for each frame where patch tokens are cached, else one."""
        return self.frames if self.variant == "patches" else 1

    @property
    def block_tokens(self) -> int:
        """Tokens of a block."""
        return self.frame_tokens if self.variant == "patches" else self.memory_tokens

    @property
    def memory(self) -> MemorySpec:
        """The manifest's description."""
        return MemorySpec(
            variant=self.variant,
            capacity=self.slots,
            tokens=self.memory_tokens,
            blocks=self.blocks,
            frames=self.frames,
            grid=self.pooled_side,
            restart_every=self.restart_every,
            eviction=self.eviction,
            positions=self.positions,
        )
