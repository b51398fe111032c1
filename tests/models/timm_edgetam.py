"""transformers' EdgeTAM with timm's image encoder, run in a process of its own: `python timm_edgetam.py TIMM FOLDER`.

TIMM is the folder that timm was installed into without its dependencies, and FOLDER holds `weights.safetensors` and
`inputs.safetensors`. What the image encoder gives for `pixels` is written to `outputs.safetensors`, and the names and
shapes of all weights to `names.json`.
"""

from __future__ import annotations

import json
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any


class NamesOnly(type):
    """A class whose attributes are their own names."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class StandInTorchvision(MetaPathFinder, Loader):
    """torchvision as far as timm needs it when it is imported: names, behind which there is nothing.

    The real one fits only the torch that it was built with. RepViT uses nothing of it.
    """

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self, is_package=True) if fullname.split(".")[0] == "torchvision" else None

    def exec_module(self, module: ModuleType) -> None:
        def attribute(name: str) -> type:
            if name.startswith("__"):
                raise AttributeError(name)
            return NamesOnly(name, (), {})

        module.__dict__.update(__getattr__=attribute, __version__="0.99")


def main(timm_folder: str, folder: Path) -> None:
    sys.path.insert(0, timm_folder)
    sys.path.insert(0, str(Path(__file__).parent))
    sys.meta_path.insert(0, StandInTorchvision())
    import torch
    import transformers
    from edgetam_reference import TIMM_BACKBONE
    from safetensors.torch import load_file, save_file

    torch.set_num_threads(1)
    config = transformers.EdgeTamVideoConfig(
        image_size=256, memory_attention_rope_feat_sizes=[16, 16],
        prompt_encoder_config={"image_size": 256},
        vision_config={
            "model_type": "edgetam_vision_model", "backbone_feature_sizes": [[64, 64], [32, 32], [16, 16]],
            "backbone_config": TIMM_BACKBONE,
        },
    )  # fmt: skip
    model: Any = transformers.EdgeTamVideoModel(config)
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    (folder / "names.json").write_text(json.dumps(shapes))
    model.load_state_dict(load_file(folder / "weights.safetensors"), strict=True)
    model.eval()
    backbone = model.vision_encoder.backbone
    assert type(backbone).__name__ == "TimmWrapperModel"
    with torch.no_grad():
        pixels = load_file(folder / "inputs.safetensors")["pixels"]
        outputs = {f"map{level}": item for level, item in enumerate(backbone(pixels).last_hidden_state)}
        levels = model.get_image_features(pixels).fpn_hidden_states
    outputs |= {f"level{level}": item for level, item in enumerate(levels)}
    save_file({name: tensor.contiguous() for name, tensor in outputs.items()}, folder / "outputs.safetensors")
    model.save_pretrained(folder / "checkpoint")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
