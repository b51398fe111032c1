"""What the commands share in talking to people: everything for eyes goes to stderr, stdout is for data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from vsdk_runtimes.manifest import TensorSpec

stderr = Console(stderr=True)
stdout = Console()


def examples(*pairs: tuple[str, str]) -> str:
    """The end of a command's help: command lines, each with what it does."""
    lines = [f"[bold]{escape(command)}[/bold]  [dim]# {escape(says)}[/dim]" for command, says in pairs]
    return "\n\n".join(["Examples:", *lines])


def size(count: int) -> str:
    """Bytes as people read them: `4.2 MB`."""
    scaled = float(count)
    for unit in ("B", "kB", "MB"):
        if scaled < 999.5:
            return f"{scaled:.0f} B" if unit == "B" else f"{scaled:.1f} {unit}"
        scaled /= 1000
    return f"{scaled:.1f} GB"


def shape(spec: TensorSpec) -> str:
    """A tensor's shape as people write it: `[batch, 3, 224, 224]`."""
    return f"[{', '.join(map(str, spec.shape))}]"
