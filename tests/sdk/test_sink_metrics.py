"""Metrics: what Prometheus reads over loopback, checked with its own parser."""

from __future__ import annotations

import socket
import threading
import time
import typing
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families
from video_tools import textured

import vsdk
from vsdk.events import End, Event, Scene, SourceState, Start, Stats
from vsdk.sinks.metrics import Metrics, parse_address
from vsdk.sinks.metrics_page import STATES
from vsdk_runtimes.errors import ClosedError, InputError, SinkError

NAME = "rtsp://***@10.0.0.7/main"
START = Start(NAME, "nano", "0" * 64, "onnxruntime 1.32 on cpu, fp32")
STATS = Stats(NAME, 300, 12, 3, 2, 4, 14.9, 0.05, 0.125, 20.0)

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


BROWSER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def read(port: int) -> str:
    with BROWSER.open(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        return str(answer.read().decode())


def scrape(port: int) -> Samples:
    """Every sample by its name and labels other than the source."""
    found: Samples = {}
    for family in text_string_to_metric_families(read(port)):
        assert family.documentation
        for sample in family.samples:
            labels = tuple(sorted((key, value) for key, value in sample.labels.items() if key != "source"))
            assert (sample.name, labels) not in found, "no sample is there twice"
            found[sample.name, labels] = sample.value
    return found


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, tuple(sorted(labels.items()))))


def test_every_event_shows_in_the_numbers() -> None:
    with Metrics(0) as metrics:
        assert scrape(metrics.port) == {}
        metrics.write_event(START)
        metrics.write_event(SourceState(NAME, "connecting", attempt=1))
        assert value(scrape(metrics.port), "vsdk_source_state", state="connecting") == 1
        for event in (SourceState(NAME, "live"), Scene(0, 0, 9, 0.0, 1.0), Scene(1, 10, 19, 1.0, 2.0), STATS):
            metrics.write_event(event)
        expected: Samples = {
            ("vsdk_frames_total", ()): 300,
            ("vsdk_frames_dropped_total", ()): 12,
            ("vsdk_decode_errors_total", ()): 3,
            ("vsdk_reconnects_total", ()): 2,
            ("vsdk_scenes_total", ()): 2,
            ("vsdk_generation", ()): 4,
            ("vsdk_frames_per_second", ()): 14.9,
            ("vsdk_latency_seconds", (("quantile", "0.5"),)): 0.05,
            ("vsdk_latency_seconds", (("quantile", "0.95"),)): 0.125,
            ("vsdk_stream_info", (("bundle", "nano"), ("engine", START.engine))): 1,
        }
        for state in STATES:
            expected["vsdk_source_state", (("state", state),)] = float(state == "live")
        assert scrape(metrics.port) == expected
        metrics.write_event(SourceState(NAME, "stalled", generation=5))
        samples = scrape(metrics.port)
        assert value(samples, "vsdk_source_state", state="stalled") == 1
        assert value(samples, "vsdk_source_state", state="live") == 0
        assert value(samples, "vsdk_generation") == 5
        metrics.write_event(End("end", 310, 100, 3, 4))
        samples = scrape(metrics.port)
        assert value(samples, "vsdk_frames_total") == 310
        assert value(samples, "vsdk_frames_encoded_total") == 100
        assert value(samples, "vsdk_scenes_total") == 3
        assert value(samples, "vsdk_decode_errors_total") == 4
        assert value(samples, "vsdk_source_state", state="ended") == 1


def test_the_states_are_those_of_the_event() -> None:
    assert typing.get_args(typing.get_type_hints(SourceState)["state"]) == STATES


def test_frames_are_counted_between_the_events_and_their_age_is_known() -> None:
    with Metrics(0) as metrics:
        metrics.write_event(START)
        samples = scrape(metrics.port)
        assert value(samples, "vsdk_last_frame_age_seconds") is None
        assert value(samples, "vsdk_source_state", state="connecting") == 1
        before = time.monotonic()
        for number in range(5):
            metrics.take_frame(number, number / 25)
            metrics.take_features(number, number / 25, None, number % 2 == 0)
        samples = scrape(metrics.port)
        age = value(samples, "vsdk_last_frame_age_seconds")
        assert age is not None
        assert 0 <= age <= time.monotonic() - before
        assert value(samples, "vsdk_source_state", state="live") == 1
        assert value(samples, "vsdk_frames_total") == 5
        assert value(samples, "vsdk_frames_encoded_total") == 3
        later = value(scrape(metrics.port), "vsdk_last_frame_age_seconds")
        assert later is not None
        assert later > age


def test_a_stream_fills_the_numbers_that_a_recording_has() -> None:
    metrics = Metrics(0)
    with vsdk.Stream(
        None,
        textured(40),
        memory=False,
        sinks=[metrics],
        on_frame=metrics.take_frame,
        on_features=metrics.take_features,
    ) as stream:
        end = next(event for event in stream if isinstance(event, End))
        samples = scrape(metrics.port)
    assert value(samples, "vsdk_frames_total") == end.frames == 40
    assert value(samples, "vsdk_frames_encoded_total") == end.encoded
    assert value(samples, "vsdk_scenes_total") == end.scenes
    with pytest.raises(OSError, match="refused"):
        read(metrics.port)


@pytest.mark.parametrize(
    "name",
    ["rtsp://admin:hunter2@10.0.0.7/main", "rtsp://10.0.0.7/main?password=hunter2", "http://a:hunter2/x@b@cam/"],
)
def test_credentials_never_appear(name: str) -> None:
    """Events come without them; a label from anywhere else is redacted, too."""
    with Metrics(0) as metrics:
        metrics.of(name).write_event(Stats(name, 1, 0, 0, 0, 0, 1.0, None, None, 1.0))
        metrics.write_event(Start(name, "nano", "", ""))
        text = read(metrics.port)
        assert "vsdk_frames_total" in text
        assert "hunter2" not in text
        with pytest.raises(InputError) as caught:
            metrics.of(name)
        assert "hunter2" not in str(caught.value)


def test_a_name_of_any_characters_is_a_label() -> None:
    name = 'été "cam"\\1\nback'
    with Metrics(0) as metrics:
        metrics.write_event(Start(name, "nano", "", ""))
        families = list(text_string_to_metric_families(read(metrics.port)))
        assert {sample.labels["source"] for family in families for sample in family.samples} == {name}


def test_several_streams_share_a_port() -> None:
    with Metrics(0) as metrics:
        for number, name in enumerate(("door", "yard"), 1):
            metrics.of(name).write_event(Stats(name, number, 0, 0, 0, 0, 1.0, None, None, 1.0))
        families = text_string_to_metric_families(read(metrics.port))
        frames = next(family for family in families if family.name == "vsdk_frames")
        assert {sample.labels["source"]: sample.value for sample in frames.samples} == {"door": 1, "yard": 2}
        with pytest.raises(InputError, match="a source 'door' already"):
            metrics.of("door")


def test_a_stream_that_comes_back_takes_the_place_of_its_name() -> None:
    with Metrics(0) as metrics:
        first = metrics.of("door")
        first.write_event(Stats("door", 7, 0, 0, 0, 0, 1.0, None, None, 1.0))
        first.close()
        assert value(scrape(metrics.port), "vsdk_frames_total") == 7
        metrics.of("door").write_event(Stats("door", 1, 0, 0, 0, 0, 1.0, None, None, 1.0))
        assert value(scrape(metrics.port), "vsdk_frames_total") == 1


def test_streams_in_one_process_do_not_mix() -> None:
    with Metrics(0) as one, Metrics(0) as other:
        one.write_event(START)
        assert scrape(one.port)
        assert scrape(other.port) == {}


def test_a_port_in_use_is_an_error_that_names_it() -> None:
    with (
        Metrics(0) as metrics,
        pytest.raises(SinkError, match=f"127.0.0.1:{metrics.port}: Address already in use") as caught,
    ):
        Metrics(metrics.port)
    assert "Choose another port" in caught.value.hint


def test_a_host_of_another_machine_is_an_error() -> None:
    with pytest.raises(SinkError, match=r"cannot serve metrics at 192\.0\.2\.1:0: "):  # a network of examples
        Metrics("192.0.2.1:0")


def test_only_this_machine_can_connect_unless_told_otherwise() -> None:
    assert parse_address(9108) == parse_address("9108") == parse_address("127.0.0.1:9108") == ("127.0.0.1", 9108)
    assert parse_address("0.0.0.0:9108") == ("0.0.0.0", 9108)
    assert parse_address("[::1]:9108") == ("::1", 9108)
    with Metrics("0.0.0.0:0") as metrics:
        assert scrape(metrics.port) == {}


@pytest.mark.parametrize(
    "address", ["", "metrics", "99999", -1, "host:", "host:port", "::1:9108", ":9108", "1.5", "²", "user:hunter2@h:x"]
)
def test_anything_else_is_no_address(address: str | int) -> None:
    with pytest.raises(InputError, match="no address to listen on") as caught:
        Metrics(address)
    assert "hunter2" not in str(caught.value)


def test_closing_frees_the_port_within_a_second_although_a_client_is_silent() -> None:
    assert min(_seconds_to_close() for _ in range(3)) < 1  # the best of three, because the machine may be busy


def _seconds_to_close() -> float:
    metrics = Metrics(0)
    metrics.write_event(START)
    with socket.create_connection(("127.0.0.1", metrics.port)) as silent:
        silent.sendall(b"GET /metr")
        scrape(metrics.port)
        begin = time.monotonic()
        metrics.close()
        seconds = time.monotonic() - begin
        metrics.close()
        Metrics(metrics.port).close()
    with pytest.raises(ClosedError, match=f"metrics at 127.0.0.1:{metrics.port}"):
        metrics.write_event(START)
    return seconds


def test_nothing_is_left_behind() -> None:
    before = threading.active_count()
    for _ in range(5):
        with Metrics(0) as metrics:
            scrape(metrics.port)
    deadline = time.monotonic() + 10
    while threading.active_count() > before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_reading_while_events_come() -> None:
    with Metrics(0) as metrics:
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                for event in typing.cast(list[Event], [START, STATS, Scene(0, 0, 9, 0.0, 1.0)]):
                    metrics.write_event(event)
                metrics.take_frame(0, 0.0)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            counts = [value(scrape(metrics.port), "vsdk_scenes_total") or 0 for _ in range(20)]
        finally:
            stop.set()
            writer.join()
    assert counts == sorted(counts)


def test_a_page_opens_in_a_browser_and_refuses_to_be_written() -> None:
    with Metrics(0) as metrics:
        metrics.write_event(START)
        request = urllib.request.Request(f"http://127.0.0.1:{metrics.port}/", data=b"x")
        with pytest.raises(urllib.error.HTTPError, match="405"):
            BROWSER.open(request, timeout=10)


def test_streams_fill_the_numbers_of_their_names() -> None:
    metrics = Metrics(0)
    numbers = {name: metrics.of(name) for name in ("door", "yard")}
    with (
        metrics,
        vsdk.Streams(
            None,
            {"door": textured(10), "yard": textured(20)},
            memory=False,
            sinks=lambda name: [numbers[name]],
            on_frame=lambda name, number, seconds: numbers[name].take_frame(number, seconds),
            on_features=lambda name, *features: numbers[name].take_features(*features),
        ) as streams,
    ):
        ends = {name: event for name, event in streams if isinstance(event, End)}
        families = {family.name: family for family in text_string_to_metric_families(read(metrics.port))}
    for family, attribute in (("vsdk_frames", "frames"), ("vsdk_frames_encoded", "encoded"), ("vsdk_scenes", "scenes")):
        counts = {sample.labels["source"]: sample.value for sample in families[family].samples}
        assert counts == {name: getattr(end, attribute) for name, end in ends.items()}
    assert {name: end.frames for name, end in ends.items()} == {"door": 10, "yard": 20}
