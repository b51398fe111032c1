"""Watches a process that runs for long: samples, the lines that fit them, and a picture of both."""

from __future__ import annotations

import platform
import threading
import time
from typing import Any

import numpy as np
import psutil
from PIL import Image as pillow

from vsdk.bench.chart import Axis, Curve, line_chart

WARM_UP = 0.2
"""Share of a run in which caches fill; nothing is fitted to it."""

LARGEST_RISE = {"resident_mb": 5.0, "descriptors": 1.0, "threads": 1.0}
"""Of a fitted line, from the end of the warm-up to the end of the run."""

MOST_POINTS = 200
"""Of a curve in the picture."""

Samples = dict[str, list[float]]


class Watch:
    """Samples this process every few seconds, in a thread.

    Attributes:
        frames: How many there have been, for whoever counts them.
        samples: What was seen, in the order of time.
    """

    def __init__(self, every: float) -> None:
        self.frames = 0
        self.samples: Samples = {
            name: [] for name in ("seconds", "frames", "resident_mb", "descriptors", "threads", "load_average")
        }
        self._every, self._process, self._started = every, psutil.Process(), time.monotonic()
        self._before = self.look()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def count(self, *_: object) -> None:
        """Another frame."""
        self.frames += 1

    def look(self) -> dict[str, float]:
        """How it is now."""
        return {
            "seconds": round(time.monotonic() - self._started, 1),
            "frames": self.frames,
            "resident_mb": round(self._process.memory_info().rss / 2**20, 2),
            "descriptors": self._process.num_fds(),
            "threads": self._process.num_threads(),
            "load_average": round(psutil.getloadavg()[0], 1),
        }

    def say(self, text: str) -> None:
        """Print how it is now."""
        now = self.look()
        print(
            f"{now['seconds']:7.0f} s {now['frames']:8.0f} frames {now['resident_mb']:7.1f} MB "
            f"{now['descriptors']:3.0f} descriptors {now['threads']:3.0f} threads, {text}",
            flush=True,
        )

    def result(self) -> dict[str, Any]:
        """What was measured, when everything is closed again; `failures` names what has grown."""
        lines = {name: fitted(self.samples, name) for name in LARGEST_RISE}
        after = self.look()
        failures = [
            f"{name} rose by {lines[name]['rise']}" for name, most in LARGEST_RISE.items() if lines[name]["rise"] > most
        ]
        if after["descriptors"] > self._before["descriptors"]:
            failures.append(f"descriptors left open: {self._before['descriptors']} became {after['descriptors']}")
        return {
            "machine": f"{platform.machine()}, {psutil.cpu_count()} cores",
            "seconds": self.samples["seconds"][-1],
            "median_load_average": float(np.median(self.samples["load_average"])),
            "before": self._before,
            "after_closing": after,
            "warm_up": WARM_UP,
            "fitted": lines,
            "failures": failures,
            "samples": self.samples,
        }

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            for name, value in self.look().items():
                self.samples[name].append(value)


def fitted(samples: Samples, name: str) -> dict[str, float]:
    """The straight line through what one figure was after the warm-up."""
    seconds, values = np.array(samples["seconds"]), np.array(samples[name])
    warm = seconds >= WARM_UP * seconds[-1]
    slope, start = np.polyfit(seconds[warm], values[warm], 1)
    return {
        "per_hour": round(slope * 3600, 4),
        "rise": round(slope * (seconds[-1] - seconds[warm][0]), 4),
        "at_the_end": round(start + slope * seconds[-1], 2),
        "least": float(values[warm].min()),
        "most": float(values[warm].max()),
    }


def draw(frames: dict[str, Any], camera: dict[str, Any]) -> pillow.Image:
    """What both parts measured: two charts, one above the other."""
    title = f"{frames['frames']:,} frames as fast as they go"
    upper = _chart(title, frames, [count / 1000 for count in frames["samples"]["frames"]], "frames, thousands")
    title = f"{camera['seconds'] / 60:.0f} minutes of a camera that fails: {camera['reconnects']} reconnections"
    lower = _chart(title, camera, [seconds / 60 for seconds in camera["samples"]["seconds"]], "minutes")
    picture = pillow.new("RGB", (upper.width, upper.height + lower.height))
    picture.paste(upper, (0, 0))
    picture.paste(lower, (0, upper.height))
    return picture


def _chart(title: str, part: dict[str, Any], across: list[float], unit: str) -> pillow.Image:
    fit = part["fitted"]["resident_mb"]
    remark = f"the line fitted to the memory after the first fifth: {fit['rise']:+.1f} MB until the end"
    names = {"resident_mb": "resident memory, MB", "descriptors": "file descriptors", "threads": "threads"}
    step = -(-len(across) // MOST_POINTS)
    curves = [Curve(text, across[::step], part["samples"][name][::step]) for name, text in names.items()]
    return line_chart(title, remark, curves, Axis(unit), Axis("MB, or number"))
