"""`std_msgs/msg/String`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class String:
    data: str = ""
