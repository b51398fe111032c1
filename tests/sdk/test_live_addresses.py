"""Network addresses: which are understood, and that nothing of a password is shown, whatever else happens."""

from __future__ import annotations

import traceback
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsdk.errors import Error, SourceError
from vsdk.sources.addresses import DEFAULT_PORTS, parse_address, scheme_of


@pytest.mark.parametrize(
    ("text", "host", "port", "name"),
    [
        ("rtsp://10.0.0.7/main", "10.0.0.7", 554, "rtsp://10.0.0.7/main"),
        ("RTSP://10.0.0.7/Main", "10.0.0.7", 554, "rtsp://10.0.0.7/Main"),
        ("rtsps://cam.local:7441/x?enableSrtp", "cam.local", 7441, "rtsps://cam.local:7441/x?enableSrtp"),
        ("rtsp://admin:p%40ss@[fe80::1]:8554/1", "fe80::1", 8554, "rtsp://***@[fe80::1]:8554/1"),
        ("rtsp://admin:p@ss@10.0.0.7/1", "10.0.0.7", 554, "rtsp://***@10.0.0.7/1"),
        ("http://host/a.mp4?token=x&w=2", "host", 80, "http://host/a.mp4?token=***&w=2"),
        ("http://host/mail/a@b.mp4", "host", 80, "http://***@b.mp4"),
        ("https://host", "host", 443, "https://host"),
        ("tcp://10.0.0.7:5000", "10.0.0.7", 5000, "tcp://10.0.0.7:5000"),
        ("tcp://0.0.0.0:5000?listen=1", "0.0.0.0", 5000, "tcp://0.0.0.0:5000?listen=1"),
        ("udp://@:5000", "", 5000, "udp://***@:5000"),
        ("udp://:5000", "", 5000, "udp://:5000"),
        ("udp://239.1.1.1:5000?localaddr=10.0.0.2", "239.1.1.1", 5000, "udp://239.1.1.1:5000?localaddr=10.0.0.2"),
        (
            "srt://h:9000?mode=caller&passphrase=0123456789",
            "h",
            9000,
            "srt://h:9000?mode=caller&passphrase=***",
        ),
    ],
)
def test_what_is_understood(text: str, host: str, port: int, name: str) -> None:
    address = parse_address(text)
    assert (address.host, address.port, address.name) == (host, port, name)
    assert address.scheme == scheme_of(text)
    assert address.url.lower() == text.lower()
    assert address.url.startswith(f"{address.scheme}://")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("rtsp://", "no host"),
        ("rtsp:///main", "no host"),
        ("rtsp://:554/main", "no host"),
        ("tcp://10.0.0.7", "no port"),
        ("udp://@", "no port"),
        ("rtsp://host:0/main", "port is not a number"),
        ("rtsp://host:65536/main", "port is not a number"),
        ("rtsp://admin:QQQ", "port is not a number"),
        ("rtsp://[::1/main", "host is not written correctly"),
        ("rtsp://admin:QQ[Q@host/main", "host is not written correctly"),
        ("rtsp://ho st/main", "blanks"),
        ("rtsp://host/main\r\nHost: QQQ", "blanks"),
        ("tcp://host:5000/QQQ", "a path"),
        ("tcp://host:5000?QQQ=1", "an option"),
        ("srt://host:5000?passfrase=QQQ", "an option"),
        ("rtsp://admin:Q/QQ@10.0.0.7/main", "port is not a number|not clear where its password ends"),
        ("rtsp://admin:Q@Q/Q@10.0.0.7/main", "not clear where its password ends"),
        ("rtsp://admin:12/QQQ@10.0.0.7/main", "not clear where its password ends"),
        ("rtsp://admin:QQ#Q@10.0.0.7/main", "not clear where its password ends"),
        ("rtsp://admin@Q?QQ@10.0.0.7/main", "not clear where its password ends"),
        ("rtsp://ad?min:QQQ@10.0.0.7/main", "not clear where its password ends"),
        ("rtmp://host/QQQ", "not a network address that vsdk knows"),
        ("clip.mp4", "not a network address that vsdk knows"),
    ],
)
def test_what_is_not(text: str, why: str) -> None:
    with pytest.raises(SourceError, match=why) as caught:
        parse_address(text)
    assert caught.value.hint
    assert "Q" not in "".join(traceback.format_exception(caught.value)).replace("parse_address", "")


SECRETS = st.text(min_size=1, max_size=20).map(lambda text: f"ZQ{text}QZ")


@given(scheme=st.sampled_from(sorted(DEFAULT_PORTS)), user=SECRETS, password=SECRETS, encoded=st.booleans())
def test_no_password_is_ever_shown(scheme: str, user: str, password: str, encoded: bool) -> None:
    if encoded:
        user, password = quote(user, safe=""), quote(password, safe="")
    text = f"{scheme}://{user}:{password}@camera.local:554" + ("/main" if scheme in ("rtsp", "http") else "")
    try:
        address = parse_address(text)
        shown = f"{address!r} {address.name}"
        assert address.host == "camera.local"
    except SourceError as error:
        assert not encoded
        shown = "".join(traceback.format_exception(error))
    assert "ZQ" not in shown
    assert "QZ" not in shown


@given(st.text(max_size=60).flatmap(lambda rest: st.sampled_from([rest, *(f"{s}://{rest}" for s in DEFAULT_PORTS)])))
def test_any_text_is_understood_or_refused(text: str) -> None:
    try:
        address = parse_address(text)
    except Error:
        return
    assert address.scheme in DEFAULT_PORTS
    assert 1 <= address.port <= 65535
