"""The pipeline: pushed frames become events. Synchronous, no threads, for applications that own the loop.

gate -> preprocess -> encoder (micro-batches) -> SceneTilling -> scene -> memory -> events
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from vsdk_runtimes import Bundle, Precision
from vsdk_runtimes.errors import ClosedError, InputError

from .encoder import Encoder, FrameFeatures
from .engines import Engines
from .events import End, Event, Scene, SceneFeatures, Start
from .frame import Frame, Image
from .gate import Blocks, Gate, GateSettings, block_means
from .loading import load
from .memory.memory import Memory, MemorySettings, is_wanted
from .scene_tilling import SceneTilling, SceneTillingSettings
from .segment import EvenSample
from .settings import gate_settings, scene_settings
from .tracking.tracker import Tracker

Vector = npt.NDArray[np.float32]
FeatureHook = Callable[[int, float, Vector, bool], None]
"""Called for each frame, in order, with its number, its time in seconds, its class token and whether it was encoded."""

LEADER_FRAMES = 250
"""A flat beginning (black leader) of at most so many frames belongs to the scene that follows it."""
PICTURE_EVERY = 4
PICTURE_WIDTH = 320


@dataclass(frozen=True)
class Prepared:
    """What `Pipeline.prepare` made of a frame.

    Attributes:
        resized: The encoder's input before normalisation, uint8 `[height, width, 3]`.
        blocks: Its `block_means`, for the gate.
        preview: A small copy of the frame, for people.
    """

    resized: Image
    blocks: Blocks
    preview: Image | None


@dataclass
class _Entry:
    """A frame on its way through the pipeline."""

    number: int
    t_ns: int
    encode: Image | None
    picture: Image | None
    cls: Vector | None = None
    embedding: Vector | None = None
    patches: Vector | None = None


class Pipeline:
    """Turn frames into events.

    Args:
        bundle: A loaded bundle or its folder; None is the model that ships with vsdk.
        device, engine, precision, threads: On what the encoder and the memory run, as for `vsdk_runtimes.load`.
        batch: Frames to encode at a time; 1 answers soonest.
        gate: Settings of the gate; None takes the bundle's.
        scenes: Settings of SceneTilling; None takes the bundle's.
        memory: True remembers each scene where the bundle has a memory bridge; False does not; settings ask for it.
        tracker: Follows the objects that it was prompted with through the pushed frames; each gives a mask event for
            each object. It stays the caller's: prompt it before `push`, with the same picture, and close it.
        source: Name that the start event carries.
        on_features: Called for each frame once its features are known.
        engines: Loaded networks that several pipelines share; they stay the caller's. `bundle`, `device`, `engine`,
            `precision`, `threads` and `memory` are then theirs.

    Attributes:
        memory: What is remembered; None without a memory. It stays readable when a stream has ended, until the next
            one starts.

    Example:
        ```python
        pipeline = vsdk.Pipeline()
        for event in pipeline.push(image, t_ns=stamp_ns, color="bgr"):
            print(event)
        ```

    Raises:
        BundleError, EngineError: The bundle cannot be used, or not as asked.
    """

    def __init__(
        self,
        bundle: Bundle | str | os.PathLike[str] | None = None,
        *,
        device: str = "cpu",
        engine: str = "onnxruntime",
        precision: Precision | None = None,
        threads: int | None = None,
        batch: int = 1,
        gate: GateSettings | None = None,
        scenes: SceneTillingSettings | None = None,
        memory: bool | MemorySettings = True,
        tracker: Tracker | None = None,
        source: str = "pushed frames",
        on_features: FeatureHook | None = None,
        engines: Engines | None = None,
    ) -> None:
        if batch < 1:
            raise InputError(f"batch must be at least 1, not {batch}")
        if engines is not None:
            bundle, memory = engines.bundle, engines.memory
        self.bundle = bundle if isinstance(bundle, Bundle) else load(bundle)
        remembers = is_wanted(memory, self.bundle)
        self._engines = engines
        self.encoder = (
            Encoder(self.bundle, device=device, engine=engine, precision=precision, threads=threads, patches=remembers)
            if engines is None
            else engines.encoder
        )
        self.memory: Memory | None = None
        if remembers:
            self.memory = Memory(
                self.bundle,
                device=device,
                engine=engine,
                precision=precision,
                threads=threads,
                settings=memory if isinstance(memory, MemorySettings) else None,
                encoder=self.encoder,
                session=None if engines is None else engines.bridge,
            )
        self.gate = Gate(gate or gate_settings(self.bundle))
        self.scenes = SceneTilling(scenes or scene_settings(self.bundle))
        self.batch = batch
        self.tracker = tracker
        self.source = source
        self._on_features = on_features
        self._closed = False
        self.reset()

    def reset(self) -> None:
        """Forget the stream so far; the next frame starts a new one. What was not flushed is lost.

        The memory stays as it is until that frame comes.
        """
        self.gate.reset()
        self.scenes.reset()
        self.frames = self.encoded = 0
        self._started = False
        self._last_ns: int | None = None
        self._interval_ns = 0
        self._waiting: list[_Entry] = []
        self._to_encode = 0  # of those that wait
        self._undecided: deque[_Entry] = deque()
        self._decided = 0  # how many frames have left `_undecided`
        self._last_features: FrameFeatures | None = None
        self._scene = _OpenScene(0)

    def push(
        self, image: Image, t_ns: int, color: Literal["rgb", "bgr"] = "rgb", *, number: int | None = None
    ) -> list[Event]:
        """Take one frame; return the events that it settles.

        Args:
            image: uint8 `[height, width, 3]`, any strides. It is read before the call returns and not kept.
            t_ns: Its time in nanoseconds, on any clock; must increase from frame to frame.
            color: Order of the channels.
            number: Frame number for events; by default frames are counted.

        Raises:
            InputError: The image is not acceptable, or time does not increase.
            EngineRunError: The encoder failed.
            ClosedError: The pipeline is closed.
        """
        if color not in ("rgb", "bgr"):
            raise InputError(f"color must be 'rgb' or 'bgr', not {color!r}")
        rgb = image[..., ::-1] if color == "bgr" and isinstance(image, np.ndarray) and image.ndim == 3 else image
        counted = self.frames if number is None else number
        events = self.push_prepared(self.prepare(rgb, preview=self.frames % PICTURE_EVERY == 0), t_ns, number=number)
        return events if self.tracker is None else events + self.track(rgb, counted, t_ns)

    def track(self, frame: Image | Frame, number: int, t_ns: int) -> list[Event]:
        """The tracker's part of `push`, for those who call `prepare` and `push_prepared`: a mask event an object.

        Args:
            frame: The whole picture, uint8 RGB `[height, width, 3]`, or the frame.
            number: Frame number for events.
            t_ns: Its time in nanoseconds.

        Raises:
            InputError: See `Tracker.track`.
            EngineRunError: A network failed.
        """
        objects = () if self.tracker is None else self.tracker.track(frame)
        return [tracked.event(number, t_ns / 1e9) for tracked in objects]

    def prepare(self, image: Image, *, preview: bool = False) -> Prepared:
        """The stateless part of `push`, which may run in another thread: everything that looks at the whole image.

        Args:
            image: uint8 RGB `[height, width, 3]`, any strides; not kept.
            preview: Also make the small copy from which a scene's picture is chosen; one in `PICTURE_EVERY` will do.

        Raises:
            InputError: The image is not acceptable.
        """
        resized = self.encoder.preprocessor.resize(image)
        return Prepared(resized, block_means(resized), small_picture(image) if preview else None)

    def begin(self) -> list[Event]:
        """The start event, unless it has been given; otherwise it comes with the first frame."""
        self._check_open()
        return [] if self._started else [self._start()]

    def push_prepared(self, prepared: Prepared, t_ns: int, *, number: int | None = None) -> list[Event]:
        """`push` of what `prepare` made of a frame."""
        self._check_open()
        self._check_time(t_ns)
        events = self.begin()
        entry = _Entry(self.frames if number is None else number, t_ns, None, prepared.preview)
        self.frames += 1
        if self._is_worth_encoding(prepared.blocks, t_ns):
            entry.encode = prepared.resized
            self._to_encode += 1
            self.encoded += 1
        self._waiting.append(entry)
        if self._is_time_to_encode():
            events += self._advance_waiting()
        return events

    def _is_time_to_encode(self) -> bool:
        if self._to_encode == 0:
            return self._last_features is not None
        too_long = len(self._waiting) >= LEADER_FRAMES  # flat frames fill no batch
        return self._to_encode >= self.batch or too_long

    def _is_worth_encoding(self, blocks: Blocks, t_ns: int) -> bool:
        """The gate's decision; flat pictures repeat the features before them, or wait for the first content."""
        if self.gate.is_flat(blocks):
            leader_too_long = self._last_features is None and len(self._waiting) == LEADER_FRAMES
            if self._to_encode or not leader_too_long:
                return False
        return self.gate.opens(blocks, t_ns)

    def flush(self) -> list[Event]:
        """The stream is over: settle everything, report the last scene and the end."""
        return [*self.settle(), self.end("end")] if self._started else []

    def settle(self) -> list[Event]:
        """Settle everything and report the last scene, as `flush` does, but without the end event."""
        self._check_open()
        events = self._advance_waiting() if self._waiting else []
        for boundary in self.scenes.flush():
            events += self._close_scene(boundary.frame, boundary.depth)
        while self._undecided:
            self._scene.add(self._undecided.popleft())
        if self._scene.count and self._last_ns is not None:
            events += self._finish_scene(self._last_ns + self._interval_ns, None)
        return events

    def end(self, reason: Literal["end", "closed", "interrupted", "error"], message: str = "") -> End:
        """The end event with the counts so far; the pipeline is then ready for a new stream."""
        event = End(reason, self.frames, self.encoded, self._scene.index, message=message)
        self.reset()
        return event

    def close(self) -> None:
        """Free the engines, unless they are shared. Idempotent."""
        self._closed = True
        if self.memory is not None:
            self.memory.close()
        if self._engines is None:
            self.encoder.close()

    def _start(self) -> Start:
        self._started = True
        if self.memory is not None:
            self.memory.begin_stream()
        info = self.encoder.session.info
        runs_on = f"{info.engine} {info.engine_version} on {info.device}, {info.precision}"
        return Start(self.source, self.bundle.manifest.name, self.bundle.digest, runs_on)

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the pipeline is closed")

    def _check_time(self, t_ns: int) -> None:
        if self._last_ns is not None:
            if t_ns <= self._last_ns:
                raise InputError(
                    f"{self.source}: frame {self.frames} has the time {t_ns} ns, the one before it {self._last_ns} ns",
                    hint="Times must increase; call reset() when a stream starts anew.",
                )
            self._interval_ns = t_ns - self._last_ns
        self._last_ns = t_ns

    def _advance_waiting(self) -> list[Event]:
        """Encode what waits for it; give the others the features before them, and leading ones the first there are."""
        pictures = [entry.encode for entry in self._waiting if entry.encode is not None]
        if not pictures and self._last_features is None:  # nothing but flat frames until the end
            pictures = [self._flat_picture()]
        features = self.encoder.encode(pictures) if pictures else None
        rows = iter(range(len(pictures)))
        if features is not None and self._last_features is None:
            self._last_features = features.row(0)
        events: list[Event] = []
        for entry in self._waiting:
            encoded = entry.encode is not None
            entry.encode = None
            if encoded and features is not None:
                self._last_features = features.row(next(rows))
            assert self._last_features is not None
            entry.cls, entry.embedding, entry.patches = self._last_features
            events += self._settle_frame(entry, encoded)
        self._waiting.clear()
        self._to_encode = 0
        return events

    def _flat_picture(self) -> Image:
        spec = self.encoder.session.inputs["pixels"].shape
        return np.zeros((int(spec[2]), int(spec[3]), 3), np.uint8)

    def _settle_frame(self, entry: _Entry, encoded: bool) -> list[Event]:
        assert entry.cls is not None
        if self._on_features is not None:
            self._on_features(entry.number, entry.t_ns / 1e9, entry.cls, encoded)
        self._undecided.append(entry)
        events: list[Event] = []
        for boundary in self.scenes.push(entry.cls):
            events += self._close_scene(boundary.frame, boundary.depth)
        while len(self._undecided) > self.scenes.look_ahead + 1:
            self._scene.add(self._undecided.popleft())
            self._decided += 1
        return events

    def _close_scene(self, last: int, depth: float) -> list[Event]:
        """Close the open scene after the frame that SceneTilling counts as `last`."""
        while self._decided <= last:
            self._scene.add(self._undecided.popleft())
            self._decided += 1
        return self._finish_scene(self._undecided[0].t_ns, depth)

    def _finish_scene(self, end_ns: int, depth: float | None) -> list[Event]:
        """Report the scene, remember it, and open the next one."""
        scene = self._scene.event(end_ns, depth, self.bundle.digest)
        events: list[Event] = [scene]
        if self.memory is not None:
            events.append(self.memory.remember(scene, self._scene.patches(self.memory.bridge.frames)))
        self._scene = _OpenScene(scene.index + 1)
        return events


class _OpenScene:
    """The scene that has not closed yet: where it began, and an even sample of what it looked like."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.count = 0
        self._first: _Entry | None = None
        self._last: _Entry | None = None
        self._segment: EvenSample[_Entry] = EvenSample()
        self._pictures: EvenSample[Image] = EvenSample()

    def add(self, entry: _Entry) -> None:
        if self._first is None:
            self._first = entry
        self._last = entry
        self.count += 1
        if entry.picture is not None:
            self._pictures.add(entry.picture)
        self._segment.add(replace(entry, picture=None))

    def event(self, end_ns: int, depth: float | None, digest: str) -> Scene:
        """The scene event; its times are seconds on the clock of `push`."""
        assert self._first is not None
        assert self._last is not None
        chosen = self._segment.choose()
        cls = np.stack([entry.cls for entry in chosen if entry.cls is not None])
        embeddings = [entry.embedding for entry in chosen if entry.embedding is not None]
        features = SceneFeatures(
            tuple(entry.number for entry in chosen), cls, np.stack(embeddings) if embeddings else None, digest
        )
        return Scene(
            self.index,
            self._first.number,
            self._last.number,
            self._first.t_ns / 1e9,
            end_ns / 1e9,
            depth,
            features,
            self._pictures.middle(),
        )

    def patches(self, count: int) -> Vector:
        """Patch tokens of the segment of at most `count` frames, float32 `[n, patches, width]`."""
        return np.stack([entry.patches for entry in self._segment.choose(count) if entry.patches is not None])


def small_picture(image: Image) -> Image:
    """A copy about 320 pixels wide, made by skipping pixels: for people, not for networks."""
    step = max(1, round(image.shape[1] / PICTURE_WIDTH))
    return np.array(image[::step, ::step], order="C")
