"""The clips that the shipped bundle is calibrated with: rendered, written as H.264, and no part of any test.

They are scripts of the `tuning` split, with places and shapes that the test split does not have, half of them
disturbed.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vsdk_models.nano.clips import Clip
from vsdk_models.nano.demo_clip import write_video
from vsdk_models.nano.scene_splits import STYLES, disturbance
from vsdk_models.nano.scripts import random_script

FIRST_SEED = 15_000
PLAIN = 4
DISTURBED = ("exposure", "flicker", "noise", "crossings")


def calibration_clips(folder: Path) -> list[Path]:
    """Write the clips, about nine seconds each.

    Args:
        folder: Where to.

    Returns:
        Their paths, always the same clips in the same order.
    """
    style = replace(STYLES["tuning"], joins=("cut", "cut", "dissolve", "fade"), near=0.5)
    clips = [Clip.of(random_script(FIRST_SEED + number, style), f"plain {number}") for number in range(PLAIN)]
    for number, condition in enumerate(DISTURBED, PLAIN):
        clip = Clip.of(random_script(FIRST_SEED + number, style), condition)
        clips.append(disturbance(condition, FIRST_SEED + number)(clip))
    paths = []
    for number, clip in enumerate(clips):
        paths.append(folder / f"tuning-{FIRST_SEED + number}.mp4")
        for _ in write_video(paths[-1], clip.open(), clip.size):
            pass
    return paths
