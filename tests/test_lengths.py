"""A study of two cycle lengths, as its user sees it: plan, status, trials, answer, page."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import URL, text

from studies.database import migrate, open_engine, prepare, reading, transaction
from studies.tables import StudyRow
from tests.conftest import Ended

Main = Callable[..., Ended]

LADDER = """
from dataclasses import replace

from studies.definition import Screening
from tests.table_study import STUDY as TABLE

STUDY = replace(TABLE, name="ladder", screening=Screening(n_trials=5, epochs=(4, 8)))
"""


@pytest.fixture
def ladder(tmp_path: Path) -> tuple[str, ...]:
    """Flags of a study that screens 5 configurations at 4 epochs and 3 of them at 8."""
    (tmp_path / "ladder.py").write_text(LADDER)
    return "--study", str(tmp_path / "ladder.py"), "--storage", f"sqlite:///{tmp_path}/a.db"


def test_the_plan_has_a_line_for_each_length(ladder: tuple[str, ...], main_here: Main) -> None:
    plan = json.loads(main_here("run", *ladder, "--dry-run", "--json").out)
    cycles = [(s["name"], s["runs"], s["steps"]) for s in plan["stages"]][1:]
    assert cycles == [("screen 4", 5, 40), ("search", 3, 80), ("confirmation", 9, 80)]
    words = main_here("run", *ladder, "--dry-run").out
    assert "screen 4        5 cycles of    40 steps" in words
    assert "search          3 cycles of    80 steps" in words


def test_every_view_of_the_study_knows_its_lengths(
    ladder: tuple[str, ...], main_here: Main, tmp_path: Path
) -> None:
    answer = json.loads(main_here("run", *ladder, "--workers", "1", "--json").out)
    assert (answer["epochs"], answer["n_trials"]) == (8, 5)
    assert [(s["epochs"], s["n_cycles"]) for s in answer["screens"]] == [(4, 5), (8, 3)]
    assert answer["onecycle_lr"]["total_steps"] == 80
    assert answer["region"]["n_cycles"] == 3
    spent = {(s["name"], s["n_runs"]): s["n_images"] for s in answer["spent"]}
    assert spent["screen 4", 5] == 5 * 40 * 10
    assert spent["search", 3] == 3 * 80 * 10
    stored = ("--study", "ladder", *ladder[2:])
    status = json.loads(main_here("status", *stored, "--json").out)
    assert [(s["name"], s["done"], s["total"]) for s in status["stages"]] == [
        ("range test", 4, 4),
        ("screen 4", 5, 5),
        ("search", 3, 3),
        ("confirmation", 9, 9),
    ]
    assert status["best"]["length"] == 8
    listed = main_here("trials", *stored, "--csv").out.splitlines()
    assert len(listed) == 1 + 5 + 3
    assert "5/5" in main_here("list", *ladder[2:]).out
    words = main_here("report", *stored).out
    assert "5 configurations at 4 epochs" in words
    assert "within noise of the best" in words
    page = " ".join(Path(answer["report"]).read_text().split())
    assert "0 of 5 cycles of 4 epochs diverged, 0 of 3 cycles of 8 epochs diverged." in page
    assert "<td>screen 4</td><td>5</td>" in page


def test_a_study_from_before_lengths_keeps_the_one_it_has(url: URL) -> None:
    from alembic import command
    from alembic.config import Config

    engine = open_engine(url)
    prepare(engine)
    config = Config()
    config.set_main_option("script_location", "studies:migrations")
    with transaction(engine) as session:
        connection = session.connection()
        for statement in (
            "DROP TABLE reading",
            "ALTER TABLE study DROP COLUMN lengths",
            "ALTER TABLE study DROP COLUMN budget",
            "ALTER TABLE study RENAME COLUMN edge TO centre",
            "ALTER TABLE study DROP COLUMN batch_sizes",
            "ALTER TABLE work DROP COLUMN batch_size",
            "ALTER TABLE work DROP COLUMN weight_decay",
        ):
            connection.execute(text(statement))
        config.attributes["connection"] = connection
        command.stamp(config, "0003")
        connection.execute(
            text(
                "INSERT INTO study (id, name, spec, source, declared, seed, direction, metric, "
                "diverged_value, batch_size, steps_per_epoch, n_trials, beat_s, grace_s, stage, "
                "bugs_in_a_row) VALUES ('s', 'old', '', '', '{\"screening.epochs\": \"4\"}', 0, "
                "'maximize', 'accuracy', 0.1, 10, 10, 4, 5, 30, 'search', 0)"
            )
        )
        migrate(connection)
    with reading(engine) as session:
        row = session.get_one(StudyRow, "s")
        assert (row.lengths, row.budget) == ([4], None)
    engine.dispose()
