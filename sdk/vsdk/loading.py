"""Finding a bundle: a folder, or the one that ships with vsdk."""

from __future__ import annotations

import os
from pathlib import Path

from vsdk_runtimes import Bundle, load_bundle

EMBEDDED = Path(__file__).parent / "bundles" / "nano"


def load(bundle: str | os.PathLike[str] | None = None, *, digest: str | None = None, verify: bool = False) -> Bundle:
    """Load a bundle and check that it is whole.

    Args:
        bundle: Its folder; None is `nano`, the model that ships with vsdk.
        digest: Refuse the bundle unless its digest is this one (see `vsdk inspect`).
        verify: Hash every file again.

    Raises:
        BundleError: See its subclasses.
    """
    return load_bundle(EMBEDDED if bundle is None else bundle, digest=digest, verify=verify)
