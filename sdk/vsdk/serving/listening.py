"""Server-Sent Events: what a browser that listens is sent."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator

from .hub import Hub

PULSE_SECONDS = 5.0
"""Something is sent at least so often, so that both sides notice when the other one is gone."""


class Listening:
    """Makes the events for each browser.

    A browser that comes back says which message it had last, and gets those after it; one that is new, was away for too
    long, or comes from an earlier run gets a snapshot first. A slow one holds back only its own coroutine.

    Args:
        hub: What there is to tell.
        abilities: What the page can do; part of every snapshot.

    Attributes:
        listeners: How many browsers listen.
    """

    def __init__(self, hub: Hub, abilities: dict[str, bool]) -> None:
        self.listeners = 0
        self._hub, self._abilities = hub, abilities

    async def events(self, seen: str) -> AsyncIterator[str]:
        """The events for one browser, as text/event-stream.

        Args:
            seen: Id of the last event that the browser has; empty if there is none.
        """
        journal = self._hub.journal
        number = self._number(seen)
        self.listeners += 1
        try:
            while not self._hub.closed:
                messages = None if number is None else journal.after(number)
                if messages is None:
                    number, snapshot = self._hub.snapshot()
                    yield self._event(number, "snapshot", json.dumps({**snapshot, "abilities": self._abilities}))
                elif not messages and number is not None:
                    await journal.wait(number, PULSE_SECONDS)
                    if journal.newest == number:
                        yield f"event: pulse\ndata: {time.time():.3f}\n\n"
                else:
                    number = messages[-1].number
                    yield "".join(self._event(each.number, each.kind, each.content) for each in messages)
        finally:
            self.listeners -= 1

    def _number(self, seen: str) -> int | None:
        """The number in an event's id, if it is of this run."""
        run, _, number = seen.partition("-")
        return int(number) if run == self._hub.run and number.isascii() and number.isdigit() else None

    def _event(self, number: int, kind: str, content: str) -> str:
        return f"id: {self._hub.run}-{number}\nevent: {kind}\ndata: {content}\n\n"
