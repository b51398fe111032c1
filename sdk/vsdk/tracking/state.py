"""A tracker on disk: everything that the next frame depends on, in one file that is replaced atomically."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vsdk_runtimes.errors import InputError, StateDamagedError, StateMismatchError

from ..memory.state_file import read_state, write_state
from .bank import MemoryBank

if TYPE_CHECKING:
    from .tracker import Tracker

_KIND = "tracker"


def save_tracker(tracker: Tracker, path: str | os.PathLike[str]) -> None:
    """See `Tracker.save`."""
    current, frame, networks = tracker._current, tracker._frame, tracker.networks
    if current is not None and not current.tracked:
        if any(output.prompted for output in current.outputs.values()):
            raise InputError(
                "a tracker cannot be saved between a prompt and its track()",
                hint="Call track() with that frame first.",
            )
        current, frame = None, frame - 1  # Ctrl-C came while track() was at work: its frame does not count
    bank = MemoryBank(networks.spec, networks.memory_shape, networks.width)
    bank.restore(tracker._bank.snapshot(), len(tracker._objects))
    for object_id, memory in current.memories.items() if current is not None else ():
        output = current.outputs[object_id] if current is not None else None
        assert output is not None
        row = tracker._objects.index(object_id)
        bank.write(row, frame, output.conditioning, memory, output.chosen.pointer)
    content = {
        "name": tracker.bundle.manifest.name,
        "digest": tracker.bundle.digest,
        "precision": networks.attention.info.precision,
        "frame": frame,
        "objects": tracker._objects,
        "size": tracker._size,
    }
    write_state(path, content, bank.snapshot(), _KIND)


def restore_tracker(tracker: Tracker, path: str | os.PathLike[str]) -> None:
    """See `Tracker.restore`."""
    networks = tracker.networks
    content, arrays = read_state(path, _KIND)
    digest = content.get("digest")
    if digest != tracker.bundle.digest:
        raise StateMismatchError(
            f"the tracker state {path} was saved with bundle {content.get('name')!r} ({str(digest)[:12]}), and this "
            f"tracker runs {tracker.bundle.manifest.name!r} ({tracker.bundle.digest[:12]})",
            hint="Use that bundle, or prompt again.",
        )
    bank = MemoryBank(networks.spec, networks.memory_shape, networks.width)
    try:
        objects = [int(item) for item in content["objects"]]
        size = None if content["size"] is None else (int(content["size"][0]), int(content["size"][1]))
        frame = int(content["frame"])
        bank.restore(arrays, len(objects))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise StateDamagedError(f"the tracker state {path} contradicts itself: {error}", hint="Prompt anew.") from error
    tracker._bank, tracker._objects, tracker._size, tracker._frame = bank, objects, size, frame
    tracker._current = None
