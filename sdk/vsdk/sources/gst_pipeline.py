"""The text of a GStreamer pipeline: what elements it needs, and what of it may be shown.

Passwords stand in pipelines as properties (`user-pw=...`) and in addresses, and GStreamer repeats them in what it says
when something is wrong. So nothing of the text is shown but what is known to be harmless.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ..errors import SourceError
from .addresses import parse_address, scheme_of

SCHEME = "gst"

_TOKEN = re.compile(r"""(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')+|(?P<torn>\S)""", re.DOTALL)
_ELEMENT = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_PROPERTY = re.compile(r"(?P<key>[A-Za-z][A-Za-z0-9_-]*)=(?P<value>.*)", re.DOTALL)
_HARMLESS = re.compile(r"[\w./:-]{1,80}")
_SINK = "vsdk"
_SHOWN = {"device", "device-index", "sensor-id", "sensor_id", "pattern"}
_ADDRESSES = {"location", "uri"}
_EXAMPLE = "For instance 'gst://v4l2src device=/dev/video0 ! jpegdec', in quotes because of the ! in it."


@dataclass(frozen=True)
class GstPipeline:
    """A pipeline as GStreamer's `gst-launch-1.0` takes it, without what takes the frames out at its end.

    Attributes:
        name: What may be shown of it: its first element, and which device or address that reads.
        elements: Those of its elements that stand at its beginning or after a `!`.
        sink: The name of the `appsink` at its end, from which frames are taken.
        description: All of it with such an end, for GStreamer alone. It is not shown in `repr`.
        values: What its properties are set to; see `harmless`.
    """

    name: str
    elements: tuple[str, ...]
    sink: str
    description: str = field(repr=False)
    values: frozenset[str] = field(repr=False)

    def harmless(self, text: str) -> bool:
        """Whether a message of GStreamer repeats no value of a property, other than those that may be shown."""
        return not any(value in text for value in self.values)


def parse_pipeline(text: str) -> GstPipeline:
    """Understand `gst://PIPELINE`.

    Raises:
        SourceError: There is no pipeline, or its quotes are not closed. Nothing of the text is shown.
    """
    description = text.partition("://")[2].strip()
    tokens = []
    for match in _TOKEN.finditer(description):
        if match["torn"]:
            raise SourceError("gst:// pipeline: a quotation mark is not closed", hint=_EXAMPLE)
        tokens.append(match[0])
    if not tokens or "\0" in description:
        raise SourceError("gst:// is to be followed by a pipeline", hint=_EXAMPLE)
    # Only where an element must stand: elsewhere a word may be the rest of a password whose quotes are missing.
    followers = [token for before, token in zip(["!", *tokens], tokens, strict=False) if before == "!"]
    elements = tuple(dict.fromkeys(token for token in followers if _ELEMENT.fullmatch(token)))
    sink, ending = _ending(tokens)
    return GstPipeline(_name(tokens), elements, sink, description + ending, frozenset(_hidden_values(tokens, elements)))


def _ending(tokens: list[str]) -> tuple[str, str]:
    """The name of the appsink at the end, and what has to be added so that there is one of this name."""
    last = max((place for place, token in enumerate(tokens) if token == "!"), default=-1) + 1
    if tokens[last : last + 1] != ["appsink"]:
        return _SINK, f" ! videoconvert ! appsink name={_SINK}"
    names = [
        match["value"] for token in tokens[last:] if (match := _PROPERTY.fullmatch(token)) and match["key"] == "name"
    ]
    return (_unquoted(names[-1]), "") if names else (_SINK, f" name={_SINK}")


def _name(tokens: list[str]) -> str:
    """The first element, and what it reads where that is harmless."""
    if not _ELEMENT.fullmatch(tokens[0]):
        return f"{SCHEME}://pipeline"
    shown = [f"{SCHEME}://{tokens[0]}"]
    for token in tokens[1:]:
        match = _PROPERTY.fullmatch(token)
        if match is None:
            break
        key, value = match["key"], _unquoted(match["value"])
        if key in _SHOWN and _HARMLESS.fullmatch(value):
            shown.append(f"{key}={value}")
        elif key in _ADDRESSES and scheme_of(value) is not None:
            shown.append(_address(value))
    return " ".join(filter(None, shown))


def _address(value: str) -> str:
    try:
        return parse_address(value).name
    except SourceError:
        return ""


def _hidden_values(tokens: list[str], elements: tuple[str, ...]) -> list[str]:
    found = []
    for token in tokens:
        match = _PROPERTY.fullmatch(token)
        if match is None and token not in elements and len(token) > 3:
            found.append(token)  # caps; or what is left of a property whose quotes are missing
        elif match is not None and match["key"] not in _SHOWN:
            value = _unquoted(match["value"])
            parts = re.split(r"[:/@?&=]+", value.rpartition("://")[2])
            found += [part for part in (value, *parts) if len(part) > 3]
    return found


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    return re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)
