"""How `--help` is laid out: flags by what a person asks, the commands in the order of use, and
examples at the end."""

from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand, TyperGroup

WHAT = "What"
WITHOUT_FILE = "What, without a study file"
HOW_MUCH = "How much"
WHERE = "Where"
OUTPUT = "Output"

FIRST = "Begin"
SEARCH = "Search"
WATCH = "Watch"
ANSWER = "Take the answer"
OWN_CALL = "Your own OneCycleLR, without a search"
CARE = "Care for what is stored"


def _without_kind(parameters: list[Any]) -> list[Any]:
    """Return the parameters; those that take no value say none in the help.

    Typer 0.29 writes `--dry-run <bool>`, which reads as if a value were to follow.
    """
    for each in parameters:
        if getattr(each, "is_flag", False):
            each.metavar = ""
    return parameters


class Command(TyperCommand):
    """A command whose `--help` stands among the flags of its output, not in a panel of its own."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, as the help shows them."""
        return _without_kind(super().get_params(ctx))

    def get_help_option(self, ctx: Any) -> Any:
        """Return the option, in the last panel."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.rich_help_panel = OUTPUT
        return option


def epilog(examples: Sequence[str]) -> str:
    """Return what stands at the end of a help: an example a line, to be pasted."""
    return "\n".join(["Examples:", *examples])


class Group(TyperGroup):
    """The whole: whoever reads its help needs no word on --help."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, as the help shows them."""
        return _without_kind(super().get_params(ctx))

    def get_help_option(self, ctx: Any) -> Any:
        """Return the option, which is shown nowhere."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.hidden = True
        return option
