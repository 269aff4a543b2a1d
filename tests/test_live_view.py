"""What is shown of a study while it is worked on."""

import io
import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from sqlalchemy import Engine, delete, func, make_url, select, update

from search.starting.cost import StageCost, Started
from search.views.terminal.live_view import View
from studies.database import open_engine, transaction
from studies.registry import Definition
from studies.states import Stage
from studies.tables import Base, EpochRecord, StudyRow, WorkRow
from tests.rows import study_row
from tests.table_study import STUDY
from trainers.curve import Curve
from trainers.table import epoch_row

PLAN = (
    StageCost(Stage.RANGE_TEST, 2, 100, 2000),
    StageCost(Stage.SEARCH, 20, 40, 8000),
)
PARAMS = {"max_lr": 0.123456, "pct_start": 0.3, "div_factor": 25.0}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A study in its search: ten slots run, the first has had two of its four epochs."""
    engine = open_engine(make_url(f"sqlite:///{tmp_path}/studies.db"))
    Base.metadata.create_all(engine)
    with transaction(engine) as session:
        session.add(study_row(id="s", n_trials=20))
        session.flush()
        held = {"state": "running", "beat_at": func.now()}
        session.add(work(0, params=PARAMS, owner="h:0:a", **held))
        session.add_all(work(slot, owner=f"h:{slot}:a", **held) for slot in range(1, 10))
        session.add_all(work(slot, state="waiting") for slot in range(10, 20))
        session.flush()
        for epoch, speed in ((1, 10.0), (2, 50.0)):
            said = {"images_per_s": speed, "validation_accuracy": 0.25 + 0.25 * epoch}
            values = asdict(replace(epoch_row(epoch, 0.1), **said))
            session.add(EpochRecord(work_id=1, **values))
    yield engine
    engine.dispose()


def work(slot: int, **columns: Any) -> WorkRow:
    return WorkRow(study_id="s", stage="search", round=0, epochs=4, slot=slot, **columns)


@pytest.fixture
def view(engine: Engine) -> View:
    with transaction(engine) as session:
        row = session.get_one(StudyRow, "s")
    definition = Definition(STUDY, "", "")
    parts: dict[str, Any] = {"definition": definition, "site": None, "trainer": None}
    view = View(engine, Started(row, **parts, costs=PLAN, n_workers=2, images_per_s=490.0))
    assert view.look()
    return view


def drawn(view: View, *, height: int = 24) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=80, color_system=None).print(view.picture(height=height))
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_a_run_has_its_epoch_its_time_left_and_how_it_learns(view: View) -> None:
    lines = drawn(view)
    assert lines[2].split() == ["running", "done", "left", "score", "last", "max_lr", "pct", "div"]
    first = ["search", "0", "epoch", "2/4", "4", "s", "▁▁▁██", "0.75", "0.123", "0.30", "25"]
    assert lines[3].split() == first, "2 epochs of 100 images are left"
    assert lines[4].split() == ["search", "1", "step", "0/40", "asking"]
    assert lines[-1] == "490 samples/s · time left: not known before the first run has ended"
    assert max(map(len, lines)) <= 80


def test_a_run_without_epochs_shows_its_steps_and_its_training_loss(
    view: View, engine: Engine
) -> None:
    with transaction(engine) as session:
        session.execute(delete(EpochRecord))
        for slot, losses in ((0, (2.0, 1.0, 0.5)), (1, (2.0, 9.0, None))):
            row = session.scalars(select(WorkRow).where(WorkRow.slot == slot)).one()
            row.step, row.curve = 12, Curve((4, 8, 12), (0.1, 0.2, 0.3), losses)
    assert view.look()
    lines = drawn(view)
    assert lines[2].split() == ["running", "done", "train", "loss", "last", "max_lr", "pct", "div"]
    first, second = lines[3].split(), lines[4].split()
    assert first[2:6] == ["step", "12/40", "█▃▁", "0.5"]
    assert second[2:6] == ["step", "12/40", "██", "9"], "a loss that explodes flattens no other"
    plain = io.StringIO()
    Console(file=plain, width=80).print(view.picture(height=24, plain=True))
    assert "#-_" in plain.getvalue()


def test_all_runs_are_counted_and_a_low_terminal_shows_fewer_of_them(view: View) -> None:
    lines = drawn(view)
    assert sum("/4" in line for line in lines) == 8
    assert "and 2 more" in lines
    low = drawn(view, height=10)
    assert len(low) <= 10
    assert "and 7 more" in low


def test_every_event_is_told_once(view: View, engine: Engine) -> None:
    assert view.news() == []
    with transaction(engine) as session:
        session.execute(
            update(StudyRow).values(
                edge=1.5, bracket_low=0.03, bracket_high=0.48, proposed_max_lr=0.12
            )
        )
        ended = {"state": "done", "outcome": "completed", "score": 0.5, "n_images": 400}
        ended |= {"seconds": 8.0, "beat_at": func.now()}
        session.execute(update(WorkRow).where(WorkRow.slot == 0).values(**ended))
    assert view.look()
    # 10 cycles of 8 s wait and 9 have begun, by 9 workers, of which 8 wait for half a run each.
    assert re.fullmatch(r"450 samples/s · about (18|19|20) s left", view.speed_text())
    proposal, run = view.news()
    assert run.startswith("search 1/20 · slot 0 · max_lr 0.123, pct_start 0.30, div_factor 25 · ")
    assert " · score 0.5000 · completed · " in run
    assert run.endswith(" left")
    assert proposal == "proposed max_lr 0.12"
    assert view.news() == []
