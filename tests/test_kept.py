"""A study of the version before: it keeps its sampler, its seeds, and its number."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import make_url, update

from search.stages.search import space_filling
from search.stages.space import Ranges
from search.starting.catalog import find
from studies.database import open_engine, transaction
from studies.kept import with_stored_sampler
from studies.protocol import declared
from studies.registry import Definition, load
from studies.tables import StudyRow
from tests.conftest import TABLE_STUDY, Ended
from tests.rows import query
from trainers.seeding import run_seed_for

Main = Callable[..., Ended]
MARKS = ("first choices", "seeds of the search")
DEFINITION = load(str(TABLE_STUDY))


def before(definition: Definition, **changed: str) -> dict[str, str]:
    """Return the protocol that the version before stored of a definition."""
    now = declared(definition.study, definition.source)
    fields = {name: text for name, text in now.items() if name not in MARKS}
    return fields | {"screening.sampler": "'tpe'", "screening.n_initial": "8"} | changed


def test_it_resumes_with_its_sampler_and_the_seeds_of_its_slots(
    main_here: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, ledger = f"sqlite:///{tmp_path}/a.db", tmp_path / "seeds"
    run = ("run", "--study", str(TABLE_STUDY), "--storage", storage, "--workers", "1")
    assert main_here(*run, "--timeout-min", "0.0001").code == 75
    engine = open_engine(make_url(storage))
    with transaction(engine) as session:
        # exact: what the migration gives to a study that is there.
        session.execute(update(StudyRow).values(declared=before(DEFINITION), exact=True))
    monkeypatch.setenv("TABLE_LEDGER", str(ledger))
    assert main_here(*run).code == 0
    row = find(engine, "table")
    engine.dispose()
    assert row.search_end is None
    seeds = {int(line) for line in ledger.read_text().splitlines()}
    assert seeds >= {run_seed_for(0, "search", 0, slot) for slot in range(12)}
    stored = query(
        make_url(storage), "SELECT params FROM work WHERE stage = 'search' ORDER BY slot"
    )
    ranges = Ranges.of(row, DEFINITION.study)
    sobol = [space_filling(n, study_seed=0, ranges=ranges) for n in range(8)]
    assert [json.loads(params) for (params,) in stored[:9]] == [
        dict(params) for params in (ranges.baseline(), *sobol)
    ]


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        (before(DEFINITION), ("tpe", 8)),
        (before(DEFINITION, **{"screening.sampler": "'gp'"}), ("gp", 8)),
        (before(DEFINITION, **{"screening.n_initial": "4"}), ("tpe", 4)),
        (declared(DEFINITION.study, DEFINITION.source), ("kg", 0)),
    ],
    ids=["the default", "another", "fewer points", "of this version"],
)
def test_the_default_of_the_version_before_is_kept(
    fields: dict[str, str], kept: tuple[str, int]
) -> None:
    screening = with_stored_sampler(DEFINITION, fields).study.screening
    assert (screening.sampler, screening.n_initial) == kept
