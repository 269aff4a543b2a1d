"""Optuna's private names and tables, all that we use: as of Optuna 5.0, held by a contract test.

`Study.ask()` cannot make a trial together with its attributes in one commit, nor on a slot's own
sampler without the trials that it has cached; so we go through these doors. Optuna's own storage
writes every parameter and attribute in a transaction of its own, and looks the trial up before
each: 60 round trips for a trial, where 20 do the same.
"""

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

from optuna import Study
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy import Connection, Table, delete, insert, select, update

from studies.statements import insert_or_keep, upsert

_T = TypeVar("_T")


def _database_of(study: Study) -> RDBStorage | None:
    """Return the database of a study's storage; None where it is in memory."""
    backend = getattr(study._storage, "_backend", None)
    return backend if isinstance(backend, RDBStorage) else None


def _table(name: str) -> Table:
    """Return one of Optuna's tables."""
    from optuna.storages._rdb import models

    table = models.BaseModel.metadata.tables[name]
    assert isinstance(table, Table)
    return table


def new_trial(study: Study, template: FrozenTrial) -> FrozenTrial:
    """Store a trial like `template` in one commit; return it."""
    storage, database = study._storage, _database_of(study)
    if database is None:
        return storage.get_trial(storage.create_new_trial(study._study_id, template))
    trial = copy.deepcopy(template)
    with database.engine.begin() as connection:
        trial.number = _next_number(connection, study._study_id)
        new = insert(_table("trials")).values(
            study_id=study._study_id,
            number=trial.number,
            state=template.state,
            datetime_start=datetime.now(UTC).replace(tzinfo=None),  # Optuna's tables hold UTC
        )
        key = connection.execute(new).inserted_primary_key
        assert key is not None
        trial._trial_id = key[0]
        _write_params(connection, trial._trial_id, trial.params, trial.distributions)
        for kind in ("user", "system"):
            attributes = getattr(trial, f"{kind}_attrs")
            _write_attributes(connection, trial._trial_id, attributes, kind=kind)
    _remember(storage, study._study_id, trial)
    return trial


def new_asked_trial(
    study: Study, template: FrozenTrial, ask: Callable[[Trial], _T]
) -> tuple[FrozenTrial, _T]:
    """Store a trial like `template` with all that `ask` asks it for, in one commit.

    For parameters that are fixed: the study's sampler knows no number and no id yet. Return the
    trial and what `ask` returns.
    """
    collecting = _Collecting(study._storage, template)
    answer = ask(Trial(_over(study, collecting), template._trial_id))
    whole = copy.deepcopy(template)
    whole.params, whole.distributions = collecting.asked()
    whole.user_attrs = {**template.user_attrs, **collecting.user_attrs}
    return new_trial(study, whole), answer


def _over(study: Study, storage: "_Collecting") -> Study:
    """Return the study with another storage."""
    asked = copy.copy(study)
    asked._storage = storage  # type: ignore[assignment]
    return asked


def _next_number(connection: Connection, study_id: int) -> int:
    """Lock a study and return the number of its next trial; KeyError where it is deleted.

    Optuna counts the trials before, all of them each time.
    """
    studies, trials = _table("studies"), _table("trials")
    mine = select(studies.c.study_id).where(studies.c.study_id == study_id)
    if connection.execute(mine.with_for_update()).first() is None:
        raise KeyError("Record does not exist.")
    numbers = select(trials.c.number).where(trials.c.study_id == study_id)
    last = connection.scalar(numbers.order_by(trials.c.trial_id.desc()).limit(1))
    return 0 if last is None else int(last) + 1


def _remember(storage: Any, study_id: int, trial: FrozenTrial) -> None:
    """Put a trial into Optuna's cache, as it does itself: its id is then known by its number."""
    storage.get_study_directions(study_id)  # makes the study's part of the cache, once
    with storage._lock:
        storage._add_trials_to_cache(study_id, [copy.copy(trial)])


def _write_params(
    connection: Connection,
    trial_id: int,
    params: Mapping[str, Any],
    distributions: Mapping[str, BaseDistribution],
) -> None:
    rows = [
        {
            "trial_id": trial_id,
            "param_name": name,
            "param_value": distributions[name].to_internal_repr(value),
            "distribution_json": distribution_to_json(distributions[name]),
        }
        for name, value in params.items()
    ]
    if rows:
        # Kept where an owner that was fenced off meanwhile has written them, as Optuna does.
        connection.execute(insert_or_keep(connection.dialect, _table("trial_params")), rows)


def _write_attributes(
    connection: Connection, trial_id: int, attributes: Mapping[str, Any], *, kind: str
) -> None:
    rows = [
        {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}
        for key, value in attributes.items()
    ]
    if rows:
        table = _table(f"trial_{kind}_attributes")
        key, values = ("trial_id", "key"), ("value_json",)
        connection.execute(upsert(connection.dialect, table, key=key, values=values), rows)


def end(study: Study, number: int, value: float | None, attributes: Mapping[str, object]) -> None:
    """Finish the trial of that number, with attributes: COMPLETE with its value, FAIL without.

    In one commit. One that has ended before is left as it is.
    """
    state = TrialState.FAIL if value is None else TrialState.COMPLETE
    trial_id, database = id_of_number(study, number), _database_of(study)
    if database is not None:
        with database.engine.begin() as connection:
            _end(connection, trial_id, state, value, attributes)
        return
    try:
        for name, content in attributes.items():
            study._storage.set_trial_user_attr(trial_id, name, content)
        values = None if value is None else [value]
        study._storage.set_trial_state_values(trial_id, state, values)
    except UpdateFinishedTrialError:
        pass


def _end(
    connection: Connection,
    trial_id: int,
    state: TrialState,
    value: float | None,
    attributes: Mapping[str, object],
) -> None:
    trials = _table("trials")
    mine = trials.c.trial_id == trial_id
    open_ = trials.c.state.in_((TrialState.RUNNING, TrialState.WAITING))
    completed = datetime.now(UTC).replace(tzinfo=None)
    ends = update(trials).where(mine, open_).values(state=state, datetime_complete=completed)
    if not connection.execute(ends).rowcount:
        if connection.execute(select(trials.c.trial_id).where(mine)).first() is None:
            raise KeyError("Record does not exist.")
        return
    if value is not None:
        row = {"trial_id": trial_id, "objective": 0, "value": value, "value_type": "FINITE"}
        connection.execute(insert(_table("trial_values")).values(row))
    _write_attributes(connection, trial_id, attributes, kind="user")


def id_of_number(study: Study, number: int) -> int:
    """Return the id of the trial of that number."""
    return study._storage.get_trial_id_from_study_id_trial_number(study._study_id, number)


def running_trials(study: Study) -> list[FrozenTrial]:
    """Return the trials that run, asked of the storage below the cache.

    `Study.get_trials()` and the cache read all trials first: 20,000 in 8 s.
    """
    running = (TrialState.RUNNING,)
    storage = _database_of(study) or study._storage
    return storage.get_all_trials(study._study_id, deepcopy=False, states=running)


class _Collecting:
    """The storage of one trial that is asked for: what is written is kept for one commit."""

    def __init__(self, storage: BaseStorage, trial: FrozenTrial) -> None:
        self._storage, self._trial = storage, trial
        self.params: dict[str, tuple[float, BaseDistribution]] = {}
        self.user_attrs: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Return the trial as it was stored a moment ago."""
        return copy.deepcopy(self._trial)

    def set_trial_param(
        self, trial_id: int, name: str, value: float, distribution: BaseDistribution
    ) -> None:
        """Keep a parameter; `value` is Optuna's number for it."""
        self.params[name] = value, distribution

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Keep an attribute."""
        self.user_attrs[key] = value

    def asked(self) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
        """Return the parameters that were asked for, and their distributions."""
        distributions = {name: each for name, (_, each) in self.params.items()}
        params = {
            name: each.to_external_repr(value) for name, (value, each) in self.params.items()
        }
        return params, distributions


@contextmanager
def asking(study: Study, trial: FrozenTrial) -> Iterator[Trial]:
    """Give a stored trial to ask for parameters; what it is asked for is stored in one commit.

    Samplers then read the newest history: `Study.ask()` drops the thread's cached trials in the
    same way.
    """
    study._thread_local.cached_all_trials = None
    collecting = _Collecting(study._storage, trial)
    yield Trial(_over(study, collecting), trial._trial_id)
    _write_asked(study, trial._trial_id, collecting)


def _write_asked(study: Study, trial_id: int, collected: _Collecting) -> None:
    database, storage = _database_of(study), study._storage
    if database is None:
        for name, (value, distribution) in collected.params.items():
            storage.set_trial_param(trial_id, name, value, distribution)
        for key, content in collected.user_attrs.items():
            storage.set_trial_user_attr(trial_id, key, content)
    elif collected.params or collected.user_attrs:
        params, distributions = collected.asked()
        with database.engine.begin() as connection:
            _write_params(connection, trial_id, params, distributions)
            _write_attributes(connection, trial_id, collected.user_attrs, kind="user")


def drop_trials(storage: RDBStorage, study_id: int) -> None:
    """Delete the trials of a study with all that hangs on them, a statement for each table.

    `optuna.delete_study()` loads and deletes them one by one: minutes for 20,000.
    """
    trials = _table("trials")
    mine = select(trials.c.trial_id).where(trials.c.study_id == study_id)
    with storage.engine.begin() as connection:
        for table in reversed(trials.metadata.sorted_tables):  # children before parents
            for key in table.foreign_keys:
                if key.column.table is trials:
                    connection.execute(delete(table).where(key.parent.in_(mine)))
        connection.execute(delete(trials).where(trials.c.study_id == study_id))
