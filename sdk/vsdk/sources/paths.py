"""Paths that a user has named: what is there, and what was perhaps meant."""

from __future__ import annotations

import difflib
import itertools
import os
import stat
from pathlib import Path
from typing import Literal

from ..errors import SourceNotFoundError, SourceUnreadableError
from .credentials import redacted

MOST_NAMES = 10_000
"""How many names of a folder are compared with a misspelt one."""


def kind_of(path: Path) -> Literal["file", "folder"]:
    """What the path names.

    Raises:
        SourceNotFoundError: Nothing; the hint gives the nearest names.
        SourceUnreadableError: Something else (a device, a pipe), or it cannot be looked at.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a null character
        raise SourceNotFoundError(f"{redacted(str(path))} does not exist", hint=_hint(path)) from error
    except OSError as error:
        raise SourceUnreadableError(
            f"{redacted(str(path))} cannot be opened: {error.strerror}",
            hint="Check the permissions of the file and of the folders above it.",
        ) from error
    if stat.S_ISDIR(mode):
        return "folder"
    if stat.S_ISREG(mode):
        return "file"
    raise SourceUnreadableError(
        f"{path} is neither a file nor a folder",
        hint="Cameras are named /dev/video0 and so on; of a pipe the reading end is: vsdk run - < PIPE",
    )


def _hint(path: Path) -> str:
    folder = path.parent
    if str(path).isdecimal():
        return f"Camera {path} is camera://{path}."
    try:
        names = [entry.name for entry in itertools.islice(os.scandir(folder), MOST_NAMES)]
    except (OSError, ValueError):
        return f"There is no folder {redacted(str(folder))} either." if not folder.is_dir() else ""
    near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.6)
    if near:
        return f"In the same folder there is: {', '.join(near)}"
    return f"The folder {folder.absolute()} has nothing of a similar name."
