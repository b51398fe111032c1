"""A thread that makes things ahead of the one that consumes them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

POLL_SECONDS = 0.1
"""How often a waiting thread looks whether it is to stop."""

Item = TypeVar("Item")


class _Failure:
    """An exception on its way from the thread to the consumer."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Worker(Generic[Item]):
    """A daemon thread that runs a generator.

    Args:
        name: Of the thread.
        generate: Makes the generator, whose items are handed on in order.
        ahead: How many items may be ready before they are asked for. 0 makes one only when the consumer waits for it,
            so that it is as new as can be.
        stop: Ends everything when it is set.
    """

    def __init__(self, name: str, generate: Callable[[], Iterator[Item]], ahead: int, stop: threading.Event) -> None:
        self._generate = generate
        self._stop = stop
        self._wanted = threading.Semaphore(ahead)
        self._queue: queue.SimpleQueue[Item | _Failure | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    def join(self, seconds: float) -> None:
        """Wait for the thread to end."""
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(seconds)

    def items(self) -> Iterator[Item | None]:
        """What the thread makes, until it is done or the stop; raises what it raised.

        Each `POLL_SECONDS` without anything there is a None, so that the consumer can do something else.
        """
        self._wanted.release()
        while not self._stop.is_set():
            try:
                item = self._queue.get(timeout=POLL_SECONDS)
            except queue.Empty:
                yield None
                continue
            if item is None:
                return
            if isinstance(item, _Failure):
                if self._stop.is_set():  # what fails because it is being closed
                    return
                raise item.error
            yield item
            self._wanted.release()

    def _work(self) -> None:
        try:
            generator = self._generate()
            while self._is_wanted():
                item = next(generator, None)
                self._queue.put(item)
                if item is None:
                    return
        except BaseException as error:
            self._queue.put(_Failure(error))

    def _is_wanted(self) -> bool:
        """Wait for a request; False when the stop comes first."""
        while not self._stop.is_set():
            if self._wanted.acquire(timeout=POLL_SECONDS):
                return True
        return False
