"""Network addresses: which ones there are, how they are written, and what of them may be shown."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, urlsplit

from ..errors import SourceError
from .credentials import redacted

DEFAULT_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443, "srt": None, "tcp": None, "udp": None}
"""The schemes, with the port that is meant where none is written; None: it must be written."""

_OPTIONS = {
    "srt": {"mode", "streamid", "passphrase", "pbkeylen", "latency", "transtype", "payload_size", "maxbw"},
    "tcp": {"listen"},
    "udp": {"localaddr", "localport", "sources", "block", "reuse", "buffer_size", "fifo_size", "pkt_size"},
}
"""What FFmpeg reads behind the `?` of addresses that carry no path; it would ignore anything else without a word."""

_SCHEME = re.compile(r"(?P<scheme>[a-z][a-z0-9+.\-]*)://", re.IGNORECASE)
_FORBIDDEN = re.compile(r"[\s\x00-\x1f\x7f\"'<>\\]")
_ENCODE = "Write the special characters of a user name or password as percent codes: @ is %40, / is %2F, : is %3A."


@dataclass(frozen=True)
class Address:
    """An address that was understood.

    Attributes:
        scheme: In lower case, one of `DEFAULT_PORTS`.
        host: Name or number; empty for `udp://:5000`, which receives on every interface.
        port: From 1 to 65535.
        name: The address without credentials, for people.
        url: All of it, for FFmpeg alone. It is not shown in `repr`.
    """

    scheme: str
    host: str
    port: int
    name: str
    url: str = field(repr=False)


def scheme_of(text: str) -> str | None:
    """What stands before `://`, in lower case; None for what is not an address at all."""
    found = _SCHEME.match(text)
    return found["scheme"].lower() if found else None


def parse_address(text: str) -> Address:
    """Understand an address.

    Args:
        text: `rtsp[s]://[user:password@]host[:port]/path`, `http[s]://...` likewise, `tcp://host:port`,
            `udp://[group]:port` or `srt://host:port`, the last three with the options of FFmpeg after a `?`.

    Raises:
        SourceError: It is not one of these, or can be understood in two ways. Of an address that was not understood
            nothing is shown but its scheme: what is not understood may be a password.
    """
    scheme = scheme_of(text)
    if scheme not in DEFAULT_PORTS:
        raise SourceError(
            "this is not a network address that vsdk knows", hint=f"Use one of {', '.join(DEFAULT_PORTS)} before ://."
        )
    label = f"{scheme}:// address"
    if _FORBIDDEN.search(text):
        raise SourceError(f"{label}: it has blanks, quotes or control characters in it", hint=_ENCODE)
    parts = _split(text, label)
    port = _port(parts, label) or DEFAULT_PORTS[scheme]
    if port is None:
        raise SourceError(f"{label}: it has no port", hint=f"For instance {scheme}://10.0.0.7:5000")
    host = parts.hostname or ""
    if not host and scheme != "udp":
        raise SourceError(f"{label}: it has no host", hint=f"For instance {scheme}://10.0.0.7:{port}/main")
    _check_options(scheme, parts, label)
    url = scheme + text[text.index("://") :]
    return Address(scheme, host, port, redacted(url), url)


def _split(text: str, label: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        _ = parts.hostname
    except ValueError:  # its message repeats the address; so would a traceback with it as the cause
        raise SourceError(f"{label}: the host is not written correctly", hint=_ENCODE) from None
    rest = text.split("://", 1)[1]
    before, at, _ = rest.rpartition("@")
    if (
        at and len(before) > len(parts.netloc) and re.search("[:@]", before)
    ):  # a / of a password? then the host is behind
        raise SourceError(f"{label}: it is not clear where its password ends, if it has one", hint=_ENCODE)
    return parts


def _port(parts: SplitResult, label: str) -> int | None:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise SourceError(f"{label}: the port is not a number from 1 to 65535", hint=_ENCODE) from None
    return port


def _check_options(scheme: str, parts: SplitResult, label: str) -> None:
    known = _OPTIONS.get(scheme)
    if known is None:
        return
    if parts.path not in ("", "/"):
        raise SourceError(f"{label}: it has a path, which {scheme} does not", hint="Leave out what follows the port.")
    if any(key not in known for key, _ in parse_qsl(parts.query, keep_blank_values=True)):
        raise SourceError(f"{label}: an option in it is not known", hint=f"Known are {', '.join(sorted(known))}.")
