"""What a comparison with PyTorch found out."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from typing import Any

from vsdk.bench.speed import BUSY
from vsdk_runtimes.manifest import Deviation

from .node_times import OperatorTime

PIPELINE = "pipeline"
"""Name of the rows that go from a video file to scenes, in seconds a frame."""


@dataclass(frozen=True)
class Times:
    """Seconds of each run, by one clock."""

    seconds: tuple[float, ...]

    @property
    def least(self) -> float:
        """The fastest run."""
        return min(self.seconds)

    @property
    def median(self) -> float:
        """The median run."""
        return statistics.median(self.seconds)

    @property
    def p95(self) -> float:
        """The run that one in twenty is slower than."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]

    def to_dict(self) -> dict[str, float]:
        """Milliseconds."""
        return {"min": 1e3 * self.least, "median": 1e3 * self.median, "p95": 1e3 * self.p95}


@dataclass(frozen=True)
class Row:
    """One contender at one component.

    Attributes:
        component: Its name, or `PIPELINE`.
        contender: Who ran it.
        wall, processor: Its runs by the clock on the wall, and by that of the thread that worked.
        resident: Bytes of memory of the contender's process.
        device_bytes: Bytes on the GPU; None on the CPU.
        error: The worst output against PyTorch in fp32; None for PyTorch itself.
        ceiling: Share of the measured operations a second of a product of matrices, in fp32.
        versions: Of the libraries.
    """

    component: str
    contender: str
    wall: Times
    processor: Times
    resident: int
    device_bytes: int | None = None
    error: Deviation | None = None
    ceiling: float | None = None
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Against:
    """All figures.

    Attributes:
        bundle, digest, checkpoint: What was compared.
        device: Where.
        threads: Of each contender.
        cores: Of this machine.
        load_before, load_after: 1-minute load average.
        rows: By component, the first of each is the one that others are divided by.
        skipped: Contenders that could not run, and why.
        nodes: By component and precision, where the time goes on the CPU.
        operations: Of one call of a component.
        ceilings: Operations a second by precision, and bytes a second of a copy.
    """

    bundle: str
    digest: str
    checkpoint: str
    device: str
    threads: int
    cores: int
    load_before: float
    load_after: float
    rows: tuple[Row, ...]
    skipped: dict[str, str]
    nodes: dict[str, dict[str, list[OperatorTime]]]
    operations: dict[str, int]
    ceilings: dict[str, float]

    @property
    def busy(self) -> bool:
        """Whether the machine had too much other work for times on the wall to be trusted."""
        return self.load_before > BUSY * self.cores

    def components(self) -> list[str]:
        """Names, in order."""
        return list(dict.fromkeys(row.component for row in self.rows))

    def of(self, component: str) -> list[Row]:
        """The rows of a component."""
        return [row for row in self.rows if row.component == component]

    def ratio(self, row: Row, clock: str = "wall", figure: str = "least") -> float:
        """How many times as fast as the first contender at the same component."""
        first = self.of(row.component)[0]
        base: float = getattr(getattr(first, clock), figure)
        own: float = getattr(getattr(row, clock), figure)
        return base / own

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON; times in milliseconds."""
        rows = [
            {
                "component": row.component,
                "contender": row.contender,
                "wall_ms": row.wall.to_dict(),
                "processor_ms": row.processor.to_dict(),
                "frames_per_second": 1 / row.wall.median,
                "ratio": {
                    clock: {"min": self.ratio(row, clock), "median": self.ratio(row, clock, "median")}
                    for clock in ("wall", "processor")
                },
                "runs": len(row.wall.seconds),
                "resident_bytes": row.resident,
                "device_bytes": row.device_bytes,
                "error": None if row.error is None else row.error.model_dump(),
                "share_of_ceiling": row.ceiling,
                "versions": row.versions,
            }
            for row in self.rows
        ]
        whole = {
            name: getattr(self, name)
            for name in (
                "bundle", "digest", "checkpoint", "device", "threads", "cores", "load_before", "load_after", "busy",
                "skipped", "operations", "ceilings",
            )
        }  # fmt: skip
        nodes = {
            component: {precision: [asdict(item) for item in items] for precision, items in by_precision.items()}
            for component, by_precision in self.nodes.items()
        }
        return {**whole, "rows": rows, "nodes": nodes}
