"""The tracker: prompted objects are followed through a stream, in memory that does not grow.

One frame after the other: the encoder makes maps of it, each object's bank is read, the decoder proposes masks, one is
chosen, and the memory encoder makes of it what the bank keeps. The networks and their rules are SAM-2's; what was
decided here is written in `docs/tracking.md`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np
import numpy.typing as npt
from PIL import Image as pillow

from vsdk_runtimes import Bundle, Precision
from vsdk_runtimes.errors import ClosedError, InputError

from ..frame import Frame, Image
from ..loading import load
from .bank import MemoryBank
from .choice import Chosen, choose
from .networks import Array, DecoderPrompt, Maps, TrackerNetworks
from .prompts import Numbers, Points, decoder_prompt
from .tracked import TrackedObject

MASK_LOGIT = 10.0
"""Size of the logits of a mask that was given as a prompt (`_use_mask_as_output` in transformers)."""


@dataclass(frozen=True, eq=False)
class _Output:
    """What is known of an object on the current frame."""

    chosen: Chosen
    conditioning: bool
    prompted: bool
    mask: Array | None = None


@dataclass(eq=False)
class _Current:
    """The frame that prompts and tracking are about.

    Attributes:
        picture: At the encoder's size.
        maps: What the encoder says of it.
        number: The source's frame number, where it is known.
        tracked: Whether `track` is through with it.
        outputs: By object.
        memories: What the bank gets when the next frame begins: until then the frame can be corrected.
        encoded: Whether `maps` are those of this frame; the engine may have overwritten them before it failed.
    """

    picture: Image
    maps: Maps
    number: int | None
    tracked: bool = False
    outputs: dict[int, _Output] = field(default_factory=dict)
    memories: dict[int, Array] = field(default_factory=dict)
    encoded: bool = True


class Tracker:
    """Follow objects through one stream.

    Args:
        bundle: A loaded bundle or its folder; None is the model that ships with vsdk.
        device, engine, precision, threads: On what the networks run, as for `vsdk_runtimes.load`.

    Example:
        ```python
        tracker = vsdk.Tracker()
        tracker.prompt(first_image, object_id=1, box=(40, 60, 120, 200))
        for image in images:  # the first one, too
            for tracked in tracker.track(image):
                print(tracked.object_id, tracked.box, tracked.score)
        ```

    Raises:
        BundleError, EngineError: The bundle has no tracker, or it cannot be run as asked.
    """

    def __init__(
        self,
        bundle: Bundle | str | os.PathLike[str] | None = None,
        *,
        device: str = "cpu",
        engine: str = "onnxruntime",
        precision: Precision | None = None,
        threads: int | None = None,
    ) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else load(bundle)
        self.networks = TrackerNetworks(self.bundle, device=device, engine=engine, precision=precision, threads=threads)
        self._closed = False
        self.reset()

    def reset(self) -> None:
        """Forget everything; the next frame may have another size."""
        networks = self.networks
        self._bank = MemoryBank(networks.spec, networks.memory_shape, networks.width)
        self._objects: list[int] = []
        self._size: tuple[int, int] | None = None
        self._current: _Current | None = None
        self._frame = -1

    @property
    def object_ids(self) -> tuple[int, ...]:
        """The objects, in the order of their first prompts."""
        return tuple(self._objects)

    def prompt(
        self,
        frame: Image | Frame,
        object_id: int,
        *,
        points: Points | None = None,
        labels: Sequence[int] | npt.NDArray[np.generic] | None = None,
        box: Numbers | None = None,
        mask: npt.NDArray[np.generic] | None = None,
        embedding: npt.NDArray[np.generic] | None = None,
    ) -> TrackedObject:
        """Say where an object is: a new one, or one that is tracked already and is to be set right.

        Prompts come before the `track` call of their frame, which must get the same frame. A prompt on the frame that
        was tracked last corrects it. Each prompt replaces what was said of the object on that frame before.

        Args:
            frame: uint8 RGB `[height, width, 3]`, any strides, or a `Frame`.
            object_id: Any number; it names the object from now on.
            points: `(x, y)` in pixels of the frame, one or more.
            labels: For each point 1 (on the object) or 0 (not on it); None means all 1.
            box: `(x0, y0, x1, y1)` in pixels of the frame; may be combined with points.
            mask: bool `[height, width]`; may not be combined.
            embedding: float `[width]` or `[n, width]` in the space of the decoder's prompt tokens, such as the
                projection of a language model's [SEG] token.

        Returns:
            The object on this frame.

        Raises:
            InputError: The prompt is empty, outside of the frame, not finite or of the wrong shape; or the frame is not
                acceptable, has another size than those before, or is not the one that other prompts were about. The
                tracker is then as it was.
            EngineRunError: A network failed.
            ClosedError: The tracker is closed.
        """
        self._check_open()
        image, number = _parts(frame)
        picture = self._picture(image)
        what = f"prompt for object {object_id}"
        network = self.networks
        said, count = decoder_prompt(
            what, image.shape[:2], network.side, network.width,
            points=points, labels=labels, box=box, mask=mask, embedding=embedding,
        )  # fmt: skip
        current = self._begin(picture, number, what)
        # On a frame where the object was tracked, its bank is read again; everywhere else a prompt starts from nothing.
        earlier = current.outputs.get(object_id)
        first = earlier is None or earlier.conditioning
        output = self._prompted(current, object_id, said, count, first=first)
        self._size = image.shape[:2]
        if object_id not in self._objects:
            self._objects.append(object_id)
            self._bank.add_object()
        current.outputs[object_id] = output
        if current.tracked:
            self._remember(current, [item for item in current.outputs if self._is_affected(current, item, object_id)])
        return self._tracked_object(object_id, output)

    def track(self, frame: Image | Frame) -> tuple[TrackedObject, ...]:
        """Follow all objects to the next frame; on a frame with prompts, its objects are as prompted.

        Args:
            frame: uint8 RGB `[height, width, 3]`, any strides, or a `Frame`. It is read before the call returns.

        Returns:
            Every object, in the order of first prompts; none as long as nothing was prompted.

        Raises:
            InputError: The frame is not acceptable, has another size than those before, is not newer than they are, or
                is not the one that the prompts since the last call were about. The tracker is then as it was.
            EngineRunError: A network failed.
            ClosedError: The tracker is closed.
        """
        self._check_open()
        image, number = _parts(frame)
        picture = self._picture(image)
        if not self._objects:
            return ()
        current = self._begin(picture, number, "track", following=True)
        waiting = [item for item in self._objects if item not in current.outputs]
        if waiting:
            current.outputs.update(self._followed(current, waiting))
        self._remember(current, self._objects)
        current.tracked = True
        return tuple(self._tracked_object(item, current.outputs[item]) for item in self._objects)

    def remove(self, object_id: int) -> None:
        """Forget one object.

        Raises:
            InputError: There is no such object.
        """
        self._check_open()
        if object_id not in self._objects:
            known = ", ".join(map(str, self._objects)) or "none"
            raise InputError(f"there is no object {object_id}; tracked are: {known}")
        self._bank.remove_object(self._objects.index(object_id))
        self._objects.remove(object_id)
        if self._current is not None:
            self._current.outputs.pop(object_id, None)
            self._current.memories.pop(object_id, None)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save all that tracking goes on from; the file is replaced atomically, as that of a memory is.

        Raises:
            InputError: Prompts were given for a frame that has not been tracked.
            SinkError: It cannot be written there; what was there before is unchanged.
        """
        from .state import save_tracker

        save_tracker(self, path)

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Become the tracker that was saved: the next frame is tracked as it would have been there, bit for bit.

        Raises:
            StateError: The file cannot be used, or was saved with another bundle. The tracker is then as it was.
        """
        from .state import restore_tracker

        restore_tracker(self, path)

    def close(self) -> None:
        """Free the engines. Idempotent."""
        self._closed = True
        self.networks.close()

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the tracker is closed")

    def _picture(self, image: Image) -> Image:
        """The frame at the encoder's size."""
        picture = self.networks.preprocessor.resize(image)
        if self._size is not None and image.shape[:2] != self._size:
            height, width = self._size
            raise InputError(
                f"a frame of {image.shape[1]}x{image.shape[0]} pixels after frames of {width}x{height}",
                hint="Call reset() and prompt again where a stream changes its size.",
            )
        return picture

    def _begin(self, picture: Image, number: int | None, doing: str, *, following: bool = False) -> _Current:
        """The current frame if it is this one, or a new one; `following` is for `track`, to which none is twice new."""
        current = self._current
        if current is not None:
            same = _is_same(current, picture, number)
            if not current.tracked and not same and current.outputs:
                asked = ", ".join(map(str, current.outputs))
                raise InputError(
                    f"{doing}: this is not the frame that object {asked} was prompted on, which is not tracked yet",
                    hint="Call track() with the prompted frame before the next one.",
                )
            if same and not (following and current.tracked):
                if not current.encoded:
                    current.maps, current.encoded = self.networks.encode(current.picture), True
                return current
            if number is not None and current.number is not None and number <= current.number:
                raise InputError(f"{doing}: frame {number} after frame {current.number}; frame numbers increase")
        if current is not None:
            current.encoded = False
        following_frame = _Current(picture, self.networks.encode(picture), number)
        if current is None or current.tracked:  # a frame on which a network failed counts for nothing
            self._commit()
            self._frame += 1
        self._current = following_frame
        return following_frame

    def _commit(self) -> None:
        """What the last frame left behind goes into the bank."""
        if self._current is None:
            return
        for object_id, memory in self._current.memories.items():
            output = self._current.outputs[object_id]
            row = self._objects.index(object_id)
            self._bank.write(row, self._frame, output.conditioning, memory, output.chosen.pointer)
        self._current.memories = {}

    def _prompted(
        self, current: _Current, object_id: int, prompt: DecoderPrompt, points: int, *, first: bool
    ) -> _Output:
        """Decode a prompt, with the bank where the object was tracked on this frame already."""
        features = current.maps.initial
        if prompt.mask is not None:
            features = current.maps.top  # a mask is the answer; the decoder only makes the pointer for it
        elif not first:
            features = self.networks.condition(current.maps, self._read([object_id]))
        decoded = self.networks.decode(current.maps, features, prompt)
        chosen = choose(self.networks.spec, decoded, 0, points, first=first or prompt.mask is not None)
        if prompt.mask is not None:
            chosen = Chosen(self._mask_logits(prompt.mask), chosen.pointer, 1.0, MASK_LOGIT, chosen.index)
        return _Output(chosen, first, True, prompt.mask)

    def _followed(self, current: _Current, object_ids: list[int]) -> dict[int, _Output]:
        """Decode objects without a prompt, as one batch."""
        features = self.networks.condition(current.maps, self._read(object_ids))
        decoded = self.networks.decode(current.maps, features)
        return {
            object_id: _Output(choose(self.networks.spec, decoded, row, 0, first=False), False, False)
            for row, object_id in enumerate(object_ids)
        }

    def _read(self, object_ids: list[int]) -> dict[str, npt.NDArray[np.generic]]:
        return self._bank.read([self._objects.index(item) for item in object_ids], self._frame)

    def _remember(self, current: _Current, object_ids: list[int]) -> None:
        """Make memories of what was decided for these objects; the bank gets them when the next frame begins."""
        outputs = [current.outputs[item] for item in object_ids]
        hard = [output.prompted for output in outputs]
        if self.networks.spec.binarise == "frame":
            hard = [any(hard)] * len(hard)
        memories = self.networks.remember(
            current.maps,
            np.stack([output.chosen.logits[None] for output in outputs]),
            [output.mask for output in outputs],
            hard,
            np.array([output.chosen.object_score for output in outputs], np.float32),
        )
        current.memories.update(zip(object_ids, memories, strict=True))

    def _is_affected(self, current: _Current, object_id: int, corrected: int) -> bool:
        """Whether an object's memory of a tracked frame is made anew when another one is corrected on it."""
        if object_id == corrected:
            return True
        return self.networks.spec.binarise == "frame" and not current.outputs[object_id].conditioning

    def _mask_logits(self, mask: Array) -> Array:
        """A mask prompt as logits of the decoder's size."""
        side = self.networks.mask_side
        picture = pillow.fromarray((mask[0] * 2 - 1) * np.float32(MASK_LOGIT))
        return np.array(picture.resize((side, side), pillow.Resampling.BILINEAR))

    def _tracked_object(self, object_id: int, output: _Output) -> TrackedObject:
        assert self._size is not None
        chosen, present = output.chosen, output.chosen.object_score > 0
        return TrackedObject(
            object_id,
            at_source_size(chosen.logits, self._size) if present else np.zeros(self._size, np.bool_),
            chosen.score,
            float(1 / (1 + np.exp(-np.float64(chosen.object_score)))),
            present,
        )


def at_source_size(logits: Array, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Mask logits `[m, m]` as a mask of a frame of this height and width: bilinear, then above zero."""
    height, width = size
    picture = pillow.fromarray(np.ascontiguousarray(logits))
    mask: npt.NDArray[np.bool_] = np.asarray(picture.resize((width, height), pillow.Resampling.BILINEAR)) > 0
    return mask


def _parts(frame: Image | Frame) -> tuple[Image, int | None]:
    return (frame.image, frame.number) if isinstance(frame, Frame) else (frame, None)


def _is_same(current: _Current, picture: Image, number: int | None) -> bool:
    """Whether a frame is the current one: by its number, or else by what it shows."""
    if number is not None and current.number is not None:
        return number == current.number
    return np.array_equal(current.picture, picture)
