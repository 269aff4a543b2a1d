"""The stored studies: find, create, list, delete."""

import math
import shutil
import uuid
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, func, select
from sqlalchemy import delete as sql_delete

from search.errors import UsageError
from search.queue.presence import at_work
from search.queue.rows import DELETED, search_rows, stored_study
from search.queue.work import end_study
from search.stages import range_test, search
from search.starting.target import RANGE_TEST, Target
from studies.answer import NoAnswer
from studies.database import reading, schema_lock, transaction
from studies.definition import Study
from studies.errors import UnknownStudyError
from studies.limits import MOST_RUNS, MOST_SCORE
from studies.params import setting_key
from studies.protocol import compare, declared
from studies.registry import Definition
from studies.states import RunState, Stage
from studies.tables import StudyRow, WorkRow
from studies.urls import masked_text
from trainers.device import cache_folder, checkpoint_folder
from trainers.errors import TaskError
from trainers.run import Trainer

BEAT_S = 5.0
GRACE_S = 30.0
_MOST_NAMED = 3  # workers in one line


def find(engine: Engine, name: str) -> StudyRow:
    """Return the stored study of that name; raise UnknownStudyError naming those there are."""
    row = stored(engine, name)
    if row is None:
        with reading(engine) as session:
            names = session.scalars(select(StudyRow.name).order_by(StudyRow.name)).all()
        known = ", ".join(names) or "none yet"
        raise UnknownStudyError(
            f"no stored study {name!r} in {masked_text(engine.url)}; stored: {known}"
        )
    return row


def stored(engine: Engine, name: str) -> StudyRow | None:
    """Return the stored study of that name, None where there is none."""
    if not _is_storable(name):
        return None
    with reading(engine) as session:
        return session.scalars(select(StudyRow).where(StudyRow.name == name)).one_or_none()


def _is_storable(name: str) -> bool:
    """Whether a database could hold that text: no NUL, and no bytes that are no text."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in name


def find_or_create(
    engine: Engine,
    definition: Definition,
    *,
    name: str,
    seed: int | None,
    n_trials: int | None = None,
    target: Target | None = None,
) -> StudyRow:
    """Return the stored study, made now if it is new; any number of processes may call at once.

    `n_trials` is what a new one tries (default: the definition's), `target` what was asked for.
    See check_matches() for what is raised.
    """
    target = Target(n_trials=n_trials) if target is None else target
    with schema_lock(engine):
        row = stored(engine, name)
        if row is not None:
            check_matches(row, definition, seed=seed, target=target)
            return row
        return _create(
            engine,
            definition,
            name=name,
            seed=seed,
            n_trials=n_trials,
            budget=None if target.budget is None else target.budget.text,
            exact=target.n_trials is not None,
        )


def check_matches(
    row: StudyRow, definition: Definition, *, seed: int | None, target: Target
) -> None:
    """Raise for what was asked of a stored study and differs from what is stored.

    ProtocolError where it was made under another protocol, UsageError where `seed`, a number of
    configurations or a budget is given and is another one.
    """
    name = row.name
    compare(name, row.declared, declared(definition.study, definition.source))
    if seed is not None and seed != row.seed:
        raise UsageError(
            f"--seed {seed}: study {name!r} was made with seed {row.seed}; "
            "leave --seed out, or start a new study with --name"
        )
    if target.only is not None or (row.budget == RANGE_TEST and not row.stage.is_end):
        return  # it asks for no number, or finds none that was asked for: see retarget()
    if target.n_trials not in (None, row.n_trials) or (target.n_trials and row.search_end):
        has = f"a target of {row.n_trials}"
        if row.search_end is not None:
            has = f"ended its search after {row.search_end.n_cycles} of at most {row.n_trials}"
        raise UsageError(
            f"--trials {target.n_trials}: study {name!r} has {has}; "
            "leave --trials out, add to it with --trials +N, or start a new study with --name"
        )
    if target.budget is not None and target.budget.text != row.budget:
        made = "without a budget" if row.budget is None else f"with --budget {row.budget}"
        raise UsageError(
            f"--budget {target.budget.text}: study {name!r} was made {made} and has a target of "
            f"{row.n_trials}; leave --budget out, or start a new study with --name"
        )


def make_exact(engine: Engine, row: StudyRow) -> StudyRow:
    """Have a search that might end by itself train all its configurations, as --trials asks."""
    with transaction(engine) as session:
        stored = stored_study(session, row, lock=True)
        stored.exact = stored.search_end is None
        return stored


def has_not_begun(engine: Engine, row: StudyRow) -> bool:
    """Whether the range test of a study has ended, and no cycle of its search was ever taken."""
    if row.stage != Stage.SEARCH:
        return False
    with reading(engine) as session:
        taken = search_rows(row).where(WorkRow.token > 0).limit(1)
        return session.scalars(taken).first() is None


def retarget(
    engine: Engine, row: StudyRow, *, n_trials: int, budget: str | None, exact: bool
) -> StudyRow:
    """Give a study whose budget was its range test another target: that of its search.

    Raises UsageError where a cycle has begun by now, which others may want otherwise.
    """
    with transaction(engine) as session:
        stored = stored_study(session, row, lock=True)
        if stored.budget != RANGE_TEST or stored.stage.is_end:
            return stored
        works = list(session.scalars(search_rows(stored).with_for_update()))
        if n_trials != stored.n_trials and any(work.token for work in works):
            raise UsageError(
                f"study {row.name!r} is being searched with a target of {stored.n_trials} "
                "already; leave --trials and --budget out, or start a new study with --name"
            )
        if stored.stage == Stage.SEARCH:
            session.add_all(search.work_of(stored, range(stored.n_trials, n_trials)))
            for work in works:
                if work.slot >= n_trials:
                    session.delete(work)
        stored.n_trials, stored.budget = n_trials, budget
        stored.exact = stored.exact or exact
        return stored


def extend(engine: Engine, row: StudyRow, *, more: int) -> StudyRow:
    """Add `more` configurations to a stored study, and open its search again.

    A confirmation under way is dropped: what waits of it is deleted, what runs ends unread. The
    next one has fresh seeds. Raises UsageError where there is nothing to resume.
    """
    name = row.name
    with transaction(engine) as session:
        stored = stored_study(session, row, lock=True)
        if stored.stage == Stage.FAILED:
            raise UsageError(
                f"--trials +{more}: study {name!r} ended without a result, which more "
                "configurations do not change; start a new study with --name"
            )
        first = search.next_slot(session, stored)
        if first + more > MOST_RUNS:
            raise UsageError(
                f"--trials +{more}: study {name!r} has {first:,}, and trials must be at "
                f"most {MOST_RUNS:,}"
            )
        slots = range(first, first + more)
        # A number that was asked for is trained, whatever the search had been.
        stored.n_trials, stored.exact, stored.search_end = first + more, True, None
        if stored.stage != Stage.RANGE_TEST:
            session.add_all(search.work_of(stored, slots))
            session.execute(
                sql_delete(WorkRow).where(
                    WorkRow.study_id == stored.id,
                    WorkRow.stage == Stage.CONFIRMATION,
                    WorkRow.state == RunState.WAITING,
                )
            )
            stored.stage, stored.finished_at = Stage.SEARCH, None
        return stored


def _create(
    engine: Engine,
    definition: Definition,
    *,
    name: str,
    seed: int | None,
    n_trials: int | None,
    budget: str | None,
    exact: bool,
) -> StudyRow:
    from search.history.optuna_study import History

    study = definition.study
    row = StudyRow(
        id=str(uuid.uuid4()),
        name=name,
        spec=definition.spec,
        source=definition.source,
        declared=declared(study, definition.source),
        seed=0 if seed is None else seed,
        direction=study.direction,
        metric=study.metric,
        diverged_value=study.diverged_value,
        batch_size=study.task.batch_size,
        steps_per_epoch=study.task.steps_per_epoch,
        batch_sizes=_searched_settings(study),
        n_trials=study.screening.n_trials if n_trials is None else n_trials,
        exact=study.screening.exact or exact,
        epochs=study.epochs,
        budget=budget,
        beat_s=BEAT_S,
        grace_s=GRACE_S,
        stage=Stage.RANGE_TEST,
    )
    with closing(History.stored(engine.url, row)) as history:
        history.create(study.direction)
    with transaction(engine) as session:
        session.add(row)
        session.flush()
        session.add_all(range_test.work_of(row, study))
    return row


def _searched_settings(study: Study) -> dict[str, dict[str, Any]] | None:
    """Return what has a range test of its own by name; None where the edge stays where it is."""
    settings = {setting_key(each): each for each in study.settings if each}
    if not settings:
        return {} if study.may_move_edge else None
    stored = dict[str, dict[str, Any]]()
    for key, setting in settings.items():
        size = setting.get("batch_size")
        task = study.task.at(batch_size=None if size is None else int(size))
        stored[key] = {"steps_per_epoch": task.steps_per_epoch}
        if tuple(setting) != ("batch_size",):
            stored[key]["params"] = dict(setting)
    return stored


def resolve(engine: Engine, row: StudyRow, facts: dict[str, str]) -> None:
    """Store what only the loaded task could say, or compare it with what is stored."""
    with transaction(engine) as session:
        stored = stored_study(session, row, lock=True)
        if stored.resolved is None:
            stored.resolved = facts
        resolved = stored.resolved
    compare(row.name, resolved, facts)


def measure_diverged_value(
    engine: Engine, row: StudyRow, study: Study, trainer: Trainer
) -> StudyRow:
    """Store what a broken cycle is worth where the study leaves it to the trainer, once for all.

    That is the score of the untrained model. Raises TaskError where it is no number, or the
    trainer cannot tell it.
    """
    if row.diverged_value is not None:
        return row
    measure = getattr(trainer, "untrained_score", None)
    score = math.nan if measure is None else measure(study.told_outside())
    if not abs(score) <= MOST_SCORE:
        what = "is not known" if measure is None else f"is {score:g}"
        raise TaskError(
            f"the untrained model's {study.metric} {what}, and a cycle that broke would be worth "
            "that: write Study(diverged_value=...)"
        )
    with transaction(engine) as session:
        stored = stored_study(session, row, lock=True)
        if stored.diverged_value is None:
            stored.diverged_value = score
        return stored


def add_importances(engine: Engine, row: StudyRow, shares: Mapping[str, float]) -> None:
    """Add Optuna's importances to the stored answer; nothing else in it depends on them."""
    with transaction(engine) as session:
        stored = stored_study(session, row, lock=True)
        if stored.answer is not None:
            stored.ending = replace(stored.answer, importances=shares, explained_by="PED-ANOVA")


def listing(engine: Engine) -> list[tuple[str, Stage, int, int, datetime]]:
    """Return name, stage, finished and wanted configurations, and creation time of each study."""
    done = (
        select(func.count(WorkRow.slot.distinct()))
        .where(WorkRow.study_id == StudyRow.id, WorkRow.stage == Stage.SEARCH)
        .where(WorkRow.state == RunState.DONE)
        .scalar_subquery()
    )
    with reading(engine) as session:
        rows = session.execute(
            select(
                StudyRow.name, StudyRow.stage, done, StudyRow.n_trials, StudyRow.created_at
            ).order_by(StudyRow.created_at)
        )
        return [(name, stage, n, wanted, at) for name, stage, n, wanted, at in rows]


def check_unused(engine: Engine, name: str) -> None:
    """Raise UsageError, naming who works on it, where a stored study is in use."""
    workers = at_work(engine, find(engine, name))
    if workers:
        shown = ", ".join(workers[:_MOST_NAMED])
        more = f" and {len(workers) - _MOST_NAMED} more" if len(workers) > _MOST_NAMED else ""
        raise UsageError(
            f"study {name!r} is worked on by {shown}{more}: end them first, or delete it under "
            "them with --force"
        )


def delete(engine: Engine, name: str) -> None:
    """Delete a stored study with all its runs, on our side and on Optuna's, and its files here.

    Its workers are fenced off first, so that they meet neither a half of it nor Optuna's error;
    a deletion that was killed after that is finished by the next.
    """
    _delete(engine, find(engine, name))


def remove(engine: Engine, row: StudyRow) -> None:
    """Delete this stored study as delete() does; not another one that has its name by now."""
    with schema_lock(engine):
        now = stored(engine, row.name)
        if now is not None and now.id == row.id:
            _delete(engine, row)


def _delete(engine: Engine, row: StudyRow) -> None:
    from search.history.optuna_study import History

    with transaction(engine) as session:  # runs first: workers lock these rows before the study
        session.execute(sql_delete(WorkRow).where(WorkRow.study_id == row.id))
        stored = session.get(StudyRow, row.id, with_for_update=True)
        if stored is not None:
            end_study(stored, NoAnswer(DELETED))
    with closing(History.stored(engine.url, row)) as history:
        history.delete()
    with transaction(engine) as session:
        session.execute(sql_delete(StudyRow).where(StudyRow.id == row.id))
    remove_checkpoints(row.id, cache_folder())
    shutil.rmtree(final_checkpoints(row.id, cache_folder()), ignore_errors=True)
    shutil.rmtree(cache_folder() / "logs" / row.id, ignore_errors=True)


def remove_checkpoints(study_id: str, cache: Path) -> None:
    """Delete what killed owners left behind; a folder out of reach is left alone."""
    shutil.rmtree(checkpoint_folder(cache) / study_id, ignore_errors=True)


def final_checkpoints(study_id: str, cache: Path) -> Path:
    """Return the folder of the checkpoints of a study's final models, which outlive its end."""
    return checkpoint_folder(cache) / f"{study_id}-final"
