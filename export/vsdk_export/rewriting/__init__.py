"""Rewrites of a traced graph that leave its function as it is and make it cheaper to run, at every precision.

Each is a file and a function that takes a model, changes it in place and says how often it applied.
"""

from __future__ import annotations

import onnx_ir as ir

from .attention_bias import move_attention_biases
from .layer_scale import fold_layer_scales
from .names import name_weights
from .patches import multiply_patches
from .projections import merge_projections

__all__ = [
    "fold_layer_scales",
    "merge_projections",
    "move_attention_biases",
    "multiply_patches",
    "name_weights",
    "rewrite",
]


def rewrite(model: ir.Model) -> None:
    """Apply all of them in place, in the order in which each finds what the others leave."""
    name_weights(model)
    multiply_patches(model)
    fold_layer_scales(model)
    move_attention_biases(model)
    merge_projections(model)
