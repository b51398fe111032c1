"""Damage and nonsense for as long as one likes, in every place where sources take in what others wrote.

    python tests/sdk/fuzz_sources.py 30        # minutes

Each input is made from a seed, and tried in another process, so that a crash in native code is found like any other
failure. What is not a `vsdk.Error`, what takes longer than `LONGEST`, and a secret in a text end the run, with the seed
that does it again: `python tests/sdk/fuzz_sources.py --seed container 4711`.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import faulthandler
import io
import itertools
import logging
import random
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import av
from video_tools import flip_bits, textured, write_numbered, write_video

from vsdk.errors import Error
from vsdk.sources.addresses import parse_address
from vsdk.sources.camera_address import parse_camera_address
from vsdk.sources.credentials import redacted
from vsdk.sources.gst_pipeline import parse_pipeline
from vsdk.sources.opening import open_source
from vsdk.sources.piped_video import PipedVideo
from vsdk.sources.pixels import FORMATS
from vsdk.sources.raw_video import RawFormat, RawVideo

LONGEST = 60
"""Seconds for one input; the machine may be busy."""

BATCH_SECONDS = 20
"""How long a process lives."""

MOST_FRAMES = 200
SECRET = "s3cr3t"

# Inputs


def _corpus() -> list[bytes]:
    """Small videos of every container that can be written here."""
    clips = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for suffix, codec, pix_fmt in (
            ("y4m", "wrapped_avframe", "yuv420p"),
            ("y4m", "wrapped_avframe", "yuv444p"),
            ("ts", "libx264", "yuv420p"),
            ("mkv", "libx264", "yuv420p"),
            ("webm", "libvpx-vp9", "yuv420p"),
            ("avi", "mjpeg", "yuvj420p"),
            ("mov", "png", "rgb24"),
            ("flv", "libx264", "yuv420p"),
            ("h264", "libx264", "yuv420p"),
            ("mjpeg", "mjpeg", "yuvj420p"),
            ("gif", "gif", "rgb8"),
            ("nut", "ffv1", "yuv420p"),
        ):
            with contextlib.suppress(av.FFmpegError, ValueError):  # this build of PyAV has no such encoder
                path = folder / f"clip.{suffix}"
                clips.append(write_numbered(path, 6, 48, 32, codec=codec, pix_fmt=pix_fmt).read_bytes())
        options = {"movflags": "frag_keyframe+empty_moov"}
        clips.append(write_numbered(folder / "f.mp4", 6, 48, 32, container_options=options).read_bytes())
        clips.append(write_video(folder / "noise.mp4", textured(3, 64, 48), options={"qp": "20"}).read_bytes())
    return clips


def _damaged(chance: random.Random, corpus: Sequence[bytes]) -> bytes:
    data = chance.choice(corpus)
    for _ in range(chance.choice((0, 1, 1, 2, 4))):
        start, stop = sorted(chance.randrange(len(data) + 1) for _ in range(2))
        kind = chance.randrange(7)
        if kind == 0 and data:
            data = flip_bits(data, 10 ** chance.uniform(-5, -1), chance.randrange(1 << 30))
        elif kind == 1:
            data = data[:stop]
        elif kind == 2:
            data = data[:start] + data[stop:]
        elif kind == 3:
            data = data[:stop] + data[start:]
        elif kind == 4:
            data = data[:start] + chance.randbytes(chance.choice((1, 4, 64))) + data[start:]
        elif kind == 5:
            data = data[:start] + chance.choice(corpus)[-chance.randrange(1, 4000) :]
        else:
            number = chance.choice((0, 1, 0x7F, 0x80, 0xFF, 0x7FFFFFFF, 0xFFFFFFFF))
            data = data[:start] + number.to_bytes(4, chance.choice(("big", "little"))) + data[start + 4 :]
    return data


_WORDS = (
    *("rtsp://", "http://", "srt://", "udp://", "camera://", "gst://", "file://", "://", "@", ":", "/", "?", "#", "&"),
    *("=", "%", "%40", "%00", "\\", '"', "'", " ", "\n", "\0", "[", "]", "::1", "10.0.0.7", "host", "554", "99999"),
    *("-1", "size", "rate", "format", "1280x720", "30", "mjpeg", "location", "user-pw", "videotestsrc", "!", "appsink"),
    *("name", "token", "password", "key", "/dev/video0", "\u00e9", "\u202e", "\ud800", "\U0001f600"),
)


def _nonsense(chance: random.Random, words: Sequence[str]) -> str:
    return "".join(chance.choice(words) for _ in range(chance.randrange(12)))


def _half_sent(data: bytes, part: int) -> io.BytesIO:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def read1(self, size: int | None = -1) -> bytes:
            return self.read(min(part, size or part))

    return Pipe(data)


# What is tried


def try_container(chance: random.Random, corpus: Sequence[bytes]) -> str:
    """The frames of a damaged video."""
    data = _damaged(chance, corpus)
    file = io.BytesIO(data) if chance.random() < 0.3 else _half_sent(data, chance.choice((1, 700, 40_000)))
    with PipedVideo(file, name="pipe", threads=chance.choice((1, 2))) as source:
        return f"{sum(1 for _ in itertools.islice(source, MOST_FRAMES)) > 0}"


def try_y4m(chance: random.Random, corpus: Sequence[bytes]) -> str:
    """Y4M with any header."""
    parts = [b"YUV4MPEG2", *(word for word in (b" W48", b" H32", b" F25:1") if chance.random() < 0.9)]
    for letter in chance.choices("WHFIACX", k=chance.choice((0, 1, 1, 2, 4))):
        value = chance.choice(("48", "32", "0", "-1", "99999999999", "25:1", "0:0", "420", "mono", "444p16", "p", ""))
        parts.append(f" {letter}{value}".encode())
    body = b"".join(b"FRAME\n" + chance.randbytes(2304) for _ in range(chance.randrange(4)))
    with PipedVideo(_half_sent(b"".join(parts) + b"\n" + body, 1000), name="pipe", threads=1) as source:
        return f"{sum(1 for _ in itertools.islice(source, MOST_FRAMES)) > 0}"


def try_raw(chance: random.Random, corpus: Sequence[bytes]) -> str:
    """Raw frames of any description."""
    words = (*FORMATS, "x", ":", "@", "/", ".", "1", "16", "99999999999", "0", "-", " ", "é")
    good = f"{chance.randrange(1, 40)}x{chance.randrange(1, 40)}:{chance.choice(FORMATS)}@{chance.randrange(1, 99)}"
    text = good if chance.random() < 0.7 else _nonsense(chance, words)
    with RawVideo(_half_sent(chance.randbytes(chance.randrange(20_000)), 1000), RawFormat.parse(text)) as source:
        return f"{sum(1 for _ in source) > 0}"


def try_addresses(chance: random.Random, corpus: Sequence[bytes]) -> str:
    """Addresses with a secret where a password stands, and anything around it."""
    before, between, after = (_nonsense(chance, _WORDS) for _ in range(3))
    known = chance.random() < 0.5
    scheme = chance.choice(("rtsp", "rtsps", "http", "https", "srt", "tcp", "udp", "rtmp"))
    secret = f"{SECRET}{between}"
    text = f"{scheme}://{before}:{secret}@10.0.0.7:554/{after}" if known else f"{before}{after}"
    shown = (
        [redacted(f"cannot open '{text}': {text}")] if known and not set(secret + before) & set("\"'<> \n\0") else []
    )
    for parse in (parse_address, parse_camera_address, parse_pipeline):
        with contextlib.suppress(Error):
            understood = parse(text)
            shown += [repr(understood), understood.name]
    try:
        open_source(text).close()
    except Error as error:
        shown += ["".join(traceback.format_exception(error)).replace(text, "")]
    assert not any(SECRET in line for line in shown), f"{text!r} shows {shown}"
    return f"{known}"


def try_pipeline(chance: random.Random, corpus: Sequence[bytes]) -> str:
    """Pipelines with a secret in a property."""
    value = SECRET + _nonsense(chance, _WORDS)
    quote = chance.choice("\"'")
    quoted = quote + value.replace("\\", "\\\\").replace(quote, f"\\{quote}") + quote
    key = chance.choice(("user-pw", "location", "uri", "user-id", "device", "x"))
    pipeline = parse_pipeline(f"gst://rtspsrc {key}={quoted} ! {_nonsense(chance, _WORDS)}")
    if key != "device":  # a device is shown where it looks like one
        assert SECRET not in f"{pipeline!r} {pipeline.name}", pipeline.description
    return pipeline.name.partition(" ")[0]


TRIALS: dict[str, Callable[[random.Random, Sequence[bytes]], str]] = {
    "container": try_container,
    "y4m": try_y4m,
    "raw": try_raw,
    "addresses": try_addresses,
    "pipeline": try_pipeline,
}

# Running


def one(name: str, seed: int, corpus: Sequence[bytes]) -> str:
    """Try one input; what came of it, in a word."""
    faulthandler.dump_traceback_later(LONGEST, exit=True)
    try:
        return TRIALS[name](random.Random(f"{name} {seed}"), corpus)
    except Error as error:
        text = "".join(traceback.format_exception(error))
        assert not (SECRET in text and name in ("container", "y4m")), text
        return type(error).__name__
    finally:
        faulthandler.cancel_dump_traceback_later()


def work(name: str, first: int) -> None:
    """Try one input after the other for a while; the last line printed is the seed that is being tried."""
    logging.disable()
    corpus = _corpus() if name == "container" else []
    outcomes: collections.Counter[str] = collections.Counter()
    until = time.monotonic() + BATCH_SECONDS
    for seed in itertools.count(first):
        print(seed, flush=True)
        outcomes[one(name, seed, corpus)] += 1
        if time.monotonic() > until:
            break
    print(seed + 1, *(f"{key}={count}" for key, count in outcomes.items()), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("minutes", type=float, nargs="?", default=1.0)
    parser.add_argument("--seed", nargs=2, metavar=("TRIAL", "SEED"), help="try this one again")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work is not None:
        work(arguments.work[0], int(arguments.work[1]))
        return 0
    if arguments.seed is not None:
        name, seed = arguments.seed
        print(one(name, int(seed), _corpus() if name == "container" else []))
        return 0
    until = time.monotonic() + arguments.minutes * 60
    next_seeds = dict.fromkeys(TRIALS, 0)
    outcomes: dict[str, collections.Counter[str]] = {name: collections.Counter() for name in TRIALS}
    while time.monotonic() < until:
        for name in TRIALS:
            command = [sys.executable, __file__, "--work", name, str(next_seeds[name])]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            lines = done.stdout.splitlines() or ["?"]
            if done.returncode:
                print(f"{name}: seed {lines[-1]} ended the process with {done.returncode}\n{done.stderr}")
                return 1
            seed, *counted = lines[-1].split()
            next_seeds[name] = int(seed)
            outcomes[name].update({key: int(count) for key, count in (item.split("=") for item in counted)})
    for name, counts in outcomes.items():
        print(f"{name}: {next_seeds[name]} inputs;", ", ".join(f"{key} {count}" for key, count in counts.most_common()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
