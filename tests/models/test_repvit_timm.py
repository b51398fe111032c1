"""Our RepViT and EdgeTAM against timm's and transformers' with timm, which is installed for this alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from edgetam_reference import edgetam_video_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from vsdk_models.checkpoint import open_checkpoint
from vsdk_models.sam2.edgetam import load_edgetam
from vsdk_models.sam2.repvit import fused

TIMM = "timm==1.0.31"
pytestmark = pytest.mark.install


class Run:
    """Our model, and what transformers with timm makes of its weights."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model: Any = edgetam_video_model(small=False)
        self.pixels = torch.randn(2, 3, 256, 256, generator=torch.Generator().manual_seed(0))
        save_file(self.model.state_dict(), folder / "weights.safetensors")
        save_file({"pixels": self.pixels}, folder / "inputs.safetensors")
        execute("-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder / "timm"), TIMM)
        execute(str(Path(__file__).with_name("timm_edgetam.py")), str(folder / "timm"), str(folder))
        self.outputs = load_file(folder / "outputs.safetensors")
        self.shapes: dict[str, list[int]] = json.loads((folder / "names.json").read_text())


def execute(*arguments: str) -> None:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def furthest(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("timm"))


def test_all_weights_have_the_same_names_and_shapes(run: Run) -> None:
    assert {name: list(tensor.shape) for name, tensor in run.model.state_dict().items()} == run.shapes


def test_the_image_encoder_gives_the_same_maps_also_when_it_is_fused(run: Run) -> None:
    backbone = run.model.vision_encoder.backbone.timm_model
    with torch.no_grad():
        for network in (backbone, fused(backbone)):
            for level, found in enumerate(network(run.pixels)):
                assert furthest(found, run.outputs[f"map{level}"]) < 1e-5


def test_the_neck_gets_the_same_maps(run: Run) -> None:
    with torch.no_grad():
        levels = run.model.get_image_features(run.pixels).fpn_hidden_states
    for level, found in enumerate(levels):
        assert furthest(found, run.outputs[f"level{level}"]) < 1e-5


def test_a_checkpoint_written_with_timm_is_read_without(run: Run) -> None:
    checkpoint = open_checkpoint(str(run.folder / "checkpoint"))
    assert checkpoint.config["vision_config"]["backbone_config"]["model_type"] == "timm_wrapper"
    loaded = load_edgetam(checkpoint).state_dict()
    for name, tensor in run.model.state_dict().items():
        assert torch.equal(loaded[name], tensor), name
