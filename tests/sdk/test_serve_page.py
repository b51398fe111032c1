"""The live page over real HTTP: pictures, scenes, events and their replay, searches, health; and how it ends."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clip_server import ClipServer
from live_tools import QUICK, wait_until
from PIL import Image
from serve_tools import PATIENCE, Answer, Listener, ask, frame, scene
from test_stream import pictures
from video_tools import write_video

import vsdk
from vsdk.events import End, SourceState, Stats
from vsdk.serving import api, listening
from vsdk.serving.api import MOST_THROWN_AWAY
from vsdk.serving.hub import JOURNAL
from vsdk.serving.server import LivePage
from vsdk.serving.uploads import MOST_BYTES

LENGTHS = (40, 30, 35)
MANY = 5 * JOURNAL
"""Events that neither the journal nor the buffers of a narrow connection hold."""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scenes, H.264."""
    return write_video(tmp_path_factory.mktemp("serve") / "clip.mp4", pictures(LENGTHS), rate=25, options={"g": "10"})


@pytest.fixture(scope="module")
def watched(clip: Path) -> Iterator[LivePage]:
    """A page on which two recordings, the clip and the clip, have been read to their end."""
    with LivePage(port=0) as page:
        with vsdk.Streams(None, [clip, clip], memory=False, sinks=lambda name: [page.add(name)]) as streams:
            for _ in streams:
                pass
        yield page


@pytest.fixture
def page() -> Iterator[LivePage]:
    """A page without streams."""
    with LivePage(port=0) as page:
        yield page


def jpeg(image: vsdk.Frame | np.ndarray[Any, Any], form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(image)).save(buffer, form)
    return buffer.getvalue()


def health(page: LivePage) -> list[dict[str, Any]]:
    return list(ask(page, "/api/health").json["streams"])


def found(answer: Answer) -> list[tuple[int, int]]:
    assert answer.status == 200, answer.body
    scores = [each["score"] for each in answer.json["scenes"]]
    assert scores == sorted(scores, reverse=True)
    return [(each["stream"], each["index"]) for each in answer.json["scenes"]]


def test_the_newest_picture(watched: LivePage) -> None:
    answer = ask(watched, "/api/streams/0/picture")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "image/jpeg")
    assert answer.headers["Vsdk-Frame"] == str(sum(LENGTHS) - 1)
    assert float(answer.headers["Vsdk-Time"]) == pytest.approx((sum(LENGTHS) - 1) / 25, abs=0.001)
    last = list(pictures(LENGTHS))[-1]
    shown = np.asarray(Image.open(io.BytesIO(answer.body)))
    assert shown.shape == last.shape
    assert np.abs(shown.astype(int) - last).mean() < 25
    number = answer.headers["Vsdk-Picture"]
    later = ask(watched, f"/api/streams/0/picture?after={number}")
    assert (later.status, later.body) == (204, b"")


def test_scenes_and_their_thumbnails(watched: LivePage) -> None:
    answer = ask(watched, "/api/streams/0/scenes")
    scenes = answer.json["scenes"]
    assert [each["index"] for each in scenes] == [0, 1, 2]
    assert [each["start_frame"] for each in scenes] == [0, 40, 70]
    assert scenes[-1]["end"] == pytest.approx(sum(LENGTHS) / 25)
    places = list(pictures(LENGTHS))
    for each in scenes:
        middle = places[(each["start_frame"] + each["end_frame"]) // 2]
        thumbnail = np.asarray(
            Image.open(io.BytesIO(ask(watched, f"/api/streams/0/scenes/{each['index']}/picture").body))
        )
        assert np.abs(thumbnail.mean((0, 1)) - middle.mean((0, 1))).max() < 30


@pytest.mark.parametrize("place", range(len(LENGTHS)))
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_search_by_picture_finds_the_scene_of_both_streams(watched: LivePage, place: int, form: str) -> None:
    example = list(pictures(LENGTHS))[sum(LENGTHS[:place]) + 11]
    answer = ask(watched, "/api/search", "POST", jpeg(example, form))
    assert sorted(found(answer)[:2]) == [(0, place), (1, place)]
    assert len(found(answer)) == 6
    best, _, third = answer.json["scenes"][:3]
    assert 0.5 < best["score"] <= 1.0001
    assert third["score"] < best["score"]
    assert best["start_frame"] <= best["frame"] <= best["end_frame"]
    assert len(found(ask(watched, "/api/search?top=1", "POST", jpeg(example, form)))) == 1


@pytest.mark.parametrize("place", range(len(LENGTHS)))
def test_a_search_by_scene_finds_its_twin(watched: LivePage, place: int) -> None:
    hits = found(ask(watched, f"/api/search?stream=0&scene={place}"))
    assert hits[0] == (1, place)
    assert (0, place) not in hits


def test_a_bundle_without_a_text_tower_does_not_search_by_words(watched: LivePage) -> None:
    answer = ask(watched, "/api/search?words=a+red+car")
    assert answer.status == 400
    assert "no text tower" in answer.json["error"]
    assert answer.json["hint"]


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/api/streams/2/picture", 404, "no such stream"),
        ("/api/streams/2/scenes", 404, "no such stream"),
        ("/api/streams/0/scenes/3/picture", 404, "no such scene"),
        ("/api/streams/99999999999999999999/scenes/0/picture", 404, "no such stream"),
        ("/api/search?stream=0&scene=3", 404, "no such scene"),
        ("/api/search?stream=7&scene=0", 404, "no such stream"),
        ("/api/search?stream=0&scene=x", 400, "whole number"),
        ("/api/search?stream=-1&scene=0", 400, "whole number"),
        ("/api/search?stream=0&scene=0&top=0", 400, "top must be"),
        ("/api/search?stream=0&scene=0&top=51", 400, "top must be"),
        ("/api/streams/0/picture?after=x", 400, "whole number"),
    ],
)
def test_what_is_not_there_is_said(watched: LivePage, path: str, status: int, says: str) -> None:
    answer = ask(watched, path)
    assert answer.status == status
    assert says in answer.json["error"]


def test_uploads_are_limited(watched: LivePage) -> None:
    assert ask(watched, "/api/search", "POST", bytes(MOST_BYTES + 1)).status == 413
    assert ask(watched, "/api/search", "POST", None, Content_Length=str(MOST_THROWN_AWAY + 1)).status == 413
    pieces = iter([bytes(1_000_000)] * 20)
    assert ask(watched, "/api/search", "POST", pieces, Transfer_Encoding="chunked").status == 413
    for data in (b"", b"no picture", jpeg(np.zeros((40, 40, 3), np.uint8))[:60]):
        answer = ask(watched, "/api/search", "POST", data)
        assert answer.status == 400
        assert "picture" in answer.json["error"]
    assert ask(watched, "/api/health").status == 200


def test_a_slow_upload_is_given_up(watched: LivePage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "UPLOAD_SECONDS", 0.2)
    answer = ask(watched, "/api/search", "POST", None, Content_Length="1000")
    assert answer.status == 408


def test_a_browser_gets_what_is_there_then_what_happens(page: LivePage) -> None:
    door = page.add("door")
    door.write_event(scene(0))
    listener = Listener(page)
    snapshot = listener.next()
    assert snapshot.kind == "snapshot"
    assert [each["name"] for each in snapshot.content["streams"]] == ["door"]
    assert [each["index"] for each in snapshot.content["scenes"]] == [0]
    assert snapshot.content["abilities"] == {"words": False}
    door.write_event(scene(1))
    said = listener.until("scene")
    assert (said.content["stream"], said.content["index"]) == (0, 1)
    door.write_event(SourceState("door", "stalled", message="no frame for 2.0 s"))
    assert listener.until("stream", state="stalled").content["message"] == "no frame for 2.0 s"
    yard = page.add("yard")
    assert listener.until("stream", name="yard").content["stream"] == yard.number
    listener.close()


def test_a_browser_that_comes_back_gets_what_it_missed(page: LivePage) -> None:
    door = page.add("door")
    listener = Listener(page)
    listener.next()
    door.write_event(scene(0))
    seen = listener.until("scene", index=0).id
    listener.close()
    for index in range(1, 5):
        door.write_event(scene(index))
    again = Listener(page, seen)
    assert [again.next().content["index"] for _ in range(4)] == [1, 2, 3, 4]
    again.close()


@pytest.mark.parametrize("seen", ["", "x", "-", "-5", "other-1", "{run}-999999", "{run}-x", "{run}-1"])
def test_a_browser_that_was_away_too_long_or_is_new_gets_everything(page: LivePage, seen: str) -> None:
    door = page.add("door")
    listener = Listener(page)
    run = listener.next().id.partition("-")[0]
    listener.close()
    for number in range(JOURNAL + 10):
        door.write_event(Stats("door", number, 0, 0, 0, 0, 25.0, None, None, 1.0))
    again = Listener(page, seen.format(run=run))
    assert again.next().kind == "snapshot"
    again.close()


def test_a_browser_that_does_not_read_slows_nobody(page: LivePage) -> None:
    door = page.add("door")
    slow, quick = Listener(page, narrow=True), Listener(page)
    assert quick.next().kind == slow.next().kind == "snapshot"
    before = time.monotonic()
    for number in range(MANY):
        door.write_event(Stats("door", number, 0, 0, 0, 0, 25.0, None, None, 1.0))
    took = time.monotonic() - before
    door.write_event(scene(7))
    assert took < PATIENCE
    for listener in (quick, slow):  # gets what was on its way, then perhaps a new beginning, and the scene in any case
        while (said := listener.next()).kind == "stream" or (said.kind == "snapshot" and not said.content["scenes"]):
            pass
        assert (said.content if said.kind == "scene" else said.content["scenes"][0])["index"] == 7
        listener.close()


def test_too_many_listeners_are_refused(page: LivePage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "MOST_LISTENERS", 2)
    monkeypatch.setattr(listening, "PULSE_SECONDS", 0.1)
    first, second = Listener(page), Listener(page)
    first.next(), second.next()
    answer = ask(page, "/api/events")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    first.close()

    def has_room() -> bool:
        third = Listener(page)
        third.close()
        return third.status == 200

    wait_until(has_room)
    second.close()


def test_a_camera_that_dies_is_shown_as_dead_and_comes_back(page: LivePage, clip: Path) -> None:
    with (
        ClipServer(clip) as camera,
        vsdk.Streams(
            None, {"door": camera.url}, memory=False, live=QUICK, sinks=lambda name: [page.add(name)], stats_every=0.5
        ) as streams,
    ):
        running = threading.Thread(target=lambda: [None for _ in streams], daemon=True)
        running.start()
        wait_until(lambda: health(page)[0]["frames"] > 5)
        assert health(page)[0]["state"] == "live"
        assert health(page)[0]["live"]
        listener = Listener(page)
        before = time.time()
        camera.die()
        dead = listener.until("stream", state="reconnecting").content
        assert dead["since"] >= before - 1
        assert dead["message"]
        assert not ask(page, "/api/health").json["healthy"]
        assert ask(page, "/api/streams/0/picture").status == 200, "the last picture stays"
        camera.revive()
        assert listener.until("stream", state="live").content["since"] >= dead["since"]
        wait_until(lambda: ask(page, "/api/health").json["healthy"])
        listener.close()


def test_no_password_is_in_any_answer(page: LivePage, clip: Path) -> None:
    secrets = ("viewer", "hunter2", "s3cr3t")
    url = "http://viewer:hunter2@127.0.0.1:9/main?password=s3cr3t"  # nobody listens there
    with vsdk.Streams(None, [url], memory=False, live=QUICK, sinks=lambda name: [page.add(name)]) as streams:
        running = threading.Thread(target=lambda: [None for _ in streams], daemon=True)
        running.start()
        wait_until(lambda: bool(health(page)) and health(page)[0]["state"] == "reconnecting")
        listener = Listener(page)
        texts = [json.dumps(listener.next().content)]
        listener.close()
        for path in ("/", "/api/health", "/api/streams/0/scenes", "/api/streams/0/picture", "/api/search?words=x"):
            answer = ask(page, path)
            texts += [answer.body.decode("latin-1"), str(answer.headers)]
    texts.append(ask(page, "/api/health").body.decode())
    assert any("http://***@127.0.0.1:9/main" in text for text in texts)
    for text in texts:
        for secret in secrets:
            assert secret not in text


def test_frames_and_scenes_go_on_while_nobody_reads_pictures(page: LivePage) -> None:
    door = page.add("door")
    before = time.monotonic()
    for _ in range(2000):
        door.write_frame(frame(0))
    assert time.monotonic() - before < PATIENCE
    door.write_event(End("closed", 2000, 1, 0))
    assert ask(page, "/api/streams/0/picture").headers["Vsdk-Picture"] == "2000"


def test_a_browser_that_takes_nothing_does_not_hold_up_the_end(caplog: pytest.LogCaptureFixture) -> None:
    page = LivePage(port=0)
    door = page.add("door")
    stuck = Listener(page, narrow=True)
    for number in range(MANY):
        door.write_event(Stats("door", number, 0, 0, 0, 0, 25.0, None, None, 1.0))
    before = time.monotonic()
    page.close()
    assert time.monotonic() - before < 8, "a second or two, on a machine with time for it"
    assert caplog.text == ""
    stuck.close()


def test_closing_takes_a_second_or_two_and_leaves_nothing() -> None:
    threads = set(threading.enumerate())
    page = LivePage(port=0)
    page.add("door").write_frame(frame(0))
    listeners = [Listener(page) for _ in range(5)]
    for listener in listeners:
        listener.next()
    before = time.monotonic()
    page.close()
    assert time.monotonic() - before < 5, "a second or two, on a machine with time for it"
    page.close()
    wait_until(lambda: set(threading.enumerate()) <= threads)
    with pytest.raises(OSError, match="refused"):
        ask(page, "/")
    for listener in listeners:
        listener.close()
    with LivePage(port=page.port):
        pass
