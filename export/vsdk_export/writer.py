"""Writing bundles so that a failed export leaves nothing behind.

A new bundle grows in a hidden folder beside its place and is renamed when it is whole. Components that are added to a
bundle are moved in first, where nobody looks at them because no manifest lists them; then the manifest is replaced in
one step.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path, PurePosixPath
from types import TracebackType

from vsdk_runtimes import file_sha256, load_bundle, read_manifest
from vsdk_runtimes.bundle import MANIFEST
from vsdk_runtimes.errors import BundleError, BundleNotFoundError, ExportError
from vsdk_runtimes.manifest import FileEntry, Manifest


def check_target(
    out: Path | None, into: Path | None, components: tuple[str, ...], base: Path | None = None
) -> Manifest | None:
    """Refuse a target before any work is done for it; gives the manifest of `into`, or of `base`.

    Raises:
        ExportError: Not exactly one target, a folder that holds something else, or a component that is already there.
        BundleError: `into` or `base` is not a whole bundle.
    """
    if (out is None) == (into is None):
        raise ExportError("give exactly one of --out (a new bundle) and --into (an existing one)")
    if into is not None and base is not None:
        raise ExportError(
            "give --encoder with --out only: --into adds to its own bundle, and uses the encoder that is there",
        )
    if out is not None:
        _check_replaceable(out)
        if base is not None and base.exists() and out.exists() and base.samefile(out):
            raise ExportError(f"{out} is the encoder's own bundle", hint="To add to it, use --into.")
    existing = into or base
    if existing is None:
        return None
    manifest = load_bundle(existing).manifest
    for name in components:
        if name in manifest.components:
            raise ExportError(
                f"bundle {existing} already has a component {name!r}",
                hint="Export to a new folder with --out, or into a bundle without this component.",
            )
    return manifest


def _check_replaceable(out: Path) -> None:
    """A folder may be replaced when it is empty, or a bundle and nothing else: a user's own files are never lost."""
    if not out.exists() and not out.is_symlink():
        return
    if not out.is_dir() or out.is_symlink():
        raise ExportError(f"{out} exists and is not a folder", hint="Choose another --out.")
    found = {path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir()}
    if not found:
        return
    try:
        listed = {*read_manifest(out).files, MANIFEST}
    except BundleNotFoundError as error:
        raise ExportError(
            f"{out} is not empty and not a bundle", hint="Choose another --out, or empty the folder."
        ) from error
    except BundleError:
        listed = {MANIFEST}
    if others := sorted(found - listed):
        raise ExportError(
            f"{out} holds files that are not part of a bundle, such as {others[0]!r}",
            hint="Move them away or choose another --out: replacing the bundle would delete them.",
        )


class StagedBundle:
    """A bundle under construction: fill `folder`, then `commit`. Leaving the context without that discards it.

    Args:
        out: Where a new bundle will stand; None when adding.
        into: The bundle to add to; None for a new one.

    Raises:
        ExportError: The place cannot be written; also when the disk turns out to be full on the way.
    """

    def __init__(self, out: Path | None, into: Path | None) -> None:
        self._out, self._into = out, into
        target = out or into
        assert target is not None
        self._target = target.absolute()
        self._entries: dict[str, FileEntry] = {}
        try:
            self._target.parent.mkdir(parents=True, exist_ok=True)
            self._scratch = Path(
                tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=self._target.parent)
            )
            self.folder = self._scratch / "bundle"
            self.folder.mkdir()
        except OSError as error:
            raise ExportError(f"cannot write to {self._target.parent}: {error}") from error

    def __enter__(self) -> StagedBundle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)
        if isinstance(error, OSError):  # such as a full disk
            raise ExportError(f"cannot write the bundle {self._target}: {error}") from error

    def copy(self, bundle: Path) -> None:
        """Begin with the files of another bundle; what its manifest says of them is up to the caller."""
        for listed in read_manifest(bundle).files:
            place = self.folder.joinpath(*PurePosixPath(listed).parts)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.joinpath(*PurePosixPath(listed).parts), place)

    def entries(self) -> dict[str, FileEntry]:
        """Size and digest of every file written so far, by its path in the bundle; a file is hashed once."""
        for path in sorted(self.folder.rglob("*")):
            listed = path.relative_to(self.folder).as_posix()
            if path.is_file() and listed not in self._entries:
                self._entries[listed] = FileEntry(bytes=path.stat().st_size, sha256=file_sha256(path))
        return dict(self._entries)

    def commit(self, manifest: Manifest) -> None:
        """Write the manifest and put everything in its place."""
        text = manifest.model_dump_json(indent=2, exclude_none=True) + "\n"
        (self.folder / MANIFEST).write_text(text, encoding="utf-8")
        if self._into is not None:
            self._add()
        else:
            self._replace()

    def _add(self) -> None:
        moved: list[Path] = []
        try:
            for listed in self._entries:
                place = self._target.joinpath(*PurePosixPath(listed).parts)
                place.parent.mkdir(parents=True, exist_ok=True)
                (self.folder / listed).replace(place)
                moved.append(place)
            (self.folder / MANIFEST).replace(self._target / MANIFEST)
        except OSError:
            for place in moved:
                place.unlink(missing_ok=True)
            raise

    def _replace(self) -> None:
        _check_replaceable(self._target)
        previous = self._scratch / "previous"
        if self._target.exists():
            self._target.rename(previous)
        try:
            self.folder.rename(self._target)
        except OSError:
            if previous.exists():
                previous.rename(self._target)
            raise
