"""Judge scene detectors on clips with known boundaries.

    python -m vsdk_models.nano.evaluate_scenes --split test --bundle DIR --json scores.json

prints F1 of vsdk, of a grey difference and of PySceneDetect's ContentDetector for each condition. With `--features DIR`
(or `--pictures DIR`) it saves what the encoder says (or sees) of each clip instead, so that thresholds can be tuned
without rendering again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from .clips import Clip, Frame
from .detection_scores import Score, score
from .scene_baselines import (
    CONTENT_DEFAULT,
    CONTENT_TUNED,
    GREY_RULE,
    Scored,
    best_rule,
    content_cuts,
    content_values,
    grey_cuts,
    grey_differences,
)
from .scene_splits import Case, Split, cases

Detector = Callable[[Iterable[Frame]], list[int]]
"""Takes the frames of a clip, gives the first frames of the scenes after the first."""

FRAME_NS = 40_000_000
PICTURE = 128
COLUMNS = ("vsdk", "grey difference", "ContentDetector", "ContentDetector, tuned")


def pipeline_detector(bundle: Path | None) -> Detector:
    """vsdk's own detector: a pipeline with the settings that the bundle carries; None is the built-in bundle."""
    import vsdk

    loaded = vsdk.load(bundle) if bundle is not None else vsdk.load()

    def detect(frames: Iterable[Frame]) -> list[int]:
        pipeline = vsdk.Pipeline(loaded, threads=1)
        events = [event for number, frame in enumerate(frames) for event in pipeline.push(frame, number * FRAME_NS)]
        events += pipeline.flush()
        pipeline.close()
        return [event.start_frame for event in events if isinstance(event, vsdk.Scene)][1:]

    return detect


@dataclass(frozen=True)
class Judged:
    """Scores of every detector on one clip; `scored` keeps the baselines' values for choosing their rules."""

    case: int
    scores: dict[str, Score]
    detected: dict[str, list[int]]
    grey: Scored
    content: Scored


def judge(clip: Clip, case: int, detector: Detector | None) -> Judged:
    """Run all detectors on one clip."""
    frames = list(clip.open())
    grey = Scored(grey_differences(frames), clip.transitions, clip.ignored)
    content = Scored(content_values(frames), clip.transitions, clip.ignored)
    detected = {} if detector is None else {"vsdk": detector(frames)}
    detected["grey difference"] = grey_cuts(grey.scores, GREY_RULE)
    detected["ContentDetector"] = content_cuts(content.scores, CONTENT_DEFAULT)
    detected["ContentDetector, tuned"] = content_cuts(content.scores, CONTENT_TUNED)
    scores = {name: score(found, clip.transitions, ignored=clip.ignored) for name, found in detected.items()}
    return Judged(case, scores, detected, grey, content)


def table(judged: Sequence[Judged], of: Sequence[Case]) -> dict[str, dict[str, Score]]:
    """Rows of the table: each condition, then totals; micro-averaged."""
    rows: dict[str, dict[str, Score]] = {}
    totals: dict[str, dict[str, Score]] = {}
    for result in judged:
        case = of[result.case]
        for row in (
            rows.setdefault(case.condition, {}),
            totals.setdefault(f"all {case.group}", {}),
            totals.setdefault("all", {}),
        ):
            for name, value in result.scores.items():
                row[name] = row.get(name, Score()) + value
    everything = totals.pop("all")
    return {**rows, **totals, "all": everything}


def show(rows: dict[str, dict[str, Score]]) -> Iterator[str]:
    """The table as lines of text."""
    columns = [name for name in COLUMNS if any(name in row for row in rows.values())]
    yield f"{'F1 (found/there, false)':28}" + "".join(f"{name:>26}" for name in columns)
    for label, row in rows.items():
        cells = []
        for name in columns:
            value = row[name]
            cells.append(f"{value.f1:.3f} ({value.matched}/{value.matched + value.missed}, {value.false})")
        yield f"{label:28}" + "".join(f"{cell:>26}" for cell in cells)


@lru_cache(maxsize=1)
def _detector(bundle: Path | None) -> Detector:
    return pipeline_detector(bundle)


@lru_cache(maxsize=1)
def _cases(split: Split, quick: bool) -> list[Case]:
    return cases(split, quick)


def _judge(split: Split, quick: bool, bundle: Path | None, baselines_only: bool, number: int) -> Judged:
    return judge(_cases(split, quick)[number].clip, number, None if baselines_only else _detector(bundle))


def _save(split: Split, quick: bool, bundle: Path | None, features: Path | None, folder: Path, number: int) -> str:
    case = _cases(split, quick)[number]
    clip = case.clip
    if features is not None:
        content = _encode(bundle, clip)
    else:
        content = {"pictures": np.stack([_small(frame) for frame in clip.open()])}
    path = folder / f"{number:03d}.npz"
    arrays: dict[str, npt.ArrayLike] = dict(
        condition=case.condition,
        group=case.group,
        name=clip.name,
        kinds=np.array([change.kind for change in clip.transitions], dtype="U8"),
        transitions=np.array([(change.first, change.last) for change in clip.transitions], np.int64).reshape(-1, 2),
        ignored=np.array(clip.ignored, np.int64).reshape(-1, 2),
        **content,
    )
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    return path.name


def _small(frame: Frame) -> Frame:
    """The picture as nano's preprocessing resizes it."""
    return np.asarray(Image.fromarray(frame).resize((PICTURE, PICTURE), Image.Resampling.BILINEAR))


def _encode(bundle: Path | None, clip: Clip) -> dict[str, npt.NDArray[np.generic]]:
    """What SceneTilling is given in a pipeline: `cls [n, width]`, and which frames were `encoded [n]`."""
    import vsdk

    cls: list[npt.NDArray[np.float32]] = []
    encoded: list[bool] = []

    def take(number: int, seconds: float, vector: npt.NDArray[np.float32], fresh: bool) -> None:
        cls.append(np.array(vector))
        encoded.append(fresh)

    pipeline = vsdk.Pipeline(bundle, threads=1, on_features=take)
    for number, frame in enumerate(clip.open()):
        pipeline.push(frame, number * FRAME_NS)
    pipeline.flush()
    pipeline.close()
    return {"cls": np.stack(cls), "encoded": np.array(encoded)}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="evaluate_scenes", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--split", choices=("tuning", "test"), default="tuning")
    parser.add_argument("--quick", action="store_true", help="one clip of each condition")
    parser.add_argument("--bundle", type=Path, help="bundle to judge; the built-in one by default")
    parser.add_argument("--baselines", action="store_true", help="judge the baselines alone")
    parser.add_argument("--json", type=Path, help="write counts and detections here")
    parser.add_argument("--features", type=Path, metavar="DIR", help="save class tokens, judge nothing")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="save 128x128 pictures, judge nothing")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    options = parser.parse_args(arguments)
    split: Split = options.split
    chosen = cases(split, options.quick)
    numbers = range(len(chosen))
    started = time.monotonic()
    folder = options.features or options.pictures
    with ExitStack() as stack:
        # One process needs no workers; with more, each sets up its own detector once.
        each = map if options.jobs == 1 else stack.enter_context(ProcessPoolExecutor(options.jobs)).map
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            save = partial(_save, split, options.quick, options.bundle, options.features, folder)
            for name in each(save, numbers):
                print(f"{name}  {time.monotonic() - started:5.0f} s", file=sys.stderr)
            return 0
        judged = []
        for result in each(partial(_judge, split, options.quick, options.bundle, options.baselines), numbers):
            judged.append(result)
            print(f"\r{len(judged)}/{len(chosen)} clips, {time.monotonic() - started:.0f} s ", end="", file=sys.stderr)
    print(file=sys.stderr)
    rows = table(judged, chosen)
    print("\n".join(show(rows)))
    if split == "tuning" and not options.quick:
        grey, grey_f1 = best_rule([result.grey for result in judged], content=False)
        content, content_f1 = best_rule([result.content for result in judged], content=True)
        print(f"best for the grey difference here: {grey}, F1 {grey_f1:.3f}")
        print(f"best for ContentDetector here: {content}, F1 {content_f1:.3f}")
    if options.json is not None:
        options.json.write_text(json.dumps(_report(judged, chosen, rows), indent=1) + "\n")
    return 0


def _report(judged: Sequence[Judged], of: Sequence[Case], rows: dict[str, dict[str, Score]]) -> dict[str, object]:
    def plain(value: Score) -> dict[str, float]:
        return {"f1": round(value.f1, 4), "matched": value.matched, "missed": value.missed, "false": value.false}

    clips = []
    for result in judged:
        clip = of[result.case].clip
        truth = [[change.kind, change.first, change.last] for change in clip.transitions]
        clips.append({"name": clip.name, "frames": clip.frames, "truth": truth, "detected": result.detected})
    return {
        "rows": {label: {name: plain(value) for name, value in row.items()} for label, row in rows.items()},
        "clips": clips,
    }


if __name__ == "__main__":
    sys.exit(main())
