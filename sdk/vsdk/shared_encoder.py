"""One encoder for several streams: what waits for it when it becomes free is encoded together.

Nobody waits for a batch to fill up. While the encoder is idle, a picture is encoded alone and at once; while it is
busy, pictures gather, and the next run takes all of them. So batches grow by themselves where the encoder is what
limits, and a stream that has nothing to encode, because its camera is dead or its picture still, is not missed.

Requests are served in the order in which they came, and a stream has one at a time: however fast a file is decoded, a
camera waits for the run that is going on and for its own.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from vsdk_runtimes import Bundle, Precision
from vsdk_runtimes.errors import InputError

from .encoder import Encoder, Features
from .frame import Image


class SharedEncoder(Encoder):
    """An encoder whose `encode` may be called from several threads; whoever finds it free encodes for all that wait.

    Args:
        bundle, device, engine, precision, threads, patches: As for `Encoder`.
        batch: Most pictures in one run, unless a single request has more.

    Raises:
        BundleSchemaError, EngineError: As for `Encoder`.
        InputError: `batch` is less than 1.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str = "cpu",
        engine: str = "onnxruntime",
        precision: Precision | None = None,
        threads: int | None = None,
        patches: bool = False,
        batch: int = 8,
    ) -> None:
        if batch < 1:
            raise InputError(f"batch must be at least 1, not {batch}")
        super().__init__(bundle, device=device, engine=engine, precision=precision, threads=threads, patches=patches)
        self.batch = batch
        self._changed = threading.Condition()  # guards what follows
        self._waiting: deque[_Request] = deque()
        self._busy = False

    def encode(self, pictures: Sequence[Image]) -> Features:
        """See `Encoder.encode`; returns when the pictures are encoded.

        Raises:
            InputError, EngineRunError: These pictures cannot be encoded; others that were to go with them are not hurt.
        """
        request = _Request(pictures)
        with self._changed:
            self._waiting.append(request)
            try:
                while not request.done:
                    if self._busy:
                        self._changed.wait()
                    else:
                        self._run_next()
            except BaseException:  # an interrupt of this thread
                if request in self._waiting:
                    self._waiting.remove(request)
                raise
        return request.result()

    def _run_next(self) -> None:
        """Encode what is to go next, in this thread, while others may come to wait."""
        taken = self._take()
        self._busy = True
        self._changed.release()
        try:
            self._run_together(taken)
        finally:
            self._changed.acquire()
            self._waiting.extendleft(request for request in reversed(taken) if not request.done)  # after an interrupt
            self._busy = False
            self._changed.notify_all()

    def _take(self) -> list[_Request]:
        """The oldest request, and those behind it that fit into one run with it, in their order."""
        taken = [self._waiting.popleft()]
        count, shape = len(taken[0].pictures), taken[0].shape
        for request in list(self._waiting):
            if request.shape == shape and count + len(request.pictures) <= self.batch:
                self._waiting.remove(request)
                taken.append(request)
                count += len(request.pictures)
        return taken

    def _run_together(self, requests: Sequence[_Request]) -> None:
        try:
            features = super().encode([picture for request in requests for picture in request.pictures])
        except Exception as error:
            if len(requests) == 1:
                requests[0].error = error
                return
            for request in requests:  # only whose pictures are at fault is to know of it
                self._run_together([request])
            return
        start = 0
        for request in requests:
            end = start + len(request.pictures)
            request.features = _part(features, start, end)
            start = end


class _Request:
    """Pictures of one stream, and what became of them."""

    def __init__(self, pictures: Sequence[Image]) -> None:
        self.pictures = pictures
        self.shape = pictures[0].shape if pictures else None
        self.features: Features | None = None
        self.error: Exception | None = None

    @property
    def done(self) -> bool:
        """Whether there is a result."""
        return self.features is not None or self.error is not None

    def result(self) -> Features:
        """The features; raises what went wrong."""
        if self.error is not None:
            raise self.error
        assert self.features is not None
        return self.features


def _part(features: Features, start: int, end: int) -> Features:
    """Those of the pictures from `start` to `end`, exclusive."""
    return Features(
        features.cls[start:end],
        None if features.embedding is None else features.embedding[start:end],
        None if features.patches is None else features.patches[start:end],
    )
