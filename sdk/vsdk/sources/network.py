"""Live sources on the network, through FFmpeg."""

from __future__ import annotations

import ssl
from pathlib import Path

import av
import av.error
from av.container import InputContainer

from ..errors import SourceUnsupportedError
from .addresses import Address, parse_address
from .container_connection import REACHABLE, ContainerConnection
from .container_video import NOT_SELF_CONTAINED, TOLERANT
from .live import LiveSource
from .live_settings import LiveSettings

PROBING = {"probesize": "1000000", "analyzeduration": "500000", "fpsprobesize": "0"}
"""Bytes and microseconds that FFmpeg may look at before the first picture; by default it takes its time."""

_SELF_CONTAINED = av.formats_available - NOT_SELF_CONTAINED
_FORMATS = {
    "rtsp": {"rtsp", "rtp", "sdp"},
    "http": _SELF_CONTAINED | {"hls"},
}
"""What may come from an address; from one of another scheme, what stands by itself."""

_PROTOCOLS = {
    "rtsp": "rtsp,rtp,tcp,udp",
    "rtsps": "rtsps,rtsp,rtp,tcp,udp,tls",
    "http": "http,https,tls,tcp,crypto,data,httpproxy",
    "https": "http,https,tls,tcp,crypto,data,httpproxy",
    "srt": "srt,udp",
    "tcp": "tcp",
    "udp": "udp",
}
"""What an address may lead to: a playlist must not open files."""

_TRUST = "Does this machine trust its certificate? Otherwise verify_tls=False (--no-verify-tls) does without."


def open_network(address: Address | str, settings: LiveSettings | None = None) -> LiveSource:
    """A live source at a network address.

    An `http` or `https` address may lead to another one of these (a redirection, the segments of a playlist). Where the
    server states the length of what it sends, or a playlist ends, it is a recording, which is read once to its end.

    Args:
        address: See `addresses.parse_address`.
        settings: None takes the defaults.

    Raises:
        SourceError: The address is not acceptable. Whether something answers turns out when it is read, and so does
            whether this build of PyAV speaks the protocol; that of PyPI does not speak `srt`.
    """
    where = parse_address(address) if isinstance(address, str) else address
    how = settings or LiveSettings()

    def connect() -> ContainerConnection:
        return ContainerConnection(
            where.name,
            lambda: _open(where, how),
            connect_timeout=how.connect_timeout,
            read_timeout=how.read_timeout,
            finite=_is_recording if where.scheme in ("http", "https") else None,
            hint=f"{REACHABLE} {_TRUST}" if where.scheme in ("rtsps", "https") and how.verify_tls else REACHABLE,
        )

    return LiveSource(where.name, connect, how)


def _open(address: Address, settings: LiveSettings) -> InputContainer:
    try:
        container: InputContainer = av.open(
            address.url,
            container_options=container_options(address, settings),
            timeout=(settings.connect_timeout, settings.read_timeout),
            **TOLERANT,
        )
        return container
    except av.error.ProtocolNotFoundError:  # as the cause it would repeat the address
        raise SourceUnsupportedError(
            f"{address.name}: this build of PyAV does not speak {address.scheme}",
            hint="GStreamer may, or have the sender use another protocol.",
        ) from None


def container_options(address: Address, settings: LiveSettings) -> dict[str, str]:
    """FFmpeg's options for an address. It ignores unknown ones without a word, so tests look at what they do."""
    family = address.scheme.removesuffix("s")
    options = {
        **PROBING,
        "format_whitelist": ",".join(sorted(_FORMATS.get(family, _SELF_CONTAINED))),
        "protocol_whitelist": _PROTOCOLS[address.scheme],
    }
    if family == "rtsp":
        longest = max(settings.connect_timeout, settings.read_timeout)  # PyAV's time-outs are the sharper ones
        options["timeout"] = str(round(longest * 1_000_000))
        options["rtsp_transport"] = settings.transport
        options["allowed_media_types"] = "video"
    if address.scheme == "udp":
        options["overrun_nonfatal"] = "1"  # too slow a reader loses packets, not the connection
    if address.scheme in ("rtsps", "https"):
        options["tls_verify"] = "1" if settings.verify_tls else "0"
        trusted = ssl.get_default_verify_paths().cafile
        if settings.verify_tls and trusted and Path(trusted).exists():
            options["ca_file"] = trusted
    return options


def _is_recording(container: InputContainer) -> bool:
    return container.format.name == "hls" or container.size > 0
