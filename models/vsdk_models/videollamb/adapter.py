"""From the bridge's tokens to a language model's: what VideoLLaMB and LLaVA call a projector, each with its own names.

| `mm_projector_type` | computation | names |
|---|---|---|
| `rmt_r_transformerNx`, `rmt_transformerNx` | GELU(linear), the GELU behind the linear layer | `proj.0` |
| `linear` | linear | (none) |
| `mlpNx_gelu` | N linear layers with a GELU between any two | `0`, `2`, ... |
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


def bridge_adapter(width: int, language_width: int) -> nn.Sequential:
    """VideoLLaMB's: tokens `[batch, width]` to `[batch, language_width]`."""
    return nn.Sequential(OrderedDict(proj=nn.Sequential(nn.Linear(width, language_width), nn.GELU())))


def mlp_adapter(width: int, language_width: int, layers: int) -> nn.Sequential:
    """LLaVA's `mlpNx_gelu`: tokens `[batch, width]` to `[batch, language_width]`."""
    modules: list[nn.Module] = [nn.Linear(width, language_width)]
    for _ in range(layers - 1):
        modules += [nn.GELU(), nn.Linear(language_width, language_width)]
    return nn.Sequential(*modules)
