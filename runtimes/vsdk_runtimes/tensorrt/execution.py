"""An execution context with its stream: shapes and addresses in, work queued, as one CUDA graph where that is possible.

A graph is recorded the second time that the same shapes and addresses are run, and launched from then on. Recorded
graphs hold for one set of shapes only, so a change of shapes lets them go. Where the engine cannot be recorded, its
work is queued layer by layer, with the same results.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from ..errors import EngineRunError, GraphError
from .api import ICudaEngine, IExecutionContext
from .cuda_driver import Graph, Stream
from .messages import last_words

_MOST_GRAPHS = 32
_log = logging.getLogger("vsdk.tensorrt")
Shapes = dict[str, tuple[int, ...]]


class Execution:
    """Runs an engine on addresses.

    Args:
        engine: The engine.
        stream: Where its work is queued; its GPU must be current in every call.
        logger: From `make_logger`.

    Raises:
        GraphError: The engine needs more memory than there is.
    """

    def __init__(self, engine: ICudaEngine, stream: Stream, logger: Any) -> None:
        context = engine.create_execution_context()
        if context is None:
            raise GraphError(
                f"the engine cannot be prepared: {last_words(logger.errors)}",
                hint="If memory ran out, build it with smaller --shapes.",
            )
        self._context: IExecutionContext = context
        self._stream = stream
        self._logger = logger
        self._inputs: Shapes | None = None
        self._graphs: OrderedDict[tuple[int, ...], Graph | None] = OrderedDict()
        self.records_graphs = True

    def set_shapes(self, inputs: Shapes, outputs: Shapes) -> None:
        """Say how large the tensors of the next runs are.

        Raises:
            EngineRunError: The engine does not take these inputs, or would give outputs of other shapes.
        """
        if inputs == self._inputs:
            return
        self._graphs.clear()
        self._inputs = None
        context = self._context
        for name, shape in inputs.items():
            if not context.set_input_shape(name, shape):
                raise EngineRunError(f"the engine refuses {name!r} as {list(shape)}: {last_words(self._logger.errors)}")
        if unknown := context.infer_shapes():
            raise EngineRunError(f"the engine cannot tell the shapes of {', '.join(unknown)}")
        for name, expected in outputs.items():
            found = tuple(int(size) for size in context.get_tensor_shape(name))
            if found != expected:
                raise EngineRunError(f"the engine gives {name!r} as {list(found)}, the manifest says {list(expected)}")
        self._inputs = inputs

    def enqueue(self, addresses: Mapping[str, int]) -> None:
        """Queue one run that reads and writes at these addresses.

        Raises:
            EngineRunError: TensorRT or CUDA refuses.
        """
        key = tuple(addresses.values())
        graph = self._graphs.get(key)
        if graph is not None:
            self._graphs.move_to_end(key)
            graph.launch(self._stream)
            return
        for name, address in addresses.items():
            if not self._context.set_tensor_address(name, address):
                raise EngineRunError(f"the engine does not take the memory of {name!r}: {self._words()}")
        seen = key in self._graphs
        self._graphs[key] = self._recorded() if seen and self.records_graphs else None
        self._graphs.move_to_end(key)
        while len(self._graphs) > _MOST_GRAPHS:
            self._graphs.popitem(last=False)
        graph = self._graphs[key]
        if graph is not None:
            graph.launch(self._stream)
        elif not self._context.execute_async_v3(self._stream.handle):
            raise EngineRunError(self._words())

    def _recorded(self) -> Graph | None:
        try:
            with self._stream.capture() as recorded:
                if not self._context.execute_async_v3(self._stream.handle):
                    raise EngineRunError(self._words())
        except EngineRunError as error:
            self.records_graphs = False
            _log.info("this engine runs without CUDA graphs: %s", error)
            return None
        return recorded[0]

    def _words(self) -> str:
        return last_words(self._logger.errors)
