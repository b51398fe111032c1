"""The live source and its threads, with connections that do what the test says."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from live_tools import PATIENCE, Taken, wait_until

from vsdk.errors import ClosedError, SourceDeniedError, SourceEmptyError, SourceTimeoutError, SourceUnreadableError
from vsdk.events import SourceState
from vsdk.frame import Frame, Image
from vsdk.sources.capture import GRACE
from vsdk.sources.connection import Connection, Picture
from vsdk.sources.live import MOST_STUCK, MOST_UNCONVERTIBLE, LiveSource
from vsdk.sources.live_settings import LiveSettings
from vsdk.sources.mailbox import MOST_WAITING

SETTINGS = LiveSettings(
    connect_timeout=0.2, read_timeout=0.2, stall_after=0.1, first_delay=0.01, longest_delay=0.02, reconnect_for=60
)
END, STUCK = "end", "stuck"


class Scripted(Connection):
    """Gives what the test puts into it; with nothing there, it times out as a real one does."""

    frame_rate = Fraction(25)

    def __init__(self, *, finite: bool = False, read_timeout: float = 0.2) -> None:
        self.finite = finite
        self.script: queue.Queue[object] = queue.Queue()
        self.freed = threading.Event()  # ends being stuck
        self.threads = {threading.current_thread()}
        self.closed = threading.Event()
        self._stamp, self._read_timeout = itertools.count(0, 3600), read_timeout

    def show(self, count: int = 1, convert: Callable[[], Image] | None = None) -> None:
        for _ in range(count):
            pts = next(self._stamp)
            picture = lambda pts=pts: np.full((2, 4, 3), pts // 3600 % 256, np.uint8)  # noqa: E731
            self.script.put(Picture(4, 2, pts, Fraction(1, 90_000), time.monotonic_ns(), convert or picture, size=24))

    def receive(self) -> Sequence[Picture] | None:
        self.threads.add(threading.current_thread())
        try:
            item = self.script.get(timeout=self._read_timeout)
        except queue.Empty:
            raise SourceTimeoutError("camera: nothing arrived") from None
        if item is END:
            return None
        if item is STUCK:
            self.freed.wait(PATIENCE)
            return ()
        if isinstance(item, BaseException):
            raise item
        assert isinstance(item, Picture)
        return (item,)

    def close(self) -> None:
        self.threads.add(threading.current_thread())
        self.freed.set()
        self.closed.set()


class Scenario:
    """A live source whose connections the test makes."""

    def __init__(self, settings: LiveSettings = SETTINGS, *, patient: bool = True) -> None:
        self.made: list[Scripted] = []
        self.coming: queue.Queue[Scripted | BaseException | Callable[[], Scripted]] = queue.Queue()
        self._patient = patient
        self.source = LiveSource("camera", self._connect, settings)
        self.taken = Taken(self.source)
        self.taken.state("connecting")

    def next(self, **how: bool) -> Scripted:
        """The next connection; it waits long for what the test will put in."""
        connection = Scripted(read_timeout=PATIENCE if self._patient else 0.2, **how)
        self.coming.put(connection)
        return connection

    def close(self) -> None:
        for connection in self.made:
            connection.script.put(END)
            connection.freed.set()
        self.coming.put(SourceTimeoutError("camera: the test is over"))
        self.source.close()

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        self.close()

    def _connect(self) -> Connection:
        item = self.coming.get(timeout=PATIENCE)
        if isinstance(item, BaseException):
            raise item
        connection = item if isinstance(item, Scripted) else item()
        connection.threads = {threading.current_thread()}
        self.made.append(connection)
        return connection


@pytest.fixture
def scenario() -> Iterator[Scenario]:
    patient = replace(SETTINGS, connect_timeout=PATIENCE, read_timeout=PATIENCE)
    made = Scenario(patient)
    yield made
    made.close()


@pytest.fixture
def hasty() -> Iterator[Scenario]:
    made = Scenario(patient=False)
    yield made
    made.close()


def test_states_and_frames_come_in_the_order_in_which_they_happened(scenario: Scenario) -> None:
    first = scenario.next()
    first.show()
    assert scenario.taken.frame().number == 0
    first.script.put(SourceTimeoutError("camera: nothing arrived within 5 s"))
    second = scenario.next()
    second.show()
    assert scenario.taken.frame().number == 1
    second.script.put(END)
    third = scenario.next()
    third.show()
    scenario.taken.frame()
    told = [
        ("frame", item.number, item.generation)
        if isinstance(item, Frame)
        else (item.state, item.frame, item.generation, item.attempt, item.message)
        for item in scenario.taken.items
        if not (isinstance(item, SourceState) and item.state == "stalled")
    ]
    told = [item for n, item in enumerate(told) if n == 0 or item != told[n - 1]]
    assert told == [
        ("connecting", 0, 0, 1, ""),
        ("live", 0, 0, 0, ""),
        ("frame", 0, 0),
        ("reconnecting", 1, 0, 1, "nothing arrived within 5 s"),
        ("live", 1, 1, 0, ""),
        ("frame", 1, 1),
        ("reconnecting", 2, 1, 1, "the sender ended the stream"),
        ("live", 2, 2, 0, ""),
        ("frame", 2, 2),
    ]
    assert (scenario.source.reconnects, scenario.source.generation) == (2, 2)
    assert all(state.source == "camera" for state in scenario.taken.states)


def test_nothing_happens_before_somebody_reads() -> None:
    called = threading.Event()

    def connect() -> Connection:
        called.set()
        return Scripted()

    with LiveSource("camera", connect, SETTINGS) as source:
        assert not called.wait(0.1)
        state = source.take(PATIENCE)
        assert isinstance(state, SourceState)
        assert state.state == "connecting"
        assert called.wait(PATIENCE)
    LiveSource("camera", connect, SETTINGS).close()


def test_one_thread_makes_uses_and_closes_a_connection(scenario: Scenario) -> None:
    for _ in range(3):
        connection = scenario.next()
        connection.show(2)
        connection.script.put(END)
    scenario.taken.until(lambda item: isinstance(item, Frame) and item.generation == 2)
    scenario.source.close()
    for connection in scenario.made:
        assert connection.closed.wait(PATIENCE)
        assert len(connection.threads) == 1
    assert len({thread for connection in scenario.made for thread in connection.threads}) == 3


def test_the_latest_frame_is_given_and_drops_are_counted_exactly(scenario: Scenario) -> None:
    connection = scenario.next()
    connection.show()
    scenario.taken.frame()
    for count in range(1, 6):
        connection.show(7)
        wait_until(lambda count=count: scenario.source.dropped == 6 * count)  # type: ignore[misc]
        scenario.taken.frame()
    numbers = [frame.number for frame in scenario.taken.frames]
    assert numbers == [0, 7, 14, 21, 28, 35]
    assert [int(frame.image[0, 0, 0]) for frame in scenario.taken.frames] == numbers
    assert scenario.source.dropped == 30


def test_where_every_frame_counts_the_sender_is_held_back() -> None:
    scenario = Scenario(replace(SETTINGS, policy="every", read_timeout=PATIENCE))
    with scenario:
        connection = scenario.next()
        connection.show(3 * MOST_WAITING)
        wait_until(lambda: connection.script.qsize() <= 2 * MOST_WAITING - 1)
        time.sleep(0.3)  # longer than a stall
        assert connection.script.qsize() == 2 * MOST_WAITING - 1  # the mailbox is full, and one waits to get in
        scenario.taken.frame(3 * MOST_WAITING)
        assert [frame.number for frame in scenario.taken.frames] == list(range(3 * MOST_WAITING))
        assert scenario.source.dropped == 0
        assert {state.state for state in scenario.taken.states} <= {"connecting", "live"}


def test_silence_is_reported_and_then_ends_the_connection(hasty: Scenario) -> None:
    connection = hasty.next()
    connection.show()
    stalled = hasty.taken.state("stalled")
    assert (stalled.frame, stalled.generation) == (1, 0)
    lost = hasty.taken.state("reconnecting")
    assert (lost.attempt, lost.message) == (1, "nothing arrived")
    assert 0 < lost.wait < 0.1


def test_a_thread_that_is_stuck_is_replaced_and_not_heard_again(hasty: Scenario) -> None:
    stuck = hasty.next()
    stuck.show()
    hasty.taken.frame()
    stuck.script.put(STUCK)
    started = time.monotonic()
    lost = hasty.taken.state("reconnecting")
    assert "although it is connected" in lost.message
    assert time.monotonic() - started < SETTINGS.read_timeout + GRACE + 5
    healthy = hasty.next()
    healthy.show()
    assert hasty.taken.frame().generation == 1
    assert not stuck.closed.is_set()
    stuck.show(5)
    stuck.freed.set()  # the driver comes back
    assert stuck.closed.wait(PATIENCE)
    assert len(stuck.threads) == 1
    healthy.show()
    assert hasty.taken.frame().number == 2


def test_connecting_may_be_stuck_too(hasty: Scenario) -> None:
    freed = threading.Event()

    def stuck() -> Scripted:
        freed.wait(PATIENCE)
        return Scripted()

    hasty.coming.put(stuck)
    lost = hasty.taken.state("reconnecting")
    assert lost.attempt == 2
    hasty.next().show()
    hasty.taken.frame()
    freed.set()


@pytest.mark.timeout(120)
def test_stuck_threads_do_not_pile_up(hasty: Scenario) -> None:
    stuck = []
    for _ in range(MOST_STUCK):
        stuck.append(hasty.next())
        stuck[-1].script.put(STUCK)
        hasty.taken.state("reconnecting")
    lost = hasty.taken.until(lambda item: isinstance(item, SourceState) and "threads" in item.message)
    assert isinstance(lost, SourceState)
    assert f"{MOST_STUCK} threads" in lost.message
    assert len(hasty.made) == MOST_STUCK
    stuck[0].freed.set()
    hasty.next().show()
    hasty.taken.frame()


def test_packets_without_pictures_are_not_a_stream() -> None:
    settings = replace(SETTINGS, connect_timeout=0.1, read_timeout=0.1)
    scenario = Scenario(settings)

    class Empty(Scripted):
        def receive(self) -> Sequence[Picture] | None:
            time.sleep(0.01)
            return ()

    with scenario:
        scenario.coming.put(Empty())
        lost = scenario.taken.state("reconnecting")
        assert "no frame for" in lost.message
        assert scenario.made[0].closed.wait(PATIENCE)


def test_it_gives_up_with_the_last_error() -> None:
    scenario = Scenario(replace(SETTINGS, reconnect_for=0.3))
    with scenario:
        for number in range(200):
            scenario.coming.put(SourceTimeoutError(f"camera: try {number}"))
        with pytest.raises(SourceTimeoutError, match="try") as caught:
            scenario.taken.state("live")
        assert scenario.taken.states[-1].state == "ended"
        assert scenario.taken.states[-1].message in caught.value.message
        assert scenario.source.over
        assert [state.attempt for state in scenario.taken.states[:-1]] == list(range(1, len(scenario.taken.states)))
        with pytest.raises(SourceTimeoutError):
            scenario.source.read()


def test_a_refused_password_ends_it_at_once(scenario: Scenario) -> None:
    scenario.coming.put(SourceDeniedError("camera: 401 Unauthorized"))
    with pytest.raises(SourceDeniedError):
        scenario.taken.state("live")
    assert [state.state for state in scenario.taken.states] == ["connecting", "ended"]


def test_once_there_were_frames_even_that_is_tried_again(scenario: Scenario) -> None:
    connection = scenario.next()
    connection.show()
    connection.script.put(END)
    scenario.coming.put(SourceDeniedError("camera: 401 Unauthorized"))
    scenario.next().show()
    scenario.taken.until(lambda item: isinstance(item, Frame) and item.generation == 1)
    assert "401 Unauthorized" in {state.message for state in scenario.taken.states}


def test_a_sender_without_a_frame_is_an_error() -> None:
    scenario = Scenario(replace(SETTINGS, reconnect_for=0))
    with scenario:
        scenario.next().script.put(END)
        with pytest.raises(SourceEmptyError):
            scenario.source.read()


def test_without_reconnecting_the_end_is_the_end() -> None:
    scenario = Scenario(replace(SETTINGS, reconnect_for=0, policy="every"))
    with scenario:
        connection = scenario.next()
        connection.show(3)
        connection.script.put(END)
        assert [frame.number for frame in scenario.source] == [0, 1, 2]
        assert scenario.source.read() is None


def test_a_recording_is_read_to_its_end_once(scenario: Scenario) -> None:
    connection = scenario.next(finite=True)
    connection.show(40)
    connection.script.put(END)
    time.sleep(0.2)  # all of it is there before anybody reads
    assert [frame.number for frame in scenario.source] == list(range(40))
    assert scenario.source.dropped == 0


def test_a_mistake_is_raised_and_not_tried_again(scenario: Scenario) -> None:
    scenario.coming.put(ZeroDivisionError("a mistake"))
    with pytest.raises(ZeroDivisionError):
        scenario.source.read()


def test_pictures_that_cannot_be_converted(scenario: Scenario) -> None:
    def fail() -> Image:
        raise SourceUnreadableError("camera: a matrix that nobody knows")

    connection = scenario.next()
    for _ in range(3):
        connection.show(convert=fail)
        connection.show()
        scenario.taken.frame()
    assert scenario.source.decode_errors <= 3
    with pytest.raises(SourceUnreadableError):  # noqa: PT012
        for _ in range(10 * MOST_UNCONVERTIBLE):
            connection.show(convert=fail)
            scenario.source.take(0.2)


def test_frame_rates_above_the_limit_are_thinned_and_not_counted_as_drops() -> None:
    scenario = Scenario(replace(SETTINGS, policy="every", max_fps=5, read_timeout=PATIENCE))
    with scenario:
        connection = scenario.next()
        connection.show(51)  # two seconds
        scenario.taken.frame(11)
        frames = scenario.taken.frames
        assert [frame.number for frame in frames] == list(range(11))
        assert [frame.time for frame in frames] == [Fraction(number, 5) for number in range(11)]
        assert scenario.source.dropped == 0


def test_closing_wakes_the_reader_within_a_second(scenario: Scenario) -> None:
    scenario.next().show()
    scenario.taken.frame()
    raised: list[BaseException] = []

    def read() -> None:
        try:
            scenario.source.read()
        except BaseException as error:
            raised.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    time.sleep(0.1)
    started = time.monotonic()
    scenario.source.close()
    assert time.monotonic() - started < 1
    reader.join(PATIENCE)
    assert [type(error) for error in raised] == [ClosedError]
    scenario.source.close()
    with pytest.raises(ClosedError):
        scenario.source.take(0)


def test_closing_does_not_wait_for_a_stuck_thread(scenario: Scenario) -> None:
    connection = scenario.next()
    connection.show()
    scenario.taken.frame()
    connection.script.put(STUCK)
    time.sleep(0.05)
    started = time.monotonic()
    scenario.source.close()
    assert time.monotonic() - started < 1
    connection.freed.set()
    assert connection.closed.wait(PATIENCE)
