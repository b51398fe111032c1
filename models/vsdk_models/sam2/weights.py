"""Every weight of a tracker from a checkpoint that transformers wrote, or an error that names the first that is not."""

from __future__ import annotations

from torch import nn

from vsdk_runtimes.errors import CheckpointError

from ..checkpoint import Checkpoint
from ..tensors import CheckpointTensors

SHARED = "shared_image_embedding.positional_embedding"
COPY = "prompt_encoder.shared_embedding.positional_embedding"


def fill_model(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Set all weights of a model of transformers, and use all weights of the checkpoint.

    The matrix that encodes positions is twice in the model; transformers before 5.0 may have written it only once.

    Args:
        model: A `Sam2VideoModel` or `EdgeTamVideoModel`.
        checkpoint: What it was saved as.

    Raises:
        CheckpointError: A weight is missing, unknown or of the wrong shape, or a file is damaged.
    """
    tensors = CheckpointTensors(checkpoint)
    found = tensors.read(tensors.shapes)
    if COPY not in found and SHARED in found:
        found[COPY] = found[SHARED]
    wanted = model.state_dict()
    for names, what in ((wanted.keys() - found.keys(), "lacks"), (found.keys() - wanted.keys(), "has unknown")):
        if names:
            raise CheckpointError(
                f"{checkpoint.name} {what} weights: {len(names)}, such as {min(names)}",
                hint="Its weights and its config.json do not belong together, or it is not whole.",
            )
    for name, tensor in wanted.items():
        if tensor.shape != found[name].shape:
            raise CheckpointError(
                f"{checkpoint.name}: {name} has the shape {list(found[name].shape)}, and the model needs "
                f"{list(tensor.shape)}",
                hint="Its weights and its config.json do not belong together.",
            )
    model.load_state_dict(found)
