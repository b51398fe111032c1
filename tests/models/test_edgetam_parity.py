"""EdgeTAM in a bundle against transformers' streaming session, as `test_sam2_parity.py` does it for SAM-2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgetam_reference import edgetam_video_model
from sam2_streaming import HEIGHT, WIDTH, Streaming, bikes, cosine, step_errors
from transformers.models.edgetam_video.modeling_edgetam_video import EdgeTamVideoInferenceSession

import vsdk
from vsdk_export.tracker import export_tracker
from vsdk_models.sam2.edgetam_model import edgetam_networks
from vsdk_runtimes.manifest import Origin

FRAMES = 24


@pytest.fixture(scope="module")
def model() -> Any:
    return edgetam_video_model()


@pytest.fixture(scope="module")
def bundle(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("edgetam") / "bundle"
    export_tracker(edgetam_networks(model), origin=Origin(checkpoint="random"), out=folder)
    return folder


def test_a_mask_is_enough(model: Any, bundle: Path) -> None:
    """On its own: the reference cannot join the scores of an object with a mask and one without."""
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[60:180, 80:200] = True
    compared = 0
    with vsdk.Tracker(bundle, threads=1) as tracker:
        streaming = Streaming(model, EdgeTamVideoInferenceSession)
        frames = bikes(8)
        streaming.prompt(0, 1, mask=mask)
        tracker.prompt(frames[0], 1, mask=mask)
        for number, frame in enumerate(frames):
            seen = streaming.step(tracker.networks.preprocessor([frame]))[1]
            tracker.track(frame)
            assert tracker._current is not None
            # On the first frame the mask is the answer, and nothing is decided.
            step = None if number == 0 else streaming.our_step(tracker.networks, tracker._current.maps, 1, number)
            if step is None or step_errors(*step, seen).best_is_clear:
                assert cosine(tracker._current.outputs[1].chosen.logits, seen.logits) >= 0.9999, number
                compared += 1
    assert compared == 8


def test_two_objects_step_by_step_and_in_a_closed_loop(model: Any, bundle: Path) -> None:
    prompts: dict[tuple[int, int], dict[str, Any]] = {
        (0, 1): {"points": [(150, 120)]},
        (0, 2): {"box": (80, 60, 200, 180)},
        (10, 1): {"box": (60, 40, 220, 200)},
    }
    decided = compared = 0
    with vsdk.Tracker(bundle, threads=1) as tracker:
        streaming = Streaming(model, EdgeTamVideoInferenceSession)
        for number, frame in enumerate(bikes(FRAMES)):
            prompted = {object_id: said for (when, object_id), said in prompts.items() if when == number}
            for object_id, said in prompted.items():
                streaming.prompt(number, object_id, **said)
                tracker.prompt(frame, object_id, **said)
            seen = streaming.step(tracker.networks.preprocessor([frame]))
            tracker.track(frame)
            assert tracker._current is not None
            for object_id, expected in seen.items():
                where = (number, object_id)
                found, prompt = tracker._current.outputs[object_id].chosen, prompted.get(object_id)
                step = streaming.our_step(
                    tracker.networks, tracker._current.maps, object_id, number, prompt=prompt, first=prompt is not None
                )
                errors = step_errors(*step, expected)
                assert errors.object_score <= 1e-5, where
                assert errors.iou <= 1e-5, where
                if errors.presence_is_clear:
                    assert (found.object_score > 0) == (expected.object_score > 0), where
                    decided += 1
                if errors.best_is_clear:
                    assert expected.best in (None, found.index), where
                    assert errors.logits <= 1e-4, where
                    assert cosine(found.logits, expected.logits) >= 0.9999, where
                    compared += 1
    assert decided >= 2 * FRAMES - 1
    assert compared >= 2 * FRAMES - 1
