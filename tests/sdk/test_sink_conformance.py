"""What every sink must do. A new sink is one that passes this; add it to `SINKS`, or to `NETWORK` if it has no file."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from vsdk.events import End, Event, Mask, MemoryUpdate, Scene, SourceState, Start, Stats
from vsdk.frame import Frame
from vsdk.serving.server import LivePage
from vsdk.sinks.annotated_video import AnnotatedVideo
from vsdk.sinks.base import Sink
from vsdk.sinks.contact_sheet import ContactSheet
from vsdk.sinks.features import FeaturesFile
from vsdk.sinks.jsonl import JsonLines
from vsdk.sinks.metrics import Metrics
from vsdk.sinks.mqtt import Mqtt
from vsdk.sinks.rotating_jsonl import RotatingJsonLines
from vsdk.sinks.rotation import Rotation
from vsdk.sinks.tracked_video import TrackedVideo
from vsdk.tracking.tracked import TrackedObject
from vsdk_runtimes.errors import ClosedError, SinkError


def lines_in(path: Path) -> int:
    text = path.read_text("utf-8")
    assert text == "" or text.endswith("\n")
    return len([json.loads(line) for line in text.splitlines()])


def pictures_in(path: Path) -> int:
    with Image.open(path) as image:
        image.load()
    return 1


def frames_in(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


@contextlib.contextmanager
def published(tmp_path: Path) -> Iterator[tuple[Sink, str]]:
    from mqtt_broker import TestBroker  # here, because the processes below need no broker

    broker = TestBroker(tmp_path)
    yield Mqtt(broker.url(), "cam"), f"mqtt://127.0.0.1:{broker.port}/test"
    broker.stop()


@contextlib.contextmanager
def measured(tmp_path: Path) -> Iterator[tuple[Sink, str]]:
    metrics = Metrics(0)
    yield metrics, f"127.0.0.1:{metrics.port}"


@contextlib.contextmanager
def watched(tmp_path: Path) -> Iterator[tuple[Sink, str]]:
    with LivePage(port=0) as page:
        yield page.add("door"), "door"


NETWORK = {"mqtt": published, "metrics": measured, "page": watched}
"""Sinks without a file: how one is opened, and what its errors call it."""


def features_in(path: Path) -> int:
    with np.load(path) as content:
        return len(content["cls"])


def rows_in(path: Path) -> int:
    return len(np.load(path.with_name(path.name + ".rows.npy")))


@dataclass(frozen=True)
class Case:
    """One sink, and how to count what is in its file: closed, and after it was cut off (None: there is no file).

    `continues` says that the sink goes on with a file that it finds, instead of replacing it.
    """

    make: Callable[[str | os.PathLike[str]], Sink]
    name: str
    count: Callable[[Path], int]
    count_unfinished: Callable[[Path], int] | None
    continues: bool = False


def rotating(path: str | os.PathLike[str]) -> Sink:
    return RotatingJsonLines(path, Rotation(size=10**9))


SINKS = {
    "jsonl": Case(JsonLines, "events.jsonl", lines_in, lines_in),
    "rotating": Case(rotating, "events.jsonl", lines_in, lines_in, continues=True),
    "sheet": Case(ContactSheet, "sheet.png", pictures_in, None),
    "video": Case(AnnotatedVideo, "video.mp4", frames_in, frames_in),
    "tracked": Case(TrackedVideo, "tracked.mp4", frames_in, frames_in),
    "features": Case(FeaturesFile, "features.npz", features_in, rows_in),
}

PICTURE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def feed(sink: Sink, events: int = 3) -> None:
    """A start, then scenes of ten frames with a tracked object, as a stream would hand them over."""
    sink.write_event(Start("clip.mp4", "nano", "0" * 64, "onnxruntime on cpu, fp32"))
    for index in range(events - 1):
        for number in range(index * 10, index * 10 + 10):
            if sink.wants_frames:
                sink.write_frame(Frame(PICTURE, number, Fraction(number, 25), number, Fraction(1, 25), 0))
            if isinstance(sink, FeaturesFile):
                sink.write_features(number, number / 25, np.ones(8, np.float32), number % 2 == 0)
            sink.write_event(mask(number))
        sink.write_event(scene(index))


def mask(number: int) -> Mask:
    return TrackedObject(1, PICTURE[..., 0] > 200, 0.9, 0.99, True).event(number, number / 25)


def scene(index: int) -> Event:
    return Scene(index, index * 10, index * 10 + 9, index * 0.4, index * 0.4 + 0.4, 1.0, None, PICTURE)


@pytest.fixture(params=SINKS, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    return SINKS[request.param]


@pytest.fixture(params=[*SINKS, *NETWORK], ids=str)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Sink, str]]:
    """Any sink, with or without a file, and what its errors call it."""
    if request.param in SINKS:
        case = SINKS[request.param]
        yield case.make(tmp_path / case.name), case.name
    else:
        with NETWORK[request.param](tmp_path) as sink_and_name:
            yield sink_and_name


def test_a_place_that_cannot_be_written_is_refused_at_once(case: Case, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    missing = tmp_path / "missing" / "folder" / case.name
    for path in (missing, tmp_path, file / case.name, tmp_path / ("x" * 300)):
        with pytest.raises(SinkError, match="cannot write") as caught:
            case.make(path)
        assert str(path) in str(caught.value)
        assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(SinkError, match=f"mkdir -p {missing.parent}"):
        case.make(missing)
    assert sorted(tmp_path.iterdir()) == [file]


def test_closing_finishes_the_file_and_may_be_repeated(case: Case, tmp_path: Path) -> None:
    path = tmp_path / case.name
    sink = case.make(path)
    feed(sink)
    sink.write_event(End("end", 20, 10, 2))
    sink.close()
    content = path.read_bytes()
    assert case.count(path) > 0
    sink.close()
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path], "nothing else is left behind"


def test_after_closing_nothing_is_taken(opened: tuple[Sink, str]) -> None:
    sink, name = opened
    feed(sink)
    sink.write_event(End("end", 20, 10, 2))
    sink.close()
    sink.close()
    with pytest.raises(ClosedError, match=name):
        sink.write_event(scene(0))
    if sink.wants_frames:
        with pytest.raises(ClosedError, match=name):
            sink.write_frame(Frame(PICTURE, 0, Fraction(0), 0, Fraction(1, 25), 0))


def test_a_context_manager_that_keeps_what_came_before_an_error(case: Case, tmp_path: Path) -> None:
    path = tmp_path / case.name
    with pytest.raises(RuntimeError, match="elsewhere"), case.make(path) as sink:  # noqa: PT012
        feed(sink)
        raise RuntimeError("something elsewhere")
    assert case.count(path) > 0
    with pytest.raises(ClosedError):
        sink.write_event(scene(2))


def test_an_older_file_is_replaced_or_gone_on_with(case: Case, tmp_path: Path) -> None:
    path = tmp_path / case.name
    if case.continues:
        with case.make(path) as sink:
            feed(sink)
        found = path.read_bytes()
        with case.make(path) as sink:
            feed(sink)
        assert path.read_bytes() == found + found
        return
    path.write_bytes(b"old" * 100_000)
    with case.make(path) as sink:
        feed(sink)
    assert case.count(path) > 0
    assert b"oldold" not in path.read_bytes()


def test_a_link_is_followed(case: Case, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / case.name
    link.symlink_to(tmp_path / "real" / case.name)
    with case.make(link) as sink:
        feed(sink)
    assert link.is_symlink()
    assert case.count(tmp_path / "real" / case.name) > 0


def test_every_event_is_taken_without_waiting(opened: tuple[Sink, str]) -> None:
    sink, _ = opened
    with sink:
        begin = time.monotonic()
        for event in (
            Start("cam", "nano", "", ""),
            SourceState("cam", "live"),
            Stats("cam", 1, 0, 0, 0, 0, 1.0, None, None, 1.0),
            scene(0),
            MemoryUpdate(0, 0, 1, 32),
            mask(0),
            End("closed", 1, 1, 1),
        ):
            sink.write_event(event)
        assert time.monotonic() - begin < 20


def test_a_sink_is_closed_when_its_block_ends(opened: tuple[Sink, str]) -> None:
    sink, name = opened
    with pytest.raises(RuntimeError, match="elsewhere"), sink:
        raise RuntimeError("something elsewhere")
    with pytest.raises(ClosedError, match=name):
        sink.write_event(scene(0))


def test_a_sink_may_be_closed_while_another_thread_writes(opened: tuple[Sink, str]) -> None:
    sink, _ = opened
    feed(sink)

    def close() -> None:
        with contextlib.suppress(SinkError):  # a broker may be slower than the thread that writes
            sink.close()

    closer = threading.Timer(0.05, close)
    closer.start()
    with pytest.raises(ClosedError):  # noqa: PT012
        for index in range(2, 1_000_000):
            sink.write_event(scene(index))
    closer.join()


def test_a_file_closed_from_another_thread_can_be_read(case: Case, tmp_path: Path) -> None:
    path = tmp_path / case.name
    sink = case.make(path)
    feed(sink)
    closer = threading.Timer(0.05, sink.close)
    closer.start()
    with pytest.raises(ClosedError):  # noqa: PT012
        for index in range(2, 100_000):
            if sink.wants_frames:
                sink.write_frame(Frame(PICTURE, index * 10, Fraction(index * 2, 5), 0, Fraction(1, 25), 0))
            sink.write_event(scene(index))
    closer.join()
    assert case.count(path) > 0


ENDLESS = """
    import resource, sys
    import numpy as np
    sys.path.insert(0, {folder!r})
    from test_sink_conformance import SINKS, Frame, Fraction, FeaturesFile, SinkError, Scene, PICTURE
    limit = {limit}
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    noise = np.random.default_rng(0).integers(0, 256, (20, 48, 64, 3), dtype=np.uint8)
    sink = SINKS[{kind!r}].make({path!r})
    try:
        for number in range(40_000):
            if sink.wants_frames:
                sink.write_frame(Frame(noise[number % 20], number, Fraction(number, 25), number, Fraction(1, 25), 0))
            elif isinstance(sink, FeaturesFile):
                sink.write_features(number, number / 25, np.ones(192, np.float32), True)
            else:
                sink.write_event(Scene(number, 0, 0, 0.0, 1.0, 1.0, None, noise[number % 20]))
        sink.close()
    except SinkError as error:
        print("SinkError", error, flush=True)
        try:
            sink.close()
        except SinkError:
            pass
        sys.exit(1)
"""


def start(kind: str, path: Path, limit: int = 0) -> subprocess.Popen[str]:
    code = textwrap.dedent(ENDLESS).format(folder=str(Path(__file__).parent), kind=kind, path=str(path), limit=limit)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("kind", SINKS)
def test_when_the_disk_is_full_it_says_so_and_what_was_written_stays_readable(kind: str, tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: writes are cut short and then refused in the same way."""
    case, path = SINKS[kind], tmp_path / SINKS[kind].name
    with start(kind, path, limit=2_000_000) as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert output.startswith(f"SinkError cannot write {path}: File too large")
    if case.count_unfinished is None:
        assert not path.exists()
    else:
        assert case.count_unfinished(path) > 10
    assert not list(tmp_path.glob(".*")), "no half-made file is left behind"


@pytest.mark.parametrize("kind", SINKS)
def test_a_killed_run_leaves_a_readable_file(kind: str, tmp_path: Path) -> None:
    case, path = SINKS[kind], tmp_path / SINKS[kind].name
    with start(kind, path) as process:
        deadline = time.monotonic() + 60
        while sum(file.stat().st_size for file in tmp_path.iterdir()) < 150_000 and case.count_unfinished is not None:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    if case.count_unfinished is None:
        assert not path.exists()
    else:
        assert case.count_unfinished(path) > 10
