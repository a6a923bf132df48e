"""The command line: data on stdout, progress and errors on stderr. One command per file, imported when it is called.

Exit codes: 0 an answer, 1 a failure or no answer, 2 a command that cannot be understood,
130 interrupted, 143 terminated.
"""

from __future__ import annotations

import logging
import os
import sys
from importlib import import_module
from io import TextIOWrapper
from types import ModuleType
from typing import Annotated

import typer
from typer.core import TyperCommand, TyperGroup

from thinkscale import __version__
from thinkscale.errors import BudgetError, SettingsError, ThinkscaleError

COMMANDS = {
    "ask": "Answer a question within a budget.",
    "bench": "Compare methods on a task, majority vote at equal tokens being the baseline.",
    "doctor": "Find out what a server can do, by what takes effect.",
    "extract": "Find the answer in a text, with its kind, its evidence and its place.",
    "import": "Import recorded attempts as a pool.",
    "keys": "Add, list, limit or revoke API keys of the gateway.",
    "list": "List methods, scorers, rules, engines, past runs or pools.",
    "pull": "Fetch the embedded model now instead of at the first question.",
    "same": "Say whether two answers are one, and how that was found.",
    "select": "Run selection and stop rules on a recorded pool.",
    "serve": "Serve every method behind the API that OpenAI's clients speak.",
    "show": "Replay a past run: its traces as a tree.",
}
"""Every command, its module's name, and its line in the help."""
EXTRAS = {"serve": "serve"}
"""Commands that an extra brings."""


class _Commands(TyperGroup):
    """Commands that are imported when they run; the help needs only the table."""

    def list_commands(self, ctx: object) -> list[str]:
        return [*COMMANDS]  # the module `list` of this package hides the built-in

    def get_command(self, ctx: object, cmd_name: str) -> TyperCommand | None:
        return TyperCommand(cmd_name, help=COMMANDS[cmd_name]) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx, args):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        name, stub, rest = super().resolve_command(ctx, args)
        if stub is None or name is None:
            return name, stub, rest
        app = typer.Typer(add_completion=False)
        app.command(name, help=COMMANDS[name])(_module(name).command)
        return name, typer.main.get_command(app), rest


def _module(name: str) -> ModuleType:
    """The module of a command; some need an extra."""
    try:
        return import_module(f"thinkscale.cli.{name}")
    except ModuleNotFoundError as error:
        if name not in EXTRAS or (error.name or "").startswith("thinkscale"):
            raise
        extra = EXTRAS[name]
        raise SettingsError(
            f"`thinkscale {name}` needs `{error.name}`, which is not installed: `pip install 'thinkscale[{extra}]'`"
        ) from None


app = typer.Typer(cls=_Commands, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"thinkscale {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Make a language model answer better by computing longer, within a budget that is never overspent."""


def main() -> None:
    """Run the command line and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without our letters shows others, not a traceback
    # What libraries log belongs in a log; what a user must know stands in the outcome's warnings.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        app()
    except ThinkscaleError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, SettingsError | BudgetError) else 1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has gone; give the interpreter somewhere harmless to flush to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
