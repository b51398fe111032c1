"""Where events are published: the address of an MQTT broker, and topics."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from vsdk_runtimes.errors import InputError

from ..sources.credentials import redacted

PORTS = {"mqtt": 1883, "mqtts": 8883}
PREFIX = "vsdk"

_HINT = (
    "It is mqtt://user:password@host:1883/topic/prefix, or mqtts:// for TLS; user, port and prefix may be left out. "
    "In user and password, write %40 for @, %3A for :, %2F for /, %23 for #, %3F for ? and %25 for %."
)


@dataclass(frozen=True)
class MqttAddress:
    """A broker, who we are to it, and the beginning of all topics. Its `str` and `repr` are without credentials."""

    host: str
    port: int
    tls: bool
    prefix: str
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> MqttAddress:
        """The address that a URL is.

        Raises:
            InputError: It is none. The message does not repeat it, because the password may be anywhere in it.
        """
        parts, port = _split(url)
        if parts.scheme not in PORTS:
            raise InputError("the MQTT address begins with neither mqtt:// nor mqtts://", hint=_HINT)
        if not parts.hostname or parts.query or parts.fragment or "?" in url or "#" in url or "@" in parts.path:
            raise InputError("the MQTT address cannot be taken apart", hint=_HINT)
        prefix = unquote(parts.path).strip("/") or PREFIX
        if prefix.startswith("$") or re.search(r"[+#\x00-\x1f\x7f]|//", prefix) or not _is_text(prefix):
            raise InputError(
                "the topic prefix of the MQTT address may not have +, #, empty levels, control characters or a $ first",
                hint=_HINT,
            )
        user = unquote(parts.username) if parts.username is not None else None
        password = unquote(parts.password) if parts.password is not None else None
        if user == "" or not _is_text(user or "") or not _is_text(password or ""):
            raise InputError("user and password of the MQTT address must be text in UTF-8", hint=_HINT)
        return cls(parts.hostname, port or PORTS[parts.scheme], parts.scheme == "mqtts", prefix, user, password)

    def topic(self, source: str, kind: str) -> str:
        """`prefix/source/kind`."""
        return f"{self.prefix}/{level(source)}/{kind}"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"mqtt{'s' if self.tls else ''}://{host}:{self.port}/{self.prefix}"


def level(name: str) -> str:
    """A name as one level of a topic: everything but letters, digits, `.`, `_` and `-` becomes `_`.

    Raises:
        InputError: Nothing is left of it.
    """
    shown = redacted(name)
    kept = re.sub(r"[^\w.\-]+", "_", shown).strip("_")
    if not kept:
        raise InputError(
            f"{shown!r} cannot be a level of a topic", hint="Give the source a name with letters or digits."
        )
    return kept


def _split(url: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:  # outside of the handler: the error that it handles quotes a part of the address
        raise InputError("the MQTT address cannot be taken apart", hint=_HINT)
    return parts, port


def _is_text(text: str) -> bool:
    """Whether it can be sent as UTF-8; unquoting leaves marks for what could not be decoded."""
    return "\ufffd" not in text and "\0" not in text and text.isprintable() | (text == "")
