"""The features file: what the encoder saw, for work with NumPy afterwards."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vsdk_runtimes.errors import InputError

from ..events import Event, Start
from .file_sink import FileSink, check_writable, replacing, sink_error


class FeaturesFile(FileSink):
    """Keeps the class token of every encoded frame in an `.npz` file.

    The file holds `frame` (int64 `[n]`), `time` (seconds, float64 `[n]`), `cls` (float32 `[n, width]`) and the strings
    `source`, `bundle` and `digest`; `numpy.load` reads it without pickle.

    It is written when the sink is closed, and appears whole. Until then rows go to `<path>.rows.npy` beside it, a
    structured array that `numpy.load` can read at every moment; it stays there when the run is killed, or when there
    is no room for the final file. Memory does not grow.

    Args:
        path: The `.npz` file, which is replaced.

    Raises:
        SinkError: The file cannot be written there.

    Example:
        ```python
        features = FeaturesFile("features.npz")
        with vsdk.Stream(bundle, "video.mp4", sinks=[features], on_features=features.write_features) as stream:
            ...
        ```
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        with self._failures_named():
            self._target = check_writable(self.path)
        self._rows: _Rows | None = None
        self._start: Start | None = None

    def write_features(self, frame_number: int, time: float, cls: npt.NDArray[np.float32], encoded: bool) -> None:
        """Take the features of one frame; those of frames that the gate spared are repetitions and are left out.

        Args:
            frame_number: The source's frame number.
            time: Seconds.
            cls: Class token, float32 `[width]`, always of the same width.
            encoded: Whether the frame went through the encoder.

        Raises:
            InputError: `cls` is of another type or shape.
            SinkError: It could not be written.
            ClosedError: The sink is closed.
        """
        with self._writing():
            width = self._rows.width if self._rows is not None else cls.size
            if cls.dtype != np.float32 or cls.shape != (width,) or width == 0:
                wanted = f"[{width}]" if width else "[width]"
                raise InputError(f"features must be float32 {wanted}, not {cls.dtype} {list(cls.shape)}")
            if encoded:
                if self._rows is None:
                    self._rows = _Rows(self._target.with_name(self._target.name + ".rows.npy"), width)
                self._rows.append(frame_number, time, cls)

    def _take_event(self, event: Event) -> None:
        if isinstance(event, Start):
            self._start = event

    def _finish(self) -> None:
        if self._rows is not None:
            self._rows.close()
            rows = np.load(self._rows.path, mmap_mode="r")
        else:
            rows = np.empty(0, _row_type(0))
        try:
            self._save(rows)
        except OSError as error:
            failure = sink_error(self.path, error)
            if self._rows is not None:
                failure.hint += f" The features so far are in {self._rows.path} (numpy.load)."
            raise failure from error
        if self._rows is not None:
            self._rows.path.unlink()

    def _save(self, rows: npt.NDArray[np.void]) -> None:
        start = self._start
        with replacing(self._target) as file:
            np.savez(
                file,
                frame=rows["frame"],
                time=rows["time"],
                cls=rows["cls"],
                source=np.array(start.source if start is not None else ""),
                bundle=np.array(start.bundle if start is not None else ""),
                digest=np.array(start.digest if start is not None else ""),
            )


def _row_type(width: int) -> np.dtype[np.void]:
    return np.dtype([("frame", "<i8"), ("time", "<f8"), ("cls", "<f4", (width,))])


class _Rows:
    """A growing `.npy` file of rows; its header counts them, so that it is valid after every row."""

    def __init__(self, path: Path, width: int) -> None:
        self.path = path
        self.width = width
        self._type = _row_type(width)
        self._count = 0
        self._file = path.open("wb", buffering=0)
        self._data_at = len(self._header())
        self._write(self._header(), 0)

    def append(self, frame: int, time: float, cls: npt.NDArray[np.float32]) -> None:
        row = np.array((frame, time, cls), self._type)
        self._write(row.tobytes(), self._data_at + self._count * self._type.itemsize)
        self._count += 1
        self._write(self._header(), 0)

    def close(self) -> None:
        self._file.close()

    def _header(self) -> bytes:
        """NumPy's header, which it pads so that its length stays the same when the first axis grows."""
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            buffer, {"descr": self._type.descr, "fortran_order": False, "shape": (self._count,)}
        )
        return buffer.getvalue()

    def _write(self, content: bytes, position: int) -> None:
        self._file.seek(position)
        while content:
            content = content[self._file.write(content) or 0 :]
