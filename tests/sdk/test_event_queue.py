"""The queue between several streams and their consumer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_tools import PATIENCE, wait_until

from vsdk.event_queue import MOST_WAITING, EventQueue, Outlet
from vsdk.events import Event, Scene


def scene(number: int) -> Event:
    return Scene(number, 0, 0, 0.0, 0.0)


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def fill(outlet: Outlet, count: int) -> None:
    for number in range(count):
        outlet.write_event(scene(number))


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=60))
def test_events_come_out_in_the_order_in_which_they_went_in(steps: list[tuple[int, bool]]) -> None:
    queue = EventQueue()
    outlets = [queue.outlet(str(number)) for number in range(4)]
    put: list[tuple[str, int]] = []
    taken: list[tuple[str, int]] = []

    def take() -> bool:
        item = queue.take()
        if item is not None:
            assert isinstance(item.event, Scene)
            taken.append((item.stream, item.event.index))
        return item is not None

    for number, (which, takes) in enumerate(steps):
        if outlets[which].waiting < MOST_WAITING:
            outlets[which].write_event(scene(number))
            put.append((str(which), number))
        if takes and len(taken) < len(put):
            assert take()
    for outlet in outlets:
        outlet.end()
        outlet.end()
    while take():
        pass
    assert taken == put


def test_a_stream_waits_for_room_of_its_own() -> None:
    queue = EventQueue()
    full, other = queue.outlet("full"), queue.outlet("other")
    writer = in_thread(lambda: fill(full, MOST_WAITING + 3))
    wait_until(lambda: full.waiting == MOST_WAITING)
    fill(other, MOST_WAITING)  # does not wait
    assert full.waiting == MOST_WAITING
    seen = [queue.take() for _ in range(MOST_WAITING + 3 + MOST_WAITING)]
    writer.join(PATIENCE)
    names = [item.stream for item in seen if item is not None]
    assert (names.count("full"), names.count("other")) == (MOST_WAITING + 3, MOST_WAITING)


@pytest.mark.parametrize("how", ["hurry", "close"])
def test_a_stream_that_waits_for_room_is_let_go(how: str) -> None:
    queue = EventQueue()
    outlet = queue.outlet("full")
    writer = in_thread(lambda: fill(outlet, MOST_WAITING + 1))
    wait_until(lambda: outlet.waiting == MOST_WAITING)
    if how == "hurry":
        outlet.hurry()
    else:
        queue.close()
    writer.join(PATIENCE)
    assert not writer.is_alive()
    outlet.end()
    kept = 0
    while queue.take() is not None:
        kept += 1
    assert kept == (MOST_WAITING + 1 if how == "hurry" else 0)


@pytest.mark.parametrize("how", ["end", "close"])
def test_a_consumer_that_waits_is_let_go(how: str) -> None:
    queue = EventQueue()
    outlet = queue.outlet("only")
    taken: list[object] = []
    consumer = in_thread(lambda: taken.append(queue.take()))
    time.sleep(0.05)
    assert taken == []
    if how == "end":
        outlet.end()
    else:
        queue.close()
    consumer.join(PATIENCE)
    assert taken == [None]


def test_without_streams_there_is_nothing_to_wait_for() -> None:
    assert EventQueue().take() is None
