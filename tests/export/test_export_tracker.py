"""`vsdk export` of tracker checkpoints as `save_pretrained` writes them, and with the original's key names."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parent.parent / "models"))

from edgetam_reference import edgetam_video_model, write_checkpoint
from sam2_reference import video_model

import vsdk
from vsdk_export import export_checkpoint
from vsdk_export.tracker import export_tracker
from vsdk_models.checkpoint import open_checkpoint
from vsdk_models.nano.tracker.bundle import as_networks
from vsdk_models.nano.tracker.network import NanoTracker
from vsdk_models.sam2.loading import TrackerOptions, is_tracker, load_tracker_checkpoint
from vsdk_models.sam2.original_keys import original_names
from vsdk_models.sam2.published import published_config
from vsdk_runtimes.errors import CheckpointError, InputError
from vsdk_runtimes.manifest import Origin

ROLES = {"tracker.encoder", "tracker.attention", "tracker.decoder", "tracker.memory"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small SAM-2 for 256 pixels, with the processor's settings."""
    folder = tmp_path_factory.mktemp("checkpoint") / "small-sam2"
    video_model(1, 256).save_pretrained(folder)
    settings = {"size": {"height": 256, "width": 256}, "resample": 2, "do_normalize": True,
                "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    return folder


def test_a_checkpoint_becomes_a_tracker_at_a_chosen_size(checkpoint: Path, tmp_path: Path) -> None:
    report = export_checkpoint(checkpoint, out=tmp_path / "bundle", image_size=128, conditioning_slots=2)
    assert {part.role for part in report.components.values()} == ROLES
    bundle = vsdk.load(tmp_path / "bundle")
    assert bundle.digest == report.digest
    attention = bundle.component("tracker.attention").spec
    assert attention.tracker is not None
    assert attention.tracker.conditioning_slots == 2
    assert attention.inputs["pointers"].shape == ("batch", 2 + 15, 128)
    assert attention.source.license == "apache-2.0"
    assert bundle.component("tracker.encoder").spec.inputs["pixels"].shape == ("batch", 3, 128, 128)
    picture = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    with vsdk.Tracker(bundle, threads=1) as tracker:
        tracker.prompt(picture, 1, box=(10, 10, 60, 60))
        assert tracker.track(picture)[0].mask.shape == (90, 120)


def test_edgetam_becomes_a_tracker(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "edgetam", edgetam_video_model())
    report = export_checkpoint(tmp_path / "edgetam", out=tmp_path / "bundle", precisions=("fp32", "fp16"))
    assert {part.role for part in report.components.values()} == ROLES
    assert all(part.family == "edgetam" for part in report.components.values())
    spec = report.components["tracker_attention"].tracker
    assert spec is not None
    assert (spec.rounding, spec.binarise) == ("none", "object")


def test_the_nano_tracker_is_exported_as_it_says(tmp_path: Path) -> None:
    torch.manual_seed(0)
    networks = as_networks(NanoTracker())
    report = export_tracker(networks, origin=Origin(checkpoint="untrained"), out=tmp_path / "bundle")
    bundle = vsdk.load(tmp_path / "bundle")
    assert bundle.digest == report.digest
    assert bundle.component("tracker.attention").spec.tracker == networks.spec


def test_a_dry_run_writes_nothing(checkpoint: Path, tmp_path: Path) -> None:
    report = export_checkpoint(checkpoint, out=tmp_path / "bundle", dry_run=True)
    assert {part.role for part in report.plan} == ROLES
    assert not (tmp_path / "bundle").exists()


def _altered(checkpoint: Path, target: Path, change: Any) -> Path:
    target.mkdir()
    for path in checkpoint.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    tensors = load_file(target / "model.safetensors")
    change(tensors)
    save_file(tensors, target / "model.safetensors")
    return target


def test_weights_that_do_not_fit_are_named(checkpoint: Path, tmp_path: Path) -> None:
    name = "memory_attention.layers.0.linear1.weight"

    def missing(tensors: dict[str, torch.Tensor]) -> None:
        del tensors[name]

    def unknown(tensors: dict[str, torch.Tensor]) -> None:
        tensors["memory_attention.layers.9.weight"] = torch.zeros(2)

    def shape(tensors: dict[str, torch.Tensor]) -> None:
        tensors[name] = torch.zeros(2, 2)

    for number, (change, named) in enumerate(((missing, name), (unknown, "layers.9"), (shape, name))):
        broken = _altered(checkpoint, tmp_path / str(number), change)
        with pytest.raises(CheckpointError, match=named):
            export_checkpoint(broken, out=tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_checkpoint_with_tied_embeddings_is_whole(checkpoint: Path, tmp_path: Path) -> None:
    """Older versions of transformers wrote the directions of the position encoding once."""

    def tied(tensors: dict[str, torch.Tensor]) -> None:
        del tensors["prompt_encoder.shared_embedding.positional_embedding"]

    folder = _altered(checkpoint, tmp_path / "tied", tied)
    whole, found = (
        load_tracker_checkpoint(open_checkpoint(str(path)), TrackerOptions()) for path in (checkpoint, folder)
    )
    for name, tensor in whole.decoder.state_dict().items():
        assert torch.equal(tensor, found.decoder.state_dict()[name]), name


def test_options_that_do_not_fit_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown family"):
        export_checkpoint(checkpoint, out=tmp_path / "bundle", family="sam9-huge")
    with pytest.raises(InputError, match="cannot take images of 100 pixels"):
        export_checkpoint(checkpoint, out=tmp_path / "bundle", image_size=100)
    for slots in (0, -1):
        with pytest.raises(InputError, match="at least one prompted frame"):
            export_checkpoint(checkpoint, out=tmp_path / "bundle", conditioning_slots=slots)


def test_original_key_names(tmp_path: Path) -> None:
    """At full width, because only published models are known by their family; the names have tests of their own."""
    config = published_config("sam2.1-tiny", image_size=256)
    from transformers import Sam2VideoModel

    torch.manual_seed(3)
    model: Any = Sam2VideoModel(config)
    model.eval()
    folder = tmp_path / "original"
    folder.mkdir()
    state, tensors = model.state_dict(), dict[str, torch.Tensor]()
    for name, originals in original_names(state).items():
        parts = [state[name]] if len(originals) == 1 else state[name].split(1)
        tensors.update((original, part.contiguous()) for original, part in zip(originals, parts, strict=True))
    save_file(tensors, folder / "model.safetensors")
    pixels = torch.randn(1, 3, 256, 256)
    with torch.inference_mode():
        expected = model.get_image_features(pixels, return_dict=True).fpn_hidden_states[-1]
    for family in ("sam2.1-tiny", None):  # said, and found out
        opened = open_checkpoint(str(folder))
        assert is_tracker(opened, family)
        networks = load_tracker_checkpoint(opened, TrackerOptions(image_size=256, family=family))
        with torch.inference_mode():
            found = networks.encoder.eval()(pixels)[2]
        assert torch.allclose(found.flatten(2)[0].T, expected[:, 0], atol=1e-4)
