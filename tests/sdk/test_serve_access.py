"""Who may look at the live page: tokens, host names, other pages; and what every answer forbids."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from serve_tools import Listener, ask, frame, scene

from vsdk.serving.server import LivePage, check_access
from vsdk_runtimes.errors import InputError, SinkError

TOKEN = "correct-horse-battery-staple"
PATHS = (
    "/",
    "/page.js",
    "/api/health",
    "/api/events",
    "/api/streams/0/picture",
    "/api/streams/0/scenes",
    "/api/streams/0/scenes/0/picture",
    "/api/search?stream=0&scene=0",
)


def filled(page: LivePage) -> LivePage:
    channel = page.add("door")
    channel.write_frame(frame(0))
    channel.write_event(scene(0))
    return page


def in_header(text: str) -> str:
    """The text as bytes of UTF-8, which http.client writes one by one."""
    return text.encode().decode("latin-1")


@pytest.fixture(scope="module")
def opened() -> Iterator[LivePage]:
    """A page without a token."""
    with LivePage(port=0) as page:
        yield filled(page)


@pytest.fixture(scope="module")
def locked() -> Iterator[LivePage]:
    """A page with a token."""
    with LivePage(port=0, token=TOKEN, names=["cameras.example"]) as page:
        yield filled(page)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("given", [None, "", "correct-horse-battery-stapl", TOKEN.upper(), TOKEN + "x", "ü" * 20])
def test_without_the_token_there_is_nothing(locked: LivePage, path: str, given: str | None) -> None:
    answer = ask(locked, path) if given is None else ask(locked, path, Authorization=in_header(f"Bearer {given}"))
    assert answer.status == 401
    assert b"door" not in answer.body
    assert answer.headers["WWW-Authenticate"] == "Bearer" or path == "/"


def test_a_search_needs_the_token(locked: LivePage) -> None:
    assert ask(locked, "/api/search", "POST", b"picture").status == 401


@pytest.mark.parametrize("path", [path for path in PATHS if path != "/api/events"])
def test_the_token_in_a_header(locked: LivePage, path: str) -> None:
    assert ask(locked, path, Authorization=f"Bearer {TOKEN}").status == 200


def test_the_token_in_the_address_becomes_a_cookie_and_leaves_the_address(locked: LivePage) -> None:
    answer = ask(locked, f"/?token={TOKEN}")
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    cookie = answer.headers["Set-Cookie"]
    assert TOKEN not in str(answer.headers)
    for attribute in ("HttpOnly", "SameSite=lax", "Path=/"):
        assert attribute in cookie
    value = cookie.partition(";")[0]
    for path in PATHS:
        if path != "/api/events":
            assert ask(locked, path, Cookie=f"other=1; {value}").status == 200
    listener = Listener(locked, Cookie=value)
    assert listener.next().kind == "snapshot"
    listener.close()


@pytest.mark.parametrize("given", ["", "x", "correct-horse-battery-stapl", "%FF%00", TOKEN.upper(), "a&token=b"])
def test_a_wrong_token_in_the_address_is_refused_and_gives_no_cookie(locked: LivePage, given: str) -> None:
    answer = ask(locked, f"/?token={given}")
    assert answer.status == 401
    assert answer.headers["Set-Cookie"] is None
    assert b"not the token" in answer.body or given == ""


@pytest.mark.parametrize("value", ["0" * 64, TOKEN, "", '"', "\\"])
def test_a_wrong_cookie_is_refused(locked: LivePage, value: str) -> None:
    assert ask(locked, "/api/health", Cookie=f"vsdk-{locked.port}={value}").status == 401


def test_the_cookie_of_one_token_is_no_use_with_another(locked: LivePage) -> None:
    with LivePage(port=0, token="another-token-of-this-machine") as other:
        value = ask(other, "/?token=another-token-of-this-machine").headers["Set-Cookie"].partition(";")[0]
        assert ask(other, "/api/health", Cookie=value).status == 200
        assert ask(locked, "/api/health", Cookie=value).status == 401
        renamed = value.replace(str(other.port), str(locked.port))
        assert ask(locked, "/api/health", Cookie=renamed).status == 401


def test_who_is_not_in_gets_a_question_for_the_token(locked: LivePage) -> None:
    answer = ask(locked, "/")
    assert answer.status == 401
    assert b'name="token"' in answer.body
    for path in ("/page.css", "/icon.svg"):
        assert ask(locked, path).status == 200, "what the question is drawn with"


@pytest.mark.parametrize("token", ["", "short", "x" * 15, "ü" * 20, "with a space in it", "tab\tab\tab\tab\tab\tab"])
def test_tokens_that_are_no_use_are_refused(token: str) -> None:
    with pytest.raises(InputError, match="token"):
        LivePage(port=0, token=token)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.10", "example.com", "localhost.example.com", ""])
def test_nobody_else_gets_in_without_a_token(host: str) -> None:
    with pytest.raises(InputError, match="token"):
        LivePage(port=0, host=host)
    check_access(host, TOKEN)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_this_machine_needs_no_token(host: str) -> None:
    check_access(host, None)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:9999", "localhost", "localhost:80", "LOCALHOST", "[::1]", "[::1]:80", "10.0.0.7"]
)
def test_hosts_that_are_this_machine(opened: LivePage, host: str) -> None:
    assert ask(opened, "/api/health", Host=host).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", "", "[", "a@localhost@b"],
)
@pytest.mark.parametrize("path", ["/", "/page.css", "/api/health", "/api/streams/0/picture"])
def test_a_strange_name_that_was_made_to_point_here_is_refused(opened: LivePage, host: str, path: str) -> None:
    answer = ask(opened, path, Host=host)
    assert answer.status in (400, 403)
    assert b"door" not in answer.body


def test_the_name_of_this_machine_and_those_that_were_allowed(opened: LivePage, locked: LivePage) -> None:
    assert ask(opened, "/api/health", Host=f"{socket.gethostname()}:8080").status == 200
    assert ask(locked, "/api/health", Host="Cameras.example", Authorization=f"Bearer {TOKEN}").status == 200
    assert ask(opened, "/api/health", Host="cameras.example").status == 403


def test_requests_of_other_pages_are_refused(opened: LivePage) -> None:
    own = f"http://127.0.0.1:{opened.port}"
    assert ask(opened, "/api/search", "POST", b"x", Origin="http://evil.example").status == 403
    assert ask(opened, "/api/search", "POST", b"x", Origin="null").status == 403
    assert ask(opened, "/api/search", "POST", b"x", Origin=own).status == 400, "read, and found to be no picture"
    assert ask(opened, "/api/streams/0/picture", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors").status == 403
    assert ask(opened, "/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate").status == 200, "a link"


@pytest.mark.parametrize("path", [*(path for path in PATHS if path != "/api/events"), "/nothing"])
def test_every_answer_forbids_what_the_page_does_not_need(opened: LivePage, locked: LivePage, path: str) -> None:
    for answer in (ask(opened, path), ask(locked, path), ask(opened, path, Host="evil.example")):
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert answer.headers["Access-Control-Allow-Origin"] is None
        assert answer.headers["Server"] is None


def test_the_page_has_no_inline_script_or_style_and_loads_nothing_from_elsewhere(opened: LivePage) -> None:
    html, css, js = (ask(opened, path).body.decode() for path in ("/", "/page.css", "/page.js"))
    assert "style=" not in html
    assert "<style" not in html
    assert html.count("<script") == html.count('<script type="module" src="/page.js"></script>') == 1
    for text in (html, css, js):
        assert "//" not in "".join(line.split("// ")[0] for line in text.splitlines()).replace("*//*", "")
    assert "url(" not in css
    assert "innerHTML" not in js


@pytest.mark.parametrize(
    "path",
    [
        "/page",
        "/page/",
        "/page/page.js",
        "/static",
        "/index.html",
        "/..%2f..%2fserver.py",
        "/../server.py",
        "/%2e%2e/server.py",
        "/api",
        "/api/",
        "/api/health/",
        "/api/streams",
        "/api/streams/0",
        "/docs",
        "/openapi.json",
    ],
)
def test_there_is_nothing_else_to_find(opened: LivePage, path: str) -> None:
    answer = ask(opened, path)
    assert answer.status == 404
    assert answer.json == {"error": "Not Found", "hint": ""}


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "POST"])
def test_other_methods_are_refused(opened: LivePage, method: str) -> None:
    assert ask(opened, "/api/health", method).status == 405


def test_a_port_that_is_taken_is_refused_by_name(opened: LivePage) -> None:
    with pytest.raises(SinkError, match=rf"127\.0\.0\.1:{opened.port}"):
        LivePage(port=opened.port)
    with pytest.raises(SinkError, match="cannot serve"):
        LivePage(port=0, host="192.0.2.1", token=TOKEN)
    with pytest.raises(SinkError, match="cannot serve"):
        LivePage(port=0, host="no such host", token=TOKEN)
