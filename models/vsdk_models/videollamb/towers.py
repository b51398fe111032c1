"""The image and video towers inside a VideoLLaMB checkpoint: found by their names, sized by their shapes.

The towers are CLIP vision transformers, but their own config.json is not in the checkpoint, and where exactly their
tensors are has not been held against the published files. So this is inferred:

* the prefix: the module tree of Video-LLaVA, from which VideoLLaMB has its towers, or LLaVA's; see `IMAGE_PREFIXES` and
  `VIDEO_PREFIXES`;
* all sizes, from the shapes of the tensors; attention heads of 64 components, as in every published CLIP;
* activation and epsilon: LanguageBind's towers have the exact GELU, OpenAI's CLIP (LLaVA's `vision_tower`) QuickGELU.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from transformers import CLIPVisionConfig, CLIPVisionModel

from vsdk_runtimes.errors import CheckpointError

from ..families import Architecture
from ..layers import Layer
from ..quiet import quiet_transformers
from ..tensors import CheckpointTensors
from ..vision import tower

# Prefix, and the activation that goes with it.
IMAGE_PREFIXES = {
    "model.image_tower.image_tower.": "gelu",
    "model.image_tower.image_tower.vision_model.": "gelu",
    "model.vision_tower.vision_tower.vision_model.": "quick_gelu",
    "model.vision_tower.vision_tower.": "quick_gelu",
}
VIDEO_PREFIXES = {
    "model.video_tower.video_tower.": "gelu",
    "model.video_tower.video_tower.vision_model.": "gelu",
}
HEAD = 64
_CLASS = "embeddings.class_embedding"
_PATCH = "embeddings.patch_embedding.weight"
_POSITION = "embeddings.position_embedding.weight"
_LAYER = re.compile(r"encoder\.layers\.(\d+)\.")


@dataclass(frozen=True)
class TowerPlan:
    """A tower as the headers describe it.

    Attributes:
        prefix: Before the names of CLIP's vision model.
        activation: Of its feed-forward networks.
        architecture: Its sizes.
        hidden: Components between the two linear layers of a block.
    """

    prefix: str
    activation: str
    architecture: Architecture
    hidden: int

    @property
    def patches(self) -> int:
        """Patch tokens of a frame."""
        return (self.architecture.image_size // self.architecture.patch_size) ** 2


def plan_tower(tensors: CheckpointTensors, prefixes: dict[str, str]) -> TowerPlan | None:
    """Find a tower; None where there is none under any of the prefixes.

    Raises:
        CheckpointError: There is one, but its tensors do not have the shapes of a CLIP vision model.
    """
    for prefix, activation in prefixes.items():
        if f"{prefix}{_CLASS}" in tensors.shapes:
            return _plan(tensors, prefix, activation)
    return None


def _plan(tensors: CheckpointTensors, prefix: str, activation: str) -> TowerPlan:
    hidden_name = "encoder.layers.0.mlp.fc1.weight"
    patch, position, hidden = (
        _shape(tensors, prefix + name, axes) for name, axes in ((_PATCH, 4), (_POSITION, 2), (hidden_name, 2))
    )
    width, side = patch[0], math.isqrt(position[0] - 1)
    if width % HEAD or side < 1 or side**2 != position[0] - 1 or patch[2] != patch[3]:
        raise CheckpointError(
            f"{tensors.checkpoint.name}: the tower {prefix} is not a CLIP vision model: patches {list(patch)}, "
            f"positions {list(position)}"
        )
    blocks = 1 + max(int(match[1]) for name in tensors.below(prefix) if (match := _LAYER.match(name)))
    architecture = Architecture(
        family="clip", class_name="CLIPVisionModel", image_size=side * patch[2], patch_size=patch[2], width=width,
        blocks=blocks, embedding_width=None, text_length=None,
    )  # fmt: skip
    return TowerPlan(prefix, activation, architecture, hidden[0])


def empty_tower(plan: TowerPlan) -> Any:
    """transformers' CLIP vision model of these sizes, fp32, with eager attention and random weights."""
    sizes = plan.architecture
    settings: dict[str, Any] = {
        "hidden_size": sizes.width, "intermediate_size": plan.hidden, "num_hidden_layers": sizes.blocks,
        "num_attention_heads": sizes.width // HEAD, "image_size": sizes.image_size, "patch_size": sizes.patch_size,
        "hidden_act": plan.activation, "layer_norm_eps": 1e-5, "attn_implementation": "eager",
    }  # fmt: skip
    with quiet_transformers():
        return CLIPVisionModel(CLIPVisionConfig(**settings)).eval()


def load_image_tower(plan: TowerPlan, tensors: CheckpointTensors) -> Any:
    """The image tower with its weights.

    Raises:
        CheckpointError: A weight is missing or of the wrong shape; the message names it.
    """
    model = empty_tower(plan)
    tensors.fill(tower(model), plan.prefix, "image tower")
    return model


def select_layer(config: dict[str, Any]) -> Layer:
    """The layer whose tokens the bridge was trained with; -2 unless the configuration says otherwise."""
    found = config.get("mm_vision_select_layer", -2)
    return found if isinstance(found, int) else -2


def looked_for(prefixes: dict[str, str]) -> str:
    """The names that would have made a tower, for an error message."""
    return ", ".join(f"{prefix}{_CLASS}" for prefix in prefixes)


def _shape(tensors: CheckpointTensors, name: str, axes: int) -> tuple[int, ...]:
    shape = tensors.shapes.get(name)
    if shape is None:
        raise CheckpointError(f"{tensors.checkpoint.name} lacks {name}", hint="Get the whole checkpoint.")
    if len(shape) != axes:
        raise CheckpointError(f"{tensors.checkpoint.name}: {name} has the shape {list(shape)}, not {axes} axes")
    return shape
