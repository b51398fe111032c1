"""Who may ask: the guard in front of the page.

Host        only names that are this machine's, so that a strange page whose name was made to point here
            (DNS rebinding) gets nothing
Origin      what is sent from another page is refused
token       in a header, or in a cookie that `/?token=...` sets; compared in constant time
answers     carry headers that forbid a browser to load anything from elsewhere, to run scripts that are not the
            page's own, to be shown inside another page, and to keep anything
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import socket
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
PUBLIC = frozenset({"/page.css", "/icon.svg"})
"""What anybody may have: parts of this package, which the question for the token is drawn with."""
COOKIE_SECONDS = 30 * 24 * 3600

ASK_FOR_TOKEN = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>vsdk: token needed</title>
<link rel="icon" href="/icon.svg">
<link rel="stylesheet" href="/page.css">
<main class="token">
<h1>vsdk</h1>
<p>{says}</p>
<form action="/" method="get">
<label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<button>Open the page</button>
</form>
</main>
</html>
"""


class Guard:
    """Wraps the application that answers; see the module.

    Args:
        app: Answers who may ask.
        token: None lets everybody in.
        names: Host names, beside those of this machine, by which the page may be called.
        port: That is listened on; cookies of pages on other ports of the same host have other names.
    """

    def __init__(self, app: ASGIApp, token: str | None, names: Iterable[str], port: int) -> None:
        self._app = app
        self._token = None if token is None else token.encode()
        self._names = own_names() | {name.lower().rstrip(".") for name in names}
        self._cookie = f"vsdk-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let the application answer (ASGI)."""
        if scope["type"] != "http":
            return
        answer = self._answer(scope) or self._app

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await answer(scope, receive, with_headers)

    def _answer(self, scope: Scope) -> Response | None:
        """What to say to somebody who may not ask; None to one who may."""
        headers = Headers(scope=scope)
        if not self._is_own(headers.getlist("host")):
            return _refused(403, "this page is not known by that name", "Start it with --allow-host NAME.")
        if _is_from_elsewhere(headers):
            return _refused(403, "requests of other pages are refused")
        if self._token is None or scope["path"] in PUBLIC:
            return None
        if scope["path"] == "/":
            given = parse_qs(scope["query_string"].decode("latin-1")).get("token")
            if given is not None:
                return self._log_in(given[-1])
        if self._is_known(headers):
            return None
        if scope["path"] == "/":
            return HTMLResponse(ASK_FOR_TOKEN.format(says="This page asks for a token."), 401)
        return _refused(401, "a token is needed", "Send it in a header: Authorization: Bearer TOKEN")

    def _is_own(self, hosts: list[str]) -> bool:
        """Whether the Host header names this machine: an address, which no strange page can have, or a known name."""
        if len(hosts) != 1:
            return False
        try:
            name = urlsplit(f"//{hosts[0]}").hostname
        except ValueError:
            return False
        return name is not None and (_is_address(name) or name.rstrip(".") in self._names)

    def _log_in(self, given: str) -> Response:
        assert self._token is not None
        if not hmac.compare_digest(given.encode(), self._token):
            return HTMLResponse(ASK_FOR_TOKEN.format(says="That is not the token."), 401)
        answer = RedirectResponse("/", 303)  # so that the token does not stay in the address bar
        answer.set_cookie(
            self._cookie, self._cookie_value(), max_age=COOKIE_SECONDS, httponly=True, samesite="lax", path="/"
        )
        return answer

    def _is_known(self, headers: Headers) -> bool:
        assert self._token is not None
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            return False
        return cookie is not None and hmac.compare_digest(cookie.value.encode(), self._cookie_value().encode())

    def _cookie_value(self) -> str:
        """Follows from the token, but the token does not follow from it."""
        assert self._token is not None
        return hmac.new(self._token, b"vsdk live page", hashlib.sha256).hexdigest()


def own_names() -> frozenset[str]:
    """The names under which this machine is called from itself and from its network."""
    name = socket.gethostname().lower()
    return frozenset({"localhost", name, f"{name.partition('.')[0]}.local"})


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_from_elsewhere(headers: Headers) -> bool:
    """Whether a browser says that another page sends this. Links from other pages are fine: they only open the page."""
    origin = headers.get("origin")
    if origin is not None:
        try:
            return urlsplit(origin).netloc.lower() != headers["host"].lower()
        except ValueError:
            return True
    return headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate"


def _refused(status: int, error: str, hint: str = "") -> Response:
    return JSONResponse({"error": error, "hint": hint}, status, {"WWW-Authenticate": "Bearer"} if status == 401 else {})
