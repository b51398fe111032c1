"""What TensorRT says. It returns None where something failed, and says why to its logger."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import Error
from .api import ParserError, TensorRT

_MOST_KEPT = 50
_log = logging.getLogger("vsdk.tensorrt")


def make_logger(trt: TensorRT) -> Any:
    """A logger for TensorRT with the attribute `errors`: the last messages that were errors, oldest first."""
    base: Any = trt.ILogger

    class Messages(base):  # type: ignore[misc]  # the class to derive from is known only when TensorRT is loaded
        def __init__(self) -> None:
            base.__init__(self)
            self.errors: deque[str] = deque(maxlen=_MOST_KEPT)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(message)
            elif severity == trt.ILogger.WARNING:
                _log.debug("TensorRT warns: %s", message)

    return Messages()


@contextmanager
def mapped_errors(doing: str, kind: type[Error], logger: Any) -> Iterator[None]:
    """Turn whatever TensorRT's bindings raise into `kind`, with what was logged before.

    They mostly return None, but a builder or runtime that cannot be made is a TypeError, and a wrong argument too.
    """
    try:
        yield
    except Error:
        raise
    except Exception as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        logged = f"; {last_words(logger.errors)}" if logger.errors else ""
        raise kind(f"{doing}: {first_line}{logged}") from error


def last_words(messages: Iterable[str]) -> str:
    """The errors in one sentence; TensorRT repeats itself, so each is said once."""
    return "; ".join(dict.fromkeys(message.strip() for message in messages)) or "it does not say why"


def describe(error: ParserError) -> str:
    """What the parser has against a node, on one line."""
    where = f"{error.node_operator()} {error.node_name()}".strip() or "the graph"
    return f"{where}: {' '.join(error.desc().split())}"
