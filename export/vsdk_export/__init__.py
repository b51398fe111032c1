"""The export toolchain: PyTorch checkpoints become verified bundles (build side).

`export_checkpoint` takes checkpoints of known families, `export_module` any PyTorch module, `export_memory` a memory
bridge.
"""

from __future__ import annotations

from .build import PRECISIONS, Progress, export_module
from .checkpoint import export_checkpoint
from .memory import export_memory
from .parity import LIMITS, Limit
from .report import ComponentPlan, ExportReport, ParityRow

__all__ = [
    "LIMITS",
    "PRECISIONS",
    "ComponentPlan",
    "ExportReport",
    "Limit",
    "ParityRow",
    "Progress",
    "export_checkpoint",
    "export_memory",
    "export_module",
]
