"""SceneTilling alone: cut any sequence of vectors into scenes, here the class tokens that `vsdk run` kept.

vsdk run video.mp4 --features features.npz --no-gate
python examples/scenes_of_features.py features.npz
"""

import sys

import numpy as np

import vsdk

with np.load(sys.argv[1]) as file:
    features, times = file["cls"], file["time"]

tilling = vsdk.SceneTilling()
boundaries = [boundary for feature in features for boundary in tilling.push(feature)]
boundaries += tilling.flush()

for boundary in boundaries:
    print(f"a new scene starts at {times[boundary.frame + 1]:.2f} s (depth {boundary.depth:.2f})")
