"""Test videos: written with real encoders, then perhaps damaged."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from vsdk.frame import Image

BITS = 8


def numbered(number: int, width: int = 96, height: int = 64) -> Image:
    """A grey picture that shows its number as black and white columns, the lowest bit on the left."""
    picture = np.full((height, width, 3), 128, np.uint8)
    for bit in range(BITS):
        picture[:, bit * width // BITS : (bit + 1) * width // BITS] = 235 if number >> bit & 1 else 20
    return picture


def number_of(image: Image) -> int:
    """The number that a picture of `numbered` shows."""
    row = image[image.shape[0] // 2].mean(axis=1)
    width = len(row)
    return sum(int(row[(2 * bit + 1) * width // (2 * BITS)] > 128) << bit for bit in range(BITS))


def textured(count: int, width: int = 160, height: int = 96, seed: int = 0) -> list[Image]:
    """Noise, every frame as hard to encode as the first, so that damage hits picture data all along the file."""
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(count)]


def write_video(
    path: Path,
    pictures: Iterable[Image | av.VideoFrame],
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rate: Fraction | int = 25,
    stamps: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    options: dict[str, str] | None = None,
    tags: dict[str, int] | None = None,
    metadata: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Encode pictures (RGB arrays, or frames already in `pix_fmt`) into a new file.

    Args:
        path: The file; its suffix chooses the container.
        pictures: RGB arrays or decoded frames, all of one size.
        codec: The encoder.
        pix_fmt: What it encodes.
        rate: Frames a second.
        stamps: Presentation times in units of `time_base`, for a variable frame rate.
        time_base: Seconds for each unit of `stamps`.
        options: The encoder's.
        tags: Attributes of the codec context, such as `colorspace` and `color_range`.
        metadata: Of the container.
        container_options: The muxer's.
    """
    with av.open(str(path), "w", options=container_options or {}) as container:
        container.metadata.update(metadata or {})
        stream: Any = container.add_stream(codec, rate=rate, options={"threads": "1", **(options or {})})
        for number, picture in enumerate(pictures):
            frame = picture if isinstance(picture, av.VideoFrame) else av.VideoFrame.from_ndarray(picture)
            if number == 0:
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, pix_fmt
                for name, value in (tags or {}).items():
                    setattr(stream.codec_context, name, value)
                if time_base is not None:
                    stream.codec_context.time_base = time_base
            if stamps is not None and time_base is not None:
                frame.pts, frame.time_base = stamps[number], time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_numbered(path: Path, count: int, width: int = 96, height: int = 64, **how: Any) -> Path:
    """A video of the pictures `numbered(0)` to `numbered(count - 1)`."""
    return write_video(path, (numbered(index, width, height) for index in range(count)), **how)


def from_planes(planes: Sequence[npt.NDArray[Any]], pix_fmt: str) -> av.VideoFrame:
    """A frame of exactly these samples, one array `[height, width]` a plane."""
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, pix_fmt)
    for plane, samples in zip(frame.planes, planes, strict=True):
        rows = np.zeros((plane.height, plane.line_size // samples.itemsize), samples.dtype)
        rows[:, : samples.shape[1]] = samples
        plane.update(rows.tobytes())
    return frame


def write_sound(path: Path, codec: str, seconds: float = 0.5) -> Path:
    """A file with a sound stream only."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=48000)
        for _ in range(int(seconds * 48000 / 1024)):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), format="s16", layout="mono")
            frame.sample_rate = 48000
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def flip_bits(data: bytes, rate: float, seed: int) -> bytes:
    """The bytes with about `rate` flipped bits a byte."""
    random = np.random.default_rng(seed)
    damaged = np.frombuffer(data, np.uint8).copy()
    count = max(1, int(len(damaged) * rate))
    damaged[random.integers(0, len(damaged), count)] ^= (1 << random.integers(0, 8, count)).astype(np.uint8)
    return damaged.tobytes()


def with_display_matrix(mp4: bytes, a: int, b: int, c: int, d: int) -> bytes:
    """An MP4 whose video track says that a point (x, y) is to be shown at (a x + c y, b x + d y)."""
    # ISO/IEC 14496-12, 8.3.2: a version 0 track header has its matrix 40 bytes after its type.
    at = mp4.index(b"tkhd") + 4 + 4 + 20 + 8 + 8
    one = 1 << 16
    matrix = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    return mp4[:at] + matrix + mp4[at + len(matrix) :]


def without_samples(mp4: bytes) -> bytes:
    """An MP4 whose tables of samples are empty: a video track without a single frame."""
    for table, count_at in ((b"stts", 8), (b"stsc", 8), (b"stco", 8), (b"stsz", 12), (b"stss", 8), (b"ctts", 8)):
        at = mp4.find(table)
        if at >= 0:
            mp4 = mp4[: at + count_at] + bytes(4) + mp4[at + count_at + 4 :]
    return mp4
