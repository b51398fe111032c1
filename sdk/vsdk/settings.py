"""The settings of the stages around the encoder, as a bundle wants them."""

from __future__ import annotations

from dataclasses import fields, replace

from vsdk_runtimes import Bundle

from .confirmation import Confirmation
from .gate import GateSettings
from .scene_tilling import SceneTillingSettings


def gate_settings(bundle: Bundle) -> GateSettings:
    """The gate's settings: the bundle's where it has them, else the defaults."""
    return GateSettings(**bundle.manifest.pipeline.gate.model_dump(exclude_none=True))


def scene_settings(bundle: Bundle) -> SceneTillingSettings:
    """SceneTilling's settings: the bundle's where it has them, else the defaults."""
    given = bundle.manifest.pipeline.scenes.model_dump(exclude_none=True)
    of_confirmation = {item.name for item in fields(Confirmation)}
    confirmation = replace(Confirmation(), **{name: given.pop(name) for name in of_confirmation & given.keys()})
    return SceneTillingSettings(**given, confirmation=confirmation)
