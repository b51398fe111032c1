"""What the GPU checks run: the bundle that ships, and random weights in the shapes of published models.

Each is a bundle together with its networks in PyTorch, which are the reference and a contender. `quick` has the same
families in a few thousand parameters, so that a CPU exports and runs all of them in seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))

from edgetam_reference import edgetam_video_model
from sam2_reference import present, video_model

import vsdk
from vsdk_export.build import Target, export_networks
from vsdk_export.encoder import encoder_network
from vsdk_export.frames import pixels
from vsdk_export.memory import memory_networks
from vsdk_export.nano import PREPROCESSING
from vsdk_export.network import Network
from vsdk_export.tracker import tracker_networks
from vsdk_models.families import Architecture
from vsdk_models.nano.encoder import IMAGE_SIZE, NanoEncoder
from vsdk_models.nano.tracker.bundle import nano_networks
from vsdk_models.sam2.edgetam_model import edgetam_networks
from vsdk_models.sam2.model import sam2_networks
from vsdk_models.videollamb import BridgeConfig, MemoryStep
from vsdk_runtimes import Bundle, load_bundle
from vsdk_runtimes.manifest import Origin, Preprocessing, Resize

RANDOM = Origin(checkpoint="random weights", license="none")
NANO_ENCODER = Path(vsdk.__file__).parents[2] / "models" / "vsdk_models" / "nano" / "weights" / "encoder.safetensors"


@dataclass(frozen=True)
class Subject:
    """A bundle and its networks; their names are those of its components."""

    name: str
    bundle: Bundle
    networks: tuple[Network, ...]


@dataclass(frozen=True)
class Recipe:
    """How a subject is made.

    Attributes:
        name: Of the subject.
        seconds: What making it takes on a machine with a GPU, roughly: for the time budget.
        networks: Makes its networks.
    """

    name: str
    seconds: float
    networks: Callable[[], list[Network]]

    def make(self, folder: Path) -> Subject:
        """The subject, with its bundle exported at fp32 and fp16 into `folder` unless it is there already."""
        networks = self.networks()
        if self.name == "nano":
            return Subject(self.name, vsdk.load(), tuple(networks))
        target = folder / self.name.replace(" ", "-").replace("/", "-")
        if not target.exists():
            export_networks(networks, Target(target, None, self.name), precisions=("fp32", "fp16"))
        return Subject(self.name, load_bundle(target), tuple(networks))


def recipes(*, quick: bool) -> Iterator[Recipe]:
    """What there is, the most important first."""
    yield Recipe("nano", 5, _nano)
    yield Recipe("CLIP ViT-B/32", 40, lambda: [_clip(quick)])
    yield Recipe("DINOv2-S", 30, lambda: [_dinov2(quick)])
    yield Recipe("VideoLLaMB bridge", 40, lambda: [_bridge(quick)])
    yield Recipe("SAM 2.1 tiny", 90, lambda: _sam2(quick))
    yield Recipe("EdgeTAM", 90, lambda: _edgetam(quick))


def _nano() -> list[Network]:
    """The encoder and the tracker; its bridge is a small one of those that have a line of their own."""
    from safetensors.torch import load_file

    encoder = NanoEncoder()
    encoder.load_state_dict(load_file(NANO_ENCODER))
    network = Network(
        name="encoder", role="encoder", family="nano", module=encoder.eval(), outputs=("cls", "patches"),
        samples={"pixels": pixels(PREPROCESSING, (IMAGE_SIZE, IMAGE_SIZE))}, origin=RANDOM,
        preprocessing=PREPROCESSING,
    )  # fmt: skip
    return [network, *tracker_networks(nano_networks(), RANDOM)]


def _drawn(model: nn.Module) -> Any:
    """A model whose every parameter matters."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 0.02 if parameter.ndim > 1 else 0.05
            parameter.add_(torch.randn(parameter.shape, generator=generator) * scale)
    return model.eval()


def _vision(model: Any, family: str, side: int, patch: int, config: Any, embedding: int | None) -> Network:
    architecture = Architecture(
        family, type(model).__name__, side, patch, config.hidden_size, config.num_hidden_layers, embedding, None
    )
    preprocessing = Preprocessing(
        resize=Resize(height=side, width=side), mean=(0.48, 0.46, 0.41), std=(0.27, 0.26, 0.28)
    )
    return encoder_network(_drawn(model), architecture, preprocessing, architecture.default_layer, RANDOM)


_QUICK: dict[str, Any] = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


def _clip(quick: bool) -> Network:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    sizes: dict[str, Any] = {**_QUICK, "intermediate_size": 96, "projection_dim": 24} if quick else {}
    side, patch = (32, 8) if quick else (224, 32)
    config = CLIPVisionConfig(image_size=side, patch_size=patch, **sizes)
    return _vision(CLIPVisionModelWithProjection(config), "clip", side, patch, config, config.projection_dim)


def _dinov2(quick: bool) -> Network:
    from transformers import Dinov2Config, Dinov2Model

    sizes: dict[str, Any] = _QUICK if quick else {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6}
    side, patch = (32, 8) if quick else (224, 14)
    config = Dinov2Config(image_size=side, patch_size=patch, **sizes)
    return _vision(Dinov2Model(config), "dinov2", side, patch, config, None)


def _bridge(quick: bool) -> Network:
    torch.manual_seed(2)
    small: dict[str, Any] = {
        "width": 16, "heads": 2, "hidden": 32, "memory_tokens": 4, "patches": 16, "grid": 2, "capacity": 4
    }  # fmt: skip
    step = MemoryStep(BridgeConfig(**(small if quick else {})))
    (network,) = memory_networks(step.eval(), None, RANDOM)
    return network


def _sam2(quick: bool) -> list[Network]:
    model = present(video_model(0, 128 if quick else 1024, small=quick))
    return tracker_networks(sam2_networks(model), RANDOM)


def _edgetam(quick: bool) -> list[Network]:
    model = present(edgetam_video_model(0, 128 if quick else 1024, small=quick))
    return tracker_networks(edgetam_networks(model), RANDOM)
