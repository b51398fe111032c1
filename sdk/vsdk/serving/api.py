"""What can be asked: the page's three files, pictures, scenes, events, searches, health.

    GET  /  /page.css  /page.js  /icon.svg
    GET  /api/health                                how every source is
    GET  /api/events                                Server-Sent Events: a snapshot, then what happens
    GET  /api/streams/0/picture?after=N             the newest picture; 204 where there is none newer than number N
    GET  /api/streams/0/scenes                      the scenes that are kept
    GET  /api/streams/0/scenes/7/picture            a thumbnail
    POST /api/search?top=N                          the body is a picture: scenes like it
    GET  /api/search?stream=0&scene=7               scenes like that one
    GET  /api/search?words=...                      scenes like these words say, where the bundle has a text tower

`docs/serve.md` describes the answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from vsdk_runtimes.errors import Error, InputError

from ..sources.credentials import redacted
from .channel import Channel, KeptScene
from .finder import MOST_RESULTS, Finder, Found
from .hub import Hub
from .listening import Listening
from .uploads import MOST_BYTES

PAGE = Path(__file__).parent / "page"
FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
MOST_LISTENERS = 32
"""Browsers that listen to events at a time."""
MOST_SEARCHES = 4
"""Searches under way at a time, uploads included."""
UPLOAD_SECONDS = 30.0
MOST_THROWN_AWAY = 4 * MOST_BYTES
RESULTS = 8

Answer = Callable[[Request], Awaitable[Response]]


class Api:
    """Answers requests from what a hub holds and a finder finds."""

    def __init__(self, hub: Hub, finder: Finder) -> None:
        self._hub, self._finder = hub, finder
        self._listening = Listening(hub, {"words": finder.takes_words})
        self._searches = asyncio.Semaphore(MOST_SEARCHES)

    def app(self) -> Starlette:
        """The ASGI application."""
        stream = "/api/streams/{stream:int}"
        app = Starlette(
            routes=[
                *(Route(path, _file(*what)) for path, what in FILES.items()),
                Route("/api/health", self.health),
                Route("/api/events", self.events),
                Route(f"{stream}/picture", self.picture),
                Route(f"{stream}/scenes", self.scenes),
                Route(f"{stream}/scenes/{{scene:int}}/picture", self.thumbnail),
                Route("/api/search", self.search, methods=["GET", "POST"]),
            ],
            exception_handlers={HTTPException: _say_http, Error: _say_error},
        )
        app.router.redirect_slashes = False
        return app

    async def health(self, request: Request) -> Response:
        """How every source is."""
        return JSONResponse(self._hub.health())

    async def events(self, request: Request) -> Response:
        """The journal from where the browser left off, or a snapshot first; then what happens, until either goes."""
        if self._listening.listeners >= MOST_LISTENERS:
            raise HTTPException(503, f"{MOST_LISTENERS} browsers listen already", {"Retry-After": "5"})
        seen = request.headers.get("last-event-id", "")
        return StreamingResponse(self._listening.events(seen), media_type="text/event-stream")

    async def picture(self, request: Request) -> Response:
        """The newest picture of a stream."""
        channel = self._channel(request)
        after = _number(request, "after", 0)
        picture = await run_in_threadpool(channel.newest_picture.get, after)
        if picture is None:
            return Response(status_code=204)
        headers = {
            "Vsdk-Picture": str(picture.number),
            "Vsdk-Frame": str(picture.frame),
            "Vsdk-Time": f"{picture.time:.3f}",
            "Vsdk-Taken": f"{picture.taken:.3f}",
        }
        return Response(picture.jpeg, media_type="image/jpeg", headers=headers)

    async def scenes(self, request: Request) -> Response:
        """The kept scenes of a stream."""
        return JSONResponse({"scenes": [kept.to_dict() for kept in self._channel(request).scenes()]})

    async def thumbnail(self, request: Request) -> Response:
        """The picture of a scene."""
        kept = self._scene(self._channel(request), request.path_params["scene"])
        if kept.thumbnail is None:
            raise HTTPException(404, "the scene has no picture")
        return Response(kept.thumbnail, media_type="image/jpeg")

    async def search(self, request: Request) -> Response:
        """Scenes like a picture, a scene or words."""
        if self._searches.locked():
            raise HTTPException(503, "too many searches at once", {"Retry-After": "1"})
        async with self._searches:
            found = await self._find(request)
        return JSONResponse({"scenes": [each.to_dict() for each in found]})

    async def _find(self, request: Request) -> list[Found]:
        top = _number(request, "top", RESULTS)
        if not 1 <= top <= MOST_RESULTS:
            raise InputError(f"top must be 1 to {MOST_RESULTS}")
        if request.method == "POST":
            data = await _body(request)
            return await run_in_threadpool(self._finder.by_picture, data, top)
        if "scene" in request.query_params:
            channel = self._hub.channel(_number(request, "stream", 0))
            if channel is None:
                raise HTTPException(404, "there is no such stream")
            kept = self._scene(channel, _number(request, "scene", 0))
            return await run_in_threadpool(self._finder.by_scene, kept, top)
        return await run_in_threadpool(self._finder.by_words, request.query_params.get("words", ""), top)

    def _channel(self, request: Request) -> Channel:
        channel = self._hub.channel(request.path_params["stream"])
        if channel is None:
            raise HTTPException(404, "there is no such stream")
        return channel

    def _scene(self, channel: Channel, index: int) -> KeptScene:
        kept = channel.scene(index)
        if kept is None:
            raise HTTPException(404, "there is no such scene, or it is no longer kept")
        return kept


def _file(name: str, media_type: str) -> Answer:
    """Answers with a file of this package, which is read once."""
    content = (PAGE / name).read_bytes()

    async def answer(request: Request) -> Response:
        return Response(content, media_type=media_type)

    return answer


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise InputError(f"{name} must be a whole number")
    return int(text)


async def _body(request: Request) -> bytes:
    """The request's body, if it is neither too large nor too slow.

    Of one that is too large some is read and thrown away: browsers listen to the answer only when they have sent.
    """
    too_large = HTTPException(413, f"the picture has more than {MOST_BYTES // 1_000_000} MB")

    async def read() -> bytes:
        body, length = bytearray(), 0
        async for chunk in request.stream():
            length += len(chunk)
            if length > MOST_THROWN_AWAY:
                break
            if length <= MOST_BYTES:
                body += chunk
            else:
                body.clear()
        if length > MOST_BYTES:
            raise too_large
        return bytes(body)

    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > MOST_THROWN_AWAY:
        raise too_large
    try:
        return await asyncio.wait_for(read(), UPLOAD_SECONDS)
    except asyncio.TimeoutError as error:
        raise HTTPException(408, f"the picture did not come within {UPLOAD_SECONDS:.0f} s") from error
    except ClientDisconnect as error:
        raise HTTPException(400, "the picture was cut off") from error


async def _say_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail, "hint": ""}, error.status_code, error.headers)


async def _say_error(request: Request, error: Exception) -> Response:
    """What vsdk explains: a fault of the request is 400, anything else 500."""
    assert isinstance(error, Error)
    content: dict[str, Any] = {"error": redacted(error.message), "hint": redacted(error.hint)}
    return JSONResponse(content, 400 if isinstance(error, InputError) else 500)
