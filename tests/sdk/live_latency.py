"""Latency from capture to event while a pipeline is too slow for its camera: does it grow, and do the counts add up?

    python tests/sdk/live_latency.py --minutes 10 --json latency.json --png latency.png

A camera of 30 frames a second (`camera_server.py`, in a process of its own) and a sink that makes the pipeline do 10.
The 95th percentile of each minute must stay under two processing intervals, from the first minute to the last.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import psutil
from live_tools import running_camera, shown_number

import vsdk
from vsdk.events import Stats


class SlowSink(vsdk.Sink):
    """Takes its time for each frame, and keeps what the camera showed."""

    wants_frames = True

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.last_number = self.frames = 0
        self.shown: list[int] = []

    def write_frame(self, frame: vsdk.Frame) -> None:
        time.sleep(self._seconds)
        self.frames += 1
        self.last_number = frame.number
        self.shown.append(shown_number(frame.image))

    def write_event(self, event: vsdk.Event) -> None:
        pass

    def close(self) -> None:
        pass


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=10)
    parser.add_argument("--camera-rate", type=float, default=30.0, help="frames a second of the camera")
    parser.add_argument("--pipeline-rate", type=float, default=10.0, help="frames a second of the pipeline, at most")
    parser.add_argument("--json", type=Path, help="write what was measured")
    parser.add_argument("--png", type=Path, help="draw it")
    options = parser.parse_args()
    sink = SlowSink(1 / options.pipeline_rate)
    minutes: list[Stats] = []
    with (
        running_camera(options.camera_rate) as camera,
        vsdk.Stream(None, camera.url("rtsp"), sinks=[sink], stats_every=60, memory=False) as stream,
    ):
        for event in stream:
            if isinstance(event, Stats):
                minutes.append(event)
                print(
                    f"minute {len(minutes)}: {event.frames_per_second:.2f} frames/s, {event.dropped} dropped, "
                    f"latency p50 {event.latency_p50:.3f} s, p95 {event.latency_p95:.3f} s",
                    flush=True,
                )
                # Every number up to the newest frame was taken in or dropped; of drops after it there may be more.
                assert event.frames == sink.frames
                assert event.frames + event.dropped >= sink.last_number + 1
                if len(minutes) == options.minutes:
                    break
    intervals = [1 / minute.frames_per_second for minute in minutes]
    p95 = [minute.latency_p95 or 0.0 for minute in minutes]
    slow = [n + 1 for n, (late, interval) in enumerate(zip(p95, intervals, strict=True)) if late >= 2 * interval]
    unseen = sum(later <= earlier for earlier, later in itertools.pairwise(sink.shown))
    result: dict[str, Any] = {
        "camera_rate": options.camera_rate,
        "pipeline_rate": options.pipeline_rate,
        "minutes": [
            {
                "frames": minute.frames,
                "dropped": minute.dropped,
                "frames_per_second": round(minute.frames_per_second, 3),
                "latency_p50": minute.latency_p50,
                "latency_p95": minute.latency_p95,
            }
            for minute in minutes
        ],
        "median_of_p95": statistics.median(p95),
        "minutes_over_two_intervals": slow,
        "pictures_out_of_order": unseen,
        "load_average": round(psutil.getloadavg()[2], 1),
    }
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    if options.png is not None:
        draw(result, options.png)
    print(json.dumps({name: value for name, value in result.items() if name != "minutes"}, indent=1))
    return 1 if slow or unseen else 0


def draw(result: dict[str, Any], path: Path) -> None:
    """The latencies of each minute, beside two processing intervals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.add_subplot(
        xlabel="minute", ylabel="seconds from capture to event", title="30 frames/s into a pipeline of 10 frames/s"
    )
    count = range(1, len(result["minutes"]) + 1)
    axes.plot(count, [2 / minute["frames_per_second"] for minute in result["minutes"]], "--", label="two intervals")
    axes.plot(count, [minute["latency_p95"] for minute in result["minutes"]], "o-", label="95th percentile")
    axes.plot(count, [minute["latency_p50"] for minute in result["minutes"]], "o-", label="median")
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
