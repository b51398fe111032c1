"""Choose SceneTilling's default thresholds, on rendered clips only.

    python -m vsdk_models.nano.evaluate_scenes --split tuning --features runs/tuning
    python -m vsdk_models.nano.tune_scenes runs/tuning

The first command saves what SceneTilling is given on each clip of the tuning split; this one tries values for one
setting after the other, keeps the value with the best F1 over all clips, and goes round until nothing changes. Real
clips, and the test split, play no part.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

import vsdk
from vsdk.confirmation import Confirmation

from .clips import Kind, Transition
from .detection_scores import Interval, Score, score

Value = float | tuple[int, ...]

SETTINGS: dict[str, Sequence[Value]] = {
    "gradual_floor": (0.3, 0.4, 0.5, 0.6),
    "spans": ((28,), (28, 48), (12, 28, 48), (16, 28, 48), (16, 28, 40), (16, 28, 56)),
    "floor": (0.1, 0.2, 0.3, 0.4),
}
CONFIRMATION: dict[str, Sequence[Value]] = {
    "distance": (0.3, 0.35, 0.4, 0.45),
    "sharpness": (2, 4, 6, 8),
    "before": (8, 12, 16),
    "horizon": (16, 24, 32),
}
SENSITIVE = {"sharpness": 0.0025}
"""Settings of which the lowest value is taken that costs no more than so much F1 (one boundary): rendered cuts are all
deep, so the clips can say how low these may be, but not how low they must be for two shots of one real street."""


@dataclass(frozen=True)
class Recording:
    """One clip as SceneTilling sees it."""

    name: str
    condition: str
    cls: npt.NDArray[np.float32]
    truth: tuple[Transition, ...]
    ignored: tuple[Interval, ...]


def recordings(folder: Path) -> list[Recording]:
    """What `evaluate_scenes --features` saved."""
    found = []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as content:
            kinds: list[Kind] = [str(kind) for kind in content["kinds"]]  # type: ignore[misc]
            spans = zip(kinds, content["transitions"], strict=True)
            truth = tuple(Transition(kind, int(first), int(last)) for kind, (first, last) in spans)
            ignored = tuple((int(first), int(last)) for first, last in content["ignored"])
            found.append(Recording(str(content["name"]), str(content["condition"]), content["cls"], truth, ignored))
    return found


def detected(recording: Recording, settings: vsdk.SceneTillingSettings) -> list[int]:
    """First frames of the scenes after the first."""
    tilling = vsdk.SceneTilling(settings)
    boundaries = [boundary for feature in recording.cls for boundary in tilling.push(feature)] + tilling.flush()
    return [boundary.frame + 1 for boundary in boundaries]


def scores(of: Sequence[Recording], settings: vsdk.SceneTillingSettings) -> dict[str, Score]:
    """Micro-averaged scores of each condition, and of `all`."""
    rows: dict[str, Score] = {}
    for recording in of:
        found = score(detected(recording, settings), recording.truth, ignored=recording.ignored)
        for row in (recording.condition, "all"):
            rows[row] = rows.get(row, Score()) + found
    return rows


def changed(settings: vsdk.SceneTillingSettings, name: str, value: Value) -> vsdk.SceneTillingSettings:
    """The settings with one of them changed, wherever it lives."""
    if name in CONFIRMATION:
        confirmation = settings.confirmation or Confirmation()
        return replace(settings, confirmation=replace(confirmation, **{name: value}))  # type: ignore[arg-type]
    return replace(settings, **{name: value})  # type: ignore[arg-type]


def tune(of: Sequence[Recording], settings: vsdk.SceneTillingSettings, rounds: int = 3) -> vsdk.SceneTillingSettings:
    """Coordinate ascent on F1 over all clips; of equal values the middle one is taken, far from both edges."""
    for _ in range(rounds):
        before = settings
        for name, values in {**SETTINGS, **CONFIRMATION}.items():
            results = [(scores(of, changed(settings, name, value))["all"].f1, value) for value in values]
            print(f"{name:14} " + "  ".join(f"{value}: {f1:.4f}" for f1, value in results), flush=True)
            settings = changed(settings, name, _choice(results, SENSITIVE.get(name)))
        if settings == before:
            break
    return settings


def _choice(results: Sequence[tuple[float, Value]], may_cost: float | None) -> Value:
    top = max(f1 for f1, _ in results)
    good = [value for f1, value in results if f1 >= top - (may_cost or 0.0)]
    return good[0] if may_cost is not None else good[len(good) // 2]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", type=Path, help="folder that evaluate_scenes --features wrote")
    parser.add_argument("--rounds", type=int, default=3, help="times to go through all settings; 0 only scores")
    arguments = parser.parse_args()
    of = recordings(arguments.features)
    settings = tune(of, vsdk.SceneTillingSettings(), arguments.rounds)
    print(settings)
    for condition, value in scores(of, settings).items():
        print(f"{condition:28} F1 {value.f1:.4f}  matched {value.matched}  missed {value.missed}  false {value.false}")


if __name__ == "__main__":
    main()
