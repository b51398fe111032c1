"""Entries as they are saved: what is not an array as JSON, arrays by name. Nothing is rounded on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt

from ..events import Scene, SceneFeatures
from .entry import MemoryEntry

Array = npt.NDArray[Any]

_SCENE_FIELDS = tuple(item.name for item in fields(Scene) if item.metadata.get("json", True))


def packed(entries: Sequence[MemoryEntry]) -> tuple[list[dict[str, Any]], dict[str, Array]]:
    """The JSON form of entries, and their arrays."""
    described: list[dict[str, Any]] = []
    arrays: dict[str, Array] = {}
    for number, entry in enumerate(entries):
        described.append(
            {
                "slot": entry.slot,
                "first": entry.first,
                "last": entry.last,
                "stream": entry.stream,
                "scene": None if entry.scene is None else {name: getattr(entry.scene, name) for name in _SCENE_FIELDS},
            }
        )
        arrays[_name(number, "blocks")] = entry.blocks
        arrays[_name(number, "tokens")] = entry.tokens
        if entry.retrieved is not None:
            arrays[_name(number, "retrieved")] = entry.retrieved
        if entry.scene is not None and entry.scene.features is not None:
            features = entry.scene.features
            described[-1]["features"] = {"frames": list(features.frames), "bundle": features.bundle}
            arrays[_name(number, "cls")] = features.cls
            if features.embedding is not None:
                arrays[_name(number, "embedding")] = features.embedding
    return described, arrays


def unpacked(described: Sequence[Mapping[str, Any]], arrays: Mapping[str, Array]) -> list[MemoryEntry]:
    """The entries that `packed` described.

    Raises:
        KeyError, TypeError, ValueError: They are not what `packed` makes.
    """
    return [_entry(number, item, arrays) for number, item in enumerate(described)]


def _entry(number: int, item: Mapping[str, Any], arrays: Mapping[str, Array]) -> MemoryEntry:
    tokens = arrays[_name(number, "tokens")]
    if tokens.ndim != 2 or tokens.dtype != np.float32:
        raise ValueError(f"entry {number} has memory tokens in {tokens.dtype} {tokens.shape}")
    return MemoryEntry(
        slot=int(item["slot"]),
        first=int(item["first"]),
        last=int(item["last"]),
        stream=int(item["stream"]),
        blocks=arrays[_name(number, "blocks")],
        tokens=tokens,
        retrieved=arrays.get(_name(number, "retrieved")),
        scene=None if item["scene"] is None else _scene(number, item, arrays),
    )


def _scene(number: int, item: Mapping[str, Any], arrays: Mapping[str, Array]) -> Scene:
    described = item.get("features")
    features = None
    if described is not None:
        features = SceneFeatures(
            frames=tuple(int(frame) for frame in described["frames"]),
            cls=arrays[_name(number, "cls")],
            embedding=arrays.get(_name(number, "embedding")),
            bundle=str(described["bundle"]),
        )
    return Scene(**item["scene"], features=features)


def _name(number: int, what: str) -> str:
    return f"entries.{number}.{what}"
