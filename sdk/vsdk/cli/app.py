"""The `vsdk` command: its subcommands, its global options, and what an error looks like to its user."""

from __future__ import annotations

import logging
import os
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from .. import __version__
from . import bench, doctor, export, inspect, run, serve, track
from .console import stderr

if TYPE_CHECKING:
    from vsdk_runtimes.errors import Error

INTERRUPTED = 130


class _Group(TyperGroup):
    """Turns what a command raises into a sentence on stderr and an exit status."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.Exit:
            raise
        except KeyboardInterrupt as error:
            raise typer.Exit(INTERRUPTED) from error
        except Exception as error:
            from vsdk_runtimes.errors import Error  # here, because help need not wait for NumPy

            if isinstance(error, BrokenPipeError) or isinstance(error.__cause__, BrokenPipeError):
                _silence_stdout()  # `vsdk ... | head`: the reader has seen enough
            elif isinstance(error, Error) and not ctx.params.get("debug"):
                _report(error)
            else:
                raise
            raise typer.Exit(1) from error


app = typer.Typer(
    name="vsdk",
    cls=_Group,
    help="Understand video on the edge: checkpoints become bundles, videos become scenes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"vsdk {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Log everything; show tracebacks of errors.")] = False,
) -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if debug else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
    )


app.command("run", epilog=run.EXAMPLES)(run.run)
app.command("track", epilog=track.EXAMPLES)(track.track)
app.command("serve", epilog=serve.EXAMPLES)(serve.serve)
app.command("export", epilog=export.EXAMPLES)(export.export)
app.command("inspect", epilog=inspect.EXAMPLES)(inspect.inspect)
app.command("doctor", epilog=doctor.EXAMPLES)(doctor.doctor)
app.add_typer(bench.app, name="bench")


def run_command_line() -> NoReturn:
    """Run `app` in this process; SIGTERM ends it as Ctrl-C does, so that sinks are closed and the end is written."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    app()
    sys.exit(0)


def _report(error: Error) -> None:
    stderr.print("error:", style="bold red", end=" ")
    stderr.print(error.message, markup=False, highlight=False, soft_wrap=True)
    if error.hint:
        stderr.print("hint:", style="bold", end="  ")
        stderr.print(error.hint, markup=False, highlight=False, soft_wrap=True)


def _silence_stdout() -> None:
    """Whatever is still buffered for a closed pipe must not fail again when the interpreter exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
