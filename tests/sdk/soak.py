"""Runs for long, and watches whether anything grows: resident memory, file descriptors, threads.

    python tests/sdk/soak.py frames --count 1000000 --json frames.json
    python tests/sdk/soak.py camera --minutes 60 --json camera.json
    python tests/sdk/soak.py report frames.json camera.json --json soak.json --png soak.png

`frames` reads one long video as fast as it goes; `camera` watches the test camera (`camera_server.py`, in a process of
its own), which fails every minute in another way. Both go through all there is: source, gate, encoder, SceneTilling,
memory, JSON lines that rotate. What the files hold at the end is compared with what happened.

A straight line is fitted to each figure after the first fifth of the run. Its rise until the end must stay under
`LARGEST_RISE`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
from live_tools import TestCamera, running_camera, wait_until
from soak_watch import Watch, draw

import vsdk
from vsdk.events import SourceState, Stats
from vsdk.sinks.rotating_jsonl import RotatingJsonLines
from vsdk.sinks.rotation import Rotation
from vsdk_models.nano.textures import backdrop

SCENES, SCENE_FRAMES, SIDE = 40, 250, 64
"""One lap of the long video: more places than the memory has slots, of ten seconds each, in pictures of 64x64."""

LIVE = vsdk.LiveSettings(connect_timeout=5, read_timeout=3, first_delay=0.2, longest_delay=2.0)
FAULT_SECONDS = 8.0
"""How long the camera stays broken."""

CAMERA_RATE = 15.0


def write_long_video(path: Path, count: int) -> None:
    """Still places with cuts between them, `count` frames: one lap, encoded once and copied as often as need be."""
    with av.open(str(path), "w") as container:
        options = {"preset": "ultrafast", "tune": "zerolatency", "g": str(SCENE_FRAMES), "threads": "1"}
        stream: Any = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        packets = []
        for place in range(min(SCENES, -(-count // SCENE_FRAMES))):
            picture = (backdrop(np.random.default_rng(place), SIDE) * 255).astype(np.uint8)
            for _ in range(SCENE_FRAMES):
                packets += stream.encode(av.VideoFrame.from_ndarray(picture))
        packets += stream.encode(None)
        lap = [(bytes(packet), packet.is_keyframe) for packet in packets]
        for number in range(count):
            data, key = lap[number % len(lap)]
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, stream.codec_context.time_base
            packet.pts = packet.dts = number
            packet.is_keyframe = key
            container.mux(packet)


def frames(count: int, every: float, folder: Path) -> dict[str, Any]:
    """A long video as fast as it goes."""
    warm_up(folder)
    video = folder / "long.mp4"
    write_long_video(video, count)
    lines = RotatingJsonLines(folder / "events.jsonl", Rotation(size=100_000))
    watch = Watch(every)
    with watch, vsdk.Stream(None, video, sinks=[lines], on_frame=watch.count, stats_every=30) as stream:
        for event in stream:
            if isinstance(event, Stats):
                watch.say(f"{event.frames_per_second:.0f} frames/s")
            elif isinstance(event, vsdk.End):
                end = event
        assert stream.memory is not None
        entries = len(stream.memory.entries)
    told = written(folder)
    scenes = [line for line in told if line["type"] == "scene"]
    assert (end.reason, end.frames, end.decode_errors) == ("end", count, 0), end
    assert len(scenes) == end.scenes == -(-count // SCENE_FRAMES), end
    assert [(line["start_frame"], line["index"]) for line in scenes] == [
        (index * SCENE_FRAMES, index) for index in range(len(scenes))
    ]
    return {
        **watch.result(),
        "frames": count,
        "encoded": end.encoded,
        "scenes": end.scenes,
        "memory_entries": entries,
        "lines": len(told),
        "files": len(list(folder.glob("events*.jsonl"))),
    }


def warm_up(folder: Path) -> None:
    """Load what is loaded once and for all."""
    video = folder / "short.mp4"
    write_long_video(video, 2 * SCENE_FRAMES)
    with vsdk.Stream(None, video) as stream:
        assert sum(event.type == "scene" for event in stream) == 2


FAULTS: dict[str, Callable[[TestCamera], None]] = {
    "connection cut": TestCamera.drop,
    "server stopped": TestCamera.die,
    "stream stops": lambda camera: camera.set("paused", True),
    "slow server": lambda camera: camera.set("trickling", True),
    "other frame size": lambda camera: camera.set("size", [192, 96]),
    "damaged packets": lambda camera: camera.set("damaged", True),
}


@contextmanager
def failing(camera: TestCamera, every: float) -> Iterator[Counter[str]]:
    """A thread that lets the camera fail now and then, in one way after the other; how often it has."""
    stop, made = threading.Event(), Counter[str]()

    def fail() -> None:
        while True:
            for name, make in FAULTS.items():
                if stop.wait(every - FAULT_SECONDS):
                    return
                make(camera)
                over = stop.wait(FAULT_SECONDS)
                camera.recover()
                if over:
                    return
                made[name] += 1
                if name == "damaged packets":  # what they left in the decoder goes with the connection
                    camera.drop()

    thread = threading.Thread(target=fail)
    thread.start()
    try:
        yield made
    finally:
        stop.set()
        thread.join()


def camera(minutes: float, fault_every: float, every: float, folder: Path) -> dict[str, Any]:
    """A camera that fails and comes back."""
    warm_up(folder)
    lines = RotatingJsonLines(folder / "events.jsonl", Rotation(size=50_000))
    watch = Watch(every)
    states: Counter[str] = Counter()
    last: Stats | None = None
    with (
        running_camera(CAMERA_RATE) as sender,
        watch,
        vsdk.Stream(None, sender.url("rtsp"), live=LIVE, sinks=[lines], on_frame=watch.count) as stream,
        failing(sender, fault_every) as faults,
    ):
        for event in stream:
            if isinstance(event, SourceState):
                states[event.state] += 1
            elif isinstance(event, Stats):
                last = event
                watch.say(f"{event.reconnects} reconnects, {event.dropped} dropped, p95 {event.latency_p95}")
                if event.seconds >= minutes * 60:
                    break
    assert last is not None
    wait_until(lambda: not any(thread.name.startswith("vsdk-") for thread in threading.enumerate()))
    told = written(folder)
    said = Counter(line["state"] for line in told if line["type"] == "source")
    assert said == states, (said, states)
    assert last.reconnects >= faults["connection cut"], (last, faults)
    return {
        **watch.result(),
        "camera_rate": CAMERA_RATE,
        "frames": last.frames,
        "dropped": last.dropped,
        "decode_errors": last.decode_errors,
        "reconnects": last.reconnects,
        "generations": last.generation + 1,
        "scenes": sum(line["type"] == "scene" for line in told),
        "faults": dict(faults),
        "states": dict(states),
        "lines": len(told),
        "files": len(list(folder.glob("events*.jsonl"))),
    }


def written(folder: Path) -> list[dict[str, Any]]:
    """Every line of the rotated files, in order."""
    aside = sorted(folder.glob("events.*.jsonl"))
    return [json.loads(line) for path in (*aside, folder / "events.jsonl") for line in path.read_text().splitlines()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("frames", "camera", "report"))
    parser.add_argument("parts", nargs="*", type=Path, help="for report: what frames and camera wrote")
    parser.add_argument("--count", type=int, default=1_000_000, help="frames of the video")
    parser.add_argument("--minutes", type=float, default=60, help="of the camera")
    parser.add_argument("--fault-every", type=float, default=60, help="seconds from fault to fault")
    parser.add_argument("--every", type=float, default=5, help="seconds from sample to sample")
    parser.add_argument("--json", type=Path, help="write what was measured")
    parser.add_argument("--png", type=Path, help="for report: draw it")
    options = parser.parse_args()
    if options.what == "report":
        parts = dict(zip(("frames", "camera"), (json.loads(path.read_text()) for path in options.parts), strict=True))
        if options.json is not None:
            options.json.write_text(json.dumps(parts) + "\n")
        if options.png is not None:
            draw(**parts).save(options.png)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        if options.what == "frames":
            measured = frames(options.count, options.every, Path(folder))
        else:
            measured = camera(options.minutes, options.fault_every, options.every, Path(folder))
    if options.json is not None:
        options.json.write_text(json.dumps(measured) + "\n")
    print(json.dumps({name: value for name, value in measured.items() if name != "samples"}, indent=1))
    return 1 if measured["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
