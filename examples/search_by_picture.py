"""Which scene of a video looks most like this picture?

python examples/search_by_picture.py video.mp4 picture.png
"""

import sys

import numpy as np
from PIL import Image

import vsdk

bundle = vsdk.load()
with vsdk.Stream(bundle, sys.argv[1]) as stream:
    scenes = [event for event in stream if event.type == "scene"]

picture = np.asarray(Image.open(sys.argv[2]).convert("RGB"))
for match in vsdk.search(scenes, image=picture, bundle=bundle, top=3):
    print(f"scene {match.scene.index} from {match.scene.start:.2f} s: similarity {match.score:.3f}")
