"""What came out of a needle test: rates with their bounds, cell by cell and in all."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .niavh_contenders import CONTENDERS

DEVIATIONS = 1.959964
"""Standard deviations that hold 95 % of a normal distribution."""


@dataclass(frozen=True)
class Rate:
    """How often something was right, with Wilson's 95 % bounds.

    Attributes:
        right, of: Counts.
    """

    right: int
    of: int

    @property
    def accuracy(self) -> float:
        """The share; 0 of 0 is not a number."""
        return self.right / self.of if self.of else math.nan

    @property
    def bounds(self) -> tuple[float, float]:
        """Lower and upper bound (Wilson's score interval)."""
        if not self.of:
            return 0.0, 1.0
        n, p, z = self.of, self.accuracy, DEVIATIONS
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        reach = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, middle - reach), min(1.0, middle + reach)

    def to_dict(self) -> dict[str, float | int | None]:
        """For JSON."""
        low, high = self.bounds
        share = round(self.accuracy, 4) if self.of else None
        return {"accuracy": share, "low": round(low, 4), "high": round(high, 4), "trials": self.of}


@dataclass(frozen=True)
class Outcome:
    """One trial.

    Attributes:
        cell: Column and row of the grid.
        length: Seconds of the video.
        second: The second that showed the needle.
        way, kind: `overlay` or `splice`; `image` or `video`.
        real: Whether the haystack came from a file.
        right: By contender: whether it named the needle's class.
        presence: How sure the memory was that there had been a needle (logarithm of the odds).
        named: First and last second of the part of the video in which the memory says that it was.
    """

    cell: tuple[int, int]
    length: int
    second: int
    way: str
    kind: str
    real: bool
    right: dict[str, bool]
    presence: float
    named: tuple[int, int]

    @property
    def named_rightly(self) -> bool:
        """Whether the needle was in the part that was named."""
        return self.named[0] <= self.second <= self.named[1]


@dataclass(frozen=True)
class Cell:
    """All trials of one length and depth: how often each contender was right."""

    length: int
    depth: int
    rates: dict[str, Rate]


@dataclass(frozen=True)
class NiavhReport:
    """All figures of one test.

    Attributes:
        bundle, digest, engine: What ran.
        haystack: On what.
        seed: Of needles and haystacks.
        classes: How many kinds of needle.
        trained_length: Seconds of the longest video in training.
        lengths, depths: Columns (seconds) and rows (percent) of the grid.
        trials: Needles a cell.
        window: Frames that `last_n` keeps.
        floats: How many floats each contender keeps.
        outcomes: Every trial.
        without: The memory's `presence` for each video without a needle.
    """

    bundle: str
    digest: str
    engine: str
    haystack: str
    seed: int
    classes: int
    trained_length: int
    lengths: list[int]
    depths: list[int]
    trials: int
    window: int
    floats: dict[str, int]
    outcomes: tuple[Outcome, ...]
    without: tuple[float, ...]

    @property
    def chance(self) -> float:
        """How often a guess is right."""
        return 1 / self.classes

    def rate(self, contender: str, among: Callable[[Outcome], bool] = lambda outcome: True) -> Rate:
        """How often a contender was right, among the trials asked for."""
        chosen = [outcome.right[contender] for outcome in self.outcomes if among(outcome)]
        return Rate(sum(chosen), len(chosen))

    @property
    def last_n_outside(self) -> Rate:
        """`last_n` where the needle lies before the frames that it keeps."""
        return self.rate("last_n", lambda outcome: outcome.second < outcome.length - self.window)

    @property
    def when(self) -> Rate:
        """How often the memory named the part of the video that had shown the needle."""
        chosen = [outcome.named_rightly for outcome in self.outcomes]
        return Rate(sum(chosen), len(chosen))

    @property
    def when_seconds(self) -> float:
        """Median length of the part that it named."""
        return float(np.median([outcome.named[1] - outcome.named[0] + 1 for outcome in self.outcomes]))

    @property
    def no_needle_auroc(self) -> float:
        """Probability that the memory is surer of a needle with one than without."""
        return auroc([outcome.presence for outcome in self.outcomes], self.without)

    @cached_property
    def cells(self) -> list[Cell]:
        """Rates cell by cell, column by column."""
        by_cell: dict[tuple[int, int], list[Outcome]] = {}
        for outcome in self.outcomes:
            by_cell.setdefault(outcome.cell, []).append(outcome)
        return [
            Cell(
                self.lengths[column],
                self.depths[row],
                {name: Rate(sum(item.right[name] for item in found), len(found)) for name in CONTENDERS},
            )
            for (column, row), found in sorted(by_cell.items())
        ]

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            **{name: self.rate(name).to_dict() for name in CONTENDERS},
            "last_n_outside": self.last_n_outside.to_dict(),
            "when": {**self.when.to_dict(), "seconds": self.when_seconds},
            "no_needle_auroc": round(self.no_needle_auroc, 4),
            "chance": round(self.chance, 4),
            "grid": f"{len(self.lengths)}x{len(self.depths)}",
            "trials": self.trials,
            "trained_length": self.trained_length,
            "longest": max(self.lengths),
            "window": self.window,
            "floats": self.floats,
            "memory_by": self._memory_by(),
            "bundle": self.bundle,
            "digest": self.digest,
            "engine": self.engine,
            "haystack": self.haystack,
            "seed": self.seed,
            "videos_without_needle": len(self.without),
            "cells": [
                {"length": cell.length, "depth": cell.depth}
                | {name: round(rate.accuracy, 4) for name, rate in cell.rates.items()}
                for cell in self.cells
            ],
        }

    def _memory_by(self) -> dict[str, dict[str, float | int | None]]:
        """The memory's rate in parts of the trials."""
        parts: dict[str, Callable[[Outcome], bool]] = {
            "overlay": lambda outcome: outcome.way == "overlay",
            "splice": lambda outcome: outcome.way == "splice",
            "image": lambda outcome: outcome.kind == "image",
            "video": lambda outcome: outcome.kind == "video",
            "drawn haystack": lambda outcome: not outcome.real,
            "real haystack": lambda outcome: outcome.real,
            "up to the trained length": lambda outcome: outcome.length <= self.trained_length,
            "longer": lambda outcome: outcome.length > self.trained_length,
            "more than twice as long": lambda outcome: outcome.length > 2 * self.trained_length,
        }
        rates = {name: self.rate("memory", among) for name, among in parts.items()}
        return {name: rate.to_dict() for name, rate in rates.items() if rate.of}


def auroc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Area under the receiver operating characteristic: how often a positive is above a negative; ties count half."""
    ordered = np.sort(np.asarray(negative, np.float64))
    values = np.asarray(positive, np.float64)
    below = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    return float(below.sum() / (2 * len(ordered) * len(values)))
