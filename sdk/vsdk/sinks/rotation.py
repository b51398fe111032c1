"""When a file of JSON lines is put aside and a new one begun, and how many are kept."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vsdk_runtimes.errors import InputError

SIZES = {"kB": 1000, "MB": 1000**2, "GB": 1000**3}
TIMES = {"s": 1, "min": 60, "h": 3600, "d": 86400}

_AMOUNT = re.compile(r"([1-9][0-9]*)([A-Za-z]+)", re.ASCII)
_KEEP = re.compile(r"keep=([1-9][0-9]*)", re.ASCII)


@dataclass(frozen=True)
class Rotation:
    """When to begin a new file: whichever comes first of a size and a time.

    Attributes:
        size: Most bytes of a file; a single line that is longer gets a file of its own. None: any size.
        seconds: A new file begins at each multiple of so many seconds of the clock (UTC): 3600 is every full hour,
            86400 every midnight. None: at any age.
        keep: How many files that were put aside are kept beside the current one; older ones are deleted. None: all.

    Raises:
        InputError: Neither a size nor a time, or a number below 1.
    """

    size: int | None = None
    seconds: int | None = None
    keep: int | None = None

    def __post_init__(self) -> None:
        if self.size is None and self.seconds is None:
            raise InputError("a rotation needs a size or a time", hint="Give one: Rotation(size=100_000_000, keep=10)")
        for name, number in vars(self).items():
            if number is not None and (not isinstance(number, int) or number < 1):
                raise InputError(f"{name} of a rotation is a whole number from 1 on, not {number!r}")

    @classmethod
    def parse(cls, text: str) -> Rotation:
        """The rotation that a text such as `100MB`, `1h` or `100MB,1d,keep=30` describes.

        Sizes are in kB, MB or GB (powers of 1000), times in s, min, h or d.

        Raises:
            InputError: The text is none of these, or says something twice.
        """
        found: dict[str, int] = {}
        for part in text.split(","):
            name, number = _part(part, text)
            if name in found:
                raise _refusal(text, f"it has two parts that say {name!r}")
            found[name] = number
        if found.keys() == {"keep"}:
            raise _refusal(text, "it has neither a size nor a time")
        return cls(**found)


def _part(part: str, text: str) -> tuple[str, int]:
    """The field that a part sets, and its value."""
    if keep := _KEEP.fullmatch(part):
        return "keep", int(keep[1])
    if amount := _AMOUNT.fullmatch(part):
        number, unit = int(amount[1]), amount[2]
        if unit in SIZES:
            return "size", number * SIZES[unit]
        if unit in TIMES:
            return "seconds", number * TIMES[unit]
    raise _refusal(text, f"{part!r} is neither a size nor a time nor keep=N")


def _refusal(text: str, why: str) -> InputError:
    units = ", ".join(SIZES), ", ".join(TIMES)
    return InputError(
        f"{text!r} is no rotation: {why}",
        hint=f"Give a size ({units[0]}), a time ({units[1]}) or both, and keep=N if older files may be deleted: "
        "100MB, 1h, 100MB,1d,keep=30.",
    )
