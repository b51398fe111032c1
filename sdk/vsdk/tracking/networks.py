"""The four networks of a tracker on an engine: a picture in, masks and memories out, no state.

`docs/tracking.md` states what each takes and gives. Objects are the batch; what belongs to the frame has a batch of 1.
What one network makes for another stays where the engine runs: a frame is sent there once, its maps never come back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vsdk_runtimes import Bundle, Component, DeviceTensor, Precision, Session, load
from vsdk_runtimes.errors import BundleSchemaError

from ..frame import Image
from ..preprocessing import Preprocessor

if TYPE_CHECKING:  # pydantic is imported when a bundle is loaded
    from vsdk_runtimes.manifest import TrackerSpec

Array = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

ABSENT, NOT_A_POINT, BACKGROUND, FOREGROUND, TOP_LEFT, BOTTOM_RIGHT = -10, -1, 0, 1, 2, 3
"""Labels of points, as the decoder knows them."""


@dataclass(frozen=True, eq=False)
class Maps:
    """What the encoder says of a frame, float32: `high0 [1, c0, m, m]`, `high1 [1, c1, m / 2, m / 2]`, `top` and
    `initial [1, width, g, g]`, the last for a frame without a memory. Valid until the next frame is encoded.
    """

    high0: DeviceTensor
    high1: DeviceTensor
    top: DeviceTensor
    initial: DeviceTensor


@dataclass(frozen=True, eq=False)
class Decoded:
    """What the decoder says of n objects, float32.

    Attributes:
        masks: Logits of every mask `[n, masks, m, m]`.
        iou: Predicted intersection over union `[n, masks]`.
        object_score: Logit of the object being there `[n]`.
        pointers: `[n, masks, width]`.
    """

    masks: Array
    iou: Array
    object_score: Array
    pointers: Array


@dataclass(frozen=True, eq=False)
class DecoderPrompt:
    """A prompt as the decoder takes it, for one object.

    Attributes:
        points: `[n, 2]` in pixels of the square input, with the padding that the original adds.
        labels: `[n]`.
        embeddings: `[n, width]`, or None.
        mask: `[1, side, side]` of 0 and 1, or None.
    """

    points: Array
    labels: Integers
    embeddings: Array | None = None
    mask: Array | None = None


NOTHING = DecoderPrompt(np.zeros((2, 2), np.float32), np.full(2, NOT_A_POINT, np.int64))
"""What the decoder gets on a frame without a prompt."""


class TrackerNetworks:
    """The networks of a bundle.

    Args:
        bundle: Must have the four components of a tracker.
        device, engine, precision, threads: As for `vsdk_runtimes.load`.

    Attributes:
        encoder, attention, decoder, memory: The sessions.
        side: Of the square input, in pixels.
        mask_side: Of the mask logits.
        width: Channels of the features.
        memory_shape: Tokens of a memory and their width.

    Raises:
        BundleSchemaError: The bundle has no tracker.
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
    ) -> None:
        parts = [bundle.component(f"tracker.{part}") for part in ("encoder", "attention", "decoder", "memory")]
        self.spec = _spec(parts[1])
        preprocessing = parts[0].spec.preprocessing
        if preprocessing is None or preprocessing.resize.height is None:
            raise BundleSchemaError(f"the tracker of bundle {bundle.folder} does not say how large its input is")
        self.preprocessor = Preprocessor(preprocessing)
        self.side = preprocessing.resize.height
        self.encoder, self.attention, self.decoder, self.memory = self.sessions = tuple[Session, ...](
            load(part, precision=precision, device=device, engine=engine, threads=threads) for part in parts
        )
        self.mask_side = int(self.decoder.outputs["masks"].shape[2])
        self.width = int(self.decoder.inputs["embeddings"].shape[2])
        tokens, channels = self.attention.inputs["memory"].shape[2:]
        self.memory_shape = int(tokens), int(channels)
        self._pixels = np.empty((1, 3, self.side, self.side), np.float32)
        self._no_masks: Array | DeviceTensor = self._empty_masks(0)

    def encode(self, picture: Image) -> Maps:
        """The maps of a frame that `preprocessor.resize` made, uint8 `[side, side, 3]`."""
        pixels = self.preprocessor.normalise([picture], out=self._pixels)
        outputs = self.encoder.run({"pixels": pixels}, to="device")
        return Maps(outputs["high0"], outputs["high1"], outputs["top"], outputs["initial"])

    def condition(self, maps: Maps, bank: dict[str, npt.NDArray[np.generic]]) -> DeviceTensor:
        """The frame's features as each object's bank changes them, `[n, width, g, g]`; valid until the next call."""
        return self.attention.run({"top": maps.top, **bank}, to="device")["conditioned"]

    def decode(self, maps: Maps, features: DeviceTensor, prompt: DecoderPrompt = NOTHING) -> Decoded:
        """Masks for features `[n, width, g, g]`, all with one prompt."""
        count = features.shape[0]
        embedded = prompt.embeddings is not None
        embeddings = prompt.embeddings if prompt.embeddings is not None else np.zeros((1, self.width), np.float32)
        outputs = self.decoder.run(
            {
                "features": features,
                "high0": maps.high0,
                "high1": maps.high1,
                "points": _repeated(prompt.points, count),
                "labels": _repeated(prompt.labels, count),
                "embeddings": _repeated(embeddings, count),
                "embedding_valid": np.full((count, len(embeddings)), embedded, np.float32),
                "mask": self._mask_input(count) if prompt.mask is None else _repeated(prompt.mask, count),
                "mask_given": np.full(count, prompt.mask is not None, np.float32),
            }
        )
        return Decoded(outputs["masks"], outputs["iou"], outputs["object_score"], outputs["pointers"])

    def remember(
        self, maps: Maps, logits: Array, masks: list[Array | None], binarise: list[bool], object_score: Array
    ) -> Array:
        """Memories `[n, tokens, channels]` of n objects on a frame.

        Args:
            maps: The frame.
            logits: The chosen masks `[n, 1, m, m]`.
            masks: For each object the mask that it was prompted with, `[1, side, side]`, or None.
            binarise: For each object whether its mask enters as 0 and 1.
            object_score: `[n]`.
        """
        given = np.array([mask is not None for mask in masks], np.float32)
        inputs: dict[str, Array | DeviceTensor] = {
            "top": maps.top,
            "logits": logits,
            "mask": self._drawn(masks) if given.any() else self._mask_input(len(masks)),
            "mask_given": given,
            "binarise": np.array(binarise, np.float32),
            "object_score": object_score,
        }
        return self.memory.run(inputs)["memory"]

    def close(self) -> None:
        """Free the engines. Idempotent."""
        for session in self.sessions:
            session.close()

    def _drawn(self, masks: list[Array | None]) -> Array:
        drawn = self._empty_masks(len(masks))
        for row, mask in enumerate(masks):
            if mask is not None:
                drawn[row] = mask
        return drawn

    def _mask_input(self, count: int) -> Array | DeviceTensor:
        """The tensor for `mask` where there is none; kept, because nothing reads it."""
        if self._no_masks.shape[0] != count:
            self._no_masks = self.decoder.upload(self._empty_masks(count))
        return self._no_masks

    def _empty_masks(self, count: int) -> Array:
        return np.zeros((count, 1, self.side, self.side), np.float32)


def _spec(component: Component) -> TrackerSpec:
    if component.spec.tracker is None:
        raise BundleSchemaError(
            f"component {component.name!r} of {component.bundle.folder} does not say how its bank is kept",
            hint="Export the tracker again with this version of vsdk.",
        )
    return component.spec.tracker


def _repeated(array: npt.NDArray[np.generic], count: int) -> npt.NDArray[np.generic]:
    return np.repeat(array[None], count, axis=0)
