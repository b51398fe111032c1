"""The memory bridge on an engine: segments in, memory tokens and visual tokens out, in constant time and memory.

One step is one run of one graph with fixed shapes: the bridge reads `[memory tokens; segment tokens]`, the result is
written into the cache, and retrieval reads the cache for the memory that the next segment starts from. The recurrent
tensors (memory tokens, keys, values) stay in the engine's buffers; the host sends a segment's patch tokens and three
small arrays, and gets tokens back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vsdk_runtimes import Bundle, Component, Precision, Session, load
from vsdk_runtimes.errors import BundleSchemaError, InputError

from ..events import Scene
from .cache import CacheWrite, Eviction, MemoryCache
from .entry import MemoryEntry, Vectors, without_picture

if TYPE_CHECKING:  # pydantic is imported when a bundle is loaded
    from vsdk_runtimes.manifest import MemorySpec

MEMORY_INPUT = "memory_in"
MEMORY_OUTPUT = "memory_out"


@dataclass(frozen=True, eq=False)
class BridgeStep:
    """What one segment gave.

    Attributes:
        number: The segment's number, counted from 0 since the memory was empty.
        bridged: Memory tokens after the bridge, float32 `[memory tokens, width]`: what the cache remembers.
        visual: Patch tokens after the bridge, float32 `[frames * grid * grid, width]`, of the frames that were there.
        memory: Memory tokens after retrieval, float32 `[memory tokens, width]`: what the next segment starts from.
        merged: Numbers of the first and last segment of the entry that two became, or None.
        evicted: Those of the entry that was forgotten, or None.
    """

    number: int
    bridged: Vectors
    visual: Vectors
    memory: Vectors
    merged: tuple[int, int] | None
    evicted: tuple[int, int] | None


class MemoryBridge:
    """The bridge of a bundle on an engine, with the state of one stream.

    Args:
        bundle: Must have a component with that role.
        device, engine, precision, threads: As for `vsdk_runtimes.load`.
        eviction: `"merge"` or `"oldest"`; None takes the bundle's. See `vsdk.memory.cache`.
        role: Which bridge, when the bundle has others to compare with.
        session: The bridge where it is loaded already, for instance for other streams; it stays the caller's.

    Raises:
        BundleSchemaError: The bundle has no bridge, or one that does not fit its encoder.
        EngineError: It cannot be run as asked.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str = "cpu",
        engine: str = "onnxruntime",
        precision: Precision | None = None,
        threads: int | None = None,
        eviction: Eviction | None = None,
        role: str = "bridge",
        session: Session | None = None,
    ) -> None:
        component = bundle.component(role)
        self.bundle = bundle
        self.spec = _spec(component)
        _, self.frames, self.patches, self.width = _sizes(component, "patches")
        if bundle.has("encoder"):
            _check_encoder(bundle, self.patches, self.width)
        self._shared = session is not None
        self.session = session or load(component, precision=precision, device=device, engine=engine, threads=threads)
        self.state = self.session.new_state()
        self.cache: MemoryCache | None = None
        if "mix" in component.spec.inputs:
            self.cache = MemoryCache(self.spec.capacity, self.spec.blocks, eviction or self.spec.eviction)
        self._outputs = ("bridged", "visual", MEMORY_OUTPUT)
        self._segment = np.zeros((1, self.frames, self.patches, self.width), np.float32)
        self.segments = 0

    @property
    def entries(self) -> tuple[MemoryEntry, ...]:
        """What the cache remembers, oldest first; empty for a bridge without retrieval."""
        return () if self.cache is None else self.cache.entries

    @property
    def memory(self) -> Vectors:
        """A copy of the memory tokens that the next segment starts from, float32 `[memory tokens, width]`."""
        tokens: Vectors = self.state.tensors[MEMORY_INPUT].numpy()[0]
        return tokens

    def step(self, patches: npt.NDArray[np.float32], scene: Scene | None = None, stream: int = 0) -> BridgeStep:
        """Read one segment.

        Args:
            patches: Patch tokens of its 1 to `frames` frames, float32 `[n, patches, width]`.
            scene: What it is a segment of; the entry keeps it.
            stream: Number of the stream; entries of different streams are never merged.

        Raises:
            InputError: The tokens have another shape or dtype, or are not all finite; nothing has changed.
            EngineRunError: The engine failed; nothing has changed.
        """
        count = self._take(patches)
        blocks = self._blocks(count)
        write = None if self.cache is None else self.cache.plan(blocks)
        results = self.session.step(self._inputs(count, write), self.state, outputs=self._outputs)
        bridged, memory = results["bridged"][0], results[MEMORY_OUTPUT][0]
        number, merged, evicted = self.segments, None, None
        if self.cache is not None and write is not None:
            evicted = _range(self.cache.entries, write.forgets)
            retrieved = memory if self.spec.variant == "patches" else None
            entry = MemoryEntry(write.slot, number, number, stream, blocks, bridged, retrieved, without_picture(scene))
            self.cache.commit(write, entry)
            merged = _range(self.cache.entries, write.merges)
        self.segments = number + 1
        visual = results["visual"][0, : count * self.spec.grid**2]
        return BridgeStep(number, bridged, visual, memory, merged, evicted)

    def reset(self) -> None:
        """Forget everything; the next segment starts from the initial memory."""
        self.state.reset()
        if self.cache is not None:
            self.cache.clear()
        self.segments = 0

    def restore(
        self, segments: int, entries: Sequence[MemoryEntry], state: Mapping[str, npt.NDArray[np.generic]]
    ) -> None:
        """Become a bridge that has read so many segments; all or nothing.

        Raises:
            InputError, ValueError: The entries or the state tensors do not fit this bridge.
        """
        if self.cache is not None:
            self.cache.check(entries)
        if entries and (self.cache is None or entries[-1].last != segments - 1):
            raise ValueError(f"the entries do not end with segment {segments - 1}")
        self.state.restore(state)
        if self.cache is not None:
            self.cache.replace(entries)
        self.segments = segments

    def close(self) -> None:
        """Free the engine, unless it is the caller's. Idempotent."""
        if not self._shared:
            self.session.close()

    def _take(self, patches: npt.NDArray[np.float32]) -> int:
        """Copy the tokens into the buffer that the engine reads, zeros behind them, and count the frames."""
        shape = (self.patches, self.width)
        if not isinstance(patches, np.ndarray) or patches.ndim != 3 or patches.shape[1:] != shape:
            raise InputError(
                f"a segment is an array [1 to {self.frames}, {shape[0]}, {shape[1]}], not {np.shape(patches)}"
            )
        if not 1 <= len(patches) <= self.frames or patches.dtype != np.float32:
            raise InputError(
                f"a segment has 1 to {self.frames} frames in float32, not {len(patches)} in {patches.dtype}"
            )
        if not np.isfinite(patches).all():
            raise InputError(
                "a segment has patch tokens that are not finite; the memory would never recover from them",
                hint="Find the frame: vsdk run SOURCE --features FILE. An encoder in fp16 may overflow; try fp32.",
            )
        self._segment[0, : len(patches)] = patches
        self._segment[0, len(patches) :] = 0
        return len(patches)

    def _blocks(self, count: int) -> npt.NDArray[np.int64]:
        """Which blocks of a slot a segment of so many frames fills."""
        if self.spec.blocks == 1:
            return np.ones(1, np.int64)
        return (np.arange(self.spec.blocks) < count).astype(np.int64)

    def _inputs(self, count: int, write: CacheWrite | None) -> dict[str, npt.NDArray[np.generic]]:
        every = self.spec.restart_every
        restarts = self.segments == 0 if every is None else self.segments % every == 0
        inputs: dict[str, npt.NDArray[np.generic]] = {
            "patches": self._segment,
            "frames": (np.arange(self.frames) < count).astype(np.float32)[None],
            "restart": np.array([restarts], np.float32),
        }
        if write is not None:
            inputs |= {"mix": write.mix, "write": write.write, "valid": write.valid}
        if "position" in self.session.inputs:
            inputs["position"] = np.array([min(self.segments, self.spec.positions - 1)], np.int64)
        return inputs


@dataclass(frozen=True)
class MemoryBytes:
    """What the state of a bridge takes where the engine runs.

    Attributes:
        slot: Keys and values of one slot.
        state: All recurrent tensors. An engine keeps them twice: a step reads one set and writes the other.
    """

    slot: int
    state: int


def memory_bytes(component: Component) -> MemoryBytes:
    """How many bytes the state of this bridge takes.

    Raises:
        BundleSchemaError: The component is not a bridge.
    """
    spec = _spec(component)
    inputs = component.spec.inputs
    sizes = {
        item.input: int(np.prod(_sizes(component, item.input))) * np.dtype(inputs[item.input].dtype).itemsize
        for item in component.spec.state
    }
    cached = sum(size for name, size in sizes.items() if name != MEMORY_INPUT)
    return MemoryBytes(cached // max(spec.capacity, 1), sum(sizes.values()))


def _spec(component: Component) -> MemorySpec:
    if component.spec.memory is None:
        raise BundleSchemaError(
            f"component {component.name!r} of {component.bundle.folder} does not say what kind of memory it has",
            hint="Export the bridge again with this version of vsdk.",
        )
    return component.spec.memory


def _sizes(component: Component, name: str) -> tuple[int, ...]:
    """The shape of an input, all of which a bridge has fixed."""
    return tuple(size for size in component.spec.inputs[name].shape if isinstance(size, int))


def _check_encoder(bundle: Bundle, patches: int, width: int) -> None:
    outputs = bundle.component("encoder").spec.outputs
    found = tuple(outputs["patches"].shape[-2:]) if "patches" in outputs else None
    if found != (patches, width):
        gives = "no patch tokens" if found is None else f"{found[0]} patch tokens of width {found[1]}"
        raise BundleSchemaError(
            f"bundle {bundle.folder}: the encoder gives {gives} a frame, its bridge reads {patches} of width {width}",
            hint="Export the bridge for this encoder: vsdk export CHECKPOINT --encoder BUNDLE",
        )


def _range(entries: tuple[MemoryEntry, ...], position: int | None) -> tuple[int, int] | None:
    return None if position is None else (entries[position].first, entries[position].last)
