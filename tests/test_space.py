"""What a study asks Optuna for: by default three parameters, else max_lr beside its proposal."""

import math
from collections.abc import Mapping, Sequence

import optuna
import pytest

from search.history.optuna_study import History
from search.params import Params
from search.stages.believed import Tried, believe, candidates_seed
from search.stages.propose import next_params
from search.stages.search import given
from search.stages.space import RELATIVE_MAX_LR, Ranges
from studies.definition import SAMPLERS, Screening, Space

OWN = {"weight_decay": 5e-4, "batch_size": 64, "label_smoothing": 0.1}


def ranges_of(space: Space, proposals: Mapping[str, float] | None = None) -> Ranges:
    """Return what is searched around a proposal of 0.2, for a task of these OWN values."""
    return Ranges(
        others=space.parameters(OWN),
        bracket=(0.05, 0.8),
        proposed_max_lr=0.2,
        proposals=proposals or {},
    )


PLAIN = ranges_of(Space())
WIDE = ranges_of(
    Space(weight_decay=(1e-5, 1e-2), batch_size=(32, 64, 256)), {"64": 0.2, "32": 0.15, "256": 0.5}
)


def asked(ranges: Ranges, screening: Screening, *, n: int) -> tuple[list[Params], History]:
    """Ask for `n` slots as a worker does; small batches and weight decays score well."""
    history = History(optuna.storages.InMemoryStorage(), name="s", study_id="u")
    history.create("maximize")
    found = []
    for slot in range(n):
        fixed = given(slot, screening=screening, study_seed=3, ranges=ranges)
        ours = screening.sampler == "kg" and fixed is None
        number, params = history.ask(
            slot,
            study_seed=3,
            ranges=ranges,
            screening=screening,
            fixed=fixed,
            proposed=proposed(ranges, found) if ours else None,
            asked_before=False,
            attributes={},
        )
        history.tell(number, score(params), {})
        found.append(params)
    return found, history


def score(params: Params) -> float:
    return -params.max_lr - (params.batch_size or 0) / 1000


def proposed(ranges: Ranges, found: Sequence[Params]) -> Params:
    """Return what our own sampler proposes after these configurations."""
    belief = believe(
        ranges,
        [Tried(slot, params, (score(params),)) for slot, params in enumerate(found)],
        metric="accuracy",
        direction="maximize",
        diverged_value=-3.0,
        seed=candidates_seed(3, len(found)),
    )
    assert belief is not None
    return next_params(belief)


def test_a_plain_space_asks_for_torchs_three_parameters_and_notes_nothing_else() -> None:
    found, history = asked(PLAIN, Screening(n_trials=4, epochs=4, n_initial=2), n=4)
    bracket = optuna.distributions.FloatDistribution(0.05, 0.8, log=True)
    for params, trial in zip(found, history.study.trials, strict=True):
        assert list(trial.params) == ["max_lr", "pct_start", "div_factor"]
        assert trial.params == dict(params)
        assert trial.distributions["max_lr"] == bracket
        assert trial.user_attrs.keys() == {"slot"}
    fixed = history.study.trials[0].system_attrs["fixed_params"]
    assert fixed == {"max_lr": 0.2, "pct_start": 0.3, "div_factor": 25.0}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_searches_max_lr_beside_its_proposal_in_one_range(sampler: str) -> None:
    pytest.importorskip(sampler if sampler == "cmaes" else "optuna")
    screening = Screening(n_trials=14, epochs=4, sampler=sampler, n_initial=4)
    found, history = asked(WIDE, screening, n=14)
    assert found == asked(WIDE, screening, n=14)[0], "seeded by slot"
    assert len({params.batch_size for params in found}) > 1
    for params, trial in zip(found, history.study.trials, strict=True):
        assert trial.distributions[RELATIVE_MAX_LR] == optuna.distributions.FloatDistribution(
            0.25, 4.0, log=True
        )
        assert trial.user_attrs["max_lr"] == params.max_lr
        assert params.batch_size is not None
        factor = params.max_lr / WIDE.proposals[str(params.batch_size)]
        assert trial.params[RELATIVE_MAX_LR] == pytest.approx(factor, rel=1e-12)
        assert 0.25 <= trial.params[RELATIVE_MAX_LR] <= 4
        assert 1e-5 <= float(params["weight_decay"]) <= 1e-2
    if sampler in ("kg", "tpe", "gp", "cmaes"):
        shares = history.importances()
        assert shares.keys() == {
            RELATIVE_MAX_LR,
            "pct_start",
            "div_factor",
            "weight_decay",
            "batch_size",
        }


def test_the_baseline_has_the_tasks_own_values_at_their_proposal() -> None:
    own = Params(max_lr=0.2, pct_start=0.3, div_factor=25.0, weight_decay=5e-4, batch_size=64)
    found, history = asked(WIDE, Screening(n_trials=1, epochs=4), n=1)
    assert found == [own]
    assert history.study.trials[0].params[RELATIVE_MAX_LR] == 1


def test_the_same_multiple_is_another_max_lr_at_another_batch_size() -> None:
    points: Sequence[Sequence[float]] = [[0.7, 0.5, 0.5, 0.5, (k + 0.5) / 3] for k in range(3)]
    found = [WIDE.at(point) for point in points]
    assert [params.batch_size for params in found] == [32, 64, 256]
    factors = [WIDE.sampled(params)[RELATIVE_MAX_LR] for params in found]
    assert factors == pytest.approx([factors[0]] * 3)
    assert found[2].max_lr / found[0].max_lr == pytest.approx(0.5 / 0.15)


def test_a_given_configuration_is_the_same_to_the_last_digit() -> None:
    found, _ = asked(WIDE, Screening(n_trials=9, epochs=4), n=9)
    history = History(optuna.storages.InMemoryStorage(), name="s", study_id="u")
    history.create("maximize")
    for slot, params in enumerate(found):
        _, again = history.ask(
            slot,
            study_seed=3,
            ranges=WIDE,
            screening=Screening(n_trials=9, epochs=4),
            fixed=params,
            asked_before=False,
            attributes={},
        )
        assert again == params


@pytest.mark.parametrize("ranges", [PLAIN, WIDE], ids=["plain", "wide"])
def test_the_corners_of_the_cube_are_those_of_the_space_and_back(ranges: Ranges) -> None:
    for corner in (0.0, 1.0):
        point = [corner] * ranges.n_dimensions
        assert ranges.position(ranges.at(point)) == pytest.approx(point, abs=1e-12)
    assert ranges.at([0.0] * ranges.n_dimensions)["pct_start"] == Space().pct_start[0]


def test_weight_decay_alone_has_one_proposal() -> None:
    ranges = ranges_of(Space(weight_decay=(1e-5, 1e-2)))
    found, history = asked(ranges, Screening(n_trials=4, epochs=4, n_initial=3), n=4)
    assert all(params.batch_size is None for params in found)
    assert all("batch_size" not in trial.params for trial in history.study.trials)
    assert [t.params[RELATIVE_MAX_LR] * 0.2 for t in history.study.trials] == pytest.approx(
        [params.max_lr for params in found]
    )


def test_a_configuration_says_what_was_searched() -> None:
    assert str(PLAIN.baseline()) == "max_lr 0.2, pct_start 0.30, div_factor 25"
    assert str(WIDE.baseline()).endswith("div_factor 25, weight_decay 0.0005, batch_size 64")
    assert dict(PLAIN.baseline()) == {"max_lr": 0.2, "pct_start": 0.3, "div_factor": 25.0}


def test_a_rate_that_misses_its_bound_by_a_rounding_is_asked_for_within_it() -> None:
    ranges = Ranges(others=(), bracket=(0.02, 0.32), proposed_max_lr=0.08)
    params = Params(max_lr=math.nextafter(0.32, 1.0))
    assert ranges.sampled(params) == {"max_lr": 0.32}
