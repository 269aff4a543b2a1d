"""Commands that files of a deployment hold, read by the real command line."""

from collections.abc import Sequence

import typer

from search.__main__ import app


def parsed(arguments: Sequence[str]) -> tuple[str, dict[str, object]]:
    """Return the command that `onecycle ARGUMENTS` would run, and its parameters.

    Raises a usage error of the command line where it would refuse them.
    """
    command = typer.main.get_command(app)
    context = command.make_context("onecycle", list(arguments))
    name = []
    while hasattr(command, "resolve_command"):
        found, command, rest = command.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        name.append(found)
        context = command.make_context(found, list(rest), parent=context)
    return " ".join(name), context.params
