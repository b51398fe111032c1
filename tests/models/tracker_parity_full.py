"""Parity of the published sizes at full width, which takes minutes: not collected by pytest.

    python tests/models/tracker_parity_full.py --model sam2.1-tiny --size 512 --frames 20

Random weights; every frame of a real clip in a closed loop, and each step from the reference's own memories.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

import torch
import transformers

sys.path.insert(0, str(Path(__file__).parent))

from edgetam_reference import edgetam_video_model
from sam2_reference import FULL_WIDTH_GAIN, randomised
from sam2_streaming import Streaming, bikes, cosine, relative
from transformers import Sam2VideoModel
from transformers.models.edgetam_video.modeling_edgetam_video import EdgeTamVideoInferenceSession
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

import vsdk
from vsdk.tracking.choice import choose
from vsdk_export.tracker import export_tracker
from vsdk_models.sam2.edgetam_model import edgetam_networks
from vsdk_models.sam2.model import sam2_networks
from vsdk_models.sam2.published import published_config
from vsdk_runtimes.manifest import Origin


def measure(name: str, size: int, frames: int) -> dict[str, Any]:
    """How far one model is from its reference."""
    torch.set_num_threads(1)
    if name == "edgetam":
        model: Any = edgetam_video_model(0, size, small=False)
        networks, session = edgetam_networks(model), cast("type[Any]", EdgeTamVideoInferenceSession)
    else:
        model = randomised(Sam2VideoModel(published_config(name, image_size=size)), 0, FULL_WIDTH_GAIN)
        networks, session = sam2_networks(model), Sam2VideoInferenceSession
    with torch.no_grad():  # an object that is absent has the same logits everywhere, which would show nothing
        model.mask_decoder.pred_obj_score_head.proj_out.bias += 5
    pictures = bikes(frames)
    steps, loops, decisions = [], [], [0, 0]
    with tempfile.TemporaryDirectory() as folder:
        report = export_tracker(networks, origin=Origin(checkpoint="random weights"), out=Path(folder) / "bundle")
        graphs = {f"{row.component} {row.output}": row.deviation.relative for row in report.parity}
        with vsdk.Tracker(Path(folder) / "bundle", threads=2) as tracker:
            streaming = Streaming(model, session)
            for number, picture in enumerate(pictures):
                pixels = tracker.networks.preprocessor([picture])
                if number in (0, frames // 2):
                    streaming.prompt(number, 1, points=[(150, 120)])
                    tracker.prompt(picture, 1, points=[(150, 120)])
                seen = streaming.step(pixels)[1]
                tracker.track(picture)
                assert tracker._current is not None
                found = tracker._current.outputs[1].chosen
                if seen.margin > 1e-3:
                    loops.append(cosine(found.logits, seen.logits))
                if abs(seen.object_score) > 1e-3:
                    decisions[(found.object_score > 0) == (seen.object_score > 0)] += 1
                if number not in (0, frames // 2):
                    maps = tracker._current.maps
                    inputs = streaming.bank(tracker, 1, number).read([0], number)
                    decoded = tracker.networks.decode(maps, tracker.networks.condition(maps, inputs))
                    step = choose(tracker.networks.spec, decoded, 0, 0, first=False)
                    if seen.margin > 1e-3:
                        steps.append(relative(step.logits, seen.logits))
    return {
        "model": name, "size": size, "frames": frames, "transformers": transformers.__version__,
        "each_step_relative_to_rms": max(steps), "closed_loop_worst_cosine": min(loops),
        "presence_equal": decisions[True], "presence_different": decisions[False], "graphs_relative_to_rms": graphs,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="sam2.1-tiny", help="edgetam, or a published SAM-2")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--frames", type=int, default=20)
    options = parser.parse_args()
    print(json.dumps(measure(options.model, options.size, options.frames), indent=1))


if __name__ == "__main__":
    main()
