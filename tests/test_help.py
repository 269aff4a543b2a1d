"""What `--help` says: every command and every option explains itself."""

from pathlib import Path
from typing import Any

import typer.main

import search.commands
from search.__main__ import app


def commands() -> dict[str, Any]:
    """Return every command by its full name."""
    by_name: dict[str, Any] = {}

    def collect(prefix: str, group: Any) -> None:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                collect(f"{prefix}{name} ", command)
            else:
                by_name[f"{prefix}{name}"] = command

    collect("", typer.main.get_command(app))
    assert {"run", "db upgrade"} < by_name.keys()
    return by_name


def test_every_option_of_every_command_has_a_sentence() -> None:
    silent = [
        f"{name} {option.opts[0]}"
        for name, command in commands().items()
        for option in command.params
        if option.param_type_name == "option"
        and not option.hidden
        and not (option.help or "").strip()
    ]
    assert silent == []


def test_every_command_says_what_it_does_in_its_first_line() -> None:
    for name, command in commands().items():
        first = (command.help or "").strip().splitlines()[0]
        assert first.endswith("."), name
        assert len(first) <= 100, name


def test_a_command_lives_in_the_file_of_its_name() -> None:
    folder = Path(search.commands.__file__).parent
    for name in commands():
        assert (folder / f"{name.split()[0].replace('-', '_')}.py").is_file(), name
