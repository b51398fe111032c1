"""The command line. typer and rich are imported here and nowhere else; each command has a file of its own."""

from __future__ import annotations


def main() -> None:
    """Run the command line and exit: 0 fine, 1 a `vsdk.Error`, 2 wrong usage, 130 interrupted."""
    from .app import run_command_line

    run_command_line()
