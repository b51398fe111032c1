"""Bundles on disk: opened, checked, pinned.

A bundle is a folder with `manifest.json` and the files listed in it. Nothing that is not listed is ever opened, and
nothing that is listed may lie outside the folder. `docs/bundle.md` describes the format.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from .errors import BundleDamagedError, BundleNotFoundError, BundleSchemaError
from .integrity import Signature, verify_files, verify_unchanged

if TYPE_CHECKING:  # pydantic is imported when a bundle is loaded, because it doubles the time of `import vsdk_runtimes`
    from .manifest import ComponentSpec, Manifest

MANIFEST = "manifest.json"
SCHEMA_VERSION: Final = 1


@dataclass(frozen=True, eq=False)
class Component:
    """One component of a loaded bundle: its name, its contract and where its files are."""

    name: str
    spec: ComponentSpec
    bundle: Bundle = field(repr=False)

    def path(self, listed: str) -> Path:
        """The file on disk behind a path that the manifest lists."""
        return self.bundle.folder.joinpath(*PurePosixPath(listed).parts)


@dataclass(frozen=True, eq=False)
class Bundle:
    """A loaded and verified bundle; make one with `load_bundle`."""

    folder: Path
    manifest: Manifest
    signatures: Mapping[str, Signature] = field(default_factory=dict, repr=False)

    @cached_property
    def components(self) -> dict[str, Component]:
        """Components by name."""
        return {name: Component(name, spec, self) for name, spec in self.manifest.components.items()}

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of everything that decides how the bundle behaves."""
        return bundle_digest(self.manifest)

    def component(self, role: str) -> Component:
        """The component with this role.

        Raises:
            BundleSchemaError: The bundle has no such component, or several.
        """
        found = [component for component in self.components.values() if component.spec.role == role]
        if len(found) > 1:
            raise BundleSchemaError(
                f"bundle {self.folder} has {len(found)} components with the role {role!r}",
                hint=f"Choose one by name from bundle.components: {', '.join(item.name for item in found)}",
            )
        if not found:
            have = ", ".join(sorted({item.spec.role for item in self.components.values()}))
            raise BundleSchemaError(
                f"bundle {self.folder} has no component with the role {role!r} (it has: {have})",
                hint="Export one into it with: vsdk export CHECKPOINT --into BUNDLE",
            )
        return found[0]

    def verify_unchanged(self) -> None:
        """Check that its files are still those that were verified when it was loaded.

        Raises:
            BundlePathError, BundleDamagedError: See each class.
        """
        verify_unchanged(self.folder, self.manifest.files, self.signatures)

    def has(self, role: str) -> bool:
        """Whether some component has this role."""
        return any(component.spec.role == role for component in self.components.values())


def bundle_digest(manifest: Manifest) -> str:
    """SHA-256 of a manifest's canonical JSON, without `parity` and `quantised`: those are evidence, not content.

    Fields at their defaults are left out, so that a later vsdk with new optional fields finds the same digest.
    """
    content = manifest.model_dump(mode="json", exclude_defaults=True)
    for component in content["components"].values():
        component.pop("parity", None)
        component.pop("quantised", None)
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def load_bundle(folder: str | os.PathLike[str], *, digest: str | None = None, verify: bool = False) -> Bundle:
    """Open a bundle and check that it is whole.

    Args:
        folder: The bundle's folder.
        digest: Pin: refuse the bundle unless its digest is this one (as `vsdk inspect` prints it). Implies `verify`.
        verify: Hash every file again, even where an earlier result is still good.

    Raises:
        BundleNotFoundError, BundleSchemaError, BundlePathError, BundleDamagedError: See each class.
    """
    root = Path(folder)
    bundle = Bundle(root, read_manifest(root))
    if digest is not None and digest != bundle.digest:
        raise BundleDamagedError(
            f"bundle {root} has the digest {bundle.digest}, not the pinned {digest}",
            hint="Use the bundle that the pin was made for, or inspect this one and pin its digest.",
        )
    signatures = verify_files(root, bundle.manifest.files, force=verify or digest is not None)
    return replace(bundle, signatures=signatures)


def read_manifest(root: Path) -> Manifest:
    """Parse `manifest.json` without touching any other file.

    Raises:
        BundleNotFoundError: No such file.
        BundleSchemaError: Not JSON, an unknown schema version, or fields that are wrong.
    """
    from pydantic import ValidationError

    from .manifest import Manifest

    path = root / MANIFEST
    content = _read_json(path)
    version = content.get("schema_version") if isinstance(content, dict) else None
    if type(version) is not int or version != SCHEMA_VERSION:
        raise BundleSchemaError(
            f"{path} has schema version {version!r}; this vsdk reads version {SCHEMA_VERSION}",
            hint="Upgrade vsdk, or export the bundle again with this version.",
        )
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "manifest"
        raise BundleSchemaError(
            f"{path} is not a valid manifest: {where}: {first['msg']} ({error.error_count()} problem(s))",
            hint="Export the bundle again.",
        ) from error


def _read_json(path: Path) -> Any:
    try:
        if not path.is_file():
            raise BundleNotFoundError(
                f"{path.parent} is not a bundle: it has no file {path.name}",
                hint="Make one with: vsdk export CHECKPOINT --out DIR",
            )
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BundleNotFoundError(f"cannot read {path}: {error.strerror}", hint="Check its permissions.") from error
    except ValueError as error:
        raise BundleSchemaError(f"{path} is not UTF-8: {error}", hint="Export the bundle again.") from error
    try:
        content = json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_refuse_constant)
        json.dumps(content, ensure_ascii=False).encode()  # fails for escapes such as \ud800 that are no characters
        return content
    except (ValueError, RecursionError) as error:
        raise BundleSchemaError(f"{path} is not valid JSON: {error}", hint="Export the bundle again.") from error


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of the manifest; readers disagree on what a repeated name means, so there may be none."""
    content = dict(pairs)
    if len(content) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the name {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return content


def _refuse_constant(constant: str) -> float:
    raise ValueError(f"{constant} is not a JSON number")
