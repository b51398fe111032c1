"""The journal of the live page: numbered, bounded, and read by many at their own pace."""

from __future__ import annotations

import asyncio
import threading
import time

from hypothesis import given
from hypothesis import strategies as st

from vsdk.serving.journal import Journal


@given(capacity=st.integers(1, 20), written=st.integers(0, 60), read=st.integers(0, 80))
def test_a_reader_gets_all_that_is_newer_or_is_told_that_some_of_it_is_gone(
    capacity: int, written: int, read: int
) -> None:
    journal = Journal(capacity)
    for number in range(1, written + 1):
        journal.add("scene", str(number))
    assert journal.newest == written
    messages = journal.after(read)
    if read > written or written - read > capacity:
        assert messages is None
    else:
        assert messages is not None
        assert [message.number for message in messages] == list(range(read + 1, written + 1))
        assert [message.content for message in messages] == [str(message.number) for message in messages]


def test_readers_are_woken_by_what_other_threads_write() -> None:
    journal = Journal(100)
    count = 20

    async def read() -> list[str]:
        number, found = 0, []
        while number < count:
            await journal.wait(number, 60)
            for message in journal.after(number) or []:
                number = message.number
                found.append(message.content)
        return found

    async def read_thrice() -> list[list[str]]:
        return list(await asyncio.gather(read(), read(), read()))

    def write() -> None:
        for number in range(count):
            journal.add("scene", str(number))
            time.sleep(0.001)

    writer = threading.Thread(target=write)
    writer.start()
    before = time.monotonic()
    found = asyncio.run(read_thrice())
    writer.join()
    assert found == [[str(number) for number in range(count)]] * 3
    assert time.monotonic() - before < 50, "nobody waited for a time-out"


def test_what_was_written_before_a_reader_waits_wakes_it() -> None:
    journal = Journal(10)
    journal.add("scene", "0")
    asyncio.run(asyncio.wait_for(journal.wait(0, 1000), 60))


def test_writing_goes_on_when_the_readers_loop_is_gone() -> None:
    journal = Journal(10)
    asyncio.run(journal.wait(0, 0.01))
    for number in range(30):
        journal.add("scene", str(number))
    assert journal.newest == 30


def test_waiting_ends_by_itself() -> None:
    journal = Journal(10)
    asyncio.run(asyncio.wait_for(journal.wait(0, 0.05), 60))
