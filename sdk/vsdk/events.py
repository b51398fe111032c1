"""Events: what a pipeline says, as frozen dataclasses, and their JSON form.

`vsdk/events.schema.json` describes the JSON lines; `to_json` makes them. Arrays stay in the dataclass and never go into
JSON. The first event of a stream is `Start`, the last is `End`; scenes come in order and tile the stream.
A bundle with a memory adds a `MemoryUpdate` after each scene. A tracker adds a `Mask` for each frame and object.
A live source adds a `SourceState` whenever it comes, stalls or goes, and `Stats` every few seconds.
JSON lines of several streams name theirs in a member `stream`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt

from .frame import Image
from .tracking.rle import MaskArray, Rle

SCHEMA = 1
"""Version of the JSON form; `Start` carries it."""

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Start:
    """The stream begins.

    Attributes:
        source: The source's name, without credentials.
        bundle: Name of the bundle.
        digest: Digest of the bundle.
        engine: Engine, device and precision that run, such as `"onnxruntime 1.31 on cpu, fp32"`.
        schema: Version of the JSON form of all events that follow.
    """

    type: ClassVar[Literal["start"]] = "start"
    source: str
    bundle: str
    digest: str
    engine: str
    schema: int = SCHEMA


@dataclass(frozen=True)
class SceneFeatures:
    """What the encoder saw in a scene: the vectors of its segment, the at most 8 frames that stand for it.

    Attributes:
        frames: Frame numbers of the segment.
        cls: Class tokens, float32 `[n, width]`.
        embedding: Projected embeddings, float32 `[n, width]`, where the bundle has them.
        bundle: Digest of the bundle that made them: vectors of different bundles cannot be compared.
    """

    frames: tuple[int, ...]
    cls: Vectors
    embedding: Vectors | None
    bundle: str


@dataclass(frozen=True)
class Scene:
    """A scene has closed.

    Attributes:
        index: Counts scenes from 0.
        start_frame: First frame's number.
        end_frame: Last frame's number, inclusive.
        start: Time of the first frame, seconds.
        end: Time at which the next scene starts, seconds (exclusive).
        depth: SceneTilling's depth of the boundary that closed the scene; None for the last scene.
        features: Vectors of the segment; not in JSON.
        picture: A small RGB picture from the middle of the scene; not in JSON.
    """

    type: ClassVar[Literal["scene"]] = "scene"
    index: int
    start_frame: int
    end_frame: int
    start: float
    end: float
    depth: float | None = None
    features: SceneFeatures | None = field(default=None, repr=False, compare=False, metadata={"json": False})
    picture: Image | None = field(default=None, repr=False, compare=False, metadata={"json": False})

    @property
    def frames(self) -> int:
        """How many frame numbers the scene spans."""
        return self.end_frame - self.start_frame + 1


@dataclass(frozen=True)
class MemoryUpdate:
    """The scene that has just closed is remembered; follows its scene event, where the bundle has a memory.

    Entries are named by the numbers of their first and last segment. Segments are counted over the life of the memory:
    unless it was kept or restored from an earlier stream, a segment has the number of its scene.

    Attributes:
        scene: Index of the scene.
        segment: Number of its segment.
        entries: How many entries are remembered now.
        capacity: How many there can be.
        merged: The entry that two became to make room, or None.
        evicted: The entry that was forgotten to make room, or None.
    """

    type: ClassVar[Literal["memory"]] = "memory"
    scene: int
    segment: int
    entries: int
    capacity: int
    merged: tuple[int, int] | None = None
    evicted: tuple[int, int] | None = None


@dataclass(frozen=True)
class Mask:
    """Where a tracked object is on a frame; there is one for each frame and object, absent objects included.

    Attributes:
        frame: Number of the frame.
        time: Its time, seconds.
        object: The object's number.
        score: How good the mask is in the network's own estimate: predicted intersection over union, 0 to 1.
        presence: Probability that the object is visible on the frame, 0 to 1.
        present: Whether it counts as visible; the mask of an absent object is empty.
        box: The smallest box around the mask, `(x0, y0, x1, y1)` in pixels of the source, exclusive right and bottom
            edge; None when the mask is empty.
        rle: The mask in COCO's run-length encoding: `size`, `[height, width]`, and `counts`, its compressed string.
        mask: Which pixels belong to the object, bool `[height, width]`; not in JSON.
    """

    type: ClassVar[Literal["mask"]] = "mask"
    frame: int
    time: float
    object: int
    score: float
    presence: float
    present: bool
    box: tuple[float, float, float, float] | None
    rle: Rle
    mask: MaskArray | None = field(default=None, repr=False, compare=False, metadata={"json": False})


@dataclass(frozen=True)
class SourceState:
    """A live source has come, stalled or gone. In order with the frames: those before `frame` were taken before it.

    Attributes:
        source: The source's name, without credentials.
        state: `"connecting"` (the first attempt), `"live"` (a frame has come), `"stalled"` (connected, but no frame for
            a while), `"reconnecting"` (lost, or not reached yet; waits and tries again) or `"ended"`.
        generation: 0 at first; one more at each reconnection, change of the frame size and step back of the time
            stamps. Frames of different generations are not comparable in time.
        frame: Number of the next frame.
        attempt: How often connecting has been tried since the last frame, this time included; 0 while frames come.
        wait: Seconds until the next try; 0 when there is none to wait for.
        message: What happened, without credentials; empty when there is nothing to say.
    """

    type: ClassVar[Literal["source"]] = "source"
    source: str
    state: Literal["connecting", "live", "stalled", "reconnecting", "ended"]
    generation: int = 0
    frame: int = 0
    attempt: int = 0
    wait: float = 0.0
    message: str = ""


@dataclass(frozen=True)
class Stats:
    """How a stream is doing; counts are since its start.

    Attributes:
        source: The source's name, without credentials.
        frames: Frames taken in.
        dropped: Frames that were replaced by newer ones before anybody took them.
        decode_errors: Damaged packets that were skipped.
        reconnects: Connections after the first one.
        generation: The generation of the source, see `SourceState`.
        frames_per_second: Frames taken in a second, since the `Stats` before this one.
        latency_p50: Seconds from the capture of a frame until its events had been delivered: the median since the
            `Stats` before this one. None without a frame, and for recordings.
        latency_p95: The 95th percentile of the same.
        seconds: Seconds since the start of the stream.
    """

    type: ClassVar[Literal["stats"]] = "stats"
    source: str
    frames: int
    dropped: int
    decode_errors: int
    reconnects: int
    generation: int
    frames_per_second: float
    latency_p50: float | None
    latency_p95: float | None
    seconds: float


@dataclass(frozen=True)
class End:
    """The stream is over.

    Attributes:
        reason: `"end"` (the source ran out), `"closed"`, `"interrupted"` or `"error"`.
        frames: Frames taken in.
        encoded: Frames that went through the encoder; the gate spared the others.
        scenes: Scenes reported.
        decode_errors: Damaged packets that were skipped.
        message: For `"error"`: what happened.
    """

    type: ClassVar[Literal["end"]] = "end"
    reason: Literal["end", "closed", "interrupted", "error"]
    frames: int
    encoded: int
    scenes: int
    decode_errors: int = 0
    message: str = ""


def how_it_ended(
    kind: type[BaseException] | None, error: BaseException | None
) -> tuple[Literal["closed", "interrupted", "error"], str]:
    """Reason and message of the `End` of a stream whose block was left this way (the arguments of `__exit__`)."""
    if kind is not None and issubclass(kind, KeyboardInterrupt):
        return "interrupted", ""
    if error is not None:
        return "error", str(error).splitlines()[0] if str(error) else type(error).__name__
    return "closed", ""


Event = Start | Scene | MemoryUpdate | Mask | SourceState | Stats | End


def to_dict(event: Event, stream: str | None = None) -> dict[str, Any]:
    """The JSON form of an event as a dictionary; seconds are rounded to microseconds.

    Args:
        event: The event.
        stream: Name of its stream, where there are several: the member `stream`, before all others.
    """
    content: dict[str, Any] = {} if stream is None else {"stream": stream}
    content["type"] = event.type
    for item in fields(event):
        if item.metadata.get("json", True):
            content[item.name] = _plain(getattr(event, item.name))
    return content


def to_json(event: Event, stream: str | None = None) -> str:
    """One JSON line, without the line feed; arguments as for `to_dict`."""
    return json.dumps(to_dict(event, stream), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def from_dict(content: Mapping[str, Any]) -> Event:
    """The event that `to_dict` described, without its arrays, and without the name of its stream.

    Raises:
        ValueError: Unknown type or fields.
    """
    kinds: dict[str, type[Event]] = {kind.type: kind for kind in get_args(Event)}
    arguments: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in content.items()
    }
    arguments.pop("stream", None)
    kind = kinds.get(str(arguments.pop("type", None)))
    if kind is None:
        raise ValueError(f"unknown event type {content.get('type')!r}")
    try:
        return kind(**arguments)
    except TypeError as error:
        raise ValueError(f"not a {kind.type} event: {error}") from error


def _plain(value: Any) -> Any:
    """A field's value as JSON has it."""
    if isinstance(value, float):
        return round(value, 6)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
