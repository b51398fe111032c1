"""A camera that fails, as operations see it: in the metrics, over MQTT and in JSON lines that rotate."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
from camera_server import PASSWORD as CAMERA_PASSWORD
from live_tools import QUICK, TestCamera, running_camera
from mqtt_broker import PASSWORD, TestBroker, broker, until  # noqa: F401  (broker is a fixture)
from test_sink_metrics import read, scrape, value

import vsdk
from vsdk.events import SourceState, Stats
from vsdk.sinks.metrics import Metrics
from vsdk.sinks.mqtt import Mqtt
from vsdk.sinks.rotating_jsonl import RotatingJsonLines
from vsdk.sinks.rotation import Rotation


@pytest.fixture
def camera() -> Iterator[TestCamera]:
    with running_camera() as running:
        yield running


def test_a_camera_that_dies_and_comes_back(
    camera: TestCamera,
    broker: TestBroker,  # noqa: F811
    tmp_path: Path,
) -> None:
    url = camera.url("rtsp", credentials=True)
    metrics = Metrics(0)
    pages: dict[str, str] = {}
    stream = vsdk.Stream(
        None,
        url,
        live=QUICK,
        memory=False,
        stats_every=0.2,
        sinks=[
            RotatingJsonLines(tmp_path / "events.jsonl", Rotation(size=500)),
            metrics,
            Mqtt(broker.url(), "cam", flush_seconds=20),
        ],
        on_frame=metrics.take_frame,
        on_features=metrics.take_features,
    )
    with stream:
        last = next(stats for stats in _through_the_fault(stream, camera, metrics.port, pages) if stats.frames >= 5)
        samples = scrape(metrics.port)
    assert value(samples, "vsdk_frames_total") == last.frames
    assert value(samples, "vsdk_frames_dropped_total") == last.dropped
    assert value(samples, "vsdk_reconnects_total") == last.reconnects >= 1
    assert value(samples, "vsdk_generation") == last.generation >= 1
    assert value(samples, "vsdk_latency_seconds", quantile="0.95") == last.latency_p95

    files = sorted(tmp_path.glob("events*"))
    lines = list(chain.from_iterable(file.read_text().splitlines() for file in files))
    assert len(files) > 1
    published = [message.payload.decode() for message in broker.received() if not message.topic.endswith("/status")]
    assert published == lines
    told = [json.loads(line) for line in lines]
    # A loaded machine may be late with a picture, and the camera then counts as stalled for a moment.
    states = [item["state"] for item in told if item["type"] == "source" and item["state"] != "stalled"]
    assert states[:3] == ["connecting", "live", "reconnecting"]
    assert "live" in states[3:]
    for text in ("".join(lines), *pages.values()):
        assert CAMERA_PASSWORD not in text
        assert PASSWORD not in text


def _through_the_fault(stream: vsdk.Stream, camera: TestCamera, port: int, pages: dict[str, str]) -> Iterator[Stats]:
    """Kill the camera when it is live and revive it when that was noticed; the statistics once it is live again.

    They count what has happened, of which the events may still be on their way.
    """
    back = False
    for event in stream:
        if isinstance(event, SourceState):
            pages.setdefault(event.state, read(port))
            assert value(scrape(port), "vsdk_source_state", state=event.state) == 1
            if event.state == "live" and event.generation == 0:
                camera.die()
            elif event.state == "reconnecting":
                camera.revive()
            back = back or (event.state == "live" and event.generation > 0)
        elif isinstance(event, Stats) and back:
            yield event
