"""Servers with certificates: whom a password is told, and whom not. FFmpeg would by default tell anybody."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from live_tools import STEADY, Taken

from vsdk.errors import SourceError, SourceNotFoundError
from vsdk.sources.live_settings import LiveSettings
from vsdk.sources.network import open_network

CERTIFICATE = Path(__file__).with_name("loopback_certificate.pem")
"""Signed by itself, for 127.0.0.1, with its key; made for this test."""

ONCE = replace(STEADY, reconnect_for=0.0)


class SecretServer:
    """Knows nothing (404), but notes what it was told."""

    def __init__(self) -> None:
        self.told: list[bytes] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(CERTIFICATE)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            try:
                with self._context.wrap_socket(connection, server_side=True) as secret:
                    request = secret.recv(4096)
                    self.told.append(request)
                    protocol = b"RTSP/1.0" if b"RTSP" in request else b"HTTP/1.0"
                    secret.sendall(protocol + b" 404 Not Found\r\nCSeq: 1\r\n\r\n")
            except OSError:  # the client did not like the certificate
                connection.close()


@pytest.fixture
def server() -> Iterator[SecretServer]:
    made = SecretServer()
    yield made
    made.close()


def ask(server: SecretServer, scheme: str, settings: LiveSettings) -> None:
    with open_network(f"{scheme}://viewer:s3cr3t@127.0.0.1:{server.port}/live", settings) as source:
        Taken(source).state("live")


@pytest.mark.parametrize("scheme", ["https", "rtsps"])
def test_a_stranger_is_told_nothing(server: SecretServer, scheme: str) -> None:
    with pytest.raises(SourceError) as caught:
        ask(server, scheme, ONCE)
    assert not isinstance(caught.value, SourceNotFoundError)
    assert "certificate" in caught.value.hint
    assert [told for told in server.told if told] == []


@pytest.mark.parametrize("scheme", ["https", "rtsps"])
def test_unless_one_asks_for_it(server: SecretServer, scheme: str) -> None:
    with pytest.raises(SourceNotFoundError):
        ask(server, scheme, replace(ONCE, verify_tls=False))
    assert any(server.told)


@pytest.mark.parametrize("scheme", ["https", "rtsps"])
def test_whom_the_machine_trusts(server: SecretServer, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    with pytest.raises(SourceNotFoundError):
        ask(server, scheme, ONCE)
    assert any(server.told)
