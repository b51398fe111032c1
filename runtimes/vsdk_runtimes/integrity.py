"""Whether a bundle's files are the ones that its manifest lists.

Sizes and SHA-256 digests are verified when a bundle is first loaded. The result is remembered in the user's cache
folder for each file's size and times, because hashing hundreds of megabytes at every start of a robot would be a poor
trade. One of the times is that of the last change of any kind, which a program cannot set back as it can the other.

An engine opens a file later than that, so it is looked at once more then: what changed in between is hashed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import threading
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from .errors import BundleDamagedError, BundlePathError

if TYPE_CHECKING:
    from .manifest import FileEntry

_MOST_REMEMBERED = 2000

Signature = tuple[int, int, int]
"""Size, time of the last modification, and time of the last change of any kind, in nanoseconds."""


def file_sha256(path: Path) -> str:
    """SHA-256 of a file (hexadecimal), read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def verify_files(folder: Path, files: Mapping[str, FileEntry], *, force: bool) -> dict[str, Signature]:
    """Check every listed file: where it is, that it is a file, its size, and its digest.

    Args:
        folder: The bundle's folder.
        files: What the manifest lists, by path.
        force: Hash every file, even where an earlier result is still good.

    Returns:
        For each file what `verify_unchanged` compares.

    Raises:
        BundlePathError: A listed path is not inside the folder.
        BundleDamagedError: A file is missing, cut short or altered.
    """
    root = folder.resolve()
    paths = {listed: _inside(folder, root, listed) for listed in files}
    verified = _VerifiedFiles()
    signatures = {listed: _verify(paths[listed], entry, verified, force=force) for listed, entry in files.items()}
    verified.save()
    return signatures


def verify_unchanged(folder: Path, files: Mapping[str, FileEntry], signatures: Mapping[str, Signature]) -> None:
    """Check that the files are still those that were verified; one with other times is hashed again.

    Args:
        folder: The bundle's folder.
        files: What the manifest lists, by path.
        signatures: What `verify_files` returned.

    Raises:
        BundlePathError, BundleDamagedError: As for `verify_files`.
    """
    for listed, signature in signatures.items():
        path = folder.joinpath(*PurePosixPath(listed).parts)
        try:
            same = _signature(path.stat()) == signature
        except OSError:
            same = False
        if not same:
            _verify(_inside(folder, folder.resolve(), listed), files[listed], _VerifiedFiles(), force=True)


def _inside(folder: Path, root: Path, listed: str) -> Path:
    """The file behind a listed path, which is relative, in plain POSIX form, and inside even through links."""
    pure = PurePosixPath(listed)
    plain = str(pure) == listed != "." and not pure.is_absolute() and ".." not in pure.parts
    if not plain or "\\" in listed or "\0" in listed:
        raise BundlePathError(
            f"bundle {folder} lists {listed!r}, which is not a plain relative path inside its folder",
            hint="Do not use this bundle; get it from a source you trust.",
        )
    path = folder.joinpath(*pure.parts)
    try:
        inside = path.resolve().is_relative_to(root)
    except (OSError, RuntimeError):  # links in a circle
        inside = False
    if not inside:
        raise BundlePathError(
            f"bundle {folder} lists {listed!r}, which is a link that leaves its folder",
            hint="Copy the bundle with its links resolved (cp -rL) from a source you trust.",
        )
    return path


def _signature(status: os.stat_result) -> Signature:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _verify(path: Path, entry: FileEntry, verified: _VerifiedFiles, *, force: bool) -> Signature:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise BundleDamagedError(f"{path} is not a file", hint="Copy or export the bundle again.")
        if status.st_size != entry.bytes:
            raise BundleDamagedError(
                f"{path} has {status.st_size} bytes; the manifest says {entry.bytes}",
                hint="The file was cut short or altered: copy or export the bundle again.",
            )
        signature = _signature(status)
        key = "|".join([str(path.resolve()), *map(str, signature)])
        if not force and verified.knows(key, entry.sha256):
            return signature
        found = file_sha256(path)
    except FileNotFoundError as error:
        raise BundleDamagedError(f"{path} is missing", hint="Copy or export the bundle again.") from error
    except OSError as error:
        raise BundleDamagedError(f"cannot read {path}: {error.strerror}", hint="Check its permissions.") from error
    if found != entry.sha256:
        raise BundleDamagedError(
            f"{path} is not what was exported: its SHA-256 is {found}, the manifest says {entry.sha256}",
            hint="The file was altered or damaged: copy or export the bundle again.",
        )
    verified.remember(key, entry.sha256)
    return signature


class _VerifiedFiles:
    """What was hashed before, in the user's cache folder. Losing it costs only time, so its own errors are ignored."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._changed = False
        self._path: Path | None = None
        with contextlib.suppress(OSError, ValueError, RuntimeError):  # RuntimeError: no home folder, or absurd nesting
            cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
            self._path = Path(cache, "vsdk", "verified.json")
            known = json.loads(self._path.read_text(encoding="utf-8"))
            if isinstance(known, dict):
                self._known = known

    def knows(self, key: str, sha256: str) -> bool:
        return self._known.get(key) == sha256

    def remember(self, key: str, sha256: str) -> None:
        self._known[key] = sha256
        self._changed = True

    def save(self) -> None:
        if not self._changed or self._path is None:
            return
        recent = dict(list(self._known.items())[-_MOST_REMEMBERED:])
        scratch = self._path.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            scratch.write_text(json.dumps(recent), encoding="utf-8")
            scratch.replace(self._path)
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)
