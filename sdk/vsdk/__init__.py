"""vsdk: video understanding on the edge, without PyTorch.

    import vsdk

    with vsdk.Stream(vsdk.load(), "video.mp4") as stream:
        for event in stream:
            print(event)

Everything public is in this one namespace. Names are imported when they are first used, so that `import vsdk` is quick.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vsdk_runtimes import Bundle, Session, State

    from .encoder import Encoder, Features, TextEncoder
    from .errors import Error
    from .event_queue import StreamEvent
    from .events import End, Event, Mask, MemoryUpdate, Scene, SceneFeatures, SourceState, Start, Stats
    from .frame import Frame
    from .gate import Gate, GateSettings
    from .loading import load
    from .memory.bridge import MemoryBridge
    from .memory.entry import MemoryEntry
    from .memory.memory import Memory, MemorySettings
    from .pipeline import Pipeline
    from .preprocessing import Preprocessor
    from .scene_tilling import Boundary, SceneTilling, SceneTillingSettings
    from .searching import Match, search
    from .sinks.base import Sink
    from .sources.base import Source, SourceInfo
    from .sources.live_settings import LiveSettings
    from .sources.opening import open_source as open  # noqa: A004
    from .sources.piped_video import PipedVideo
    from .sources.raw_video import RawVideo
    from .stream import Stream
    from .streams import Streams
    from .tracking.detections import to_supervision
    from .tracking.tracked import TrackedObject
    from .tracking.tracker import Tracker

__version__ = "0.1.0"

_WHERE = {
    "Boundary": "vsdk.scene_tilling",
    "Bundle": "vsdk_runtimes",
    "Encoder": "vsdk.encoder",
    "End": "vsdk.events",
    "Error": "vsdk.errors",
    "Event": "vsdk.events",
    "Features": "vsdk.encoder",
    "Frame": "vsdk.frame",
    "Gate": "vsdk.gate",
    "GateSettings": "vsdk.gate",
    "LiveSettings": "vsdk.sources.live_settings",
    "Mask": "vsdk.events",
    "Match": "vsdk.searching",
    "Memory": "vsdk.memory.memory",
    "MemoryBridge": "vsdk.memory.bridge",
    "MemoryEntry": "vsdk.memory.entry",
    "MemorySettings": "vsdk.memory.memory",
    "MemoryUpdate": "vsdk.events",
    "PipedVideo": "vsdk.sources.piped_video",
    "Pipeline": "vsdk.pipeline",
    "Preprocessor": "vsdk.preprocessing",
    "RawVideo": "vsdk.sources.raw_video",
    "Scene": "vsdk.events",
    "SceneFeatures": "vsdk.events",
    "SceneTilling": "vsdk.scene_tilling",
    "SceneTillingSettings": "vsdk.scene_tilling",
    "Session": "vsdk_runtimes",
    "Sink": "vsdk.sinks.base",
    "Source": "vsdk.sources.base",
    "SourceInfo": "vsdk.sources.base",
    "SourceState": "vsdk.events",
    "Start": "vsdk.events",
    "State": "vsdk_runtimes",
    "Stats": "vsdk.events",
    "Stream": "vsdk.stream",
    "StreamEvent": "vsdk.event_queue",
    "Streams": "vsdk.streams",
    "TextEncoder": "vsdk.encoder",
    "TrackedObject": "vsdk.tracking.tracked",
    "Tracker": "vsdk.tracking.tracker",
    "load": "vsdk.loading",
    "open": "vsdk.sources.opening",
    "search": "vsdk.searching",
    "to_supervision": "vsdk.tracking.detections",
}

__all__ = [
    "Boundary",
    "Bundle",
    "Encoder",
    "End",
    "Error",
    "Event",
    "Features",
    "Frame",
    "Gate",
    "GateSettings",
    "LiveSettings",
    "Mask",
    "Match",
    "Memory",
    "MemoryBridge",
    "MemoryEntry",
    "MemorySettings",
    "MemoryUpdate",
    "PipedVideo",
    "Pipeline",
    "Preprocessor",
    "RawVideo",
    "Scene",
    "SceneFeatures",
    "SceneTilling",
    "SceneTillingSettings",
    "Session",
    "Sink",
    "Source",
    "SourceInfo",
    "SourceState",
    "Start",
    "State",
    "Stats",
    "Stream",
    "StreamEvent",
    "Streams",
    "TextEncoder",
    "TrackedObject",
    "Tracker",
    "load",
    "open",
    "search",
    "to_supervision",
]

logging.getLogger("vsdk").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    where = _WHERE.get(name)
    if where is None:
        raise AttributeError(f"module 'vsdk' has no attribute {name!r}")
    value = getattr(import_module(where), "open_source" if name == "open" else name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
