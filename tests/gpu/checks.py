"""All checks that need a GPU, in one run: conformance, parity, closed-loop drift and speed of every bundle.

    python tests/gpu/checks.py --carry WHEELS                what to carry to a machine without a package index
    python tests/gpu/checks.py --join WHEELS                 there: put the pieces together
    python tests/gpu/checks.py --out results                 the checks, in less than 8 minutes
    python tests/gpu/checks.py --device cpu --quick          the same code in small, anywhere

Not collected by pytest. It leaves `checks.json`, `drift.png` and, last of all on the screen, one short table. What does
not fit into the time is skipped, and said to be. The exit status is 1 if anything is wrong: a suite that fails, an
output beyond its limit, or a part that raised.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gpu_carry
from gpu_budget import Budget

ROOT = Path(__file__).parents[2]
_SOURCES = [str(ROOT / folder) for folder in ("sdk", "runtimes", "models", "export")]
ROUNDS, STEPS, FRAMES, CALLS = 30, 200, 24, 3
QUICK_ROUNDS, QUICK_STEPS, QUICK_FRAMES, QUICK_CALLS = 3, 4, 2, 1


class Checks:
    """All results so far; each part adds its own.

    Args:
        device: `cuda`, `cuda:1`, or `cpu`.
        budget: Of time.
        quick: Small networks and few rounds.
        folder: For bundles; what is there already is not exported again.
        compiled: Whether torch.compile takes part.
        only: Names of bundles; none means all.
    """

    def __init__(
        self, device: str, budget: Budget, *, quick: bool, folder: Path, compiled: bool, only: tuple[str, ...] = ()
    ) -> None:
        self.only = only
        self.device, self.budget, self.quick, self.folder, self.compiled = device, budget, quick, folder, compiled
        self.wrong: list[str] = []
        self.results: dict[str, Any] = {"parity": [], "drift": [], "overlap": [], "speed": []}

    def run(self) -> None:
        """Everything, the most important first."""
        from gpu_networks import recipes

        if self.budget.allows("conformance", 5 if self.quick else 60):
            self._conformance()
        with self._part("ceilings", 1 if self.quick else 10) as go:
            if go:
                self._ceilings()
        for recipe in recipes(quick=self.quick):
            if self.only and recipe.name not in self.only:
                self.budget.skip(recipe.name, "not among --only")
                continue
            with self._part(recipe.name, 1 if self.quick else recipe.seconds) as go:
                if go:
                    self._subject(recipe.make(self.folder))

    @contextmanager
    def _part(self, name: str, needs: float) -> Iterator[bool]:
        """Something that may be skipped for lack of time; what it raises is noted, and the rest goes on."""
        go = self.budget.allows(name, needs)
        if go:
            print(f"[{self.budget.spent:5.0f} s] {name}", flush=True)
        try:
            yield go
        except Exception as error:
            traceback.print_exc()
            self.wrong.append(f"{name}: {type(error).__name__}: {str(error)[:300]}")

    def _conformance(self) -> None:
        """The suite in a process of its own, with the libraries of CUDA that pip installed."""
        print(f"[{self.budget.spent:5.0f} s] conformance", flush=True)
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "tests/runtimes/test_engine_conformance.py",
        ]
        if self.quick:
            command += ["-k", "any_batch_size or unrolled or absent"]
        paths = os.pathsep.join([*_SOURCES, *filter(None, [os.environ.get("PYTHONPATH")])])
        libraries = os.pathsep.join([*cuda_libraries(), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])])
        try:
            done = subprocess.run(
                command, cwd=ROOT, env={**os.environ, "PYTHONPATH": paths, "LD_LIBRARY_PATH": libraries},
                capture_output=True, text=True, check=False, timeout=max(1.0, self.budget.left),
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            self.wrong.append("conformance: did not end in time")
            return
        tail = (done.stdout + done.stderr).strip().splitlines()[-25:]
        self.results["conformance"] = {"status": done.returncode, "tail": tail}
        engines = [line for line in tail if line.startswith(("onnxruntime-", "tensorrt"))]
        print("\n".join(engines or tail), flush=True)
        if done.returncode:
            self.wrong.append(f"conformance: status {done.returncode}")
        kind = self.device.partition(":")[0]
        if f"onnxruntime-{kind}: is here" not in engines:
            self.wrong.append(f"conformance: onnxruntime-{kind} was not among the engines")

    def _ceilings(self) -> None:
        from gpu_ceilings import measure_ceilings

        self.ceilings = measure_ceilings(self.device, quick=self.quick)
        self.results["ceilings"] = asdict(self.ceilings)

    def _subject(self, subject: Any) -> None:
        """Parity first, then closed loops, then speed."""
        for network in subject.networks:
            component = subject.bundle.components[network.name]
            for precision in component.spec.files:
                with self._part(f"{subject.name}/{network.name} {precision}: parity", 2) as go:
                    if go:
                        self._parity(subject, network, component, precision)
        self._closed_loops(subject)
        for network in subject.networks:
            with self._part(f"{subject.name}/{network.name}: speed", 1 if self.quick else 8) as go:
                if go:
                    self._speed(subject, network)

    def _parity(self, subject: Any, network: Any, component: Any, precision: str) -> None:
        import gpu_accuracy

        worst = gpu_accuracy.parity(network, component, self.device, precision, QUICK_CALLS if self.quick else CALLS)
        name = f"{subject.name}/{network.name}"
        self.results["parity"].append({"network": name, "precision": precision, "outputs": worst})
        if not gpu_accuracy.within(precision, worst):
            self.wrong.append(f"{name} {precision}: parity {worst}")

    def _closed_loops(self, subject: Any) -> None:
        import gpu_accuracy

        if subject.bundle.has("bridge"):
            for precision in subject.bundle.component("bridge").spec.files:
                with self._part(f"{subject.name} {precision}: drift", 1 if self.quick else 20) as go:
                    if go:
                        steps = QUICK_STEPS if self.quick else STEPS
                        found = gpu_accuracy.bridge_drift(subject.bundle, self.device, precision, steps)
                        self.results["drift"].append(
                            {"bundle": subject.name, "precision": precision, "one_minus_cosine": found}
                        )
        if subject.bundle.has("tracker.encoder"):
            parts = [item.spec.files for item in subject.bundle.components.values() if "tracker" in item.spec.role]
            for precision in (name for name in parts[0] if name != "fp32" and all(name in files for files in parts)):
                with self._part(f"{subject.name} {precision}: masks", 1 if self.quick else 15) as go:
                    if go:
                        frames = QUICK_FRAMES if self.quick else FRAMES
                        found = gpu_accuracy.tracker_overlap(subject.bundle, self.device, precision, frames)
                        self.results["overlap"].append({"bundle": subject.name, "precision": precision, "iou": found})

    def _speed(self, subject: Any, network: Any) -> None:
        from gpu_contenders import Race

        race = Race(
            f"{subject.name}/{network.name}", network, subject.bundle.components[network.name], self.device,
            compiled=self.compiled and self.budget.left > 60, failed=self.budget.skip,
        )  # fmt: skip
        rows = race.rows(QUICK_ROUNDS if self.quick else ROUNDS, self.ceilings)
        race.close()
        self.results["speed"] += [row.summary() for row in rows]


def cuda_libraries() -> list[str]:
    """Folders of the CUDA libraries that pip installed, which ONNX Runtime does not look for in a folder of its own."""
    return [str(found) for path in sys.path for found in sorted(Path(path).glob("nvidia/*/lib"))]


def machine(device: str) -> dict[str, Any]:
    """Names and versions, so that a figure can be placed."""
    import numpy
    import onnxruntime
    import torch
    import transformers

    found: dict[str, Any] = {
        "device": device, "processor": platform.machine(), "cores": os.cpu_count(), "load": os.getloadavg()[0],
        "python": platform.python_version(), "numpy": numpy.__version__, "onnxruntime": onnxruntime.__version__,
        "torch": torch.__version__, "transformers": transformers.__version__,
    }  # fmt: skip
    if device != "cpu":
        properties = torch.cuda.get_device_properties(0)
        found |= {"gpu": properties.name, "gpu_mb": properties.total_memory / 1e6, "cuda": torch.version.cuda}
    return found


def table(results: dict[str, Any]) -> str:
    """One line a network and precision: the least milliseconds of each contender, and the largest error."""
    best: dict[tuple[str, str], dict[str, float]] = {}
    share: dict[tuple[str, str], float] = {}
    for row in results["speed"]:
        key = row["network"], row["precision"]
        best.setdefault(key, {})[row["contender"]] = row["min_ms"]
        if row["share_of_matmul"] is not None and row["contender"].startswith("vsdk"):
            share[key] = max(share.get(key, 0.0), row["share_of_matmul"])
    errors = {
        (row["network"], row["precision"]): max(value["relative"] for value in row["outputs"].values())
        for row in results["parity"]
    }
    contenders = list(dict.fromkeys(row["contender"] for row in results["speed"]))
    lines = ["  ".join([f"{'ms, minimum':36}", *(f"{name:>15}" for name in contenders), " % matmul", "rel. error"])]
    for key in dict.fromkeys([*best, *errors]):
        times = [f"{best[key][name]:15.3f}" if name in best.get(key, {}) else f"{'-':>15}" for name in contenders]
        part = f"{100 * share[key]:9.1f}" if key in share else f"{'-':>9}"
        error = f"{errors[key]:10.1e}" if key in errors else f"{'-':>10}"
        lines.append("  ".join([f"{key[0]} {key[1]}".ljust(36), *times, part, error]))
    for row in results["drift"]:
        lines.append(
            f"{row['bundle']} bridge {row['precision']}: 1 - cosine {max(row['one_minus_cosine']):.1e} at worst"
        )
    for row in results["overlap"]:
        lines.append(f"{row['bundle']} tracker {row['precision']}: IoU with fp32 {min(row['iou']):.3f} at worst")
    return "\n".join(lines)


def write(out: Path, content: dict[str, Any]) -> None:
    """The JSON, and a picture of the drift curves where there are any."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "checks.json").write_text(json.dumps(content, indent=1))
    if not content["drift"]:
        return
    from vsdk.bench.chart import Axis, Curve, line_chart

    curves = [
        Curve(
            f"{row['bundle']} {row['precision']}",
            list(range(1, len(values) + 1)),
            [max(0.0, value) for value in values],
        )
        for row in content["drift"]
        for values in [row["one_minus_cosine"]]
    ]
    where = content["machine"].get("gpu", "CPU")
    remark = "1 - cosine of the memory tokens with fp32 on the CPU; each bridge reads its own state"
    line_chart(f"Bridges on {where}: drift in closed loop", remark, curves, Axis("segments"), Axis("1 - cosine")).save(
        out / "drift.png"
    )


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--carry", type=Path, metavar="DIR", help="download wheels there, cut them, say what to carry")
    parser.add_argument("--python", default="3.12", help="with --carry: Python of the other machine")
    parser.add_argument(
        "--part", type=int, default=60, metavar="MIB", help="with --carry: size of a part (default: 60)"
    )
    parser.add_argument("--join", type=Path, metavar="DIR", help="put pieces together again")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="small networks, few rounds")
    parser.add_argument("--minutes", type=float, default=7.5, help="for everything (default: 7.5)")
    parser.add_argument("--bundles", type=Path, help="where exported bundles are kept (default: nowhere)")
    parser.add_argument("--only", default="", help="names of bundles with commas, such as nano,DINOv2-S")
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile")
    parser.add_argument("--out", type=Path, default=Path("gpu-results"))
    options = parser.parse_args(arguments)
    if options.carry is not None:
        options.carry.mkdir(parents=True, exist_ok=True)
        gpu_carry.download(options.carry, list(gpu_carry.PACKAGES), options.python)
        gpu_carry.cut(options.carry, options.part * 2**20)
        print(gpu_carry.describe(options.carry, options.part * 2**20))
        return 0
    if options.join is not None:
        print("\n".join(path.name for path in gpu_carry.join(options.join)) or "there was nothing to put together")
        return 0
    if missing := gpu_carry.missing():
        print(f"not installed here: {', '.join(missing)}; to bring them: {Path(__file__).name} --carry DIR", flush=True)
    sys.path[:0] = _SOURCES  # where vsdk itself is not installed
    import torch  # before ONNX Runtime: it brings the libraries of CUDA into the process

    if options.device != "cpu" and not torch.cuda.is_available():
        print("PyTorch finds no GPU here; for a look at the checks themselves: --device cpu --quick", file=sys.stderr)
        return 2
    if options.device == "cpu":
        torch.set_num_threads(1)
    budget = Budget(60 * options.minutes)
    with tempfile.TemporaryDirectory() as folder:
        checks = Checks(
            options.device, budget, quick=options.quick, folder=options.bundles or Path(folder),
            compiled=not options.quick and not options.no_compile,
            only=tuple(filter(None, options.only.split(","))),
        )  # fmt: skip
        try:
            with budget.enforced():
                checks.run()
        finally:
            content = {
                "machine": machine(options.device), "seconds": budget.spent, **checks.results,
                "skipped": budget.skipped, "wrong": checks.wrong,
            }  # fmt: skip
            write(options.out, content)
    for heading, lines in (("SKIPPED", budget.skipped), ("WRONG", checks.wrong)):
        print("\n".join(f"{heading} {line}" for line in lines))
    print(f"{budget.spent:.0f} of {budget.seconds:.0f} s; {options.out / 'checks.json'}")
    print(table(checks.results))
    return 1 if checks.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
