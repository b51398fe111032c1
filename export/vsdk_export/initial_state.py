"""The state that a recurrent component starts from, on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vsdk_runtimes.manifest import StateSpec

from .network import Network


def write_state(network: Network, folder: Path) -> tuple[StateSpec, ...]:
    """The state as the manifest describes it, with a file for each tensor that does not start as zeros."""
    if network.recurrence is None:
        return ()
    state = []
    for output, name in network.recurrence.state.items():
        initial, listed = network.recurrence.initial[name], None
        if initial.any():
            listed = f"{network.name}/initial_{name.removesuffix('_in')}.npy"
            np.save(folder / listed, initial, allow_pickle=False)
        state.append(StateSpec(output=output, input=name, init=listed))
    return tuple(state)
