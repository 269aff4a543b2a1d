"""Optuna's private names and tables, all that we use: as of Optuna 5.0, held by a contract test.

`Study.ask()` cannot make a trial together with its attributes in one commit, nor on a slot's own
sampler without the trials that it has cached; so we go through these doors.
"""

from optuna import Study
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy import MetaData, delete, select


def storage_of(study: Study) -> BaseStorage:
    """Return the storage of a study; with RDBStorage, Optuna's cache over it."""
    return study._storage


def new_trial(study: Study, template: FrozenTrial) -> int:
    """Store a trial like `template` in one commit; return its id."""
    return study._storage.create_new_trial(study._study_id, template)


def id_of(trial: FrozenTrial) -> int:
    """Return the id of a trial in its storage, which is not its number."""
    return trial._trial_id


def id_of_number(study: Study, number: int) -> int:
    """Return the id of the trial of that number."""
    return study._storage.get_trial_id_from_study_id_trial_number(study._study_id, number)


def running_trials(study: Study) -> list[FrozenTrial]:
    """Return the trials that run, asked of the storage itself.

    `Study.get_trials()` reads all trials first: 20,000 in 8 s.
    """
    running = (TrialState.RUNNING,)
    return study._storage.get_all_trials(study._study_id, deepcopy=False, states=running)


def bound(study: Study, trial_id: int) -> Trial:
    """Return a stored trial to ask for parameters; samplers then read the newest history.

    `Study.ask()` drops the thread's cached trials in the same way.
    """
    study._thread_local.cached_all_trials = None
    return Trial(study, trial_id)


def drop_trials(storage: RDBStorage, study_id: int) -> None:
    """Delete the trials of a study with all that hangs on them, a statement for each table.

    `optuna.delete_study()` loads and deletes them one by one: minutes for 20,000.
    """
    metadata = MetaData()
    metadata.reflect(storage.engine)
    trials = metadata.tables["trials"]
    mine = select(trials.c.trial_id).where(trials.c.study_id == study_id)
    with storage.engine.begin() as connection:
        for table in reversed(metadata.sorted_tables):  # children before parents
            for key in table.foreign_keys:
                if key.column.table is trials:
                    connection.execute(delete(table).where(key.parent.in_(mine)))
        connection.execute(delete(trials).where(trials.c.study_id == study_id))
