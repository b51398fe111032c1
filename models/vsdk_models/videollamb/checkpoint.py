"""A published VideoLLaMB checkpoint: which of its tensors make the bridge, the retrieval and the projector.

A checkpoint is a LLaVA one: config.json with the model type `llava_llama`, and the language model, both image towers
and the bridge in the same files. Everything of the bridge is under `model.mm_projector.`; nothing else is read here.

The names are those of the published module tree. They have not been held against the published files, so whatever is
missing is named, and what is there without being known is reported rather than ignored in silence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from vsdk_runtimes.errors import CheckpointError, InputError

from ..checkpoint import Checkpoint
from ..tensors import CheckpointTensors
from .adapter import bridge_adapter, mlp_adapter
from .config import BridgeConfig
from .step import MemoryStep

PREFIX = "model.mm_projector."
_MEMORY = "projector.read_memory_emb"
_POSITIONS = "abs_vid_pe.weight"
_BRIDGE_TYPE = re.compile(r"rmt_(?P<retrieval>r_)?transformer(?P<layers>[1-9]\d*)x\Z")
_MLP_TYPE = re.compile(r"mlp(?P<layers>[1-9]\d*)x_gelu\Z")
# In the files, but never used by the published code; the positions only where there is no retrieval.
_DEAD = re.compile(
    r"projector\.memory_tokens\Z|projector\.layers\.\d+\.crossattention\.|retrieval\.layers\.\d+\.selfattention\."
    r"|abs_vid_pe\.weight\Z"
)
# Constants in the published code, which no configuration states; the Mem code always has the positions.
_BASE_GRID, _MEM_GRID = 12, 14


@dataclass(frozen=True)
class BridgePlan:
    """What a checkpoint's configuration and headers say of its bridge, before any weights are read.

    Attributes:
        kind: `mm_projector_type`.
        config: Sizes of the bridge; None for a checkpoint with an adapter only.
        width: Components of a patch token.
        language_width: Components of the language model's tokens.
        unknown: Tensors under `PREFIX` that are neither used nor known to be unused.
    """

    kind: str
    config: BridgeConfig | None
    width: int
    language_width: int
    unknown: tuple[str, ...]


def is_videollamb(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint is VideoLLaMB's, or a LLaVA one with a projector of the kinds that it uses."""
    return checkpoint.config.get("model_type") == "llava_llama" and "mm_projector_type" in checkpoint.config


def plan_bridge(checkpoint: Checkpoint, tensors: CheckpointTensors, patches: int) -> BridgePlan:
    """Read the configuration and the headers.

    Args:
        checkpoint: For which `is_videollamb` holds.
        tensors: Its tensors.
        patches: Patch tokens of a frame, which the encoder decides.

    Raises:
        CheckpointError: A projector of an unknown type, a configuration that is silent or contradicts the weights, or
            missing weights.
    """
    settings = _Settings(checkpoint)
    kind = str(checkpoint.config["mm_projector_type"])
    names = tensors.below(PREFIX)
    config = None
    if match := _BRIDGE_TYPE.match(kind):
        config = _bridge_config(settings, tensors, patches, int(match["layers"]), match["retrieval"] is not None)
    elif kind != "linear" and not _MLP_TYPE.match(kind):
        raise CheckpointError(
            f"{checkpoint.name} has a projector of the unknown type {kind!r} (mm_projector_type in its config.json)",
            hint="Known types: rmt_r_transformerNx, rmt_transformerNx, linear, mlpNx_gelu.",
        )
    plan = BridgePlan(kind, config, settings.integer("mm_hidden_size"), settings.integer("hidden_size"), ())
    return replace(plan, unknown=tuple(sorted({*names} - _used(plan) - {name for name in names if _DEAD.match(name)})))


def load_bridge(plan: BridgePlan, tensors: CheckpointTensors) -> MemoryStep | None:
    """The bridge with its weights, ready to export; None where there is only an adapter.

    Raises:
        CheckpointError: A weight is missing or of the wrong shape; the message names it.
    """
    if plan.config is None:
        return None
    step = MemoryStep(plan.config)
    tensors.fill(step, PREFIX, f"memory bridge ({plan.kind})")
    return step.eval()


def load_adapter(plan: BridgePlan, tensors: CheckpointTensors) -> nn.Module:
    """The projector into the language model: tokens `[batch, width]` to `[batch, language_width]`.

    Raises:
        CheckpointError: A weight is missing or of the wrong shape; the message names it.
    """
    adapter, prefix = _adapter(plan)
    tensors.fill(adapter, f"{PREFIX}{prefix}", f"projector ({plan.kind})")
    return adapter.eval()


class _Settings:
    """The configuration of a checkpoint, with an error for whatever it does not say."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._name = checkpoint.name
        self._config: Mapping[str, Any] = checkpoint.config

    def integer(self, key: str) -> int:
        value = self._config.get(key)
        if not isinstance(value, int) or value < 1:
            raise CheckpointError(f"the config.json of {self._name} has no usable {key}: {value!r}")
        return value

    def check_activation(self) -> None:
        found = self._config.get("mm_hidden_act", "gelu")
        if found != "gelu":
            raise CheckpointError(
                f"the bridge of {self._name} has the activation {found!r} (mm_hidden_act in its config.json)",
                hint="Known: gelu.",
            )

    def epsilon(self) -> float:
        return float(self._config.get("mm_layer_norm_eps", BridgeConfig.epsilon))


def _bridge_config(
    settings: _Settings, tensors: CheckpointTensors, patches: int, layers: int, retrieval: bool
) -> BridgeConfig:
    """Sizes from the configuration where it states them, from the headers where it does not."""
    settings.check_activation()
    name = tensors.checkpoint.name
    memory = tensors.shapes.get(PREFIX + _MEMORY)
    if memory is None or len(memory) != 2:
        raise CheckpointError(
            f"{name} lacks {PREFIX}{_MEMORY}, the memory that a video starts from"
            if memory is None
            else f"{name}: {PREFIX}{_MEMORY} has the shape {list(memory)}, and not [memory tokens, width]"
        )
    positions = tensors.shapes.get(PREFIX + _POSITIONS)
    try:
        return BridgeConfig(
            width=settings.integer("mm_hidden_size"),
            heads=settings.integer("mm_num_attention_heads"),
            hidden=settings.integer("mm_intermediate_size"),
            layers=layers,
            memory_tokens=memory[0],
            patches=patches,
            grid=_BASE_GRID if positions is None else _MEM_GRID,
            variant="patches" if positions is not None and retrieval else "memories",
            retrieval=retrieval,
            positions=positions[0] if positions is not None and retrieval else 0,
            epsilon=settings.epsilon(),
        )
    except InputError as error:
        raise CheckpointError(f"the config.json of {name} makes no bridge: {error.message}") from error


def _adapter(plan: BridgePlan) -> tuple[nn.Module, str]:
    """An adapter without weights, and the prefix of its names."""
    if plan.config is not None:
        return bridge_adapter(plan.width, plan.language_width), "projector."
    if match := _MLP_TYPE.match(plan.kind):
        return mlp_adapter(plan.width, plan.language_width, int(match["layers"])), ""
    return nn.Linear(plan.width, plan.language_width), ""


def _used(plan: BridgePlan) -> set[str]:
    """Names under `PREFIX` that are read."""
    adapter, prefix = _adapter(plan)
    names = {f"{prefix}{name}" for name in adapter.state_dict()}
    if plan.config is None:
        return names
    with torch.device("meta"):  # only the names are wanted
        return names | set(MemoryStep(plan.config).state_dict())
