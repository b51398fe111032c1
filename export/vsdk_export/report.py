"""What an export did, or in a dry run would do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vsdk_runtimes import Precision
from vsdk_runtimes.manifest import ComponentSpec, Deviation, Preprocessing, TensorSpec


@dataclass(frozen=True)
class ParityRow:
    """One line of the parity table: how far one output at one precision is from PyTorch, and how far it may be."""

    component: str
    precision: Precision
    output: str
    deviation: Deviation
    limit: str


@dataclass(frozen=True)
class ComponentPlan:
    """What a dry run says of one component."""

    name: str
    role: str
    family: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    files: Mapping[Precision, str]


@dataclass(frozen=True)
class ExportReport:
    """The result of an export.

    Attributes:
        folder: The bundle's folder; None in a dry run that named none.
        name: The bundle's name.
        dry_run: Nothing was traced, verified or written.
        plan: Every component that was (or would be) exported by this call.
        preprocessing: From a picture to the encoder's input; None where no encoder of pictures is among them.
        components: The manifest's entry of every component exported by this call; empty in a dry run.
        parity: Measured deviations; empty in a dry run. All are within their limits, or the export would have failed.
        digest: Digest of the whole bundle; empty in a dry run.
        files: Size in bytes of every file in the bundle; empty in a dry run.
        notes: What the reader should know, such as a text tower that was left out and why.
    """

    folder: Path | None
    name: str
    dry_run: bool
    plan: tuple[ComponentPlan, ...]
    preprocessing: Preprocessing | None = None
    components: Mapping[str, ComponentSpec] = field(default_factory=dict)
    parity: tuple[ParityRow, ...] = ()
    digest: str = ""
    files: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
