"""The nano tracker: its clips have exact masks and look-alikes, its networks keep the contract, training goes on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from vsdk_models.nano.tracker import Config, NanoTracker, load_tracker
from vsdk_models.nano.tracker.curtains import draw_curtain
from vsdk_models.nano.tracker.network import RECENT, Follow
from vsdk_models.nano.tracker.patterns import PATTERNS
from vsdk_models.nano.tracker.pool import Pool, fill
from vsdk_models.nano.tracker.rollout import Rollout, draw_prompt, normalised
from vsdk_models.nano.tracker.shapes import ellipse
from vsdk_models.nano.tracker.train import Optimizers, Training
from vsdk_models.nano.tracker.video import (
    HELD_OUT_SHAPES,
    SHAPES,
    SIDE,
    TEXTURES,
    Actor,
    Bank,
    Look,
    cast_scene,
    draw_clip,
    draw_object,
)

CONFIG = Config()
NAMES = ("encoder", "attention", "decoder", "memory")
SHARED = ("top", "high0", "high1")
AXES = {"memory": "slots", "slot_age": "slots", "slot_valid": "slots", "points": "points", "labels": "points",
        "embeddings": "embeddings", "embedding_valid": "embeddings"}  # fmt: skip


@pytest.fixture(scope="module")
def bank() -> Bank:
    bank = Bank(np.random.default_rng(3))
    bank.renew(6)
    return bank


@pytest.fixture(scope="module")
def tracker() -> NanoTracker:
    torch.manual_seed(0)
    return NanoTracker().eval()


@pytest.fixture(scope="module")
def pool_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pool")
    fill(folder, clips=3, seed=1, frames=10, chunk=3)
    return folder


def test_the_mask_of_an_object_is_where_it_was_drawn() -> None:
    """A white ellipse on black: the pixels that are more than half white are its mask, and the area is pi a b."""
    rng = np.random.default_rng(0)
    radius, frames, aspect = 0.4, 5, 4 / 3
    look = Look(ellipse(rng), torch.ones(1, 3, 8, 8), (0.0, 0.0, 0.1), radius)
    across = float(look.outline(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1), torch.zeros(1, 1, 1)))
    place = np.linspace([-0.5, -0.2], [0.5, 0.3], frames)
    actor = Actor(look, place, np.eye(2)[None].repeat(frames, 0) * radius, np.ones(frames), (0.0, 0.0))
    canvas = torch.zeros(frames, SIDE, SIDE, 3)
    owners = torch.zeros(frames, SIDE, SIDE, dtype=torch.uint8)
    draw_object(canvas, owners, actor, 1, aspect)

    assert torch.equal(canvas[..., 0] > 0.5, owners == 1)
    wanted = np.pi * radius * radius * across * (SIDE / 2) ** 2 / aspect
    assert (owners == 1).sum((1, 2)).float().numpy() == pytest.approx(wanted, rel=0.05)
    rows, columns = torch.nonzero(owners[-1], as_tuple=True)
    assert float(columns.float().mean()) + 0.5 == pytest.approx((0.5 / aspect + 1) * SIDE / 2, abs=0.5)
    assert float(rows.float().mean()) + 0.5 == pytest.approx((0.3 + 1) * SIDE / 2, abs=0.5)


def test_scenes_have_look_alikes_and_what_hides_them(bank: Bank) -> None:
    rng = np.random.default_rng(0)
    camera = np.zeros((8, 2))
    casts = [cast_scene(rng, bank, 8, 4 / 3, camera) for _ in range(60)]
    alike = [
        sum(
            actor.look.texture is cast[0].look.texture or actor.look.outline is cast[0].look.outline
            for actor in cast[1:]
        )
        for cast in casts
    ]
    assert np.mean(np.array(alike) >= 2) > 0.4
    clips = [draw_clip(rng, bank, 12) for _ in range(8)]
    areas = [(clip.owners == 1).sum((1, 2)) for clip in clips]
    assert sum(area.min() < 0.8 * area.max() for area in areas) >= 3


def test_a_clip_has_the_shapes_and_types_that_it_says(bank: Bank) -> None:
    clip = draw_clip(np.random.default_rng(1), bank, 6)
    assert clip.pictures.shape == (6, SIDE, SIDE, 3)
    assert clip.owners.shape == (6, SIDE, SIDE)
    assert clip.pictures.dtype == clip.owners.dtype == np.uint8
    assert clip.owners.max() <= clip.objects


def test_families_for_training_and_validation_are_apart() -> None:
    assert not set(SHAPES) & set(HELD_OUT_SHAPES)
    assert "plain" in TEXTURES


@pytest.mark.parametrize("name", PATTERNS)
def test_regular_textures_are_pictures_of_strong_contrast(name: str) -> None:
    drawn = [PATTERNS[name](np.random.default_rng(seed), 64) for seed in range(8)]
    for picture in drawn:
        assert picture.shape == (64, 64, 3)
        assert picture.dtype == np.float32
        assert picture.min() >= 0
        assert picture.max() <= 1
    assert np.median([picture.std() for picture in drawn]) > 0.08


def test_a_curtain_hides_what_it_passes_and_nothing_else() -> None:
    """Grey ground, a white square at rest, a black curtain or fence: what turned dark is no longer an object's."""
    pictures = np.full((12, 64, 64, 3), 128, np.uint8)
    owners = np.zeros((12, 64, 64), np.uint8)
    owners[:, 20:36, 24:40] = 1
    pictures[owners == 1] = 255
    black = np.zeros((64, 64, 3), np.uint8)
    least = []
    for seed in range(20):
        covered, left = draw_curtain(np.random.default_rng(seed), pictures, owners, 1, black)
        assert (covered[left == 1] >= 127).all()
        hidden = (owners == 1) & (left == 0)
        assert (covered[hidden] <= 128).all()
        far = (covered == pictures).all(-1)
        assert np.array_equal(left[far], owners[far])
        least.append(int((left == 1).sum((1, 2)).min()))
    assert sum(pixels == 0 for pixels in least) >= 8  # curtains hide it wholly, fences do not
    assert sum(pixels > 0 for pixels in least) >= 2


@pytest.mark.parametrize(("down", "right"), [(0, 0), (2, -3), (-4, 4)])
def test_a_mask_is_carried_over_to_where_the_picture_moved(down: int, right: int) -> None:
    """Every fine pixel has a look of its own, and the whole picture moves by up to a cell."""
    torch.manual_seed(2)
    fine_side, cell, parts = CONFIG.fine_side, CONFIG.cell, CONFIG.mask_side // CONFIG.fine_side
    looks = torch.randn(1, CONFIG.fine, fine_side, fine_side)
    looks = looks / looks.square().mean(1, keepdim=True).sqrt()
    mask = torch.zeros(1, 1, CONFIG.mask_side, CONFIG.mask_side)
    mask[:, :, 41:74, 22:59] = 1
    wanted = torch.roll(mask, (down * parts, right * parts), (2, 3))
    now = functional.pixel_unshuffle(torch.roll(looks, (down, right), (2, 3)), cell)
    before = functional.pixel_unshuffle(looks, cell).flatten(2).transpose(1, 2)[:, None]
    remembered = functional.pixel_unshuffle(functional.pixel_unshuffle(mask, parts), cell)
    slot = torch.zeros(1, 1, RECENT + 1)
    slot[..., 1] = 1
    with torch.inference_mode():
        follow = Follow(CONFIG)
        follow.temperature.fill_(6.0)
        found = follow(now, before, remembered.flatten(2).transpose(1, 2)[:, None], slot, torch.ones(1, 1))
    carried = functional.pixel_shuffle(found[:, : CONFIG.parts * CONFIG.patch], cell)
    carried = functional.pixel_shuffle(carried, parts)
    assert ((carried > 0.5) == (wanted > 0.5)).float().mean() > 0.995


def test_both_optimizers_move_the_weights_themselves() -> None:
    """The matrices that Muon is given are views of the convolutions' weights."""
    torch.manual_seed(0)
    tracker = NanoTracker()
    tracker.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    before = {name: weight.detach().clone() for name, weight in tracker.named_parameters()}
    optimizers = Optimizers(tracker, 1e-2)
    for weight in tracker.parameters():
        weight.grad = torch.randn_like(weight)
    optimizers.step(1e-2)
    for name, weight in tracker.named_parameters():
        assert not torch.equal(weight, before[name]), name
        assert weight.grad is None


def test_a_pool_is_filled_once_and_read_clip_by_clip(pool_folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in pool_folder.iterdir()}
    fill(pool_folder, clips=3, seed=1, frames=10, chunk=3)
    assert {path: path.stat().st_mtime_ns for path in pool_folder.iterdir()} == before
    pool = Pool(pool_folder)
    assert len(pool) == 3
    assert pool[2][0].shape == (10, SIDE, SIDE, 3)


@pytest.mark.parametrize("kind", ["mask", "box", "click"])
def test_the_closed_loop_gives_masks_scores_and_memories(tracker: NanoTracker, bank: Bank, kind: str) -> None:
    clip = draw_clip(np.random.default_rng(2), bank, 4)
    masks = torch.zeros(2, SIDE, SIDE)
    masks[0, 30:60, 40:70] = 1
    masks[1, 70:100, 20:50] = 1
    prompt = draw_prompt(np.random.default_rng(0), masks, [kind, kind])  # type: ignore[list-item]
    with torch.inference_mode():
        rollout = Rollout(tracker, normalised(clip.pictures)[None], objects=2)
        steps = [rollout.step(frame, prompt if frame == 0 else None) for frame in range(4)]
    side = CONFIG.mask_side
    for step in steps:
        assert step.logits.shape == (2, 1, side, side)
        assert step.iou.shape == step.object_score.shape == (2,)
        assert torch.isfinite(step.logits).all()
    assert [memory.shape for memory in rollout.bank.memories] == [(2, CONFIG.tokens, CONFIG.memory)] * 4
    assert rollout.bank.prompted == [True, False, False, False]


def test_what_is_not_valid_has_no_influence(tracker: NanoTracker) -> None:
    torch.manual_seed(1)
    inputs = samples("attention", batch=2, slots=4, points=1, embeddings=1)
    inputs["slot_valid"] = torch.tensor([[1.0, 0, 1, 0]]).repeat(2, 1)
    inputs["pointer_valid"][:, 3:] = 0
    prompts = samples("decoder", batch=2, slots=1, points=3, embeddings=2)
    prompts["labels"][:, 1:] = -10
    prompts["mask_given"] = torch.zeros(2)
    prompts["embedding_valid"] = torch.zeros(2, 2)
    with torch.inference_mode():
        first = tracker.attention(**inputs)
        told = tracker.decoder(**prompts)
        inputs["memory"][:, [1, 3]] = float("nan")
        inputs["pointers"][:, 3:] = float("nan")
        prompts["points"][:, 1:] = 7
        prompts["mask"] = torch.full_like(prompts["mask"], float("nan"))
        prompts["embeddings"] = torch.full_like(prompts["embeddings"], float("nan"))
        assert torch.equal(tracker.attention(**inputs), first)
        for old, new in zip(told, tracker.decoder(**prompts), strict=True):
            assert torch.equal(old, new)


def samples(name: str, batch: int, slots: int, points: int, embeddings: int) -> dict[str, Tensor]:
    """Random inputs of one of the networks."""
    c, draw, pointers = CONFIG, torch.randn, 19
    mask = (torch.rand(batch, 1, c.side, c.side) < 0.3).float()
    given = (torch.rand(batch) < 0.5).float()
    top = draw(1, c.width, c.grid, c.grid)
    if name == "encoder":
        return {"pixels": draw(batch, 3, c.side, c.side)}
    if name == "attention":
        return {
            "top": top, "memory": draw(batch, slots, c.tokens, c.memory),
            "slot_age": torch.arange(slots).clamp(max=RECENT).repeat(batch, 1), "slot_valid": torch.ones(batch, slots),
            "pointers": draw(batch, pointers, c.width), "pointer_age": torch.arange(pointers).float().repeat(batch, 1),
            "pointer_valid": torch.ones(batch, pointers),
        }  # fmt: skip
    if name == "decoder":
        return {
            "features": draw(batch, c.width, c.grid, c.grid), "high0": draw(1, c.high[0], c.fine_side, c.fine_side),
            "high1": draw(1, c.high[1], c.fine_side // 2, c.fine_side // 2),
            "points": torch.rand(batch, points, 2) * c.side, "labels": torch.randint(-1, 4, (batch, points)),
            "embeddings": draw(batch, embeddings, c.width), "embedding_valid": torch.ones(batch, embeddings),
            "mask": mask, "mask_given": given,
        }  # fmt: skip
    return {
        "top": top, "logits": draw(batch, 1, c.mask_side, c.mask_side), "mask": mask, "mask_given": given,
        "binarise": 1 - given, "object_score": draw(batch),
    }  # fmt: skip


def exported(network: nn.Module, name: str, path: Path) -> onnxruntime.InferenceSession:
    """The network as ONNX, traced with three slots, two points and two embeddings for a batch of two."""
    inputs = samples(name, batch=2, slots=3, points=2, embeddings=2)
    axes: dict[str, dict[int, torch.export.Dim] | None] = {}
    for key in inputs:
        axes[key] = None if key in SHARED else {0: torch.export.Dim("batch")}
        if axes[key] and key in AXES and name != "memory":
            axes[key] |= {1: torch.export.Dim(AXES[key])}  # type: ignore[operator]
    program = torch.onnx.export(
        network, kwargs=inputs, dynamo=True, opset_version=18, dynamic_shapes=axes, verbose=False,
        input_names=list(inputs),
    )  # fmt: skip
    assert program is not None
    program.save(path)
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", NAMES)
def test_graphs_give_what_the_networks_give(tracker: NanoTracker, name: str, tmp_path: Path) -> None:
    network = getattr(tracker, name)
    session = exported(network, name, tmp_path / "graph.onnx")
    torch.manual_seed(4)
    for batch, slots, points, embeddings in ((1, 7, 1, 1), (3, 10, 4, 3)):
        inputs = samples(name, batch, slots, points, embeddings)
        with torch.inference_mode():
            wanted = network(**inputs)
        found = session.run(None, {key: value.numpy() for key, value in inputs.items()})
        for reference, value in zip(wanted if isinstance(wanted, tuple) else (wanted,), found, strict=True):
            wanted_array: npt.NDArray[np.float32] = reference.numpy()
            assert value.shape == wanted_array.shape
            deviation = np.sqrt(np.mean((value - wanted_array) ** 2))
            assert deviation < 1e-4 * np.sqrt(np.mean(wanted_array**2))


def test_a_killed_training_goes_on(pool_folder: Path, tmp_path: Path) -> None:
    pool = Pool(pool_folder)
    first = Training(tmp_path, minutes=0.01, rate=1e-3, seed=0)
    first.run(pool, pool)
    assert first.steps > 0
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == first.steps

    second = Training(tmp_path, minutes=0.01, rate=1e-3, seed=0)
    assert second.steps == first.steps
    for old, new in zip(first.tracker.parameters(), second.tracker.parameters(), strict=True):
        assert torch.equal(old, new)
    loaded = load_tracker(tmp_path / "tracker.safetensors")
    for kept, new in zip(first.average.state_dict().values(), loaded.state_dict().values(), strict=True):
        assert torch.equal(kept, new)


def test_the_shipped_tracker_is_small() -> None:
    assert sum(weight.numel() for weight in NanoTracker().parameters()) < 5_000_000
