"""What the live page keeps of a stream: its state, its newest picture, its last scenes."""

from __future__ import annotations

import io
import json
import time
from typing import Any

import pytest
from PIL import Image
from serve_tools import frame, scene

from vsdk.events import End, SourceState, Start, Stats
from vsdk.serving import pictures
from vsdk.serving.hub import Hub
from vsdk.serving.pictures import PICTURE_EDGE, THUMBNAIL_EDGE

NAME = "rtsp://***@10.0.0.7/main"
START = Start(NAME, "nano", "0" * 64, "onnxruntime 1.32 on cpu, fp32")


def states(hub: Hub) -> list[str]:
    """What the journal says of states, without repetitions."""
    told = [json.loads(message.content)["state"] for message in hub.journal.after(0) or [] if message.kind == "stream"]
    return [state for number, state in enumerate(told) if number == 0 or told[number - 1] != state]


def health(hub: Hub) -> dict[str, Any]:
    (stream,) = hub.health()["streams"]
    return dict(stream)


def test_a_camera_comes_goes_and_comes_back() -> None:
    hub = Hub()
    channel = hub.add(NAME)
    channel.write_event(START)
    assert health(hub)["state"] == "connecting"
    assert not hub.health()["healthy"]
    channel.write_event(SourceState(NAME, "connecting", attempt=1))
    channel.write_event(SourceState(NAME, "live"))
    channel.write_frame(frame(0))
    assert hub.health()["healthy"]
    before = time.time()
    channel.write_event(SourceState(NAME, "reconnecting", 1, 1, 2, 4.0, "Connection refused"))
    dead = health(hub)
    after = time.time()
    assert (dead["state"], dead["message"], dead["live"]) == ("reconnecting", "Connection refused", True)
    assert before - 0.01 <= dead["since"] <= after + 0.01
    assert before + 3.99 <= dead["retry"] <= after + 4.01
    channel.write_event(SourceState(NAME, "reconnecting", 1, 1, 3, 8.0, "Connection refused"))
    assert health(hub)["since"] == dead["since"], "it is the same state"
    assert not hub.health()["healthy"]
    channel.write_event(SourceState(NAME, "live", 1, 1))
    assert hub.health()["healthy"]
    assert (health(hub)["message"], health(hub)["retry"]) == ("", None)
    channel.write_event(SourceState(NAME, "ended", 1, 1, message="it has been dead for an hour"))
    channel.write_event(End("end", 1, 1, 0))
    assert health(hub)["message"] == "it has been dead for an hour"
    assert not hub.health()["healthy"], "a camera that has ended is dead"
    assert states(hub) == ["connecting", "live", "reconnecting", "live", "ended"]


def test_a_recording_is_live_with_its_first_frame_and_well_when_it_has_ended() -> None:
    hub = Hub()
    channel = hub.add("clip.mp4")
    channel.write_event(START)
    channel.write_frame(frame(0))
    assert (health(hub)["state"], health(hub)["live"]) == ("live", False)
    channel.write_event(Stats(NAME, 100, 0, 3, 0, 0, 50.0, None, None, 2.0))
    assert (health(hub)["frames"], health(hub)["decode_errors"], health(hub)["latency_p95"]) == (100, 3, None)
    channel.write_event(End("end", 120, 10, 3))
    assert (health(hub)["state"], health(hub)["reason"]) == ("ended", "end")
    assert hub.health()["healthy"]


def test_a_recording_that_failed_is_not_well() -> None:
    hub = Hub()
    channel = hub.add("clip.mp4")
    channel.write_frame(frame(0))
    channel.write_event(End("error", 1, 1, 0, message="clip.mp4: the rest is damaged"))
    assert not hub.health()["healthy"]
    assert health(hub)["message"] == "clip.mp4: the rest is damaged"


def test_credentials_are_removed_from_whatever_is_shown() -> None:
    hub = Hub()
    channel = hub.add("rtsp://admin:hunter2@10.0.0.7/main?token=abcdef")
    channel.write_event(SourceState(NAME, "reconnecting", message="rtsp://admin:hunter2@10.0.0.7/ does not answer"))
    channel.write_event(End("error", 0, 0, 0, message="http://10.0.0.7/?password=hunter2 is gone"))
    told = "".join(message.content for message in hub.journal.after(0) or [])
    for text in (json.dumps(hub.snapshot()), told):
        for secret in ("admin", "hunter2", "abcdef"):
            assert secret not in text
        assert "rtsp://***@10.0.0.7/" in text


def test_of_each_stream_the_newest_scenes_are_kept() -> None:
    hub = Hub(keep=5)
    first, second = hub.add("a"), hub.add("b")
    for index in range(12):
        first.write_event(scene(index))
    second.write_event(scene(0))
    assert [kept.scene.index for kept in first.scenes()] == [7, 8, 9, 10, 11]
    assert [(kept.stream, kept.scene.index) for kept in hub.scenes()] == [(0, i) for i in range(7, 12)] + [(1, 0)]
    assert first.scene(6) is None
    kept = first.scene(8)
    assert kept is not None
    assert kept.scene.picture is None, "the thumbnail is smaller"
    assert kept.thumbnail is not None
    assert Image.open(io.BytesIO(kept.thumbnail)).size == (64, 48)


def test_what_was_kept_stays_when_the_stream_has_ended() -> None:
    hub = Hub()
    channel = hub.add("a")
    channel.write_frame(frame(0))
    channel.write_event(scene(0))
    channel.close()
    assert channel.scene(0) is not None
    assert channel.newest_picture.get() is not None


def test_a_picture_is_made_when_somebody_looks_and_once_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    make = pictures.small_jpeg

    def counted(image: Any, edge: int) -> bytes:
        made.append(edge)
        return make(image, edge)

    monkeypatch.setattr(pictures, "small_jpeg", counted)
    monkeypatch.setattr(pictures, "SHORTEST_INTERVAL", 0.0)
    newest = Hub().add("a").newest_picture
    assert newest.get() is None
    for number in range(100):
        newest.put(frame(number, 1600, 900))
    assert made == [], "nobody has looked"
    first = newest.get()
    assert first is not None
    assert (first.frame, first.time) == (99, 3.96)
    assert Image.open(io.BytesIO(first.jpeg)).size == (PICTURE_EDGE, PICTURE_EDGE * 9 // 16)
    assert newest.get() is first
    assert newest.get(first.number) is None, "there is none that is newer"
    newest.put(frame(100))
    second = newest.get(first.number)
    assert second is not None
    assert second.number > first.number
    assert Image.open(io.BytesIO(second.jpeg)).size == (64, 48), "small pictures are not blown up"
    assert len(made) == 2


def test_many_who_look_cost_no_more_than_the_rate_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "SHORTEST_INTERVAL", 3600.0)
    newest = Hub().add("a").newest_picture
    newest.put(frame(0))
    first = newest.get()
    newest.put(frame(1))
    assert newest.get() is first


def test_thumbnails_are_small() -> None:
    hub = Hub()
    channel = hub.add("a")
    jpeg = pictures.small_jpeg(frame(0, 1280, 720).image, THUMBNAIL_EDGE)
    assert Image.open(io.BytesIO(jpeg)).size == (THUMBNAIL_EDGE, 180)
    channel.close()
