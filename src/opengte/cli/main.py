"""``gte``: finds the command, runs it, and turns what went wrong into an exit code.

Commands are imported when they are called, so that ``gte --help`` and ``gte search`` never wait
for torch. Exit codes: 0 done, 2 the user can mend it (one line), 1 a fault of ours.
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import traceback
from typing import Any

import click

from opengte import __version__
from opengte.errors import UserError

COMMANDS = {
    "quickstart": ("opengte.cli.quickstart", "The main job: your code and docs to a better model."),
    "run": ("opengte.cli.run", "Run a recipe; what is done already is kept."),
    "plan": ("opengte.cli.plan", "Forecast steps, tokens, memory and time of a recipe."),
    "recipe": ("opengte.cli.recipe", "List, show and check recipes; their JSON Schema."),
    "data": ("opengte.cli.data", "Pair stores: build, filter, report, verify, export."),
    "mine": ("opengte.cli.mine", "Pairs to pairs with hard negatives."),
    "synthesize": ("opengte.cli.synthesize", "Documents to pairs, by any chat endpoint."),
    "merge": ("opengte.cli.merge", "Several models to one, by arithmetic on their weights."),
    "export": ("opengte.cli.export", "A model in another format, checked against it."),
    "evaluate": ("opengte.cli.evaluate", "Measure a model on evaluation sets."),
    "leaderboard": ("opengte.cli.leaderboard", "Results of many models as one table."),
    "ablate": ("opengte.cli.ablate", "Which settings of a recipe make a difference."),
    "encode": ("opengte.cli.encode", "Texts to vectors, resumable."),
    "index": ("opengte.cli.index", "Documents to a folder that can be searched."),
    "search": ("opengte.cli.search", "Ask an index."),
}


class LazyGroup(click.Group):
    """Knows the names of its commands, and imports the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands, in the order of the table above."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module behind ``cmd_name``; its ``command`` is the command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One line a command, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gte")
def cli() -> None:
    """Raw text and code to a better embedding model, on your own machine."""


def main(arguments: list[str] | None = None) -> None:
    """Entry point of ``gte``."""
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run one command and give its exit code."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        result: Any = cli.main(arguments, prog_name="gte", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.Abort:
        click.echo("interrupted; run the same command again to go on", err=True)
        return 130
    except click.ClickException as error:
        click.echo(f"error: {error.format_message()}", err=True)
        return 2
    except UserError as error:
        click.echo("error: " + " ".join(str(error).split("\n")), err=True)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        click.echo(f"fault: {type(error).__name__}: {error}\n{_keep_traceback()}", err=True)
        return 1
    return result if isinstance(result, int) else 0


def _keep_traceback() -> str:
    """Write the current traceback to a file and say where."""
    descriptor, path = tempfile.mkstemp(prefix="gte-fault-", suffix=".txt")
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(traceback.format_exc())
    return f"This is a fault of opengte, not yours. The traceback is in {path}"


if __name__ == "__main__":
    main()
