from __future__ import annotations

import enum


class SignalHandlerOptions(enum.Enum):
    NO = 0
    ALL = 3
