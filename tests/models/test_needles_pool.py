"""The pictures and features that the nano bridge is trained on, the probe of them, and what the export refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vsdk.bench.needles import CLASSES
from vsdk_export.nano_memory import load_memory
from vsdk_models.nano.bridge import NONE, contenders
from vsdk_models.nano.encoder import WIDTH, NanoEncoder
from vsdk_models.nano.haystacks import PATCHES, VIEWS, Pool, Recipe, build_pool
from vsdk_models.nano.needle_probe import hits, train_probe
from vsdk_runtimes.errors import CheckpointError

RECIPE = Recipe(scenes=2, splices=3, seed=5, first_needle=100)


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bank") / "bank.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (4, 3, 224, 224), dtype=np.uint8))
    return path


def encoder_file(folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    path = folder / f"encoder {seed}.safetensors"
    save_file(NanoEncoder().state_dict(), path)
    return path


def test_a_pool_is_drawn_once_and_encoded_for_each_encoder(bank: Path, tmp_path: Path) -> None:
    one, other = encoder_file(tmp_path, 1), encoder_file(tmp_path, 2)
    first = build_pool(tmp_path / "pool", one, bank, RECIPE)
    assert first.scenes.shape == first.overlays.shape == (2, VIEWS, PATCHES, WIDTH)
    assert first.splices.shape == (3, PATCHES, WIDTH)
    drawn = (tmp_path / "pool" / "overlays_pictures.npy").stat().st_mtime_ns
    again = build_pool(tmp_path / "pool", one, bank, RECIPE)
    np.testing.assert_array_equal(first.overlays, again.overlays)
    changed = build_pool(tmp_path / "pool", other, bank, RECIPE)
    assert (tmp_path / "pool" / "overlays_pictures.npy").stat().st_mtime_ns == drawn
    assert not np.array_equal(first.overlays, changed.overlays)
    np.testing.assert_array_equal(first.overlay_labels, changed.overlay_labels)


def test_an_overlay_keeps_part_of_its_scene(bank: Path, tmp_path: Path) -> None:
    build_pool(tmp_path / "pool", encoder_file(tmp_path, 1), bank, RECIPE)
    scenes, overlays = (np.load(tmp_path / "pool" / f"{name}_pictures.npy") for name in ("scenes", "overlays"))
    same = (scenes == overlays).all(-1).mean((2, 3))
    assert ((same > 0.2) & (same < 0.9)).all()


def test_a_pool_that_was_cut_short_is_drawn_again(bank: Path, tmp_path: Path) -> None:
    weights = encoder_file(tmp_path, 1)
    first = build_pool(tmp_path / "pool", weights, bank, RECIPE)
    (tmp_path / "pool" / "pictures.json").unlink()
    np.save(tmp_path / "pool" / "scenes.npy", np.zeros(3))
    again = build_pool(tmp_path / "pool", weights, bank, RECIPE)
    np.testing.assert_array_equal(first.scenes, again.scenes)
    assert json.loads((tmp_path / "pool" / "pictures.json").read_text())["scenes"] == 2


def test_the_probe_finds_what_is_in_the_features() -> None:
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(NONE, WIDTH))

    def pool(scenes: int, splices: int) -> Pool:
        def shown(*shape: int) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.float16]], np.ndarray]:
            labels = rng.integers(NONE, size=shape)
            features = rng.normal(size=(*shape, PATCHES, WIDTH))
            features[..., 5:20, :] += 3 * codes[labels][..., None, :]
            return features.astype(np.float16), labels

        overlays, overlay_labels = shown(scenes, VIEWS)
        spliced, splice_labels = shown(splices)
        return Pool(overlays, overlays, spliced, overlay_labels, splice_labels)

    overlays, splices = hits(train_probe(pool(40, 60), epochs=10), pool(4, 20))
    assert len(overlays) == 32
    assert len(splices) == 20
    assert torch.cat([overlays, splices]).float().mean() > 0.9


def test_a_memory_of_another_encoder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bridge.safetensors"
    save_file(contenders().state_dict(), path, metadata={"trained_length": "80", "encoder": "a" * 64})
    _, length = load_memory(path, "a" * 64)
    assert length == 80
    with pytest.raises(CheckpointError, match="another encoder"):
        load_memory(path, "b" * 64)


def test_what_is_not_a_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bridge.safetensors"
    with pytest.raises(CheckpointError):
        load_memory(path, "a" * 64)
    path.write_bytes(b"no weights")
    with pytest.raises(CheckpointError):
        load_memory(path, "a" * 64)
    save_file(NanoEncoder().state_dict(), path, metadata={"trained_length": "80", "encoder": "a" * 64})
    with pytest.raises(CheckpointError):
        load_memory(path, "a" * 64)


def test_every_ordered_pair_of_colours_is_a_class() -> None:
    assert len(set(CLASSES)) == len(CLASSES) == NONE >= 20
