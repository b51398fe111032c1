"""What a memory bridge and its projector are run on: the scenes of the calibration videos, in a long run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vsdk.encoder import Encoder
from vsdk.memory.bridge import MemoryBridge
from vsdk.scene_tilling import SceneTilling
from vsdk.segment import SEGMENT_FRAMES, reference_positions
from vsdk.settings import scene_settings
from vsdk_runtimes import Bundle, Session, State
from vsdk_runtimes.errors import InputError, UnsupportedModelError

from .calibration import CalibrationVideos
from .calibration_calls import MIN_SEEN, Seen, split
from .memory_samples import MIN_STEPS, STEPS_FULL
from .network import Array, Arrays, Network

PICTURES = 192
"""Frames, of all videos together, that the segments are made of."""
LONGEST = 24
"""Sampled frames after which a scene that goes on begins a new segment."""
_TOKENS = 16


def observe_memory(
    network: Network, bundle: Bundle, encoder: Bundle | None, videos: CalibrationVideos
) -> dict[str, Seen]:
    """Let the bridge read the videos' scenes, again and again until its cache was full for a while.

    Args:
        network: The bridge.
        bundle: Has its fp32 graph.
        encoder: Bundle with its encoder, if `bundle` has none.
        videos: What it reads.

    Returns:
        By component: the bridge, and the projector if the bundle has one.

    Raises:
        InputError: The videos are too short.
        UnsupportedModelError: There is no encoder.
    """
    reads = bundle if bundle.has("encoder") else encoder
    if reads is None or not reads.has("encoder"):
        raise UnsupportedModelError(
            f"component {network.name!r} cannot be calibrated with a video without the encoder that reads it",
            hint="Say which bundle has it: --encoder BUNDLE",
        )
    assert network.recurrence is not None
    memory = network.recurrence.memory
    segments = _segments(reads, videos, SEGMENT_FRAMES if memory is None else memory.frames)
    calls: list[Arrays] = []
    tokens: list[Array] = []
    bridge = MemoryBridge(bundle, precision="fp32", threads=1, role=network.role)
    bridge.session = _Recorder(bridge.session, calls)  # type: ignore[assignment]
    videos.says("running the memory over the calibration videos")
    try:
        for number in range(max(MIN_STEPS, bridge.spec.capacity + STEPS_FULL, len(segments))):
            step = bridge.step(segments[number % len(segments)])
            tokens += [step.visual, step.bridged]
    finally:
        bridge.close()
    source = f"{len(calls)} steps over {len(segments)} segments of {videos.title}"
    samples = {name: np.stack([call[name] for call in calls]) for name in network.samples}
    seen = {network.name: Seen(samples=samples, source=source)}
    for name, component in bundle.components.items():
        if component.spec.role == "projector":
            rows = [{"tokens": np.ascontiguousarray(array[:: max(1, len(array) // _TOKENS)])} for array in tokens]
            seen[name] = Seen(*split(rows), source=source)
    return seen


def _segments(bundle: Bundle, videos: CalibrationVideos, frames: int) -> list[Array]:
    """Patch tokens of each segment `[up to frames, patches, width]`."""
    encoder = Encoder(bundle, precision="fp32", threads=1, patches=True)
    try:
        pictures = videos.frames(encoder.preprocessor.resize, PICTURES)
        if len(pictures) < MIN_SEEN:
            raise InputError(
                f"the calibration videos have {len(pictures)} frames, and at least {MIN_SEEN} are needed",
                hint="Give a longer video, or several: --calibrate VIDEO --calibrate VIDEO",
            )
        videos.says("encoding the calibration videos")
        features = [encoder.encode([picture]) for picture in pictures]
    finally:
        encoder.close()
    tilling = SceneTilling(scene_settings(bundle))
    cuts = [boundary for item in features for boundary in tilling.push(item.cls[0])] + tilling.flush()
    patches = [item.patches for item in features if item.patches is not None]
    starts = sorted({0, *(cut.frame + 1 for cut in cuts if cut.frame + 1 < len(patches))})
    segments = []
    for start, end in zip(starts, [*starts[1:], len(patches)], strict=True):
        for first in range(start, end, LONGEST):
            part = patches[first : min(first + LONGEST, end)]
            segments.append(np.concatenate([part[index] for index in reference_positions(len(part), frames)]))
    return segments


class _Recorder:
    """A session whose steps are taken down."""

    def __init__(self, session: Session, calls: list[Arrays]) -> None:
        self._session, self._calls = session, calls

    def step(self, inputs: Mapping[str, Array], state: State, outputs: Sequence[str]) -> Any:
        """What the session does."""
        self._calls.append({name: np.array(array) for name, array in inputs.items()})
        return self._session.step(inputs, state, outputs=outputs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)
