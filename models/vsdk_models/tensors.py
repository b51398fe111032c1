"""Single tensors out of a checkpoint's safetensors files, so that the rest of a large checkpoint is never read."""

from __future__ import annotations

import json
import struct
from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from vsdk_runtimes.errors import CheckpointError

from .checkpoint import Checkpoint


class CheckpointTensors:
    """The tensors of a checkpoint by name, whichever file each is in. Only headers are read until one is asked for.

    Args:
        checkpoint: Its weights must be on this machine.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor, from the headers.

        Raises:
            CheckpointError: A file is damaged.
        """
        return {name: shape for shapes in self._files.values() for name, shape in shapes.items()}

    def below(self, prefix: str) -> list[str]:
        """Names that begin with a prefix, without it, in order."""
        return sorted(name.removeprefix(prefix) for name in self.shapes if name.startswith(prefix))

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """These tensors as float32, whatever type they are stored in.

        Raises:
            CheckpointError: A file is damaged.
        """
        by_file = defaultdict(list)
        for name in names:
            by_file[next(path for path, shapes in self._files.items() if name in shapes)].append(name)
        found = {}
        for path, wanted in by_file.items():
            try:
                with safe_open(path, framework="pt") as file:
                    found.update({name: file.get_tensor(name).float() for name in wanted})
            except (OSError, SafetensorError) as error:
                raise _damaged(path, error) from error
        return found

    def fill(self, module: nn.Module, prefix: str, what: str) -> None:
        """Set every parameter of a module from the tensor whose name is the parameter's behind a prefix.

        Args:
            module: Gets the tensors.
            prefix: Before its own names.
            what: What the module is, for error messages.

        Raises:
            CheckpointError: A tensor is missing or of the wrong shape, or a file is damaged; the message names it.
        """
        wanted = {f"{prefix}{name}": tensor for name, tensor in module.state_dict().items()}
        if missing := sorted(wanted.keys() - self.shapes.keys()):
            raise CheckpointError(
                f"{self.checkpoint.name} lacks {len(missing)} of the weights of its {what}, such as {missing[0]}",
                hint="Random values in their place would give a useless bundle. Get the whole checkpoint.",
            )
        for name, tensor in wanted.items():
            if self.shapes[name] != tuple(tensor.shape):
                raise CheckpointError(
                    f"{self.checkpoint.name}: {name} has the shape {list(self.shapes[name])}, and its {what} needs "
                    f"{list(tensor.shape)}",
                    hint="Its weights and its config.json do not belong together.",
                )
        found = self.read(wanted)
        module.load_state_dict({name.removeprefix(prefix): tensor for name, tensor in found.items()})

    @cached_property
    def _files(self) -> dict[Path, dict[str, tuple[int, ...]]]:
        files = {}
        for path in self.checkpoint.weights:
            try:
                files[path] = _header(path)
            except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
                raise _damaged(path, error) from error
        return files


def _header(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes by name. The library would map the whole file, which a machine with little memory refuses."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > path.stat().st_size:
            raise ValueError("its header is longer than the file")
        entries = json.loads(file.read(length))
    entries.pop("__metadata__", None)
    if path.stat().st_size != 8 + length + max((entry["data_offsets"][1] for entry in entries.values()), default=0):
        raise ValueError("its size is not the one that its header states")
    return {name: tuple(entry["shape"]) for name, entry in entries.items()}


def _damaged(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path} is not a whole safetensors file: {error}")
