"""The queue of what is to be sent keeps its bound, its order and its count."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vsdk.sinks.outbox import Message, Outbox


def message(number: int, qos: int) -> Message:
    return Message(f"topic/{number}", b"", qos)


def drained(outbox: Outbox) -> list[Message]:
    found = []
    while (taken := outbox.take()) is not None:
        found.append(taken)
    return found


def test_what_needs_no_acknowledgement_makes_room_first() -> None:
    outbox = Outbox(3)
    messages = [message(0, 1), message(1, 0), message(2, 1), message(3, 1), message(4, 1)]
    for each in messages:
        outbox.put(each)
    assert outbox.dropped == 2
    assert drained(outbox) == [messages[2], messages[3], messages[4]]


def test_what_is_put_back_comes_first_unless_there_is_no_room() -> None:
    outbox = Outbox(2)
    first, second, third = (message(number, 1) for number in range(3))
    outbox.put(first)
    outbox.put(second)
    taken = outbox.take()
    assert taken is first
    outbox.put_back(taken)
    assert drained(outbox) == [first, second]
    for each in (second, third):
        outbox.put(each)
    outbox.put_back(first)
    assert outbox.dropped == 1
    assert drained(outbox) == [second, third]


@given(st.integers(1, 6), st.lists(st.one_of(st.sampled_from([0, 1]), st.none()), max_size=60))
def test_nothing_is_lost_without_being_counted(capacity: int, actions: list[int | None]) -> None:
    """Put a message of a quality, or take one (None): order stays, and what is missing was counted."""
    outbox = Outbox(capacity)
    put: list[Message] = []
    taken: list[Message] = []
    for number, action in enumerate(actions):
        if action is not None:
            put.append(message(number, action))
            outbox.put(put[-1])
        elif (found := outbox.take()) is not None:
            taken.append(found)
        assert len(outbox) <= capacity
    taken += drained(outbox)
    assert len(put) == len(taken) + outbox.dropped
    rest = iter(put)
    assert all(each in rest for each in taken), "in the order in which they were put"
