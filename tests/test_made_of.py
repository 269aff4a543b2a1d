"""A Study object is known by the code that it uses: the same again, or refused by a name."""

import itertools
import linecache
from pathlib import Path
from typing import Any

import pytest

from search import api
from search.errors import UsageError
from studies.errors import ProtocolError
from studies.made_of import code_fields, made_of

_NUMBERS = itertools.count()

CELL = """
from dataclasses import replace
from tests.table_study import STUDY as TABLE, Table
from trainers.task import OwnLoop

WIDTH = 64
SIZES = [8, 16]
other = 1

def scale(x):
    # what it is for
    return x * WIDTH

class Loop(Table):
    depth = 2
    def facts(self):
        return {"width": str(scale(len(SIZES)))}

STUDY = replace(TABLE, name="cell", task=OwnLoop(
    factory=lambda site: Loop(site), batch_size=10, steps_per_epoch=10))
"""


def cell(text: str, *, kept: bool = True) -> Any:
    """Run the text of a cell as a notebook does, and return its STUDY."""
    file = f"<cell {next(_NUMBERS)}>"
    if kept:
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, file, "exec"), names)
    return names["STUDY"]


def changed_in(before: str, after: str, *, kept: bool = True) -> set[str]:
    """Return the fields of the protocol in which two versions of a cell differ."""
    first, second = (code_fields(made_of(cell(text, kept=kept))) for text in (before, after))
    return {name for name in first | second if first.get(name) != second.get(name)}


@pytest.mark.parametrize("kept", [True, False], ids=["source", "bytecode"])
def test_the_same_cell_again_is_the_same(kept: bool) -> None:
    assert changed_in(CELL, CELL, kept=kept) == set()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    # what it is for\n", ""),
        ("x * WIDTH", "(x  *  WIDTH)  # so many"),
        ("\ndef scale", "\n\n\nprint\n\ndef scale"),
        ("other = 1", "other = 2"),
    ],
)
def test_what_does_not_matter_is_not_compared(old: str, new: str) -> None:
    assert old in CELL
    assert changed_in(CELL, CELL.replace(old, new)) == set()


@pytest.mark.parametrize("kept", [True, False], ids=["source", "bytecode"])
@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ("x * WIDTH", "x + WIDTH", {"code of scale"}),
        ("WIDTH = 64", "WIDTH = 65", {"value of WIDTH"}),
        ("[8, 16]", "[8, 17]", {"value of SIZES"}),
        ("depth = 2", "depth = 3", {"value of Loop.depth"}),
        ('{"width"', '{"breadth"', {"code of Loop.facts"}),
        ("def facts", "def facts2", {"code of Loop.facts", "code of Loop.facts2"}),
        ("lambda site: Loop(site)", "lambda site: Loop(site or None)", {"code of task.factory"}),
    ],
)
def test_a_change_is_known_by_its_name(old: str, new: str, names: set[str], kept: bool) -> None:
    assert old in CELL
    assert changed_in(CELL, CELL.replace(old, new), kept=kept) == names


def test_two_lambdas_of_one_line_are_told_apart() -> None:
    text = CELL.replace(
        "lambda site: Loop(site)", "(lambda a: lambda site: a(site))(lambda s: Loop(s))"
    )
    assert changed_in(text, text.replace("lambda s: Loop(s)", "lambda s: Loop(s or s)")) == {
        "code of a"
    }
    assert changed_in(text, text.replace("a(site)", "a(site or site)")) == {"code of task.factory"}


def test_data_and_models_are_known_by_their_shapes() -> None:
    def using(what: str) -> str:
        return CELL.replace("SIZES = [8, 16]", f"import torch\nSIZES = {what}")

    assert changed_in(using("torch.zeros(3, 2)"), using("torch.ones(3, 2)")) == set()
    assert changed_in(using("torch.zeros(3, 2)"), using("torch.zeros(3, 3)")) == {"value of SIZES"}
    seq = "torch.nn.Sequential(torch.nn.Linear(2, {}))"
    assert changed_in(using(seq.format(3)), using(seq.format(3))) == set()
    assert changed_in(using(seq.format(3)), using(seq.format(4))) == {"value of SIZES"}


def test_a_changed_function_is_refused_and_the_same_resumes(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/a.db"
    first = api.run(cell(CELL), storage=storage, trials=2)
    assert api.run(cell(CELL), storage=storage) == first
    with pytest.raises(ProtocolError, match="'cell' was made with another code of scale; "):
        api.run(cell(CELL.replace("x * WIDTH", "x")), storage=storage)


def test_a_study_object_of_a_version_that_read_no_code_is_still_resumed(tmp_path: Path) -> None:
    import json
    import sqlite3

    from studies.protocol import declared

    storage = f"sqlite:///{tmp_path}/a.db"
    first = api.run(cell(CELL), storage=storage, trials=2)
    with sqlite3.connect(tmp_path / "a.db") as database:
        before = json.dumps(declared(cell(CELL), ""))
        database.execute("UPDATE study SET declared = ?, source = ''", (before,))
    assert api.run(cell(CELL), storage=storage) == first


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        ("__import__('sys').stderr.buffer", r"_io\.\w+"),
        ("__import__('threading').Lock()", "_thread.lock"),
        ("(i for i in range(3))", "generator"),
        ("{'deep': [__import__('threading').Lock()]}", "_thread.lock"),
    ],
)
def test_what_cannot_travel_to_other_processes_is_named(
    what: str, kind: str, tmp_path: Path
) -> None:
    study = cell(CELL.replace("SIZES = [8, 16]", f"SIZES = {what}"))
    storage = f"sqlite:///{tmp_path}/a.db"
    with pytest.raises(UsageError, match=rf"workers=2: the study uses SIZES.*, a {kind}, which"):
        api.run(study, storage=storage, workers=2)
    assert not (tmp_path / "a.db").exists()
    assert api.dry_run(study, workers=None, device="cpu").n_workers == 1
