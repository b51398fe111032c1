"""Which layer's tokens an encoder gives out.

`"last"` is `last_hidden_state`, with the final norm where the model has one there. `-k` is `hidden_states[-k]`: the
tokens after all but the last `k - 1` blocks, without the final norm. `n >= 0` is `hidden_states[n]`: the tokens after
the first `n` blocks, `0` being those that enter the first. Manifests hold the negative form.
"""

from __future__ import annotations

from typing import Literal

from vsdk_runtimes.errors import InputError

Layer = int | Literal["last"]


def parse_layer(asked: int | str, blocks: int) -> Layer:
    """The canonical form of a layer: `"last"` or a negative number.

    Args:
        asked: As described above; digits in a string will do.
        blocks: How many transformer blocks the model has.

    Raises:
        InputError: Not a layer, or none that this model has.
    """
    if asked == "last":
        return "last"
    try:
        number = int(asked)
    except ValueError as error:
        raise InputError(
            f"unknown layer {asked!r}", hint="Use last, a negative number such as -2, or a number from 0."
        ) from error
    if not -(blocks + 1) <= number <= blocks:
        raise InputError(
            f"layer {number} does not exist: the model has {blocks} blocks",
            hint=f"Use last, or a number from {-(blocks + 1)} to {blocks}.",
        )
    return number if number < 0 else number - (blocks + 1)


def blocks_for(layer: Layer, blocks: int) -> int:
    """How many blocks have run when the tokens of a canonical layer are there."""
    return blocks if layer == "last" else blocks + 1 + layer
