"""Injects faults into live sources by the hundred, and measures whether all is well afterwards.

    python tests/sdk/live_faults.py --faults 120 --json faults.json

Senders are `camera_server.py` (TCP, HTTP, RTSP, and UDP through a proxy that loses packets) and, where the machine has
it, GStreamer's RTSP server (`gst_rtsp_server.py`) with RTP over TCP and over UDP. Every fault must be seen as an event
or in the count of damaged packets, and be over within the back-off and two seconds; no picture may be made up; memory,
threads and file descriptors must be back at the end where they were after the first round. `test_live_faults.py` is the
short form.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil
from live_injection import FAULTS, LONGEST_RECOVERY, SETTINGS, Fault, Injector, Outcome, says, setting
from live_tools import PATIENCE, Taken, TestCamera, running_camera, wait_until

from vsdk.sources.live_settings import Transport
from vsdk.sources.network import open_network

SYSTEM_PYTHON = "/usr/bin/python3"  # that which the distribution's packages are made for
THIRTY_SECONDS = Fault(
    "stream stops for 30 s", setting(("paused", True)), says("reconnecting", attempt=10), schemes=("tcp",)
)

Watched = tuple[Any, str, Transport, tuple[Fault, ...]]
"""A camera, the scheme of its address, how RTSP carries pictures, and what happens to it."""


class GStreamerCamera:
    """A `gst_rtsp_server.py` that can be killed and comes back at the same port."""

    def __init__(self) -> None:
        self._port, self._started = "0", str(time.monotonic())
        self._start()

    def url(self, scheme: str) -> str:
        assert scheme == "rtsp"
        return f"rtsp://127.0.0.1:{self._port}/live"

    def set(self, name: str, value: Any) -> None:
        self._say("set", name, value)

    def drop(self) -> None:
        self._say("drop")

    def die(self) -> None:
        self._process.kill()
        self._process.wait(PATIENCE)

    def recover(self) -> None:
        if self._process.poll() is not None:
            self._start()
        self.set("paused", False)
        self.set("locked", False)

    def _start(self) -> None:
        script = Path(__file__).with_name("gst_rtsp_server.py")
        command = [SYSTEM_PYTHON, str(script), "25", self._port, self._started]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._port = str(json.loads(self._process.stdout.readline())["rtsp"])

    def _say(self, *command: Any) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        self._process.stdout.readline()


RECOVER = GStreamerCamera.recover
GSTREAMER_FAULTS = (
    Fault("connection cut", GStreamerCamera.drop, says("reconnecting"), RECOVER),
    Fault("server killed and started", GStreamerCamera.die, says("reconnecting", attempt=2), RECOVER),
    Fault("stream stops for a moment", setting(("paused", True)), says("stalled"), RECOVER),
    Fault("stream stops for long", setting(("paused", True)), says("reconnecting", "nothing arrived"), RECOVER),
    Fault("login refused", setting(("locked", True), drop=True), says("reconnecting", "401"), RECOVER),
)


def gstreamer_is_here() -> bool:
    needed = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    try:
        return subprocess.run([SYSTEM_PYTHON, "-c", needed], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def memory_while_reconnecting(camera: TestCamera, count: int) -> list[float]:
    """Resident megabytes of one source whose connection is cut so many times, after each tenth of them."""
    quick = replace(SETTINGS, first_delay=0.05, longest_delay=0.05)
    megabytes: list[float] = []
    with open_network(camera.url("rtsp"), quick) as source:
        taken = Taken(source)
        taken.frame()
        for number in range(count):
            camera.drop()
            taken.state("reconnecting")
            taken.frame()
            taken.items.clear()
            if (number + 1) % (count // 10) == 0:
                megabytes.append(resident_megabytes())
    return megabytes


def threads() -> int:
    return sum(thread.name.startswith("vsdk-") for thread in threading.enumerate())


def resident_megabytes() -> float:
    """Memory, without what malloc keeps for later."""
    gc.collect()
    with suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    return round(psutil.Process().memory_info().rss / 2**20, 1)


def resources() -> dict[str, float]:
    """Memory, threads and descriptors once everything is closed."""
    wait_until(lambda: threads() == 0)
    process = psutil.Process()
    return {
        "resident_mb": resident_megabytes(),
        "threads": process.num_threads(),
        "descriptors": process.num_fds(),
    }


class Run:
    """All faults, one after the other, in rounds.

    Attributes:
        outcomes: Of those that went well.
        failures: What did not.
        frames: How many frames came meanwhile.
        memory: Resident megabytes after each round.
    """

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.failures: list[str] = []
        self.frames = 0
        self.memory: list[float] = []

    def round(self, cameras: list[Watched], order: random.Random) -> None:
        """Each fault of each camera once."""
        for camera, scheme, transport, faults in cameras:
            label = scheme if transport == "tcp" else f"{scheme} over {transport}"
            with open_network(camera.url(scheme), replace(SETTINGS, transport=transport)) as source:
                injector = Injector(camera, Taken(source), label)
                for fault in order.sample(faults, len(faults)):
                    try:
                        self._keep(injector.inject(fault))
                    except Exception as error:
                        self.failures.append(f"{fault.name} ({label}): {type(error).__name__} {error}"[:500])
                        camera.recover()
                self.frames += injector.frames
        self.memory.append(resources()["resident_mb"])

    def _keep(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        if outcome.recovered > LONGEST_RECOVERY:
            self.failures.append(f"{outcome.fault} ({outcome.scheme}): over only after {outcome.recovered:.1f} s")
        print(f"{len(self.outcomes):4d} {outcome.scheme:14s} {outcome.fault:34s}", end=" ")
        print(f"seen {outcome.seen:5.2f} s, over {outcome.recovered:5.2f} s", flush=True)

    def table(self) -> Iterator[str]:
        """A line for each fault, in Markdown."""
        yield "| fault | times | seen, median (s) | seen, longest | over, median (s) | over, longest |"
        yield "|---|---|---|---|---|---|"
        for name in sorted({outcome.fault for outcome in self.outcomes}):
            mine = [outcome for outcome in self.outcomes if outcome.fault == name]
            seen, over = [one.seen for one in mine], [one.recovered for one in mine]
            yield (
                f"| {name} | {len(mine)} | {statistics.median(seen):.2f} | {max(seen):.2f} "
                f"| {statistics.median(over):.2f} | {max(over):.2f} |"
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=120, help="inject at least so many")
    parser.add_argument(
        "--reconnects", type=int, default=500, help="then cut one connection so many times, at least 20"
    )
    parser.add_argument("--seed", type=int, default=0, help="of their order")
    parser.add_argument("--json", type=Path, help="write what was measured")
    parser.add_argument("--no-gstreamer", action="store_true", help="do without GStreamer's RTSP server")
    options = parser.parse_args()
    order, run, started = random.Random(options.seed), Run(), time.monotonic()
    with ExitStack() as stack:
        camera: TestCamera = stack.enter_context(running_camera(udp=True))
        cameras: list[Watched] = [
            (camera, scheme, "tcp", tuple(fault for fault in (*FAULTS, THIRTY_SECONDS) if scheme in fault.schemes))
            for scheme in ("tcp", "http", "rtsp", "udp")
        ]
        gstreamer = not options.no_gstreamer and gstreamer_is_here()
        if gstreamer:
            server = GStreamerCamera()
            stack.callback(server.die)
            cameras += [(server, "rtsp", "tcp", GSTREAMER_FAULTS), (server, "rtsp", "udp", GSTREAMER_FAULTS)]
        else:
            print("without GStreamer's RTSP server: apt install gir1.2-gst-rtsp-server-1.0 python3-gi")
        run.round(cameras, order)
        before = resources()
        while len(run.outcomes) + len(run.failures) < options.faults:
            run.round(cameras, order)
        after = resources()
        reconnecting = memory_while_reconnecting(camera, options.reconnects)
    if after["threads"] > before["threads"] or after["descriptors"] > before["descriptors"]:
        run.failures.append(f"left behind: {before} became {after}")
    if after["resident_mb"] > before["resident_mb"] + 10:
        run.failures.append(f"memory grew: {before} became {after}")
    if reconnecting[-1] > reconnecting[1] + 3:
        run.failures.append(f"memory grew with each connection: {reconnecting}")
    result = {
        "faults": len(run.outcomes),
        "frames": run.frames,
        "seconds": round(time.monotonic() - started),
        "gstreamer": gstreamer,
        "settings": asdict(SETTINGS),
        "longest_recovery_allowed": LONGEST_RECOVERY,
        "load_average": round(psutil.getloadavg()[1], 1),
        "after_the_first_round": before,
        "after_the_last_round": after,
        "resident_mb_after_each_round": run.memory,
        "reconnects": options.reconnects,
        "resident_mb_after_each_tenth_of_them": reconnecting,
        "failures": run.failures,
        "outcomes": [asdict(outcome) for outcome in run.outcomes],
    }
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    print(*run.table(), sep="\n")
    print(json.dumps({name: value for name, value in result.items() if name != "outcomes"}, indent=1))
    return 1 if run.failures else 0


if __name__ == "__main__":
    sys.exit(main())
