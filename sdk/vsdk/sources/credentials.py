"""Credentials stay out of what is shown: names, logs, events and errors."""

from __future__ import annotations

import re

HIDDEN = "***"

_USER_INFORMATION = re.compile(r"(?P<scheme>[a-z][a-z0-9+.\-]*://)[^\s\"'<>]*@", re.IGNORECASE)
_BARE_USER_INFORMATION = re.compile(r"(?<![^\s\"'<>])[^\s\"'<>/\\:@]+:(?!//)[^\s\"'<>]*@(?=[^\s\"'<>@]+)")
_QUERY_SECRET = re.compile(
    r"(?P<key>[?&;](?:[a-z0-9_.\-]*(?:pass(?:word|wd|phrase)?|pwd|secret|token|auth|signature|credential|key)|user(?:name)?|usr|login)=)"
    r"[^\s&;#\"'<>]*",
    re.IGNORECASE,
)


def redacted(text: str) -> str:
    """The text without the user names, passwords and keys of the addresses in it.

    Everything between the scheme and the last `@` of an address goes, because passwords contain `@`, `/` and `?`
    unescaped more often than paths contain `@`: rather too much is hidden than too little.

    Example:
        ```python
        redacted("rtsp://admin:p@ss/1@10.0.0.7:554/main?token=abc")  # 'rtsp://***@10.0.0.7:554/main?token=***'
        ```
    """
    text = _USER_INFORMATION.sub(rf"\g<scheme>{HIDDEN}@", text)
    text = _BARE_USER_INFORMATION.sub(f"{HIDDEN}@", text)
    return _QUERY_SECRET.sub(rf"\g<key>{HIDDEN}", text)
