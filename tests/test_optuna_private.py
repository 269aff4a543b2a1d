"""Optuna's private names, held against the Optuna that is installed."""

import re
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import optuna
import pytest
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from optuna.trial import TrialState, create_trial
from sqlalchemy import URL

from search.history import optuna_private
from search.history.optuna_study import History
from studies.database import close_optuna, open_engine, optuna_storage, prepare
from tests.rows import query


@pytest.fixture(params=["memory", "database"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BaseStorage]:
    if request.param == "memory":
        yield InMemoryStorage()
        return
    storage = RDBStorage(f"sqlite:///{tmp_path}/optuna.db")
    yield storage
    close_optuna(storage)


@pytest.fixture
def study(storage: BaseStorage) -> optuna.Study:
    """A study whose trials have other ids than numbers: another one was there before."""
    other = optuna.create_study(storage=storage, study_name="other")
    for _ in range(3):
        other.ask()
    return optuna.create_study(storage=storage, study_name="ours")


def running(**attributes: object) -> optuna.trial.FrozenTrial:
    return create_trial(state=TrialState.RUNNING, user_attrs=attributes)


def test_the_storage_of_a_study_reads_and_writes_its_trials(study: optuna.Study) -> None:
    trial = study.ask()
    storage = study._storage
    trial_id = study.trials[0]._trial_id
    storage.set_trial_user_attr(trial_id, "slot", 7)
    storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [0.5])
    (found,) = study.trials
    assert (found.number, found.state, found.value) == (trial.number, TrialState.COMPLETE, 0.5)
    assert found.user_attrs == {"slot": 7}


def test_the_running_trials_are_those_of_this_study(study: optuna.Study) -> None:
    ended, runs = study.ask(), study.ask()
    study.tell(ended, 0.5)
    assert [trial.number for trial in optuna_private.running_trials(study)] == [runs.number]


def test_private_names_of_optuna_stand_nowhere_else() -> None:
    private = re.compile(r"\._(?:storage|study_id|thread_local|trial_id)\b")
    root = Path(optuna_private.__file__).parents[2]
    rooms = ("search", "studies", "trainers")
    modules = [path for room in rooms for path in (root / room).rglob("*.py")]
    assert modules
    met = {path.name for path in modules if private.search(path.read_text())}
    assert met == {"optuna_private.py"}


def test_a_new_trial_is_stored_with_all_its_attributes(study: optuna.Study) -> None:
    template = create_trial(
        state=TrialState.RUNNING,
        user_attrs={"slot": 4, "worker": "a:1:b"},
        system_attrs={"fixed_params": {"x": 0.25}},
    )
    made = optuna_private.new_trial(study, template)
    (found,) = study.get_trials(deepcopy=False)
    assert found._trial_id == made._trial_id
    assert (found.number, found.state) == (0, TrialState.RUNNING)
    assert found.user_attrs == {"slot": 4, "worker": "a:1:b"}
    assert found.system_attrs == {"fixed_params": {"x": 0.25}}
    assert len(optuna.load_study(study_name="other", storage=study._storage).trials) == 3


def test_a_killed_process_leaves_a_whole_trial_or_none(tmp_path: Path) -> None:
    """One commit: nothing of a trial is in the database before all of it is."""
    from sqlalchemy import event

    storage = RDBStorage(f"sqlite:///{tmp_path}/optuna.db")
    study = optuna.create_study(storage=storage, study_name="ours")
    commits: list[int] = []
    event.listen(storage.engine, "commit", lambda connection: commits.append(1))
    optuna_private.new_trial(study, running(slot=1))
    written = len(commits)
    (trial,) = optuna.load_study(study_name="ours", storage=storage).trials
    close_optuna(storage)
    assert trial.user_attrs == {"slot": 1}
    assert written == 1


def test_an_id_is_not_a_number_and_each_is_found_from_the_other(study: optuna.Study) -> None:
    made = [optuna_private.new_trial(study, running(slot=slot)) for slot in range(3)]
    ids = [trial._trial_id for trial in made]
    trials = study.get_trials(deepcopy=False)
    assert [trial.number for trial in trials] == [0, 1, 2]
    assert [trial._trial_id for trial in trials] == ids
    assert [optuna_private.id_of_number(study, number) for number in range(3)] == ids
    assert ids != [0, 1, 2], "the other study's trials come first"


def asked_for_x(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> float:
    with optuna_private.asking(study, trial) as asked:
        return asked.suggest_float("x", 0, 1)


def test_a_stored_trial_asks_the_studys_sampler_and_takes_fixed_values(
    study: optuna.Study,
) -> None:
    fixed = create_trial(state=TrialState.RUNNING, system_attrs={"fixed_params": {"x": 0.25}})
    study.sampler = optuna.samplers.RandomSampler(seed=3)
    assert asked_for_x(study, optuna_private.new_trial(study, fixed)) == 0.25
    free = [optuna_private.new_trial(study, running()) for _ in range(2)]
    drawn = [asked_for_x(study, trial) for trial in free]
    assert [t.params["x"] for t in study.trials] == [0.25, *drawn], "and they are stored"
    assert len({0.25, *drawn}) == 3
    assert [each.number for each in free] == [1, 2]


def test_a_trial_that_was_begun_before_is_asked_again_with_what_it_has(
    study: optuna.Study,
) -> None:
    first = asked_for_x(study, optuna_private.new_trial(study, running()))
    study.sampler = optuna.samplers.RandomSampler(seed=99)
    (stored,) = study.trials
    assert asked_for_x(study, stored) == first


def test_what_a_trial_is_asked_for_is_stored_in_one_commit(tmp_path: Path) -> None:
    from sqlalchemy import event

    storage = RDBStorage(f"sqlite:///{tmp_path}/optuna.db")
    study = optuna.create_study(storage=storage, study_name="ours")
    trial = optuna_private.new_trial(study, running(slot=1))
    commits: list[int] = []
    with optuna_private.asking(study, trial) as asked:
        asked.suggest_float("x", 0, 1)
        asked.suggest_categorical("n", [16, 32])
        asked.set_user_attr("more", 2)
        event.listen(storage.engine, "commit", lambda connection: commits.append(1))
    written = len(commits)
    (stored,) = optuna.load_study(study_name="ours", storage=storage).trials
    close_optuna(storage)
    assert stored.params == asked.params
    assert stored.user_attrs == {"slot": 1, "more": 2}
    assert written == 1


def test_parameters_that_an_earlier_owner_stored_are_kept(storage: BaseStorage) -> None:
    study = optuna.create_study(storage=storage, study_name="ours")
    if not isinstance(storage, RDBStorage):
        pytest.skip("in memory there is one owner")
    trial = optuna_private.new_trial(study, running())
    first = asked_for_x(study, trial)
    study.sampler = optuna.samplers.RandomSampler(seed=99)
    assert asked_for_x(study, trial) != first
    assert study.trials[0].params == {"x": first}


def test_a_new_trial_is_as_optuna_itself_stores_it(study: optuna.Study) -> None:
    distribution = optuna.distributions.FloatDistribution(0.1, 2, log=True)
    chosen = optuna.distributions.CategoricalDistribution([16, 32])
    template = create_trial(
        state=TrialState.RUNNING,
        params={"x": 0.5, "n": 32},
        distributions={"x": distribution, "n": chosen},
        user_attrs={"slot": 4},
    )
    study.add_trial(template)
    ours = optuna_private.new_trial(study, template)
    theirs, found = study.get_trials()
    assert (ours.number, found.number) == (1, 1)
    for name in ("state", "params", "distributions", "user_attrs", "system_attrs"):
        assert getattr(found, name) == getattr(theirs, name) == getattr(ours, name)
    assert found.datetime_start is not None
    assert abs((found.datetime_start - datetime.now()).total_seconds()) < 60
    third = study.ask()
    assert third.number == 2, "Optuna goes on from there"


def test_a_trial_ends_as_optuna_itself_ends_it(study: optuna.Study) -> None:
    ours, theirs = (optuna_private.new_trial(study, running(slot=n)) for n in (0, 1))
    optuna_private.end(study, ours.number, 0.25, {"slot": 7, "outcome": "completed"})
    study.tell(theirs.number, 0.25)
    found, other = study.trials
    assert (found.state, found.value) == (other.state, other.value) == (TrialState.COMPLETE, 0.25)
    assert found.user_attrs == {"slot": 7, "outcome": "completed"}
    assert found.datetime_complete is not None
    assert abs((found.datetime_complete - datetime.now()).total_seconds()) < 60
    assert study.best_value == 0.25


def test_a_trial_that_has_ended_is_left_as_it_is(study: optuna.Study) -> None:
    trial = optuna_private.new_trial(study, running(slot=0))
    optuna_private.end(study, trial.number, None, {"outcome": "bug"})
    optuna_private.end(study, trial.number, 0.5, {"outcome": "completed"})
    (found,) = study.trials
    assert (found.state, found.value) == (TrialState.FAIL, None)
    assert found.user_attrs == {"slot": 0, "outcome": "bug"}


def test_a_trial_that_is_not_there_is_a_key_error(storage: BaseStorage) -> None:
    study = optuna.create_study(storage=storage, study_name="ours")
    with pytest.raises(KeyError):
        optuna_private.end(study, 3, 0.5, {})


class _Counting(optuna.samplers.RandomSampler):
    """A sampler that notes how many finished trials it sees."""

    def __init__(self) -> None:
        super().__init__(seed=0)
        self.seen: list[int] = []

    def sample_relative(self, study, trial, search_space):  # type: ignore[no-untyped-def]
        done = study._get_trials(deepcopy=False, states=(TrialState.COMPLETE,), use_cache=True)
        self.seen.append(len(done))
        return super().sample_relative(study, trial, search_space)


def test_samplers_of_a_stored_trial_see_what_others_told_since(study: optuna.Study) -> None:
    sampler = _Counting()
    study.sampler = sampler
    storage = study._storage
    for n in range(3):
        trial = optuna_private.new_trial(study, running())
        asked_for_x(study, trial)
        # told behind this study's back, as another worker does
        storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [float(n)])
    assert sampler.seen == [0, 1, 2]


def test_trials_go_with_all_that_hangs_on_them_and_those_of_others_stay(url: URL) -> None:
    engine = open_engine(url)
    prepare(engine)
    engine.dispose()
    storage = optuna_storage(url)
    studies = [optuna.create_study(storage=storage, study_name=name) for name in ("a", "b")]
    for study in studies:
        for number in range(30):
            trial = study.ask()
            trial.suggest_float("x", 0, 1)
            trial.report(0.5, 1)
            trial.set_user_attr("slot", number)
            study.tell(trial, number)
    number = storage.get_study_id_from_name("a")
    optuna_private.drop_trials(storage, number)
    for table in ("trial_params", "trial_values", "trial_intermediate_values"):
        assert query(url, f"SELECT count(*) FROM {table}") == [(30,)], table
    assert query(url, "SELECT count(*) FROM trials") == [(30,)]
    optuna.delete_study(study_name="a", storage=storage)
    assert [len(optuna.load_study(study_name="b", storage=storage).trials)] == [30]
    close_optuna(storage)


@pytest.mark.long
def test_five_thousand_trials_are_deleted_in_seconds(sqlite_url: URL) -> None:
    engine = open_engine(sqlite_url)
    prepare(engine)
    engine.dispose()
    storage = optuna_storage(sqlite_url)
    history = History(storage, name="many", study_id="s")
    history.create("maximize")
    distribution = optuna.distributions.FloatDistribution(0, 1)
    template = create_trial(
        params={"x": 0.5}, distributions={"x": distribution}, value=0.5, user_attrs={"slot": 1}
    )
    for _ in range(5_000):
        optuna_private.new_trial(history.study, template)
    before = time.process_time()
    history.delete()
    assert time.process_time() - before < 10
    assert query(sqlite_url, "SELECT count(*) FROM trials") == [(0,)]
    close_optuna(storage)
