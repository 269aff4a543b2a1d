"""Optuna's side of a study: one trial per slot, told once, ours alone."""

import importlib.util
from collections.abc import Callable, Iterator
from statistics import median

import optuna
import pytest
from optuna.trial import TrialState, create_trial
from sqlalchemy import URL

from search.errors import UsageError
from search.history.optuna_study import History
from search.history.samplers import check_installed
from search.params import Params
from search.stages.space import Ranges, baseline
from studies.database import close_optuna, open_engine, optuna_storage, prepare
from studies.definition import SAMPLERS, Screening, Space
from studies.errors import DatabaseUnreachableError, StudyError

BRACKET = (0.05, 0.8)
RANGES = Ranges(others=Space().parameters({}), bracket=BRACKET, proposed_max_lr=0.2)


@pytest.fixture
def history(url: URL) -> Iterator[History]:
    engine = open_engine(url)
    prepare(engine)
    engine.dispose()
    history = History(optuna_storage(url), name="some", study_id="uuid-1")
    history.create("maximize")
    yield history
    close_optuna(history.storage)


def ask(
    history: History, slot: int, *, asked_before: bool = False, fixed: Params | None = None
) -> tuple[int, Params]:
    return history.ask(
        slot,
        study_seed=3,
        ranges=RANGES,
        screening=Screening(n_trials=40, epochs=4, sampler="tpe"),
        fixed=fixed,
        asked_before=asked_before,
        attributes={"worker": "host:1:a"},
    )


def test_the_baseline_gets_exactly_its_parameters(history: History) -> None:
    fixed = baseline(0.2)
    assert ask(history, 0, fixed=fixed) == (0, fixed)


def test_nothing_is_ever_pruned(history: History) -> None:
    assert isinstance(history.study.pruner, optuna.pruners.NopPruner)


def test_parameters_lie_in_the_space(history: History) -> None:
    space = Space()
    for slot in range(8):
        number, params = ask(history, slot)
        assert BRACKET[0] <= params.max_lr <= BRACKET[1]
        assert space.pct_start[0] <= params["pct_start"] <= space.pct_start[1]
        assert space.div_factor[0] <= params["div_factor"] <= space.div_factor[1]
        history.tell(number, params["pct_start"], {})


def test_a_slot_keeps_its_trial_through_any_number_of_owners(history: History) -> None:
    first = ask(history, 4)
    assert ask(history, 4, asked_before=True) == first
    assert ask(history, 5)[0] == 1
    assert ask(history, 4, asked_before=True) == first
    assert len(history.study.trials) == 2


def test_an_owner_killed_between_trial_and_parameters_leaves_a_trial_to_go_on_with(
    history: History,
) -> None:
    study = history.study
    half = create_trial(state=TrialState.RUNNING, user_attrs={"slot": 2})
    trial_id = study._storage.create_new_trial(study._study_id, half)
    trial = optuna.trial.Trial(study, trial_id)
    max_lr = trial.suggest_float("max_lr", *BRACKET, log=True)
    number, params = ask(history, 2, asked_before=True)
    assert (number, params.max_lr) == (0, max_lr)
    assert len(study.trials) == 1


def test_same_seed_same_history_same_parameters(history: History, url: URL) -> None:
    other = History(optuna_storage(url), name="other", study_id="uuid-2")
    other.create("maximize")
    for slot in range(14):
        number, params = ask(history, slot)
        same_number, same_params = ask(other, slot)
        assert same_params == params
        history.tell(number, params.max_lr, {})
        other.tell(same_number, params.max_lr, {})
    close_optuna(other.storage)


@pytest.mark.parametrize(("sign", "better"), [(1, max), (-1, min)])
def test_later_slots_follow_what_was_told(
    history: History, sign: int, better: Callable[[float, float], float]
) -> None:
    asked = []
    for slot in range(30):
        number, params = ask(history, slot)
        history.tell(number, sign * params.max_lr, {})
        asked.append(params.max_lr)
    early, late = median(asked[:10]), median(asked[20:])
    assert better(early, late) == late


def test_different_slots_get_different_parameters(history: History) -> None:
    found = {ask(history, slot)[1] for slot in range(6)}
    assert len(found) == 6


def test_telling_twice_changes_nothing(history: History) -> None:
    number, _ = ask(history, 0)
    history.tell(number, 0.7, {"outcome": "completed"})
    history.tell(number, 0.2, {"outcome": "diverged"})
    trial = history.study.trials[0]
    assert (trial.state, trial.value, trial.user_attrs["outcome"]) == (
        TrialState.COMPLETE,
        0.7,
        "completed",
    )


def test_a_run_that_was_given_up_is_a_failed_trial(history: History) -> None:
    number, _ = ask(history, 0)
    history.tell(number, None, {"outcome": "bug"})
    assert history.study.trials[0].state == TrialState.FAIL


def test_trials_of_fenced_off_owners_do_not_stay_running(history: History) -> None:
    kept, _ = ask(history, 1)
    stray, _ = ask(history, 1)
    unasked, _ = ask(history, 2)
    history.drop_unbound({1: kept})
    states = {trial.number: trial.state for trial in history.study.trials}
    assert states == {
        kept: TrialState.RUNNING,
        stray: TrialState.FAIL,
        unasked: TrialState.RUNNING,
    }


def test_a_foreign_optuna_study_of_that_name_is_left_alone(url: URL) -> None:
    engine = open_engine(url)
    prepare(engine)
    engine.dispose()
    storage = optuna_storage(url)
    foreign = optuna.create_study(storage=storage, study_name="some")
    foreign.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    close_optuna(storage)
    history = History(optuna_storage(url), name="some", study_id="uuid-1")
    with pytest.raises(StudyError, match="not ours"):
        history.create("maximize")
    history.delete()
    assert optuna.get_all_study_names(history.storage) == ["some"]
    close_optuna(history.storage)


def test_what_a_start_killed_while_creating_left_is_taken_over(history: History, url: URL) -> None:
    again = History(optuna_storage(url), name="some", study_id="uuid-2")
    again.create("maximize")
    assert again.study.user_attrs["onecycle_study"] == "uuid-2"
    close_optuna(again.storage)


def test_an_empty_study_of_the_other_direction_is_not_taken_over(
    history: History, url: URL
) -> None:
    again = History(optuna_storage(url), name="some", study_id="uuid-2")
    with pytest.raises(StudyError, match="not ours"):
        again.create("minimize")
    close_optuna(again.storage)


def test_a_study_made_anew_behind_our_back_is_noticed(history: History, url: URL) -> None:
    optuna.delete_study(study_name="some", storage=history.storage)
    optuna.create_study(study_name="some", storage=history.storage)
    fresh = History(optuna_storage(url), name="some", study_id="uuid-1")
    with pytest.raises(StudyError, match="deleted and made again"):
        _ = fresh.study
    close_optuna(fresh.storage)


def test_importances_name_the_parameter_that_matters(history: History) -> None:
    for slot in range(60):  # of 16 it names another one
        number, params = ask(history, slot)
        history.tell(number, -abs(params["pct_start"] - 0.3), {})
    shares = history.importances()
    assert max(shares, key=lambda name: shares[name]) == "pct_start"
    assert sum(shares.values()) == pytest.approx(1)


def test_there_is_nothing_to_explain_where_all_values_are_equal(history: History) -> None:
    for slot in range(4):
        history.tell(ask(history, slot)[0], 0.5, {})
    assert history.importances() == {}


def test_an_outage_is_told_apart_from_a_bug(history: History) -> None:
    if history.storage.engine.dialect.name == "sqlite":
        pytest.skip("a file does not refuse connections")
    number, _ = ask(history, 0)
    close_optuna(history.storage)
    history.storage.engine.pool._creator = _refused  # type: ignore[attr-defined]
    with pytest.raises(DatabaseUnreachableError, match="does not answer"):
        history.tell(number, 0.5, {})


def _refused(*arguments: object) -> object:
    import psycopg

    return psycopg.connect("host=127.0.0.1 port=1 connect_timeout=1")


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "kg"])
def test_every_sampler_of_optuna_is_seeded_by_slot_and_stays_in_the_space(sampler: str) -> None:
    pytest.importorskip(sampler if sampler == "cmaes" else "optuna")
    screening = Screening(n_trials=10, epochs=4, sampler=sampler, n_initial=2)

    def search() -> list[Params]:
        study = History(optuna.storages.InMemoryStorage(), name="s", study_id="u")
        study.create("maximize")
        found = []
        for slot in range(8):
            number, params = study.ask(
                slot,
                study_seed=3,
                ranges=RANGES,
                screening=screening,
                fixed=None,
                asked_before=False,
                attributes={},
            )
            study.tell(number, -abs(params["pct_start"] - 0.3), {})
            found.append(params)
        return found

    found = search()
    assert found == search()
    assert len(set(found)) == 8
    assert all(BRACKET[0] <= params.max_lr <= BRACKET[1] for params in found)


def test_a_sampler_whose_package_is_missing_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"'cmaes'.*onecycle-search\[cmaes\]"):
        check_installed("cmaes")
    check_installed("tpe")


def test_importances_are_those_that_optunas_own_call_gives() -> None:
    storage = optuna.storages.InMemoryStorage()
    history = History(storage, name="many", study_id="s")
    history.create("maximize")
    assert history.importances() == {}

    def objective(trial: optuna.Trial) -> float:
        return trial.suggest_float("x", 0, 1) + 0.1 * trial.suggest_float("y", 0, 1)

    history.study.optimize(objective, n_trials=40)
    assert history.importances() == optuna.importance.get_param_importances(history.study)
