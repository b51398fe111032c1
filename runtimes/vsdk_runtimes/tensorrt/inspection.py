"""What precision an engine's layers really have, read back by the engine inspector and held against the graph.

An engine of another precision than its graph's is the worst thing a builder can do, because it works. The inspector's
JSON changed with TensorRT 11 (`Bindings` became `I/O Tensors`, `Format/Datatype` became two fields), so every field
whose name says data type is read, whatever the rest of its name.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ..errors import GraphError
from .api import EngineInspector, ICudaEngine, TensorRT

UNSEEN: Final = "unseen"
"""Layers whose types the inspector does not give, such as those that are fused into one that is opaque."""
# The first that is found counts, so that bfloat16 is not taken for float16, nor uint8 for int8.
_WORDS: Final = (
    ("other", re.compile(r"bf16|bfloat16|fp8|fp4|e4m3|e8m0|int4|int32|int64|uint8|bool", re.IGNORECASE)),
    ("fp16", re.compile(r"half|fp16|float16", re.IGNORECASE)),
    ("int8", re.compile(r"int8", re.IGNORECASE)),
    ("fp32", re.compile(r"float|fp32", re.IGNORECASE)),
)


def read_back(trt: TensorRT, engine: ICudaEngine) -> dict[str, int]:
    """How many layers of an engine read or write each type. A layer may count for several."""
    inspector: EngineInspector = engine.create_engine_inspector()
    return layer_types(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def layer_types(information: str) -> dict[str, int]:
    """The same from the inspector's JSON, of 10.x or of 11.x.

    Raises:
        GraphError: It is not JSON of that kind.
    """
    try:
        content = json.loads(information)
        layers = content["Layers"]
        if not isinstance(layers, list):
            raise TypeError("Layers is not a list")
    except (ValueError, KeyError, TypeError) as error:
        raise GraphError(f"the engine inspector's answer cannot be read: {error}") from error
    counts: Counter[str] = Counter()
    for layer in layers:
        counts.update(_types(layer) or {UNSEEN})
    return dict(sorted(counts.items()))


def compare(asked: Mapping[str, int], found: Mapping[str, int], label: str) -> list[str]:
    """Hold an engine's layers against the types that its graph computes in.

    Args:
        asked: From `network.computed_types`.
        found: From `read_back`.
        label: The engine, for the error.

    Returns:
        Remarks on what could not be seen.

    Raises:
        GraphError: The graph computes in fp16 or int8, every layer's types are known, and none has that type.
    """
    remarks = []
    for precision in ("fp16", "int8"):
        if not asked.get(precision) or found.get(precision):
            continue
        if found.get(UNSEEN):
            remarks.append(f"{precision} was asked for and cannot be seen in the engine's layers ({_said(found)})")
            continue
        raise GraphError(
            f"{label} was built without a single {precision} layer, although {asked[precision]} places of its graph "
            f"are {precision}; its layers are {_said(found)}",
            hint="Do not use it. Update TensorRT, or run this bundle with --engine onnxruntime.",
        )
    return remarks


def _said(found: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in found.items()) or "none"


def _types(layer: Any) -> set[str]:
    """Types of a layer's inputs, outputs and weights; empty when it is only a name."""
    if not isinstance(layer, dict):
        return set()
    return {name for text in _type_texts(layer) if (name := _named(text))}


def _type_texts(layer: Mapping[str, Any]) -> Iterator[str]:
    for side in ("Inputs", "Outputs"):
        for item in layer.get(side) or []:
            if isinstance(item, dict):
                yield from (str(value) for key, value in item.items() if _says_type(key))
    weights = layer.get("Weights")
    if isinstance(weights, dict):
        yield str(weights.get("Type", ""))


def _says_type(key: str) -> bool:
    return "datatype" in re.sub(r"[^a-z]", "", key.lower())


def _named(text: str) -> str | None:
    return next((name for name, words in _WORDS if words.search(text)), None)
