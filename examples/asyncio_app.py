"""Events in an asyncio program: the loop is never blocked, and cancelling the task closes the stream within a second.

python examples/asyncio_app.py video.mp4

Backpressure: the stream works in a thread, and only while somebody waits for its next event. Here 16 events may wait
for a slow `report`. When they do, a recording waits; a camera drops frames, which its `stats` events count.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing

import vsdk


async def events_of(source: str) -> AsyncGenerator[vsdk.Event, None]:
    """The events of a stream, all of whose work is done in one thread."""
    loop = asyncio.get_running_loop()
    thread = ThreadPoolExecutor(1, "vsdk-asyncio")
    stream = await loop.run_in_executor(thread, vsdk.Stream, None, source)  # loads networks, which takes a while
    try:
        events = iter(stream)
        while (event := await loop.run_in_executor(thread, next, events, None)) is not None:
            yield event
    finally:
        stream.stop()  # the thread comes back within a tenth of a second, and then closes the stream
        await loop.run_in_executor(thread, stream.close)
        thread.shutdown(wait=False)


async def watch(source: str, waiting: asyncio.Queue[vsdk.Event | None]) -> None:
    async with aclosing(events_of(source)) as events:
        async for event in events:
            await waiting.put(event)
    await waiting.put(None)


async def report(waiting: asyncio.Queue[vsdk.Event | None]) -> None:
    """Stands for what takes its time: a database, an HTTP request, a robot's action."""
    while (event := await waiting.get()) is not None:
        await asyncio.sleep(0.01)
        if event.type == "scene":
            print(f"scene {event.index}: {event.start:.2f} s to {event.end:.2f} s", flush=True)


async def main(source: str) -> None:
    waiting: asyncio.Queue[vsdk.Event | None] = asyncio.Queue(maxsize=16)
    await asyncio.gather(watch(source, waiting), report(waiting))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Print the scenes of a source, in an asyncio program.")
    parser.add_argument("source", help="what vsdk.open takes, such as video.mp4 or rtsp://10.0.0.7/main")
    asyncio.run(main(parser.parse_args().source))
