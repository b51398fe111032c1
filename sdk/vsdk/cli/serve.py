"""`vsdk serve`: a live page of one or several sources."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import live_options
from .console import examples, stderr
from .named_sources import check_sources, with_names
from .options import (
    BundleFolder,
    DeviceName,
    EngineName,
    Precision,
    Quiet,
    SourceNames,
    StreamNames,
    Threads,
    Verify,
)
from .streams_status import StreamsStatus

if TYPE_CHECKING:
    from ..serving.server import LivePage
    from ..sources.base import Source
    from ..sources.live_settings import LiveSettings

EXAMPLES = examples(
    ("vsdk serve rtsp://10.0.0.7/main", "A camera, at http://127.0.0.1:8080/ until Ctrl-C."),
    ("vsdk serve rtsp://10.0.0.7/main camera://0 --name door --name desk", "Two cameras, with names."),
    ("VSDK_TOKEN=... vsdk serve rtsp://10.0.0.7/main --host 0.0.0.0", "For other machines, with a token."),
    ("vsdk serve video.mp4 --real-time", "A recording at its own pace."),
)
STATS_SECONDS = 2.0
PANEL = "Page"


def serve(
    sources: SourceNames,
    name: StreamNames = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 is any free one.", rich_help_panel=PANEL)] = 8080,
    host: Annotated[
        str,
        typer.Option(help="Where to listen; any other than this machine itself needs a token.", rich_help_panel=PANEL),
    ] = "127.0.0.1",
    token: Annotated[
        str | None,
        typer.Option(
            envvar="VSDK_TOKEN",
            help="What a browser has to know, at least 16 characters. In the environment other users do not see it.",
            show_default=False,
            rich_help_panel=PANEL,
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            help="Another host name by which the page may be called, such as that of a proxy; may be repeated.",
            metavar="NAME",
            show_default=False,
            rich_help_panel=PANEL,
        ),
    ] = None,
    keep: Annotated[
        int, typer.Option(min=1, help="Most scenes of each source; older ones are forgotten.", rich_help_panel=PANEL)
    ] = 500,
    real_time: Annotated[
        bool, typer.Option("--real-time", help="Play recordings at their own pace, not as fast as they can be read.")
    ] = False,
    bundle: BundleFolder = None,
    device: DeviceName = "cpu",
    engine: EngineName = "onnxruntime",
    precision: Precision = None,
    threads: Threads = None,
    verify: Verify = False,
    transport: live_options.Transport = None,
    policy: live_options.Policy = None,
    max_fps: live_options.MaxFps = None,
    connect_timeout: live_options.ConnectTimeout = None,
    read_timeout: live_options.ReadTimeout = None,
    reconnect_for: live_options.ReconnectFor = None,
    no_reconnect: live_options.NoReconnect = False,
    no_verify_tls: live_options.NoVerifyTls = False,
    quiet: Quiet = False,
) -> None:
    """Show sources on a live page, until Ctrl-C.

    Pictures, scenes as they close, search, and the health of every source, in a browser.
    """
    from ..loading import load
    from ..serving.server import LivePage, check_access
    from ..streams import Streams

    check_sources(sources, name or ())
    check_access(host, token)
    live = live_options.live_settings(
        transport=transport,
        policy=policy,
        max_fps=max_fps,
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        reconnect_for=reconnect_for,
        no_reconnect=no_reconnect,
        no_verify_tls=no_verify_tls,
    )
    loaded = load(bundle, verify=verify)
    runs_on: dict[str, Any] = {
        "device": device,
        "engine": engine,
        "precision": precision.value if precision is not None else None,
        "threads": threads,
    }
    with LivePage(loaded, port=port, host=host, token=token, names=allow_host or (), keep=keep, **runs_on) as page:
        opened = _open(sources, name or (), threads, live, real_time=real_time)
        status = StreamsStatus(opened, disable=quiet)
        with Streams(
            loaded,
            opened,
            memory=False,
            sinks=lambda name: [page.add(name)],
            on_frame=lambda name, number, seconds: status.take(name),
            stats_every=STATS_SECONDS,
            **runs_on,
        ) as streams:
            if not quiet:
                _say_where(page, token)
            with status:
                for told in streams:
                    status.tell(told)
                    if told.event.type == "end" and told.event.message:
                        _say(f"{told.stream}: {told.event.message}")
            if not quiet:
                _say("every source has ended; the page stays until Ctrl-C")
            threading.Event().wait()


def _open(
    sources: Sequence[str], names: Sequence[str], threads: int | None, live: LiveSettings | None, *, real_time: bool
) -> dict[str, Source]:
    from ..sources.paced import Paced
    from ..sources.several import open_sources

    opened = open_sources(with_names(sources, names), threads=threads, live=live)
    if live is not None and not any(source.info.live for source in opened.values()):
        for source in opened.values():
            source.close()
        raise typer.BadParameter("no source is live, so options of live sources have no meaning")
    return {name: Paced(source) if real_time and not source.info.live else source for name, source in opened.items()}


def _say_where(page: LivePage, token: str | None) -> None:
    _say(f"live page: {page.url}")
    if token is not None:
        _say(f"the first time, open {page.url}?token=YOUR-TOKEN")


def _say(text: str) -> None:
    stderr.print(text, markup=False, highlight=False, soft_wrap=True)
