"""One step of the memory as a single static graph: bridge, write into the cache, retrieval.

The published model keeps its cache in a list that grows, and projects all of it at every step. Here it is two tensors
of fixed size, keys and values, made once when an entry is written. The host says with `mix`, `write` and `valid` what
becomes of the slots (`vsdk.memory.cache`); the arithmetic of the model is untouched.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vsdk_runtimes.manifest import MemorySpec

from .bridge import Bridge, Retrieval
from .config import BridgeConfig
from .pooling import pooling_matrix

STATE = {"memory_out": "memory_in", "keys_out": "keys_in", "values_out": "values_in"}


class MemoryStep(nn.Module):
    """Patch tokens of a segment and the state in; memory tokens, patch tokens and the new state out. The batch is 1.

    With M memory tokens, F frames, P patch tokens a frame, G the side of a frame after pooling, width D, and a cache of
    C slots of S blocks of T tokens (S = 1, T = M where memories are cached; S = F, T = G*G where patches are):

    Inputs: `patches` `[1, F, P, D]`; `frames` `[1, F]` (1 for a frame that is there, the first always is, 0 for
    padding); `restart` `[1]` (1: start from the initial memory); `mix` `[S, C, C]` (each slot as a sum of the slots
    before); `write` `[C]` (one-hot: the slot of this segment, whose row of `mix` is 0); `valid` `[S, C]` (1 where a
    block may be read after the write; what may not is wiped); `position` `[1]`, int64, only with `config.positions`
    (number of the segment); `memory_in` `[1, M, D]`; `keys_in` and `values_in` `[S, C, T, D]`.

    Outputs: `bridged` `[1, M, D]`, the memory tokens after the bridge; `visual` `[1, F*G*G, D]`, the patch tokens after
    the bridge; `memory_out`, `keys_out`, `values_out`, the state of the next step.

    All tensors but `position` are float32. Padding and unused slots may hold anything finite. Without retrieval there
    is no cache: the inputs are `patches`, `frames`, `restart`, perhaps `position`, and `memory_in`; `memory_out` is
    `bridged`.

    To train, use the modules inside on their own: `step.pool(patches, position)`, `step.projector(memory, tokens,
    present)`, `step.retrieval.project(entry)`, `step.retrieval(memory, keys, values, present)`. They are
    differentiable and take any batch size.

    To get a bundle with a small random bridge: `export_memory(MemoryStep(BridgeConfig(width=32, heads=2, hidden=64,
    patches=16, grid=0, capacity=4)), out=folder)`, from `vsdk_export`.

    Args:
        config: Its sizes.
    """

    def __init__(self, config: BridgeConfig) -> None:
        super().__init__()
        self.config = config
        self.projector = Bridge(config)
        self.retrieval = Retrieval(config) if config.retrieval else None
        self.abs_vid_pe = nn.Embedding(config.positions, config.width) if config.positions else None
        if self.abs_vid_pe is not None:
            nn.init.zeros_(self.abs_vid_pe.weight)
        pooled = config.pooled_side != config.side
        matrix = pooling_matrix(config.side, config.pooled_side) if pooled else None
        self.pooling = None if matrix is None else nn.Buffer(matrix, persistent=False)

    @property
    def memory(self) -> MemorySpec:
        """The manifest's description."""
        return self.config.memory

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs, in order; those of the state come last."""
        cached = self.retrieval is not None
        return (
            *("patches", "frames", "restart"),
            *(("mix", "write", "valid") if cached else ()),
            *(("position",) if self.abs_vid_pe is not None else ()),
            *self.state.values(),
        )

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in order; those of the state come last."""
        return ("bridged", "visual", *self.state)

    @property
    def state(self) -> dict[str, str]:
        """Which output becomes which input of the next step."""
        return {output: name for output, name in STATE.items() if self.retrieval is not None or name == "memory_in"}

    def input_shape(self, name: str) -> tuple[int, ...]:
        """The shape of an input."""
        size = self.config
        cache = (size.blocks, size.slots, size.block_tokens, size.width)
        return {
            "patches": (1, size.frames, size.patches, size.width),
            "frames": (1, size.frames),
            "restart": (1,),
            "mix": (size.blocks, size.slots, size.slots),
            "write": (size.slots,),
            "valid": (size.blocks, size.slots),
            "position": (1,),
            "memory_in": (1, size.memory_tokens, size.width),
            "keys_in": cache,
            "values_in": cache,
        }[name]

    def output_shape(self, name: str) -> tuple[int, ...]:
        """The shape of an output."""
        if name == "visual":
            return (1, self.config.segment_tokens, self.config.width)
        return self.input_shape(STATE.get(name, "memory_in"))

    def initial_state(self) -> dict[str, npt.NDArray[np.float32]]:
        """The state that a video starts from, by input: the initial memory, and an empty cache."""
        state = {name: np.zeros(self.input_shape(name), np.float32) for name in self.state.values()}
        state["memory_in"] = self.projector.read_memory_emb.detach().cpu().numpy()[None].copy()
        return state

    def pool(self, patches: Tensor, position: Tensor | None = None) -> Tensor:
        """Pool frames, and add the embedding of the segment's number where the model has one.

        Args:
            patches: `[batch, frames, patches, width]`.
            position: Numbers of the segments, `[batch]`.

        Returns:
            `[batch, frames * grid * grid, width]`.
        """
        pooled = patches if self.pooling is None else self.pooling @ patches
        tokens = pooled.flatten(1, 2)
        if self.abs_vid_pe is None or position is None:
            return tokens
        return tokens + self.abs_vid_pe(position)[:, None]

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """One step: inputs in the order of `input_names`, outputs in the order of `output_names`."""
        given = dict(zip(self.input_names, tensors, strict=True))
        patches = given["patches"] * given["frames"][:, :, None, None]  # padding may hold anything, but not for long
        present = given["frames"][:, :, None].expand(-1, -1, self.config.frame_tokens).flatten(1)
        restarts = given["restart"][:, None, None] > 0.5
        memory = torch.where(restarts, self.projector.read_memory_emb, given["memory_in"])
        bridged, visual = self.projector(memory, self.pool(patches, given.get("position")), present)
        if self.retrieval is None:
            return bridged, visual, bridged.clone()
        return bridged, visual, *self._retrieve(self.retrieval, bridged, visual, given)

    def _retrieve(
        self, retrieval: Retrieval, bridged: Tensor, visual: Tensor, given: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Write this segment's entry, then read the whole cache."""
        size, valid = self.config, given["valid"]
        entry = visual if size.variant == "patches" else bridged
        mix, write = given["mix"] * valid[:, :, None], given["write"] * valid
        keys, values = (
            (mix @ old.flatten(2)).unflatten(2, (size.block_tokens, size.width))
            + write[:, :, None, None] * new.reshape(size.blocks, 1, size.block_tokens, size.width)
            for old, new in zip((given["keys_in"], given["values_in"]), retrieval.project(entry), strict=True)
        )
        readable = valid.reshape(1, -1, 1).expand(-1, -1, size.block_tokens).flatten(1)
        flat = (1, -1, size.width)
        return retrieval(bridged, keys.reshape(flat), values.reshape(flat), readable), keys, values
