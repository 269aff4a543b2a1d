"""What `--help` says: every command and every option explains itself."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.main
from rich.cells import cell_len

import search.commands
from search.__main__ import app
from search.commands import layout
from tests.conftest import Ended


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


def test_every_flag_is_a_sentence_in_a_panel_of_what_a_person_asks() -> None:
    for name, command in commands().items():
        for option in command.params:
            if option.hidden:
                continue
            said = f"{name} {option.opts[0]}: {option.help}"
            assert option.rich_help_panel, said
            assert option.help.endswith("."), said
            assert option.help[0].isupper() or option.help.startswith("len("), said
            assert len(option.help.split()) >= 3, said


def test_a_flag_that_takes_no_value_names_none(main_here: Callable[..., Ended]) -> None:
    assert "--dry-run" in (said := main_here("run", "--help").out)
    assert "<bool>" not in said


def test_the_flags_of_run_are_grouped_in_the_order_of_what_a_person_asks() -> None:
    options = [option for option in commands()["run"].params if not option.hidden]
    panels = list(dict.fromkeys(option.rich_help_panel for option in options))
    what = [layout.WHAT, layout.WITHOUT_FILE]
    assert panels == [*what, layout.HOW_MUCH, layout.WHERE, layout.OUTPUT]
    options = [option for option in options if option.rich_help_panel not in what]
    seen = [option.rich_help_panel for option in options]
    assert seen == sorted(seen, key=panels.index), "no panel is torn apart"


def test_the_commands_are_listed_in_the_order_of_use() -> None:
    panels = [
        getattr(command, "rich_help_panel", None)
        for command in typer.main.get_command(app).commands.values()  # type: ignore[attr-defined]
    ]
    assert list(dict.fromkeys(panels)) == [
        layout.FIRST,
        layout.SEARCH,
        layout.WATCH,
        layout.ANSWER,
        layout.OWN_CALL,
        layout.CARE,
    ]


def test_every_command_has_examples_that_are_commands() -> None:
    for name, command in commands().items():
        title, *examples = command.epilog.split("\n")
        assert title == "Examples:", name
        assert examples, name
        for example in examples:
            words = shlex.split(example.rpartition("|")[2])
            words = words[words.index("onecycle") + 1 :]
            assert words[: len(name.split())] == name.split(), example
            # Raises for a flag that is not there, a value that is not allowed, one that lacks.
            command.make_context(name, words[len(name.split()) :])
            assert len(example) <= 78, "it can be pasted from a terminal of 80 columns"


@pytest.mark.parametrize("width", [80, 160])
def test_help_fits_and_cuts_no_flag(
    width: int, main_here: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    import typer.rich_utils

    monkeypatch.setattr(typer.rich_utils, "MAX_WIDTH", width)
    for name, command in [("", None), *commands().items()]:
        ended = main_here(*name.split(), "--help")
        assert ended.code == 0
        lines = ended.out.splitlines()
        assert max(map(cell_len, lines)) <= width, name
        assert "…" not in ended.out, name
        for option in command.params if command is not None else ():
            if not option.hidden and option.param_type_name == "option":
                flag = re.escape(option.opts[0])
                assert re.search(rf"{flag}(?![\w-])", ended.out), (name, option.opts)
