"""VideoLLaMB: the recurrent memory bridge, its retrieval and its towers, under the names that its checkpoints use."""

from __future__ import annotations

from .config import BridgeConfig
from .step import MemoryStep

__all__ = ["BridgeConfig", "MemoryStep"]
