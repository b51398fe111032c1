"""VideoLLaMB checkpoints in their published form: what is read, what is exported, and what is refused by name."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from memory_host import relative
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner
from video_tower_reference import video_tower
from videollamb_checkpoint import (
    BLOCKS,
    IMAGE,
    IMAGE_TOWER,
    LANGUAGE,
    MEMORY,
    PATCHES,
    PROJECTOR,
    VIDEO_TOWER,
    WIDTH,
    checkpoint_weights,
    image_tower,
    write_checkpoint,
)
from videollamb_reference import Reference

import vsdk
from vsdk.cli.app import app
from vsdk_export import ExportReport, export_checkpoint
from vsdk_export.build import Target
from vsdk_export.videollamb import export_videollamb
from vsdk_models.checkpoint import open_checkpoint
from vsdk_models.tensors import CheckpointTensors
from vsdk_models.videollamb.checkpoint import load_adapter, load_bridge, plan_bridge
from vsdk_runtimes import Bundle, load, load_bundle
from vsdk_runtimes.errors import CheckpointError, ExportError, InputError


class Exported:
    """A checkpoint and its bundle."""

    def __init__(self, folder: Path, weights: dict[str, Tensor], **settings: Any) -> None:
        self.weights = {name: tensor.float() for name, tensor in weights.items()}
        self.checkpoint = write_checkpoint(folder / "checkpoint", weights, **settings)
        self.report: ExportReport = export_checkpoint(self.checkpoint, out=folder / "bundle")
        self.bundle: Bundle = load_bundle(folder / "bundle")

    def below(self, prefix: str) -> dict[str, Tensor]:
        return below(self.weights, prefix)

    def run(self, name: str, **inputs: Any) -> Mapping[str, Any]:
        with load(self.bundle.components[name], threads=1) as session:
            return session.run(inputs)


def below(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value.float() for name, value in weights.items() if name.startswith(prefix)}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported(tmp_path_factory.mktemp("base"), checkpoint_weights())


def frames(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=(count, 3, IMAGE, IMAGE)).astype(np.float32)


def test_the_image_tower_becomes_the_encoder(base: Exported) -> None:
    found = base.run("encoder", pixels=frames(2))
    with torch.inference_mode():
        output = image_tower(base.weights)(pixel_values=torch.from_numpy(frames(2)), output_hidden_states=True)
    tokens = output.hidden_states[-2]
    assert relative(found["cls"], tokens[:, 0]) <= 1e-4
    assert relative(found["patches"], tokens[:, 1:]) <= 1e-4
    spec = base.bundle.components["encoder"].spec
    assert spec.layer == -2
    assert spec.preprocessing is not None
    assert spec.preprocessing.crop == (IMAGE, IMAGE)
    assert spec.preprocessing.resize.filter == "bicubic"
    assert spec.preprocessing.mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))


def test_the_video_tower_becomes_an_encoder_of_clips(base: Exported) -> None:
    spec = base.bundle.components["video_encoder"].spec
    assert (spec.frames_per_call, spec.look_ahead) == (8, 7)
    assert spec.inputs["pixels"].shape == ("batch", 8, 3, IMAGE, IMAGE)
    clips = np.stack([frames(8, 1), frames(8, 2)])
    found = base.run("video_encoder", pixels=clips)
    for clip, cls, patches in zip(clips, found["cls"], found["patches"], strict=True):
        expected = video_tower(base.below(VIDEO_TOWER), torch.from_numpy(clip), BLOCKS - 1)
        assert relative(cls, expected[:, 0]) <= 1e-4
        assert relative(patches, expected[:, 1:]) <= 1e-4


def test_the_bridge_is_the_published_one(base: Exported) -> None:
    """The published grid of 12 by 12, over all four components of the bundle: pixels to language tokens."""
    weights = base.below(PROJECTOR)
    reference = Reference({name: tensor.double() for name, tensor in weights.items()}, heads=4, side=4, grid=12)
    memory = base.bundle.components["bridge"].spec.memory
    assert memory is not None
    assert (memory.variant, memory.capacity, memory.tokens, memory.grid) == ("memories", 32, MEMORY, 12)
    patches = base.run("encoder", pixels=frames(8))["patches"]
    with load(base.bundle.components["bridge"], threads=1) as session:
        state = session.new_state()
        for number, count in enumerate((8, 1, 3)):
            given = {
                "patches": patches[None], "frames": (np.arange(8) < count).astype(np.float32)[None],
                "restart": np.zeros(1, np.float32),
                "mix": np.diag((np.arange(32) < number).astype(np.float32))[None],
                "write": (np.arange(32) == number).astype(np.float32),
                "valid": (np.arange(32) <= number).astype(np.float32)[None],
            }  # fmt: skip
            found = session.step(given, state, outputs=("bridged", "visual", "memory_out"))
            bridged, visual, memory_out = reference.segment(torch.from_numpy(patches[:count]).double(), number)
            assert relative(found["bridged"][0], bridged) <= 1e-4
            assert relative(found["visual"][0, : len(visual)], visual) <= 1e-4
            assert relative(found["memory_out"][0], memory_out) <= 1e-4
    projected = base.run("projector", tokens=visual.float().numpy())["projected"]
    assert projected.shape == (3 * 144, LANGUAGE)
    assert relative(projected, reference.adapter(visual)) <= 1e-4


def test_the_report_says_what_was_inferred(base: Exported) -> None:
    assert list(base.bundle.components) == ["encoder", "video_encoder", "bridge", "projector"]
    notes = "\n".join(base.report.notes)
    for prefix in (IMAGE_TOWER, VIDEO_TOWER):
        assert f"{prefix}*: sizes inferred from the shapes (3 blocks, 32 pixels, patches of 8)" in notes
    assert "not known" not in notes


def test_the_bundle_remembers_a_stream(base: Exported) -> None:
    rng = np.random.default_rng(0)
    pipeline = vsdk.Pipeline(base.bundle, threads=1)
    events = []
    for index in range(20):
        picture = np.full((48, 64, 3), 200 if index < 10 else 30, np.uint8) + rng.integers(0, 9, (48, 64, 3), np.uint8)
        events += pipeline.push(picture, index * 40_000_000)
    events += pipeline.flush()
    assert pipeline.memory is not None
    scenes = [event for event in events if isinstance(event, vsdk.Scene)]
    assert len(pipeline.memory.entries) == len(scenes) >= 1
    assert pipeline.memory.language_tokens().shape[1] == LANGUAGE
    pipeline.close()


def test_the_mem_variant_is_known_by_its_positions(tmp_path: Path) -> None:
    weights = checkpoint_weights(mem=True)
    folder = write_checkpoint(tmp_path / "checkpoint", weights, shards=1)
    tensors = CheckpointTensors(open_checkpoint(str(folder)))
    plan = plan_bridge(tensors.checkpoint, tensors, PATCHES)
    assert plan.config is not None
    assert (plan.config.variant, plan.config.grid, plan.config.positions, plan.config.slots) == ("patches", 14, 20, 8)
    step = load_bridge(plan, tensors)
    assert step is not None
    reference = Reference(below(weights, PROJECTOR), heads=4, side=4, grid=14, caches_patches=True)
    segment = torch.randn(1, 8, PATCHES, WIDTH, generator=torch.Generator().manual_seed(2))
    given = {name: torch.zeros(step.input_shape(name)) for name in step.input_names}
    given |= {"patches": segment, "frames": torch.ones(1, 8), "restart": torch.ones(1)}
    given |= {"write": torch.eye(8)[0], "valid": torch.eye(8)[:1].expand(8, 8), "position": torch.tensor([0])}
    with torch.inference_mode():
        found = dict(zip(step.output_names, step(*given.values()), strict=True))
    for name, expected in zip(("bridged", "visual", "memory_out"), reference.segment(segment[0], 0), strict=True):
        assert relative(found[name][0].numpy(), expected) <= 1e-4


@pytest.mark.parametrize(("kind", "layers"), [("rmt_transformer1x", 1), ("rmt_r_transformer3x", 3)])
def test_other_depths_and_no_retrieval(kind: str, layers: int, tmp_path: Path) -> None:
    weights = checkpoint_weights(layers=layers, retrieval=kind.startswith("rmt_r"))
    folder = write_checkpoint(tmp_path / "checkpoint", weights, mm_projector_type=kind)
    tensors = CheckpointTensors(open_checkpoint(str(folder)))
    step = load_bridge(plan_bridge(tensors.checkpoint, tensors, PATCHES), tensors)
    assert step is not None
    assert (step.retrieval is not None) == kind.startswith("rmt_r")
    reference = Reference(below(weights, PROJECTOR), heads=4, side=4, grid=12, retrieves=False)
    segment = torch.randn(2, PATCHES, WIDTH, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        bridged, visual = step.projector(step.projector.read_memory_emb[None], step.pool(segment[None]))
    expected, expected_visual, _ = reference.segment(segment, 0)
    assert relative(bridged[0].numpy(), expected) <= 1e-4
    assert relative(visual[0].numpy(), expected_visual) <= 1e-4


def test_without_retrieval_the_mem_variant_does_not_use_its_positions(tmp_path: Path) -> None:
    weights = checkpoint_weights(mem=True, retrieval=False)
    folder = write_checkpoint(tmp_path / "checkpoint", weights, mm_projector_type="rmt_transformer1x")
    tensors = CheckpointTensors(open_checkpoint(str(folder)))
    plan = plan_bridge(tensors.checkpoint, tensors, PATCHES)
    assert plan.config is not None
    assert (plan.config.variant, plan.config.grid, plan.config.positions, plan.config.slots) == ("memories", 14, 0, 0)
    assert plan.unknown == ()
    assert load_bridge(plan, tensors) is not None


@pytest.mark.parametrize(("kind", "layers"), [("linear", 1), ("mlp2x_gelu", 2)])
def test_adapters_without_a_bridge(kind: str, layers: int, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(5)
    weights = {name: tensor for name, tensor in checkpoint_weights().items() if PROJECTOR not in name}
    sizes = [WIDTH, *[LANGUAGE] * layers]
    for layer in range(layers):
        name = PROJECTOR if kind == "linear" else f"{PROJECTOR}{2 * layer}."
        weights[f"{name}weight"] = torch.randn(sizes[layer + 1], sizes[layer], generator=generator)
        weights[f"{name}bias"] = torch.randn(sizes[layer + 1], generator=generator)
    folder = write_checkpoint(tmp_path / "checkpoint", weights, mm_projector_type=kind)
    tensors = CheckpointTensors(open_checkpoint(str(folder)))
    plan = plan_bridge(tensors.checkpoint, tensors, PATCHES)
    assert load_bridge(plan, tensors) is None
    tokens = expected = torch.randn(5, WIDTH, generator=generator)
    for layer in range(layers):
        name = PROJECTOR if kind == "linear" else f"{PROJECTOR}{2 * layer}."
        expected = torch.nn.functional.gelu(expected) if layer else expected
        expected = expected @ weights[f"{name}weight"].T + weights[f"{name}bias"]
    with torch.inference_mode():
        assert relative(load_adapter(plan, tensors)(tokens).numpy(), expected) <= 1e-4
    report = export_checkpoint(folder, dry_run=True)
    assert [component.name for component in report.plan] == ["encoder", "video_encoder", "projector"]


def test_a_dry_run_says_what_an_export_does(base: Exported) -> None:
    report = export_checkpoint(base.checkpoint, dry_run=True)
    assert [plan.name for plan in report.plan] == list(base.bundle.components)
    for plan in report.plan:
        spec = base.bundle.components[plan.name].spec
        assert (plan.inputs, plan.outputs, plan.files) == (spec.inputs, spec.outputs, spec.files)


@pytest.fixture(scope="module")
def clip_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder exported before, of the same sizes: the image tower as a CLIP checkpoint of its own."""
    root = tmp_path_factory.mktemp("clip")
    image_tower(checkpoint_weights()).save_pretrained(root / "checkpoint")
    export_checkpoint(root / "checkpoint", out=root / "bundle")
    return root / "bundle"


def test_a_dry_run_without_the_weights_says_what_to_do(base: Exported) -> None:
    """As a dry run of a checkpoint on the hub would find it: only the descriptions are fetched."""
    described = replace(open_checkpoint(str(base.checkpoint)), weights=())
    with pytest.raises(CheckpointError, match="does not state the sizes of its towers"):
        export_videollamb(
            described, Target(None, None), precisions=("fp32",), layer=None, dry_run=True,
            progress=lambda *_: None, single_file_limit=1,
        )  # fmt: skip


def test_a_bridge_on_an_encoder_exported_before(base: Exported, clip_bundle: Path, tmp_path: Path) -> None:
    """A copy with --encoder, in place with --into; the bridge is the same, and the encoder is untouched."""
    before = load_bundle(clip_bundle).manifest
    copied = export_checkpoint(base.checkpoint, encoder=clip_bundle, out=tmp_path / "copy")
    assert load_bundle(clip_bundle, verify=True).manifest == before
    shutil.copytree(clip_bundle, tmp_path / "grown")
    grown = export_checkpoint(base.checkpoint, into=tmp_path / "grown")
    assert any("towers of checkpoint are left out" in note for note in copied.notes)
    for report in (copied, grown):
        assert report.folder is not None
        bundle = load_bundle(report.folder, verify=True)
        assert list(bundle.components) == ["encoder", "bridge", "projector"]
        assert bundle.components["encoder"].spec == before.components["encoder"]
        graph = bundle.components["bridge"].path("bridge/fp32.onnx").read_bytes()
        assert graph == base.bundle.components["bridge"].path("bridge/fp32.onnx").read_bytes()


def test_the_command_line(base: Exported, clip_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Export for an encoder exported before, then run the result on a folder of pictures."""
    monkeypatch.setenv("COLUMNS", "200")

    def command(*arguments: str | Path) -> Any:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    out = tmp_path / "bundle"
    done = command("export", base.checkpoint, "--encoder", clip_bundle, "--into", out)
    assert done.exit_code == 2
    assert "--encoder goes with --out" in done.output
    done = command("export", base.checkpoint, "--encoder", clip_bundle, "--out", out)
    assert done.exit_code == 0, done.output
    for line in ("memory_out (closed loop)", "projected", "note: the bridge reads the encoder of"):
        assert line in done.output
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for index in range(6):
        picture = np.full((40, 40, 3), 200 if index < 3 else 20, np.uint8)
        Image.fromarray(picture).save(pictures / f"{index}.png")
    done = command("run", pictures, "--bundle", out, "--jsonl", tmp_path / "events.jsonl", "--quiet")
    assert done.exit_code == 0, done.output
    kinds = [json.loads(line)["type"] for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert kinds[0] == "start"
    assert kinds[-1] == "end"
    assert kinds.count("memory") == kinds.count("scene") >= 1


def test_an_encoder_that_does_not_fit_is_refused(base: Exported, clip_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--layer"):
        export_checkpoint(base.checkpoint, encoder=clip_bundle, out=tmp_path / "out", layer="last")
    with pytest.raises(ExportError, match="--encoder with --out only"):
        export_checkpoint(base.checkpoint, encoder=clip_bundle, into=clip_bundle)
    with pytest.raises(ExportError, match="is the encoder's own bundle"):
        export_checkpoint(base.checkpoint, encoder=clip_bundle, out=clip_bundle)
    nano = Path(vsdk.__file__).parent / "bundles" / "nano"
    with pytest.raises(ExportError, match=r"gives 64 patch tokens of width 192 a frame, .* reads 64 of width 64"):
        export_checkpoint(base.checkpoint, encoder=nano, out=tmp_path / "out")
    with pytest.raises(InputError, match="no memory bridge"):
        export_checkpoint(clip_bundle.parent / "checkpoint", encoder=clip_bundle, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_reads_nothing_of_the_language_model(tmp_path: Path) -> None:
    """Its shard claims 400 GB, which no machine that runs this test could read or hold."""
    folder = write_checkpoint(tmp_path / "checkpoint", checkpoint_weights(), shards=2)
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["model.layers.1.mlp.up_proj.weight"] = "model-language.safetensors"
    index.write_text(json.dumps(content))
    size = 400 * 10**9
    entry = {"dtype": "BF16", "shape": [size // 2000, 1000], "data_offsets": [0, size]}
    header = json.dumps({"model.layers.1.mlp.up_proj.weight": entry}).encode()
    with (folder / "model-language.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + size)
    tensors = CheckpointTensors(open_checkpoint(str(folder)))
    plan = plan_bridge(tensors.checkpoint, tensors, PATCHES)
    assert load_bridge(plan, tensors) is not None
    load_adapter(plan, tensors)


Change = Callable[[dict[str, Tensor]], object]


def drop(name: str) -> Change:
    return lambda weights: weights.pop(name)


def shorten(name: str) -> Change:
    return lambda weights: weights.update({name: weights[name][:-1].clone()})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop(f"{PROJECTOR}projector.layers.0.mlp.0.bias"), "lacks 1 .*bridge.*projector.layers.0.mlp.0.bias"),
        (drop(f"{PROJECTOR}projector.read_memory_emb"), "lacks model.mm_projector.projector.read_memory_emb"),
        (
            drop(f"{PROJECTOR}retrieval.layers.0.crossattention.residual.layernorm.weight"),
            "retrieval.layers.0.crossattention.residual.layernorm.weight",
        ),
        (
            shorten(f"{PROJECTOR}projector.layers.0.mlp.0.weight"),
            r"mlp.0.weight has the shape \[95, 64\], .*\[96, 64\]",
        ),
        (shorten(f"{PROJECTOR}projector.proj.0.bias"), r"proj.0.bias has the shape \[47\], .*projector.* needs \[48\]"),
        (drop(f"{IMAGE_TOWER}pre_layrnorm.bias"), "image tower, such as .*pre_layrnorm.bias"),
        (
            drop(f"{IMAGE_TOWER}embeddings.class_embedding"),
            f"no image tower .*: {IMAGE_TOWER}embeddings.*, mod",
        ),
        (shorten(f"{IMAGE_TOWER}embeddings.position_embedding.weight"), "is not a CLIP vision model"),
        (drop(f"{VIDEO_TOWER}encoder.layers.1.temporal_embedding"), "video tower, such as .*1.temporal_embedding"),
    ],
)
def test_what_is_missing_or_wrong_is_named(change: Change, message: str, tmp_path: Path) -> None:
    weights = checkpoint_weights()
    change(weights)
    folder = write_checkpoint(tmp_path / "checkpoint", weights)
    with pytest.raises(CheckpointError, match=message):
        export_checkpoint(folder, out=tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mm_projector_type": "qformer"}, "unknown type 'qformer'"),
        ({"mm_projector_type": "rmt_r_transformer0x"}, "unknown type 'rmt_r_transformer0x'"),
        ({"mm_hidden_act": "relu"}, "activation 'relu'"),
        ({"mm_intermediate_size": None}, "no usable mm_intermediate_size"),
        ({"mm_num_attention_heads": 5}, "5 attention heads"),
        ({"mm_projector_type": "rmt_r_transformer2x"}, "such as model.mm_projector.projector.layers.1"),
        ({"mm_hidden_size": 128}, "width of 64, and mm_hidden_size .* is 128"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", checkpoint_weights(), **settings)
    with pytest.raises(CheckpointError, match=message):
        export_checkpoint(folder, out=tmp_path / "bundle")


def test_a_shard_cut_short_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint", checkpoint_weights())
    shard = sorted(folder.glob("*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=f"{shard.name} is not a whole safetensors file"):
        export_checkpoint(folder, dry_run=True)


def test_an_unknown_tensor_is_reported(tmp_path: Path) -> None:
    weights = {**checkpoint_weights(), f"{PROJECTOR}projector.gate": torch.zeros(1)}
    report = export_checkpoint(write_checkpoint(tmp_path / "checkpoint", weights), dry_run=True)
    assert "not known and not used: projector.gate" in report.notes
