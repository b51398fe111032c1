"""Checkpoints in the Hugging Face format: found, checked for safety, described. Nothing is loaded here.

A checkpoint is a folder, or a repository on the Hugging Face hub, with `config.json` and safetensors weights (one
file, or several with an index). Weights that exist only as a pickle are refused, and code that a checkpoint brings
along is never run.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.repocard import metadata_load
from safetensors import SafetensorError, safe_open

from vsdk_runtimes import file_sha256
from vsdk_runtimes.errors import CheckpointError, UnsafeCheckpointError
from vsdk_runtimes.manifest import Origin

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?\Z")
_WEIGHT_FILES = (WEIGHTS, "model-*.safetensors")
_DESCRIPTIONS = ("*.json", "*.txt", "*.model", "README.md", "LICENSE*")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on this machine.

    Attributes:
        folder: Where its files are.
        name: Hub id, or the folder's own name (never a path: names go into manifests).
        revision: Commit on the hub; empty for a folder.
        weights: The safetensors files, in order of name. Empty when only the descriptions were asked for.
        notes: What the user should know about how it was found.
    """

    folder: Path
    name: str
    revision: str
    weights: tuple[Path, ...]
    notes: tuple[str, ...] = ()

    @cached_property
    def config(self) -> dict[str, Any]:
        """The content of `config.json`."""
        config = self.json("config.json")
        if config is None:
            raise CheckpointError(
                f"{self.name} has no config.json, so its architecture is not known",
                hint="A checkpoint is what transformers' save_pretrained writes.",
            )
        return config

    def json(self, file_name: str) -> dict[str, Any] | None:
        """A JSON file of the checkpoint; None where it has none."""
        path = self.folder / file_name
        if not path.is_file():
            return None
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path} is not valid JSON: {error}") from error
        if not isinstance(content, dict):
            raise CheckpointError(f"{path} does not hold a JSON object")
        return content

    @cached_property
    def tensor_names(self) -> frozenset[str]:
        """Names of all weights, read from the files' headers."""
        names: set[str] = set()
        for path in self.weights:
            try:
                with safe_open(path, framework="pt") as file:
                    names.update(file.keys())
            except (OSError, SafetensorError) as error:
                raise CheckpointError(f"{path} is not a whole safetensors file: {error}") from error
        return frozenset(names)

    def origin(self) -> Origin:
        """Name, revision, digest of the weights and licence, for the manifest.

        The digest of one file is that file's SHA-256, as the hub shows it; of several, the SHA-256 of their digests in
        order of name.
        """
        digests = [file_sha256(path) for path in self.weights]
        digest = digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
        return Origin(checkpoint=self.name, revision=self.revision, sha256=digest, license=self.license())

    def license(self) -> str:
        """The licence that the model card states; `unknown` where it states none."""
        card = self.folder / "README.md"
        try:
            metadata: Mapping[str, Any] = (metadata_load(card) if card.is_file() else None) or {}
        except (OSError, ValueError):
            return "unknown"
        stated = metadata.get("license")
        if stated == "other":
            stated = metadata.get("license_name") or stated
        return str(stated) if stated else "unknown"


def open_checkpoint(checkpoint: str, *, revision: str | None = None, weights: bool = True) -> Checkpoint:
    """Find a checkpoint: a local folder, or else a repository on the hub.

    Args:
        checkpoint: Path of a folder, or hub id such as `openai/clip-vit-base-patch32`.
        revision: Branch, tag or commit on the hub; None means its main branch.
        weights: Also get the weights; False gets only the small files that describe the model.

    Raises:
        UnsafeCheckpointError: It has weights, but only as a pickle.
        CheckpointError: There is no such folder or repository, it is incomplete, or the hub cannot be reached.
    """
    folder = Path(checkpoint).expanduser()
    if folder.exists():
        if revision is not None:
            raise CheckpointError(f"{checkpoint} is a local folder; a revision is only known on the hub")
        return _local(folder)
    if not _HUB_ID.match(checkpoint):
        raise CheckpointError(
            f"there is no folder {checkpoint}, and this is not a hub id either",
            hint="Give a folder with config.json and safetensors, or a hub id (openai/clip-vit-base-patch32).",
        )
    return _from_hub(checkpoint, revision, weights)


def _local(folder: Path) -> Checkpoint:
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is a file", hint="Give the folder that holds config.json and the weights.")
    present = {path.name for path in folder.iterdir()}
    if "config.json" not in present and "manifest.json" in present:
        raise CheckpointError(f"{folder} is a bundle already, not a checkpoint")
    names = _weight_names(str(folder), present, folder / INDEX)
    return Checkpoint(folder, folder.resolve().name, "", tuple(folder / name for name in names))


def _from_hub(name: str, revision: str | None, weights: bool) -> Checkpoint:
    try:
        info = huggingface_hub.HfApi().model_info(name, revision=revision)
        present = {item.rfilename for item in info.siblings or ()}
        _refuse_pickles(name, present)
        found = _download(name, str(info.sha), weights)
        notes: tuple[str, ...] = ()
    except GatedRepoError as error:
        raise CheckpointError(
            f"{name} is gated: its owner must grant access first",
            hint=f"Ask for access at https://huggingface.co/{name}, then log in with: hf auth login",
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise CheckpointError(
            f"there is no folder {name}, and no such repository on the hub",
            hint="Check the spelling; private ones need: hf auth login",
        ) from error
    except RevisionNotFoundError as error:
        raise CheckpointError(f"{name} has no revision {revision!r} on the hub") from error
    except CheckpointError:
        raise
    except Exception as error:  # httpx, OSError and hub errors: the hub is out of reach
        found, notes = _from_cache(name, revision, weights, error)
    snapshot = {path.relative_to(found).as_posix() for path in found.rglob("*") if path.is_file()}
    names = _weight_names(name, snapshot, found / INDEX) if weights else ()
    return Checkpoint(found, name, found.name, tuple(found / item for item in names), notes)


def _download(name: str, revision: str | None, weights: bool, *, cached_only: bool = False) -> Path:
    patterns = [*_DESCRIPTIONS, *(_WEIGHT_FILES if weights else ())]
    return Path(
        huggingface_hub.snapshot_download(
            name, revision=revision, allow_patterns=patterns, local_files_only=cached_only
        )
    )  # fmt: skip


def _from_cache(name: str, revision: str | None, weights: bool, cause: Exception) -> tuple[Path, tuple[str, ...]]:
    """What an earlier download left on this machine."""
    try:
        found = _download(name, revision, weights, cached_only=True)
    except Exception as error:
        raise CheckpointError(
            f"there is no folder {name}, the hub cannot be reached, and its cache here has no such checkpoint: {cause}",
            hint="Check the spelling, or download it where there is a network (hf download) and give the folder.",
        ) from error
    return found, (f"the hub could not be reached; {name} was taken from the cache at revision {found.name}",)


def _weight_names(name: str, present: Iterable[str], index: Path) -> tuple[str, ...]:
    """Names of the safetensors files that make up the checkpoint."""
    present = set(present)
    if WEIGHTS in present:
        return (WEIGHTS,)
    if INDEX not in present:
        _refuse_pickles(name, present)
        raise CheckpointError(
            f"{name} has no weights: neither {WEIGHTS} nor {INDEX}",
            hint="A checkpoint is what transformers' save_pretrained writes.",
        )
    try:
        names = tuple(sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} is not an index of safetensors files: {error!r}") from error
    for item in names:
        if item not in present:
            raise CheckpointError(f"{name} is incomplete: {INDEX} lists {item}, which is not there")
    return names


def _refuse_pickles(name: str, present: Iterable[str]) -> None:
    present = set(present)
    pickles = sorted(item for item in present if "/" not in item and item.endswith(_PICKLES))
    if pickles and not {WEIGHTS, INDEX} & present:
        raise UnsafeCheckpointError(
            f"{name} has its weights only as a pickle ({pickles[0]}), and opening a pickle runs whatever code its "
            "author put in it",
            hint="Use a revision with safetensors, or convert it where that is safe: load it with transformers and "
            "call save_pretrained.",
        )
