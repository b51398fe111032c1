"""A robot's loop: point out an object once, then steer towards it, frame by frame.

python examples/track_in_a_loop.py                                     the ball in demo/clip.mp4 (see: make demo)
python examples/track_in_a_loop.py video.mp4 40,60,120,200 [bundle]    what is in the box on the first frame
"""

import sys

import vsdk

arguments = sys.argv[1:] or ["demo/clip.mp4", "1040,459,1135,554"]
video, box = arguments[:2]
bundle = arguments[2] if len(arguments) > 2 else None  # None is the model that ships with vsdk

with vsdk.open(video) as camera, vsdk.Tracker(bundle) as tracker:
    for frame in camera:
        if frame.number == 0:
            tracker.prompt(frame, object_id=1, box=[float(edge) for edge in box.split(",")])
        (tracked,) = tracker.track(frame)
        if tracked.box is None or tracked.centroid is None:
            print(f"frame {frame.number}: out of sight, stop and look around")
            continue
        x, y = tracked.centroid
        steering = 2 * x / frame.image.shape[1] - 1  # -1 is hard left, 0 straight on, 1 hard right
        corners = ", ".join(f"{edge:.0f}" for edge in tracked.box)
        print(f"frame {frame.number}: box ({corners}), centre ({x:.0f}, {y:.0f}), steering {steering:+.2f}")
