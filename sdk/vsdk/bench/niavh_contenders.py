"""Who takes part in the needle test: the memory, and the controls it has to beat.

Each contender watches a haystack without a needle once. A question ("what is remembered after so many seconds, if this
picture had been shown in that second?") is then answered from the point where the needle comes: what was before it is
the same with and without, so it need not be run again.
"""

from __future__ import annotations

import abc
import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vsdk_runtimes import Bundle, Component, Precision, load
from vsdk_runtimes.errors import BundleSchemaError

from ..memory.bridge import MemoryBridge
from ..memory.entry import MemoryEntry
from .controls import frames_for, last_frames, memory_floats, running_means, stretch
from .needles import CLASSES, class_name

Vectors = npt.NDArray[np.float32]
Needle = tuple[int, Vectors]
"""The second in which a needle is seen, and the patch tokens `[patches, width]` of the picture with it."""

CONTENDERS = ("memory", "last_n", "mean", "no_retrieval")


@dataclass(frozen=True)
class Task:
    """What a bundle's readouts were trained for: the asset `task` of its component with the role `readout`.

    Attributes:
        classes: How many kinds of needle.
        trained_length: Seconds of the longest video in training.
    """

    classes: int
    trained_length: int


def read_task(bundle: Bundle) -> Task:
    """The task of a bundle's readouts.

    Raises:
        BundleSchemaError: The bundle has no readout, or one of other needles.
    """
    component = bundle.component("readout")
    if "task" not in component.spec.assets:
        raise BundleSchemaError(f"the readout of bundle {bundle.folder} does not say what it was trained for")
    task = json.loads(component.path(component.spec.assets["task"]).read_text(encoding="utf-8"))
    if task["classes"] != [class_name(label) for label in range(len(CLASSES))]:
        raise BundleSchemaError(
            f"the readout of bundle {bundle.folder} knows other needles than this version of vsdk draws",
            hint="Use the bundle that comes with this version.",
        )
    return Task(len(CLASSES), int(task["trained_length"]))


class Contender(abc.ABC):
    """Something that watches a video and is asked about it afterwards."""

    floats: int
    """How many floats it keeps."""

    @abc.abstractmethod
    def watch(self, patches: Vectors) -> None:
        """See a haystack, float32 `[seconds, patches, width]`, which then belongs to the contender."""

    @abc.abstractmethod
    def answer(self, length: int, needle: Needle | None = None) -> Vectors:
        """Scores `[classes + 1]` (the last one: there was none) after `length` seconds of the haystack."""

    @abc.abstractmethod
    def close(self) -> None:
        """Free the engine."""


@dataclass(frozen=True, eq=False)
class _Point:
    """The state of a bridge between two segments."""

    segments: int
    entries: tuple[MemoryEntry, ...]
    state: dict[str, npt.NDArray[np.generic]]


class Recurrent(Contender):
    """A memory bridge, with or without retrieval, and the readout of its memory tokens.

    Args:
        bundle: Has both.
        bridge, readout: Their roles.
        threads: Most threads of the engine.
        precision: Of the bridge; None takes the bundle's default.
    """

    def __init__(
        self, bundle: Bundle, bridge: str, readout: str, threads: int | None, precision: Precision | None = None
    ) -> None:
        self.bridge = MemoryBridge(bundle, threads=threads, precision=precision, role=bridge)
        self._readout = load(bundle.component(readout), threads=threads)
        spec = self.bridge.spec
        cached = self.bridge.cache is not None
        self.floats = memory_floats(spec, self.bridge.width) if cached else spec.tokens * self.bridge.width
        self._points: list[_Point] = []

    def watch(self, patches: Vectors) -> None:
        """See `Contender.watch`."""
        self._patches = patches
        self.bridge.reset()
        self._points = [self._point()]
        for start in range(0, len(patches), self.bridge.frames):
            self.bridge.step(patches[start : start + self.bridge.frames])
            self._points.append(self._point())

    def answer(self, length: int, needle: Needle | None = None) -> Vectors:
        """See `Contender.answer`."""
        size = self.bridge.frames
        point = self._points[(length if needle is None else needle[0]) // size]
        self.bridge.restore(point.segments, point.entries, point.state)
        for start in range(point.segments * size, length, size):
            segment = self._patches[start : min(start + size, length)]
            if needle is not None and start <= needle[0] < start + size:
                segment = segment.copy()
                segment[needle[0] - start] = needle[1]
            self.bridge.step(segment)
        scores: Vectors = self._readout.run({"tokens": self.bridge.memory[None]}, outputs=["what"])["what"][0]
        return scores

    def seconds_of_needle(self) -> tuple[int, int]:
        """When the video of the last answer showed the needle: first and last second of one entry of the cache."""
        entries = self.bridge.entries
        tokens = np.stack([entry.tokens for entry in entries])
        here = self._readout.run({"tokens": tokens}, outputs=["here"])["here"][:, 0]
        found = entries[int(here.argmax())]
        return found.first * self.bridge.frames, (found.last + 1) * self.bridge.frames - 1

    def close(self) -> None:
        """See `Contender.close`."""
        self.bridge.close()
        self._readout.close()

    def _point(self) -> _Point:
        return _Point(self.bridge.segments, self.bridge.entries, self.bridge.state.snapshot())


class LastFrames(Contender):
    """The patch tokens of the last frames, as many as take the memory's floats."""

    def __init__(self, bundle: Bundle, floats: int, threads: int | None) -> None:
        self._readout = load(bundle.component("readout.last_n"), threads=threads)
        _, self.window, patches, width = _sizes(self._readout.component, "frames")
        _check_window(self._readout.component, self.window, frames_for(floats, patches, width))
        self.floats = self.window * patches * width

    def watch(self, patches: Vectors) -> None:
        """See `Contender.watch`."""
        self._patches = patches

    def answer(self, length: int, needle: Needle | None = None) -> Vectors:
        """See `Contender.answer`."""
        frames, there = last_frames(self._patches[:length], self.window)
        first = max(0, length - self.window)
        if needle is not None and needle[0] >= first:
            frames[0, needle[0] - first] = needle[1]
        scores: Vectors = self._readout.run({"frames": frames, "there": there}, outputs=["what"])["what"][0]
        return scores

    def close(self) -> None:
        """See `Contender.close`."""
        self._readout.close()


class Means(Contender):
    """Running means of the patch tokens, as many as take the memory's floats: see `controls.stretch`."""

    def __init__(self, bundle: Bundle, floats: int, threads: int | None) -> None:
        self._readout = load(bundle.component("readout.mean"), threads=threads)
        _, self.count, patches, width = _sizes(self._readout.component, "frames")
        _check_window(self._readout.component, self.count, frames_for(floats, patches, width))
        self.floats = self.count * patches * width

    def watch(self, patches: Vectors) -> None:
        """See `Contender.watch`."""
        self._patches = patches

    def answer(self, length: int, needle: Needle | None = None) -> Vectors:
        """See `Contender.answer`."""
        means, there = running_means(self._patches[:length], self.count)
        if needle is not None:
            second, tokens = needle
            size = stretch(self.count, length)
            place = second // size
            means[0, place] += (tokens - self._patches[second]) / min(size, length - place * size)
        scores: Vectors = self._readout.run({"frames": means, "there": there}, outputs=["what"])["what"][0]
        return scores

    def close(self) -> None:
        """See `Contender.close`."""
        self._readout.close()


def _sizes(component: Component, name: str) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) else 1 for size in component.spec.inputs[name].shape)


def _check_window(component: Component, has: int, due: int) -> None:
    """A control with less state than the memory would be no control."""
    if has != due:
        raise BundleSchemaError(
            f"component {component.name!r} reads {has} frames, but the memory's floats are worth {due}",
            hint="Train the control again for this memory: python -m vsdk_models.nano.train_bridge",
        )
