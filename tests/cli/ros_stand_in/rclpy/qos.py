from __future__ import annotations

import enum
from dataclasses import dataclass


class ReliabilityPolicy(enum.Enum):
    RELIABLE = 1
    BEST_EFFORT = 2


@dataclass(frozen=True)
class QoSProfile:
    depth: int
    reliability: ReliabilityPolicy
