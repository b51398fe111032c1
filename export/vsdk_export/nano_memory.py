"""The networks of nano's memory: bridge, readout, and the controls that the needle test compares them with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from vsdk.bench.needles import CLASSES, class_name
from vsdk_models.nano.bridge import WINDOW, RecurrentReader, WindowReader, contenders
from vsdk_runtimes.errors import CheckpointError
from vsdk_runtimes.manifest import Origin

from .memory import memory_networks
from .network import SAMPLES, Array, Asset, Network

FAMILY = "nano"


def load_memory(weights: Path, encoder: str) -> tuple[nn.ModuleDict, int]:
    """The trained memory and its controls, and the length of the longest video in training, seconds.

    Args:
        weights: What `vsdk_models.nano.train_bridge` wrote.
        encoder: SHA-256 of the weights of the encoder that it will read.

    Raises:
        CheckpointError: The file is missing, damaged, of something else, or was trained with another encoder.
    """
    models = contenders()
    try:
        with safe_open(weights, "pt") as file:
            told = file.metadata() or {}
        models.load_state_dict(load_file(weights))
        length = int(told["trained_length"])
    except (OSError, SafetensorError, RuntimeError, KeyError, ValueError) as error:
        raise CheckpointError(f"{weights} does not hold a nano bridge: {error}") from error
    if told.get("encoder") != encoder:
        raise CheckpointError(
            f"the bridge in {weights} was trained with another encoder",
            hint="Train it with this one: python -m vsdk_models.nano.train_bridge --encoder ENCODER --out FOLDER",
        )
    return models, length


def nano_memory(weights: Path, encoder: str, tokens: Array) -> tuple[list[Network], list[Network], list[Network]]:
    """What ships to be used, and what ships to be compared with.

    Args:
        weights: See `load_memory`.
        encoder: See `load_memory`.
        tokens: Patch tokens of pictures from that encoder, float32 `[pictures, 64, 192]`.

    Returns:
        The bridge; its readout; the bridge without retrieval and the readouts of the controls.
    """
    models, length = load_memory(weights, encoder)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    origin = Origin(checkpoint="vsdk/nano-bridge", sha256=digest, license="Apache-2.0")
    memory, plain = (cast(RecurrentReader, models[name]) for name in ("memory", "no_retrieval"))
    classes = [class_name(label) for label in range(len(CLASSES))]
    task = Asset("task.json", json.dumps({"classes": classes, "trained_length": length}, indent=1).encode())
    (bridge,) = memory_networks(memory.step, None, origin, tokens=tokens, family=FAMILY)
    (without,) = memory_networks(
        plain.step, None, origin, tokens=tokens, name="no_retrieval", role="bridge.no_retrieval", family=FAMILY
    )
    readout = _readout("readout", "readout", memory, bridge, origin, {"task": task})
    controls = [
        without,
        _readout("no_retrieval_readout", "readout.no_retrieval", plain, without, origin, {}),
        *(_window_readout(name, cast(WindowReader, models[name]), tokens, origin) for name in ("last_n", "mean")),
    ]
    return [bridge], [readout], controls


def _readout(
    name: str, role: str, reader: RecurrentReader, bridge: Network, origin: Origin, assets: Mapping[str, Asset]
) -> Network:
    """The readout of a bridge, with memory tokens that the bridge gives."""
    steps = [outputs for _, outputs in bridge.steps()]
    tokens = np.concatenate([outputs[key] for outputs in steps for key in ("memory_out", "bridged")])
    samples = {"tokens": tokens}
    return Network(name, role, FAMILY, reader.readout, ("what", "here"), samples, origin, assets=assets)


def _window_readout(name: str, reader: WindowReader, tokens: Array, origin: Origin) -> Network:
    """The readout of a control, with windows of the pictures in turn, from full to nearly empty."""
    order = (np.arange(SAMPLES)[:, None] + np.arange(WINDOW)) % len(tokens)
    there = np.arange(WINDOW) < np.linspace(WINDOW, 1, SAMPLES).round()[:, None]
    samples = {"frames": tokens[order], "there": there.astype(np.float32)}
    return Network(name, f"readout.{name}", FAMILY, reader, ("what",), samples, origin)
