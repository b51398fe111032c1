"""What `vsdk run` can be told about live sources."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..sources.live_settings import LiveSettings

PANEL = "Live sources"


class TransportName(str, Enum):
    """How RTSP carries pictures."""

    TCP = "tcp"
    UDP = "udp"


class PolicyName(str, Enum):
    """Which frames are handed out."""

    LATEST = "latest"
    EVERY = "every"


Transport = Annotated[
    TransportName | None,
    typer.Option(help="Of RTSP; by default tcp, which loses nothing.", show_default=False, rich_help_panel=PANEL),
]
Policy = Annotated[
    PolicyName | None,
    typer.Option(
        help="latest drops what comes while the one before is worked on; every drops nothing and falls behind. "
        "By default latest.",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
MaxFps = Annotated[
    float | None,
    typer.Option(min=0.001, help="Take in at most so many frames a second.", metavar="RATE", rich_help_panel=PANEL),
]
ConnectTimeout = Annotated[
    float | None,
    typer.Option(min=0.1, help="Longest time to connect; by default 10.", metavar="SECONDS", rich_help_panel=PANEL),
]
ReadTimeout = Annotated[
    float | None,
    typer.Option(
        min=0.1,
        help="Longest silence before connecting anew; by default 5.",
        metavar="SECONDS",
        rich_help_panel=PANEL,
    ),
]
ReconnectFor = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="Give up after so long without a frame; by default 3600, inf is never.",
        metavar="SECONDS",
        rich_help_panel=PANEL,
    ),
]
NoReconnect = Annotated[
    bool, typer.Option("--no-reconnect", help="End when the connection ends.", rich_help_panel=PANEL)
]
NoVerifyTls = Annotated[
    bool,
    typer.Option(
        "--no-verify-tls",
        help="Accept any certificate of a rtsps or https server, such as those that cameras sign for themselves.",
        rich_help_panel=PANEL,
    ),
]
StatsEvery = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="Seconds between two stats events; by default 5 for live sources, and 0, which is none, for others.",
        metavar="SECONDS",
        rich_help_panel=PANEL,
    ),
]


def live_settings(
    *,
    transport: TransportName | None,
    policy: PolicyName | None,
    max_fps: float | None,
    connect_timeout: float | None,
    read_timeout: float | None,
    reconnect_for: float | None,
    no_reconnect: bool,
    no_verify_tls: bool,
) -> LiveSettings | None:
    """The settings that were asked for; None when nothing was.

    Raises:
        BadParameter: They contradict each other.
    """
    from vsdk_runtimes.errors import InputError

    from ..sources.live_settings import LiveSettings

    if no_reconnect and reconnect_for is not None:
        raise typer.BadParameter("--no-reconnect and --reconnect-for exclude each other")
    asked: dict[str, Any] = {
        "transport": None if transport is None else transport.value,
        "policy": None if policy is None else policy.value,
        "max_fps": max_fps,
        "connect_timeout": connect_timeout,
        "read_timeout": read_timeout,
        "reconnect_for": 0.0 if no_reconnect else reconnect_for,
        "verify_tls": False if no_verify_tls else None,
    }
    asked = {name: value for name, value in asked.items() if value is not None}
    try:
        return replace(LiveSettings(), **asked) if asked else None
    except InputError as error:
        raise typer.BadParameter(error.message) from error
