"""The command `diag`: what every command shares, and how errors reach a person."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from diag import __version__
from diag.cli.check import check
from diag.cli.compare import compare
from diag.cli.demo import demo
from diag.cli.gate import baseline, gate
from diag.cli.list import list_
from diag.cli.prescribe import prescribe
from diag.cli.report import report
from diag.cli.run import run
from diag.cli.scale import scale
from diag.cli.stdout import stdout_told
from diag.cli.watch import watch
from diag.errors import DiagError

app = typer.Typer(
    name="diag",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # what draws the boxes takes longer to load than all the rest of a help text
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(no_args_is_help=True)(check)
# What stands after the script is the script's own, its --help and its options included.
app.command(no_args_is_help=True, context_settings={"allow_interspersed_args": False})(watch)
app.command(no_args_is_help=True)(prescribe)
app.command(no_args_is_help=True)(run)
app.command("list")(list_)
app.command(no_args_is_help=True)(report)
app.command(no_args_is_help=True)(compare)
app.command(no_args_is_help=True)(gate)
app.command(no_args_is_help=True)(baseline)
app.command(no_args_is_help=True)(scale)
app.command()(demo)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"diag {__version__}")
        raise typer.Exit


@app.callback()
def diag(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Watch a network learn, and say what is wrong with it and why.

    Exit codes: 0 fine, 1 an error-level finding, 2 you must act (usage, missing file, bad target).
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 fine, 1 an error-level finding, 2 the user must act, 130 interrupted."""
    try:
        with stdout_told():
            app(args=arguments, prog_name="diag")
    except DiagError as error:
        # Where the user's own code failed, their traceback says where; ours would only hide it.
        sys.stderr.write(getattr(error, "user_traceback", ""))
        sys.stderr.write(f"diag: error: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("diag: interrupted\n")
        sys.exit(130)
