"""Build graphs with TensorRT-RTX, ahead of time and without a GPU; runs in an environment that has only that package.

    python tensorrt_rtx_build.py GRAPH.onnx=AXIS:LEAST:USUAL:MOST,... [...]

Prints one JSON object a line: the graph, the nodes that the parser does not take with the reason, and the plan's size.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import tensorrt_rtx as trt


class Messages(trt.ILogger):  # type: ignore[misc]
    """Keeps what TensorRT says: it reports by logging, and returns None."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.errors: list[str] = []

    def log(self, severity: Any, message: str) -> None:
        """Called by TensorRT."""
        if severity <= trt.Logger.ERROR:
            self.errors.append(message)


def build(path: str, axes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """Parse a graph strongly typed and build it for one architecture."""
    messages = Messages()
    builder = trt.Builder(messages)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, messages)
    if not parser.parse_from_file(path):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        reasons = [f"{error.node_name()} ({error.node_operator()}): {error.desc()}" for error in errors]
        return {"graph": path, "unsupported": reasons or messages.errors, "bytes": 0}
    config = builder.create_builder_config()
    profile, dynamic = builder.create_optimization_profile(), False
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        names = [tensor.get_dimension_name(axis) for axis in range(len(tensor.shape))]
        if -1 in tuple(tensor.shape):
            dynamic = True
            shapes = [
                tuple(
                    axes[name][choice] if size == -1 else size for size, name in zip(tensor.shape, names, strict=True)
                )
                for choice in range(3)
            ]
            profile.set_shape(tensor.name, *shapes)
    if dynamic:
        config.add_optimization_profile(profile)
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    plan = builder.build_serialized_network(network, config)
    return {"graph": path, "unsupported": [] if plan else messages.errors, "bytes": plan.nbytes if plan else 0}


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        graph, _, said = argument.partition("=")
        ranges = dict(item.split(":", 1) for item in said.split(",")) if said else {}
        print(json.dumps(build(graph, {name: tuple(map(int, text.split(":"))) for name, text in ranges.items()})))
