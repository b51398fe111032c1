"""The memory of a stream as an application sees it: what is remembered, how to search it, how to save it."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vsdk_runtimes import Bundle, Precision, Session, SessionInfo, load
from vsdk_runtimes.errors import InputError, StateDamagedError, StateMismatchError

from ..encoder import Encoder
from ..events import MemoryUpdate, Scene
from ..frame import Image
from ..searching import Match, search
from .bridge import MemoryBridge
from .cache import Eviction
from .entry import MemoryEntry, Vectors
from .records import packed, unpacked
from .state_file import read_state, write_state

_STATE = "state."
_VISUAL = "visual"


@dataclass(frozen=True)
class MemorySettings:
    """How a pipeline's memory works.

    Attributes:
        eviction: What happens when every slot is taken: `"merge"` makes one entry of the two neighbours that are most
            alike, `"oldest"` forgets the oldest. None takes the bundle's.
        across_streams: Keep the memory when the pipeline starts another stream, instead of starting anew with it.
        precision: Of the bridge; None takes the pipeline's.
    """

    eviction: Eviction | None = None
    across_streams: bool = False
    precision: Precision | None = None


def is_wanted(memory: bool | MemorySettings, bundle: Bundle) -> bool:
    """Whether streams with this argument remember: settings ask for it, True does where the bundle has a bridge."""
    return isinstance(memory, MemorySettings) or (memory and bundle.has("bridge"))


class Memory:
    """What a pipeline remembers of its stream; `pipeline.memory` and `stream.memory`.

    Bounded: it has as many entries as the bundle's cache has slots, whatever the length of the stream. It may be read
    and saved from any thread while the stream runs.

    Args:
        bundle: Must have a component with the role `bridge`.
        device, engine, precision, threads: As for `vsdk_runtimes.load`.
        settings: See there.
        encoder: The encoder to search pictures with; None opens one at the first search.
        session: The bridge where it is loaded already, for instance for other streams; it stays the caller's.

    Example:
        ```python
        with vsdk.Stream("my-bundle", "video.mp4") as stream:
            for event in stream:
                pass
            for match in stream.memory.search(image=picture):
                print(match.scene.start, match.score)
            stream.memory.save("memory.state")
        ```

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
        settings: MemorySettings | None = None,
        encoder: Encoder | None = None,
        session: Session | None = None,
    ) -> None:
        self.settings = settings or MemorySettings()
        self.bundle = bundle
        self._options: dict[str, Any] = {
            "device": device,
            "engine": engine,
            "precision": self.settings.precision or precision,
            "threads": threads,
        }
        self.bridge = MemoryBridge(bundle, **self._options, eviction=self.settings.eviction, session=session)
        self._encoder = encoder
        self._projector: Session | None = None
        self._lock = threading.RLock()
        self._visual: Vectors = np.zeros((0, self.bridge.width), np.float32)
        self._streams = 0  # that have begun since the memory was empty
        self._used = False  # whether anything was remembered since it was made, reset or restored

    @property
    def capacity(self) -> int:
        """Most entries that there can be."""
        return 0 if self.bridge.cache is None else self.bridge.cache.capacity

    @property
    def entries(self) -> tuple[MemoryEntry, ...]:
        """What is remembered, oldest first."""
        return self.bridge.entries

    @property
    def segments(self) -> int:
        """How many segments were read since the memory was empty."""
        return self.bridge.segments

    def begin_stream(self) -> None:
        """A stream begins: forget the one before, unless the settings say otherwise or the memory was just restored."""
        with self._lock:
            if self._used and not self.settings.across_streams:
                self.reset()
            self._streams += 1

    def remember(self, scene: Scene, patches: npt.NDArray[np.float32]) -> MemoryUpdate:
        """Read the segment of a scene.

        Args:
            scene: Has closed.
            patches: Patch tokens of its segment, float32 `[n, patches, width]`, n from 1 to `bridge.frames`.

        Raises:
            InputError, EngineRunError: As for `MemoryBridge.step`; nothing has changed.
        """
        with self._lock:
            step = self.bridge.step(patches, scene, max(self._streams - 1, 0))
            self._visual = step.visual
            self._used = True
            return MemoryUpdate(
                scene.index, step.number, len(self.bridge.entries), self.capacity, step.merged, step.evicted
            )

    def search(self, *, image: Image | None = None, text: str | None = None, top: int = 5) -> list[Match]:
        """Rank what is remembered by its likeness to a picture or to words.

        Args:
            image: An RGB picture, uint8 `[height, width, 3]`.
            text: Words; needs a bundle with a text tower.
            top: How many to return at most.

        Returns:
            Matches, best first; a match's scene spans all scenes that its entry stands for.

        Raises:
            InputError: Neither or both of image and text.
            BundleError: The bundle has no text tower.
        """
        scenes = [entry.scene for entry in self.entries if entry.scene is not None]
        return search(scenes, image=image, text=text, bundle=self.bundle, top=top, encoder=self._encoder)

    def tokens(self) -> Vectors:
        """Memory tokens of all entries, oldest first, float32 `[entries * memory tokens, width]`.

        Where the cache holds memories these are the tokens that the bridge made of each segment. Where it holds patches
        these are the tokens after retrieval, which the original hands to its language model.
        """
        rows = [entry.tokens if entry.retrieved is None else entry.retrieved for entry in self.entries]
        return np.concatenate(rows) if rows else np.zeros((0, self.bridge.width), np.float32)

    def visual_tokens(self) -> Vectors:
        """A copy of the last segment's patch tokens after the bridge, float32 `[frames * grid * grid, width]`."""
        return self._visual.copy()

    def language_tokens(self) -> Vectors:
        """What the original hands to its language model, projected into that model's space, float32 `[n, width]`.

        The visual tokens of the last segment; where the cache holds patches, the memory tokens of all entries.

        Raises:
            BundleSchemaError: The bundle has no projector.
        """
        with self._lock:
            if self._projector is None:
                self._projector = load(self.bundle.component("projector"), **self._options)
            projector = self._projector
            tokens = self.tokens() if self.bridge.spec.variant == "patches" else self._visual
        if not len(tokens):
            return np.zeros((0, int(projector.outputs["projected"].shape[-1])), np.float32)
        projected: Vectors = projector.run({"tokens": tokens})["projected"]
        return projected

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save everything that the memory is, so that at every moment there is a complete file at `path`.

        Raises:
            SinkError: It cannot be written there; what was there before is unchanged.
        """
        with self._lock:
            entries, arrays = packed(self.entries)
            arrays |= {_STATE + name: tensor for name, tensor in self.bridge.state.snapshot().items()}
            arrays[_VISUAL] = self._visual
            content = {
                "bundle": self.bundle.digest,
                "name": self.bundle.manifest.name,
                "runs_on": asdict(self.bridge.session.info),
                "segments": self.segments,
                "streams": self._streams,
                "entries": entries,
            }
        write_state(path, content, arrays)

    def restore(self, path: str | os.PathLike[str]) -> tuple[str, ...]:
        """Become the memory that was saved; the next stream then goes on with it.

        Returns:
            What differs between the engine that runs and the one that ran, such as `"threads 2 instead of 1"`. When
            nothing does, the next outputs are bit for bit those that would have followed then; otherwise they may
            differ in the last digits.

        Raises:
            StateNotFoundError: There is no such file.
            StateDamagedError: It is not a saved memory, or was cut short or altered.
            StateSchemaError: It has a schema version that this vsdk does not know.
            StateMismatchError: It was saved with another bundle.
        """
        content, arrays = read_saved(path, self.bundle)
        try:
            with self._lock:
                return self._take_over(content, arrays)
        except (InputError, KeyError, TypeError, ValueError) as error:
            raise StateDamagedError(
                f"the memory state {path} contradicts itself: {error}", hint="Start without it."
            ) from error

    def reset(self) -> None:
        """Forget everything."""
        with self._lock:
            self.bridge.reset()
            self._visual = np.zeros((0, self.bridge.width), np.float32)
            self._streams, self._used = 0, False

    def close(self) -> None:
        """Free the engines. Idempotent; what is remembered stays readable."""
        self._encoder = None  # closed by the pipeline; a later search opens its own
        self.bridge.close()
        if self._projector is not None:
            self._projector.close()

    def _take_over(self, content: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> tuple[str, ...]:
        """Everything that can fail comes first, so that a refused file changes nothing."""
        differences = _differences(content["runs_on"], self.bridge.session.info)
        segments, streams, visual = int(content["segments"]), int(content["streams"]), arrays[_VISUAL]
        if visual.ndim != 2 or visual.shape[1] != self.bridge.width or visual.dtype != np.float32:
            raise ValueError(f"its visual tokens are {visual.dtype} {visual.shape}")
        state = {name[len(_STATE) :]: array for name, array in arrays.items() if name.startswith(_STATE)}
        self.bridge.restore(segments, unpacked(content["entries"], arrays), state)
        self._visual, self._streams, self._used = visual, streams, False
        return differences


def read_saved(path: str | os.PathLike[str], bundle: Bundle) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """What `Memory.save` wrote with this bundle.

    Raises:
        StateError: As for `Memory.restore`.
    """
    content, arrays = read_state(path)
    digest = content.get("bundle")
    if digest != bundle.digest:
        raise StateMismatchError(
            f"the memory state {path} was saved with bundle {content.get('name')!r} ({str(digest)[:12]}), "
            f"not with {bundle.manifest.name!r} ({bundle.digest[:12]})",
            hint="Use the bundle that it was saved with, or start without it.",
        )
    return content, arrays


def _differences(said: Mapping[str, Any], now: SessionInfo) -> tuple[str, ...]:
    """In what the engine that runs is not the one that a file names."""
    found: Sequence[tuple[str, Any, Any]] = [(name, value, said[name]) for name, value in asdict(now).items()]
    return tuple(f"{name.replace('_', ' ')} {new} instead of {old}" for name, new, old in found if new != old)
