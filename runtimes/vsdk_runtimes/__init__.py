"""Bundles and the engines that run them: errors, manifest, tensors, sessions. Needs NumPy, pydantic and one engine."""

from __future__ import annotations

from .bundle import SCHEMA_VERSION, Bundle, Component, bundle_digest, load_bundle, read_manifest
from .engine import DeviceTensor, DLPackTensor, Precision, Session, SessionInfo, State, Tensor
from .integrity import file_sha256
from .loading import ENGINES, load

__all__ = [
    "ENGINES",
    "SCHEMA_VERSION",
    "Bundle",
    "Component",
    "DLPackTensor",
    "DeviceTensor",
    "Precision",
    "Session",
    "SessionInfo",
    "State",
    "Tensor",
    "bundle_digest",
    "file_sha256",
    "load",
    "load_bundle",
    "read_manifest",
]
