"""Checkpoints and the bundles exported from them, each made once a session."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from small_checkpoints import MAKERS, Exported, MakeCheckpoint

from vsdk_export import export_checkpoint


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> MakeCheckpoint:
    """Gives the folder of a kind of checkpoint; do not change it (see `fresh_checkpoint`)."""
    root = tmp_path_factory.mktemp("checkpoints")

    @functools.cache
    def make(kind: str) -> Path:
        folder = root / kind
        torch.manual_seed(7)
        MAKERS[kind](folder)
        return folder

    return make


@pytest.fixture
def fresh_checkpoint(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> MakeCheckpoint:
    """Gives a copy of a checkpoint that the test may damage."""
    return lambda kind: Path(shutil.copytree(make_checkpoint(kind), tmp_path / f"copy-of-{kind}"))


@pytest.fixture(scope="session")
def exported(make_checkpoint: MakeCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    """Gives a checkpoint with its bundle, fp32 and fp16, at the family's default layer; do not change either."""
    root = tmp_path_factory.mktemp("bundles")

    @functools.cache
    def export(kind: str) -> Exported:
        progress: list[tuple[str, float]] = []
        report = export_checkpoint(
            make_checkpoint(kind),
            out=root / kind,
            precisions=("fp32", "fp16"),
            progress=lambda description, done: progress.append((description, done)),
        )
        return Exported(make_checkpoint(kind), root / kind, report, tuple(progress))

    return export
