"""What each component of a bundle is run on while its fp32 graphs work through the calibration videos.

Everything comes from the run side's own parts: its sources decode, its preprocessing resizes, its memory and its
tracker run closed loop. So a component is calibrated on what it will get in use, states of a long run included. A
quarter of what was seen is not calibrated with: it is what the graph of lower precision is measured on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx_ir as ir

from vsdk.preprocessing import Preprocessor
from vsdk_runtimes import Bundle, Component, load_bundle
from vsdk_runtimes.errors import InputError, UnsupportedModelError
from vsdk_runtimes.manifest import FileEntry, Manifest

from .calibration import CalibrationVideos
from .graph import component_spec, write_graph
from .initial_state import write_state
from .network import Array, Arrays, Network

FRAMES = 64
"""Frames, of all videos together, that an encoder of pictures is calibrated and measured on."""
CLIPS = 24
"""Clips that an encoder of clips is."""
MIN_SEEN = 12
"""Fewest frames or clips: with fewer, ranges would be chance."""
_SIZES = (1, 2, 5, 8)


@dataclass(frozen=True, eq=False)
class Seen:
    """What a component was run on.

    Attributes:
        calibration: All inputs by name of each run to calibrate with.
        held_out: Those of the runs to measure on.
        samples: For a recurrent component instead, its inputs without the state, step by step: see `Network.samples`.
        source: What this was, for people.
    """

    calibration: Sequence[Arrays] = ()
    held_out: Sequence[Arrays] = ()
    samples: Mapping[str, Array] = field(default_factory=dict)
    source: str = ""


def observe(
    networks: Sequence[Network], graphs: Mapping[str, ir.Model], beside: Path | None, videos: CalibrationVideos
) -> dict[str, Seen]:
    """Run the fp32 graphs over the videos.

    Args:
        networks: What is to be exported.
        graphs: From `trace`, by component.
        beside: Bundle with the encoder that a memory bridge reads, if it is not among the networks.
        videos: What to run them on.

    Returns:
        By component what it was run on.

    Raises:
        InputError: The videos have too few frames, or one has no end.
        SourceError: A video cannot be read.
        UnsupportedModelError: A video does not say what a component would get.
    """
    encoder = None if beside is None else load_bundle(beside)
    with tempfile.TemporaryDirectory() as folder:
        return _observed(networks, _float_bundle(networks, graphs, Path(folder)), encoder, videos)


def _float_bundle(networks: Sequence[Network], graphs: Mapping[str, ir.Model], folder: Path) -> Bundle:
    """A bundle of nothing but the fp32 graphs."""
    components, files = {}, {}
    for network in networks:
        graph = graphs[network.name]
        written = write_graph(graph, folder / network.name / "fp32.onnx")
        state, listed = write_state(network, folder), [path.relative_to(folder).as_posix() for path in written]
        spec = component_spec(network, graph, {"fp32": listed[0]})
        assets = {f"fp32.weights{number or ''}": path for number, path in enumerate(listed[1:])}
        components[network.name] = spec.model_copy(update={"state": state, "assets": assets})
        for path in components[network.name].paths():
            files[path] = FileEntry(bytes=(folder / path).stat().st_size, sha256="0" * 64)  # nobody else sees it
    return Bundle(folder, Manifest(name="calibration", created_with={}, components=components, files=files))


def _observed(
    networks: Sequence[Network], bundle: Bundle, encoder: Bundle | None, videos: CalibrationVideos
) -> dict[str, Seen]:
    seen: dict[str, Seen] = {}
    for network in networks:
        if network.name in seen:
            continue
        component = bundle.components[network.name]
        if network.role.startswith("tracker."):
            from .calibration_tracker import observe_tracker

            seen |= observe_tracker(bundle, videos)
        elif network.recurrence is not None:
            from .calibration_memory import observe_memory

            seen |= observe_memory(network, bundle, encoder, videos)
        elif network.preprocessing is not None:
            seen[network.name] = _encoder(component, videos)
        elif network.text is not None:
            calls = list(network.calls())
            seen[network.name] = Seen(calls, calls, source="texts of vsdk's own, since a video has no words")
        elif network.role == "projector":
            raise UnsupportedModelError(
                f"component {network.name!r} cannot be calibrated without the memory bridge whose tokens it reads",
                hint="Export it at fp32 or fp16.",
            )
        else:
            raise UnsupportedModelError(
                f"a video does not say what component {network.name!r} with the role {network.role!r} would get",
                hint="Export it at fp32 or fp16.",
            )
    return seen


def split(calls: Sequence[Arrays]) -> tuple[list[Arrays], list[Arrays]]:
    """Three quarters to calibrate with, and one to measure on."""
    held_out = list(calls[2::4])
    return [call for number, call in enumerate(calls) if number % 4 != 2], held_out


def _encoder(component: Component, videos: CalibrationVideos) -> Seen:
    preprocessing = component.spec.preprocessing
    assert preprocessing is not None
    preprocessor, length = Preprocessor(preprocessing), component.spec.frames_per_call
    windows = videos.windows(preprocessor.resize, length, FRAMES if length == 1 else CLIPS)
    whole = [preprocessor.normalise(window) for window in windows if len(window) == length]
    if len(whole) < MIN_SEEN:
        what = "frames" if length == 1 else f"clips of {length} frames"
        raise InputError(
            f"the calibration videos have {len(whole)} {what}, and at least {MIN_SEEN} are needed",
            hint="Give a longer video, or several: --calibrate VIDEO --calibrate VIDEO",
        )
    calls: list[Arrays] = [{"pixels": pixels if length == 1 else pixels[None]} for pixels in whole]
    calibration, held_out = split(calls)
    return Seen(
        calibration, _batches(held_out), source=f"{len(calls)} {'frames' if length == 1 else 'clips'} of {videos.title}"
    )


def _batches(calls: Sequence[Arrays]) -> list[Arrays]:
    """The same inputs in batches of several sizes."""
    batches: list[Arrays] = []
    start = turn = 0
    while start < len(calls):
        part = calls[start : start + _SIZES[turn % len(_SIZES)]]
        batches.append({name: np.concatenate([call[name] for call in part]) for name in part[0]})
        start, turn = start + len(part), turn + 1
    return batches
