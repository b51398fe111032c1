"""The server of the live page: a thread that answers browsers, and sinks that streams write to."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from vsdk_runtimes import Bundle, Precision
from vsdk_runtimes.errors import InputError, SinkError

from ..loading import load
from ..sinks.metrics import shown
from .finder import Finder
from .hub import KEEP, Hub

if TYPE_CHECKING:
    import uvicorn

    from .channel import Channel

LOOPBACK = "127.0.0.1"
PORT = 8080
SHORTEST_TOKEN = 16
MOST_CONNECTIONS = 256
START_SECONDS = 30.0
CLOSE_SECONDS = 1.0


class LivePage:
    """Serves the live page until it is closed.

    Args:
        bundle: The one that the streams use, to search with; None is the model that ships with vsdk.
        port: To listen on; 0 is any free one.
        host: Address or name to listen at. Anything but this machine itself needs a token.
        token: What a browser has to know: at least 16 printable characters of ASCII. None lets everybody in.
        names: Host names by which the page may be called, beside those of this machine: that of a proxy before it.
        keep: Most scenes of each stream.
        device, engine, precision, threads: On what pictures to search for are encoded, as for `vsdk_runtimes.load`.

    Attributes:
        port: The port that is listened on.
        url: The page's address, without the token.

    Example:
        ```python
        with LivePage() as page, vsdk.Stream(None, "rtsp://10.0.0.7/main", sinks=[page.add("door")]) as stream:
            for event in stream: ...
        ```

    Raises:
        InputError: Another machine could connect and there is no token, or the token is too short.
        SinkError: The port is taken or not allowed, the host is not of this machine, or the libraries are missing.
    """

    def __init__(
        self,
        bundle: Bundle | str | os.PathLike[str] | None = None,
        *,
        port: int = PORT,
        host: str = LOOPBACK,
        token: str | None = None,
        names: Sequence[str] = (),
        keep: int = KEEP,
        device: str = "cpu",
        engine: str = "onnxruntime",
        precision: Precision | None = None,
        threads: int | None = None,
    ) -> None:
        check_access(host, token)
        loaded = bundle if isinstance(bundle, Bundle) else load(bundle)
        self._hub = Hub(keep)
        self._finder = Finder(self._hub, loaded, device=device, engine=engine, precision=precision, threads=threads)
        listener = _listener(host, port)
        self.port: int = listener.getsockname()[1]
        self.url = f"http://{shown(_for_people(host), self.port)}/"
        try:
            self._server = _server(self._hub, self._finder, token, [host, *names], self.port)
        except BaseException:
            listener.close()
            raise
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._serve, args=(listener,), name="vsdk-live-page", daemon=True)
        self._thread.start()
        self._wait_for_start()

    def add(self, name: str) -> Channel:
        """The sink for one more stream, shown under this name without the credentials in it.

        It wants frames, and shows the newest one.
        """
        return self._hub.add(name)

    def close(self) -> None:
        """Stop serving, within a second or two. Idempotent."""
        self._hub.close()
        self._server.should_exit = True
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive() and self._loop is not None:  # some browser does not take what it is sent
            with contextlib.suppress(RuntimeError):  # the loop has just ended
                self._loop.call_soon_threadsafe(self._cut_off)
            self._thread.join(CLOSE_SECONDS)
        self._finder.close(CLOSE_SECONDS)

    def __enter__(self) -> LivePage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _serve(self, listener: socket.socket) -> None:
        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            await self._server.serve(sockets=[listener])

        asyncio.run(serve())

    def _cut_off(self) -> None:
        for connection in list(self._server.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()

    def _wait_for_start(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                self.close()
                raise SinkError(f"cannot serve the live page at {self.url}: the server did not start")
            time.sleep(0.005)


def check_access(host: str, token: str | None) -> None:
    """Refuse what would let strangers in.

    Raises:
        InputError: See `LivePage`.
    """
    if token is not None:
        if len(token) < SHORTEST_TOKEN:
            raise InputError(
                f"the token has {len(token)} characters, but needs at least {SHORTEST_TOKEN}",
                hint="python3 -c 'import secrets; print(secrets.token_urlsafe())' makes one.",
            )
        if not (token.isascii() and token.isprintable() and " " not in token):
            raise InputError("the token has characters other than printable ASCII", hint="Use letters and digits.")
    elif not _is_loopback(host):
        raise InputError(
            f"to listen at {host}, where other machines can connect, a token is needed",
            hint="Pass --token with at least 16 characters, or set VSDK_TOKEN; "
            "python3 -c 'import secrets; print(secrets.token_urlsafe())' makes one.",
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # another name: whatever it stands for today, it may stand for something else tomorrow
        return False


def _for_people(host: str) -> str:
    """What to type into a browser for a host that stands for all addresses."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    return socket.gethostname() if address.is_unspecified else host


def _listener(host: str, port: int) -> socket.socket:
    place = f"the live page at {shown(host, port)}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:  # UnicodeError: a host name that cannot be one
        raise SinkError(f"cannot serve {place}: {error}", hint="Name a host of this machine.") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise SinkError(
            f"cannot serve {place}: {reason}",
            hint="Choose another port (0 is any free one), or a host of this machine.",
        ) from error
    return listener


def _server(hub: Hub, finder: Finder, token: str | None, names: Sequence[str], port: int) -> uvicorn.Server:
    try:
        import uvicorn

        from .access import Guard
        from .api import Api
    except ImportError as error:
        raise SinkError(
            f"cannot serve the live page: {error.name} is not installed", hint="pip install 'vsdk[serve]'"
        ) from error
    config = uvicorn.Config(
        Guard(Api(hub, finder).app(), token, names, port),
        http="h11",
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,  # it would have the token
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=3,  # never needed: close() is quicker
    )
    return uvicorn.Server(config)
