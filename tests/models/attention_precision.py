"""Who is nearer to float64 where a graph and its PyTorch module disagree: memory attention at full width.

    python tests/models/attention_precision.py --model edgetam --size 512 --sharpness 1 0.3 --json precision.json

Not collected by pytest. Export compares a graph with its module in float32, so what both are wrong by counts, too. Here
each is compared with the module in float64, on samples that export takes; for EdgeTAM transformers' own computation
stands beside, with the same memories and pointers. With random weights of sharpness 1 (`sam2_reference.randomised`)
softmaxes are so sharp that float32 is off by about the limit of 1e-4, whoever computes it.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnxruntime
import torch
import transformers
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))

from edgetam_reference import conditioned, edgetam_video_model
from sam2_reference import present, randomised
from sam2_streaming import relative
from transformers import Sam2VideoModel

from vsdk_export.graph import trace, write_graph
from vsdk_export.tracker import tracker_networks
from vsdk_models.sam2 import memory_attention
from vsdk_models.sam2.edgetam_model import edgetam_networks
from vsdk_models.sam2.model import sam2_networks
from vsdk_models.sam2.published import published_config
from vsdk_runtimes.manifest import Origin

SAMPLES = (0, 3, 6)
"""Of those that export takes: a full bank, one that is half full, and one with few memories."""


def study(name: str, size: int, sharpness: float) -> dict[str, Any]:
    """Errors relative to the root mean square, the worst of the samples, and how sharp the softmaxes are."""
    model: Any
    if name == "edgetam":
        model = present(edgetam_video_model(0, size, small=False, sharpness=sharpness))
        networks = edgetam_networks(model)
    else:
        model = present(randomised(Sam2VideoModel(published_config(name, image_size=size)), 0, sharpness))
        networks = sam2_networks(model)
    network = tracker_networks(networks, Origin(checkpoint="random weights"))[1]
    with tempfile.TemporaryDirectory() as folder:
        write_graph(trace(network), Path(folder) / "attention.onnx")
        graph = onnxruntime.InferenceSession(Path(folder) / "attention.onnx", providers=["CPUExecutionProvider"])
    double, double_model = copy.deepcopy(network.module).double(), copy.deepcopy(model).double()
    rows = []
    for index in SAMPLES:
        inputs = {key: array[index : index + 1] for key, array in network.samples.items()}
        tensors = {key: torch.from_numpy(array) for key, array in inputs.items()}
        with torch.inference_mode(), sharpest() as sharp:
            exact = double(*(_double(tensor) for tensor in tensors.values())).numpy()
            module = network.module(*tensors.values()).numpy()
            row = {"spread_of_scores": max(sharp[0]), "median_largest_weight": max(sharp[1])}
            if name == "edgetam":
                exact_theirs = theirs(double_model, tensors, torch.float64)
                row["transformers, float64"] = relative(exact_theirs, exact)
                row["transformers, float32, from its own float64"] = relative(
                    theirs(model, tensors, torch.float32), exact_theirs
                )
        (found,) = graph.run(None, inputs)
        row |= {
            "module, float32": relative(module, exact), "graph, float32": relative(np.asarray(found), exact),
            "graph from module": relative(np.asarray(found), module),
        }  # fmt: skip
        rows.append(row)
    return {key: max(row[key] for row in rows) for key in rows[0]}


def theirs(model: Any, tensors: dict[str, Tensor], dtype: torch.dtype) -> Any:
    """What transformers makes of a sample."""
    ages, valid = tensors["slot_age"][0].tolist(), tensors["slot_valid"][0] > 0
    slots = [
        (age, memory.to(dtype)) for age, memory, kept in zip(ages, tensors["memory"][0], valid, strict=True) if kept
    ]
    ages, valid = tensors["pointer_age"][0].tolist(), tensors["pointer_valid"][0] > 0
    pointers = [
        (age, one.to(dtype)) for age, one, kept in zip(ages, tensors["pointers"][0], valid, strict=True) if kept
    ]
    return conditioned(model, tensors["top"].to(dtype), slots, pointers).numpy()


@contextmanager
def sharpest() -> Iterator[tuple[list[float], list[float]]]:
    """For each attention meanwhile: the spread of its scores, and the median over queries of the largest weight."""
    spreads: list[float] = []
    largest: list[float] = []

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        scores = query @ key.transpose(1, 2)
        there = scores > memory_attention.INVALID / 2
        spreads.append(float(scores[there].std()))
        weights = scores.softmax(dim=-1)
        largest.append(float(weights.amax(dim=-1).median()))
        return weights @ value

    with patch.object(memory_attention, "attend", attend):
        yield spreads, largest


def _double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="edgetam", help="edgetam, or a published SAM-2")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--sharpness", type=float, nargs="+", default=[1.0, 0.3])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    results["versions"] = {
        "torch": torch.__version__, "transformers": transformers.__version__, "onnxruntime": onnxruntime.__version__,
    }  # fmt: skip
    for sharpness in options.sharpness:
        found = {key: float(f"{value:.3g}") for key, value in study(options.model, options.size, sharpness).items()}
        results[f"{options.model}-{options.size}, sharpness {sharpness:g}"] = found
        print(f"{options.model} {options.size}, sharpness {sharpness:g}: {found}", flush=True)
        if options.json:
            options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
