"""What `vsdk track` is told of the objects: boxes, points and masks, as they are written on the command line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from ..tracking.rle import MaskArray
    from ..tracking.tracked_stream import Prompt

Numbers = tuple[float, ...]


@dataclass(frozen=True)
class Asked:
    """The prompts as numbers and names of files; boxes come before masks, and points are of the only object."""

    boxes: tuple[Numbers, ...]
    masks: tuple[Path, ...]
    points: tuple[Numbers, ...]
    labels: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many objects there are."""
        return len(self.boxes) + len(self.masks) or min(1, len(self.points))

    def read(self) -> list[Prompt]:
        """Prompts for objects 1, 2, ...

        Raises:
            InputError: The file of a mask cannot be read as a picture, or all of it is black.
        """
        from ..tracking.tracked_stream import Prompt

        points = tuple((x, y) for x, y in self.points)
        prompts = [
            Prompt(number, points, self.labels, box=(x0, y0, x1, y1))
            for number, (x0, y0, x1, y1) in enumerate(self.boxes, start=1)
        ]
        prompts += [
            Prompt(number, mask=read_mask(path)) for number, path in enumerate(self.masks, start=len(self.boxes) + 1)
        ]
        return prompts or ([Prompt(1, points, self.labels)] if points else [])


def parse(boxes: Sequence[str], points: Sequence[str], negatives: Sequence[str], masks: Sequence[Path]) -> Asked:
    """The prompts of the command line.

    Raises:
        typer.BadParameter: They are not numbers, or it is not clear which object a point is on.
    """
    corners = tuple(_numbers("--box", text, ("X0", "Y0", "X1", "Y1")) for text in boxes)
    for text, (x0, y0, x1, y1) in zip(boxes, corners, strict=True):
        if x0 >= x1 or y0 >= y1:
            raise typer.BadParameter(f"--box {text} is empty: the corner at the top left comes first")
    on = tuple(_numbers("--point", text, ("X", "Y")) for text in points)
    off = tuple(_numbers("--negative", text, ("X", "Y")) for text in negatives)
    if (on or off) and (masks or len(corners) > 1):
        raise typer.BadParameter(
            "points belong to one object: give one --box with them, or no --box and no --mask; "
            "a mask says everything already"
        )
    if off and not on and not corners:
        raise typer.BadParameter("--negative needs a --point or a --box: something has to say where the object is")
    return Asked(corners, tuple(masks), on + off, (1,) * len(on) + (0,) * len(off))


def check_with_state(asked: Asked, state: Path | None) -> None:
    """There is something to follow, either from the command line or from the file.

    Raises:
        typer.BadParameter: There is not, or it would come from both.
    """
    saved = state is not None and state.exists()
    if saved and asked.count:
        raise typer.BadParameter(
            f"{state} has its objects already: leave out the prompts, or name another --state file"
        )
    if not saved and not asked.count:
        missing = f"; {state} does not exist yet" if state is not None else ""
        raise typer.BadParameter(f"nothing to follow: give --box, --point or --mask{missing}")


def read_mask(path: Path) -> MaskArray:
    """Where a picture is not black, bool `[height, width]`; in a picture with a palette, where the index is not 0.

    Raises:
        InputError: It cannot be read as a picture, or all of it is black.
    """
    import numpy as np
    import PIL.Image

    from vsdk_runtimes.errors import InputError

    try:
        with PIL.Image.open(path) as picture:
            pixels = np.asarray(picture if picture.mode in ("1", "L", "P", "I;16") else picture.convert("RGB"))
    except Exception as error:  # Pillow's readers raise OSError, SyntaxError, ValueError, struct.error, EOFError, ...
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"the mask {path} cannot be read as a picture: {reason}", hint="A PNG with the size of a frame will do."
        ) from error
    mask = np.asarray(np.atleast_3d(pixels).any(axis=2))
    if not mask.any():
        raise InputError(f"the mask {path} is black everywhere", hint="It must not be black where the object is.")
    return mask


def _numbers(option: str, text: str, names: Sequence[str]) -> Numbers:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != len(names) or not all(map(math.isfinite, numbers)):
        raise typer.BadParameter(f"{option} {text}: it is {','.join(names)}, numbers of pixels without spaces")
    return numbers
