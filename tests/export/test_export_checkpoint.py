"""What `export_checkpoint` accepts and refuses, where it writes, and what a failure leaves behind: nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub.errors import RepositoryNotFoundError
from safetensors.torch import load_file, save_file
from small_checkpoints import BLOCKS, IMAGE, PATCH, PROJECTION, WIDTH, Exported, MakeCheckpoint

from vsdk_export import LIMITS, Limit, export_checkpoint
from vsdk_runtimes import load, load_bundle
from vsdk_runtimes.errors import (
    CheckpointError,
    Error,
    ExportError,
    InputError,
    ParityError,
    UnsafeCheckpointError,
    UnsupportedModelError,
)
from vsdk_runtimes.manifest import Preprocessing, Resize

Change = Callable[[Path], object]


def edit_json(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text())
    content.update(changes)
    path.write_text(json.dumps(content))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def as_pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def without_a_weight(folder: Path) -> None:
    edit_weights(folder, lambda weights: weights.pop("encoder.layers.0.mlp.fc1.weight"))


def with_a_wrong_shape(folder: Path) -> None:
    name = "embeddings.position_embedding.weight"
    edit_weights(folder, lambda weights: weights.update({name: weights[name][:-1].clone()}))


def cut_short(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def without(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


def with_text(name: str, text: str) -> Change:
    return lambda folder: (folder / name).write_text(text)


def of_type(model_type: str) -> Change:
    return lambda folder: edit_json(folder / "config.json", model_type=model_type)


REFUSALS: dict[str, tuple[Change, type[Error], str]] = {
    "pickle": (as_pickle, UnsafeCheckpointError, r"only as a pickle \(pytorch_model.bin\), and opening a pickle runs"),
    "no weights": (without("model.safetensors"), CheckpointError, "has no weights"),
    "missing weight": (without_a_weight, CheckpointError, r"lacks 1 of the weights.*layers\.0\.mlp\.fc1\.weight"),
    "wrong shape": (with_a_wrong_shape, CheckpointError, "position_embedding"),
    "cut short": (cut_short, CheckpointError, "not a whole safetensors file"),
    "no config": (without("config.json"), CheckpointError, "has no config.json"),
    "broken config": (with_text("config.json", "{"), CheckpointError, "not valid JSON"),
    "of timm": (with_text("config.json", '{"architecture": "vit"}'), CheckpointError, "no model_type: it is of timm"),
    "unknown family": (of_type("resnet"), UnsupportedModelError, "'resnet'"),
    "misspelt family": (of_type("clip_vison_model"), UnsupportedModelError, "did its author mean 'clip_vision_model'"),
    "other size": (
        with_text("preprocessor_config.json", '{"crop_size": 40, "size": 40}'),
        CheckpointError,
        "gives 40x40 pixels, and its model takes 32x32",
    ),
    "no fixed size": (
        with_text("preprocessor_config.json", '{"do_center_crop": false, "size": {"shortest_edge": 32}}'),
        UnsupportedModelError,
        "does not crop",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_checkpoints_are_refused(case: str, fresh_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    change, error, message = REFUSALS[case]
    checkpoint = fresh_checkpoint("clip_vision")
    change(checkpoint)
    with pytest.raises(error, match=message):
        export_checkpoint(checkpoint, out=tmp_path / "out" / "bundle")
    assert not list((tmp_path / "out").glob("*")), "a failed export leaves nothing behind"


def test_an_unknown_family_is_answered_with_the_known_ones(fresh_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    checkpoint = fresh_checkpoint("clip_vision")
    edit_json(checkpoint / "config.json", model_type="resnet")
    with pytest.raises(UnsupportedModelError) as caught:
        export_checkpoint(checkpoint, out=tmp_path / "bundle")
    assert all(name in caught.value.hint for name in ("clip", "siglip", "siglip2", "dinov2", "dinov3_vit"))


def test_a_missing_shard_is_named(fresh_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    checkpoint = fresh_checkpoint("dinov3")
    shard = sorted(checkpoint.glob("model-*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(CheckpointError, match=shard.name):
        export_checkpoint(checkpoint, out=tmp_path / "bundle")


def test_code_in_a_checkpoint_is_never_run(fresh_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    checkpoint = fresh_checkpoint("clip_vision")
    trap = tmp_path / "ran"
    (checkpoint / "modeling.py").write_text(f"open({str(trap)!r}, 'w')\nclass Evil: ...\n")
    edit_json(checkpoint / "config.json", auto_map={"AutoConfig": "modeling.Evil", "AutoModel": "modeling.Evil"})
    export_checkpoint(checkpoint, out=tmp_path / "bundle", dry_run=True)
    edit_json(checkpoint / "config.json", model_type="unheard-of")
    with pytest.raises(UnsupportedModelError):
        export_checkpoint(checkpoint, out=tmp_path / "bundle")
    assert not trap.exists()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"precisions": ("int8",)}, InputError, "int8 needs a video to calibrate with"),
        ({"precisions": ("tensorrt",)}, InputError, "unknown precision 'tensorrt'"),
        ({"precisions": ("fp64",)}, InputError, "unknown precision 'fp64'"),
        ({"precisions": ()}, InputError, "no precision"),
        ({"layer": -BLOCKS - 2}, InputError, f"the model has {BLOCKS} blocks"),
        ({"layer": BLOCKS + 1}, InputError, "does not exist"),
        ({"layer": "first"}, InputError, "unknown layer 'first'"),
        ({"out": None}, ExportError, "exactly one of --out"),
        ({"into": "elsewhere"}, ExportError, "exactly one of --out"),
        ({"revision": "main"}, CheckpointError, "only known on the hub"),
    ],
)
def test_bad_options_are_refused(
    options: dict[str, Any], error: type[Error], message: str, make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        export_checkpoint(make_checkpoint("clip_vision"), **{"out": tmp_path / "bundle", **options})
    assert not list(tmp_path.iterdir())


def test_a_dry_run_says_what_the_export_then_does(exported: Callable[[str], Exported], tmp_path: Path) -> None:
    for kind in ("clip", "siglip2_naflex", "dinov2"):
        made = exported(kind)
        report = export_checkpoint(made.checkpoint, out=tmp_path / kind, precisions=("fp16", "fp32"), dry_run=True)
        assert report.dry_run
        assert report.plan == made.report.plan
        assert report.name == made.report.name
        assert not report.parity
        assert not report.files
    assert not list(tmp_path.iterdir()), "a dry run writes nothing"


def test_the_report_tells_what_was_written(exported: Callable[[str], Exported]) -> None:
    made = exported("clip")
    bundle = load_bundle(made.bundle, verify=True)
    assert made.report.digest == bundle.digest
    assert made.report.files == {path: entry.bytes for path, entry in bundle.manifest.files.items()}
    on_disk = {path.relative_to(made.bundle).as_posix() for path in made.bundle.rglob("*") if path.is_file()}
    assert on_disk == {*made.report.files, "manifest.json"}
    assert {(row.component, row.output) for row in made.report.parity} == {
        ("encoder", "cls"), ("encoder", "patches"), ("encoder", "embedding"), ("text", "embedding"),
    }  # fmt: skip


def test_the_same_export_twice_gives_the_same_bundle(exported: Callable[[str], Exported], tmp_path: Path) -> None:
    """In another process with another hash seed, to another place, after other exports."""
    made = exported("dinov3")
    code = (
        "import sys; from vsdk_export import export_checkpoint;"
        "print(export_checkpoint(sys.argv[1], out=sys.argv[2], precisions=('fp32', 'fp16')).digest)"
    )
    again = subprocess.run(
        [sys.executable, "-c", code, str(made.checkpoint), str(tmp_path / "again")],
        env={**os.environ, "PYTHONHASHSEED": "12345"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert again.stdout.split()[-1] == made.report.digest
    for path in made.report.files:
        assert (tmp_path / "again" / path).read_bytes() == (made.bundle / path).read_bytes()


def test_progress_goes_from_nothing_to_all(exported: Callable[[str], Exported]) -> None:
    progress = exported("clip").progress
    fractions = [done for _, done in progress]
    assert fractions[0] == 0
    assert fractions[-1] == 1
    assert fractions == sorted(fractions)
    assert {"encoder: verifying fp32", "text: verifying fp16"} <= {description for description, _ in progress}


def test_a_failed_parity_check_names_the_output_and_leaves_nothing(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LIMITS, "fp32", Limit(relative=1e-12))
    with pytest.raises(ParityError, match=r"component 'encoder' at fp32: output '(cls|patches)' differs from PyTorch"):
        export_checkpoint(make_checkpoint("clip_vision"), out=tmp_path / "bundle")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("prepared", ["photos", "a bundle with notes", "a file"])
def test_a_folder_with_other_things_is_not_replaced(
    prepared: str, make_checkpoint: MakeCheckpoint, exported: Callable[[str], Exported], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    if prepared == "a file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / "notes.txt").write_text("mine")
        if prepared == "a bundle with notes":
            (out / "manifest.json").write_bytes((exported("dinov2").bundle / "manifest.json").read_bytes())
    before = sorted((path, path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file())
    with pytest.raises(ExportError, match=r"not empty and not a bundle|not part of a bundle|is not a folder"):
        export_checkpoint(make_checkpoint("clip_vision"), out=out)
    assert sorted((path, path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file()) == before


def test_components_are_added_into_a_bundle(exported: Callable[[str], Exported], tmp_path: Path) -> None:
    """A bundle with another component takes the encoder in; one that has an encoder already refuses it."""
    from vsdk_export import export_module
    from vsdk_runtimes.manifest import Origin

    bundle = tmp_path / "bundle"
    samples = {"values": np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)}
    export_module(
        torch.nn.Linear(4, 2), samples=samples, outputs=["scores"], origin=Origin(checkpoint="mine", license="MIT"),
        name="scorer", role="scorer", out=bundle,
    )  # fmt: skip
    report = export_checkpoint(exported("dinov2").checkpoint, into=bundle)
    merged = load_bundle(bundle, verify=True)
    assert set(merged.components) == {"scorer", "encoder"}
    assert set(report.components) == {"encoder"}
    assert merged.digest == report.digest
    assert merged.manifest.name == "bundle"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    for component in merged.components.values():
        load(component, threads=1).close()
    with pytest.raises(ExportError, match="already has a component 'encoder'"):
        export_checkpoint(exported("dinov2").checkpoint, into=bundle)
    assert load_bundle(bundle, verify=True).digest == report.digest


def test_a_text_tower_without_tokenizer_is_left_out_and_said(fresh_checkpoint: MakeCheckpoint) -> None:
    checkpoint = fresh_checkpoint("siglip")
    (checkpoint / "spiece.model").unlink()
    report = export_checkpoint(checkpoint, dry_run=True)
    assert [component.name for component in report.plan] == ["encoder"]
    assert any("text tower is left out" in note for note in report.notes)


def test_a_broken_tokenizer_is_an_error(fresh_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    checkpoint = fresh_checkpoint("clip")
    (checkpoint / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="the tokenizer of copy-of-clip cannot go into a bundle"):
        export_checkpoint(checkpoint, out=tmp_path / "bundle")


@pytest.mark.parametrize(
    ("kind", "settings", "expected"),
    [
        (  # as OpenAI published it
            "clip_vision",
            {"crop_size": 32, "size": 32, "resample": 3, "do_center_crop": True, "do_normalize": True,
             "do_resize": True, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]},
            Preprocessing(resize=Resize(shortest_edge=32, filter="bicubic"), crop=(32, 32), mean=(0.1, 0.2, 0.3),
                          std=(0.4, 0.5, 0.6)),
        ),
        (  # as Google published it
            "siglip_vision",
            {"do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": [0.5, 0.5, 0.5],
             "image_std": [0.5, 0.5, 0.5], "resample": 2, "rescale_factor": 0.00392156862745098,
             "size": {"height": 32, "width": 32}},
            Preprocessing(resize=Resize(height=32, width=32, filter="bilinear"), mean=(0.5,) * 3, std=(0.5,) * 3),
        ),
        (  # as Meta published it: one size to resize to, another to crop
            "dinov2",
            {"crop_size": {"height": 24, "width": 32}, "do_center_crop": True, "image_mean": [0.485, 0.456, 0.406],
             "image_std": [0.229, 0.224, 0.225], "resample": 3, "size": {"shortest_edge": 36}},
            Preprocessing(resize=Resize(shortest_edge=36, filter="bicubic"), crop=(24, 32), mean=(0.485, 0.456, 0.406),
                          std=(0.229, 0.224, 0.225)),
        ),
        (  # nothing but what differs from the family's defaults
            "dinov3",
            {"size": {"height": 40, "width": 40}, "do_normalize": False, "do_rescale": False},
            Preprocessing(resize=Resize(height=40, width=40, filter="bilinear"), scale=1.0),
        ),
    ],
)  # fmt: skip
def test_preprocessing_is_read_from_the_checkpoint(
    kind: str, settings: dict[str, Any], expected: Preprocessing, fresh_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    checkpoint = fresh_checkpoint(kind)
    (checkpoint / "preprocessor_config.json").write_text(json.dumps(settings))
    report = export_checkpoint(checkpoint, dry_run=True)
    height, width = expected.crop or (expected.resize.height, expected.resize.width)
    assert report.plan[0].inputs["pixels"].shape == ("batch", 3, height, width)
    assert report.preprocessing == expected
    # Newer transformers write the image processor's settings into the processor's file.
    (checkpoint / "preprocessor_config.json").unlink()
    (checkpoint / "processor_config.json").write_text(json.dumps({"image_processor": settings}))
    assert export_checkpoint(checkpoint, dry_run=True).preprocessing == expected


def test_a_position_embedding_is_resized_to_other_sizes(fresh_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    """DINOv2 at a size that is not square: 3 by 4 patches from a 6 by 6 grid."""
    checkpoint = fresh_checkpoint("dinov2")
    (checkpoint / "preprocessor_config.json").write_text('{"crop_size": {"height": 24, "width": 32}}')
    report = export_checkpoint(checkpoint, out=tmp_path / "bundle")
    assert report.components["encoder"].outputs["patches"].shape == ("batch", 12, WIDTH)


def test_large_weights_go_to_a_file_of_their_own(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    report = export_checkpoint(
        make_checkpoint("clip_vision"), out=tmp_path / "bundle", precisions=("fp32", "fp16"), single_file_limit=10_000
    )
    assert {"encoder/fp32.onnx", "encoder/fp32.onnx.data", "encoder/fp16.onnx", "encoder/fp16.onnx.data"} == set(
        report.files
    )
    assert report.files["encoder/fp32.onnx"] < 30_000 < report.files["encoder/fp32.onnx.data"]
    moved = (tmp_path / "bundle").rename(tmp_path / "moved")
    component = load_bundle(moved, verify=True).component("encoder")
    for precision in component.spec.files:
        with load(component, precision=precision, threads=1) as session:
            found = session.run({"pixels": np.zeros((1, 3, IMAGE, IMAGE), np.float32)})
            assert found["patches"].shape == (1, (IMAGE // PATCH) ** 2, WIDTH)


# The hub: its client is replaced, because tests do not use the network.


def serve(monkeypatch: pytest.MonkeyPatch, snapshot: Path, *extra: str) -> list[list[str]]:
    """Let the hub's client find `snapshot` as owner/model; gives the patterns of every download."""
    present = [path.name for path in snapshot.iterdir()] + list(extra)
    downloads: list[list[str]] = []

    def model_info(self: object, name: str, revision: str | None = None) -> Any:
        assert name == "owner/model"
        return SimpleNamespace(sha=snapshot.name, siblings=[SimpleNamespace(rfilename=item) for item in present])

    def download(name: str, *, revision: str, allow_patterns: list[str], local_files_only: bool) -> str:
        assert (name, revision, local_files_only) == ("owner/model", snapshot.name, False)
        downloads.append(allow_patterns)
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return downloads


def test_a_hub_id_is_fetched_and_its_revision_recorded(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / ("c0ffee" * 6)
    snapshot.symlink_to(make_checkpoint("clip_projection"), target_is_directory=True)
    downloads = serve(monkeypatch, snapshot)
    report = export_checkpoint("owner/model", dry_run=True)
    assert report.plan[0].outputs["embedding"].shape == ("batch", PROJECTION)
    assert not any("safetensors" in pattern for pattern in downloads[0]), "a dry run fetches no weights"
    report = export_checkpoint("owner/model", out=tmp_path / "bundle")
    weights = {"model.safetensors", "model-*.safetensors"}
    assert set(downloads[1]) == {*weights, "*.json", "*.txt", "*.model", "README.md", "LICENSE*"}
    source = report.components["encoder"].source
    assert (source.checkpoint, source.revision) == ("owner/model", snapshot.name)
    assert report.name == "model"


def test_a_hub_repository_with_pickles_only_is_refused_before_any_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    downloads = serve(monkeypatch, snapshot, "config.json", "pytorch_model.bin")
    with pytest.raises(UnsafeCheckpointError, match=r"owner/model has its weights only as a pickle"):
        export_checkpoint("owner/model", dry_run=True)
    assert not downloads


def test_an_unreachable_hub_is_said_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="the hub cannot be reached") as caught:
        export_checkpoint("owner/model", out=tmp_path / "bundle")
    assert caught.value.__cause__ is not None
    assert "give the folder" in caught.value.hint


def test_a_repository_that_does_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(self: object, name: str, revision: str | None = None) -> Any:
        raise RepositoryNotFoundError("404", response=SimpleNamespace(headers={}, request=None, status_code=404))

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", missing)
    with pytest.raises(CheckpointError, match="no such repository on the hub"):
        export_checkpoint("owner/model", out=tmp_path / "bundle")


@pytest.mark.parametrize("name", ["./not/here", "/no/such/folder", "a/b/c"])
def test_a_path_that_is_not_there(name: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no folder"):
        export_checkpoint(name, out=tmp_path / "bundle")


def test_a_bundle_is_no_checkpoint(exported: Callable[[str], Exported], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a bundle already"):
        export_checkpoint(exported("dinov2").bundle, out=tmp_path / "bundle")
