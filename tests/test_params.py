"""The table of parameters: ranges, choices, what they span, and a configuration by name."""

import math
from collections.abc import Mapping

import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from search.params import Params
from studies.definition import Space
from studies.params import (
    CYCLE,
    TABLE,
    Choice,
    Domain,
    Fixed,
    Range,
    domain_of,
    parameter,
    searched,
    span_text,
    spanned,
)

SHARES = [0.0, 0.1, 0.25, 0.5, 0.8, 1.0]


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize(
    "domain", [Range(0.0, 0.5), Range(-2.0, 3.0), Range(1e-5, 1e-2, log=True)], ids=str
)
def test_the_place_of_a_value_is_the_inverse_of_the_value_at_a_place(
    domain: Range, share: float
) -> None:
    value = domain.at(share)
    assert domain.holds(value)
    assert domain.share(value) == pytest.approx(share)


def test_a_log_range_gives_equal_shares_to_equal_factors() -> None:
    domain = Range(0.01, 100.0, log=True)
    assert [domain.at(n / 4) for n in range(5)] == pytest.approx([0.01, 0.1, 1.0, 10.0, 100.0])
    assert Range(0.0, 100.0).at(0.25) == pytest.approx(25.0)


@pytest.mark.parametrize("log", [False, True])
def test_whole_ends_make_whole_numbers_and_each_keeps_its_place(log: bool) -> None:
    domain = Range(2, 9, log=log)
    assert domain.is_whole
    assert {domain.at(n / 1000) for n in range(1001)} == set(range(2, 10))
    assert all(type(domain.at(share)) is int for share in SHARES)
    assert all(domain.at(domain.share(value)) == value for value in range(2, 10))
    assert not Range(2, 9.0).is_whole


def test_a_choice_has_equal_shares_and_each_value_lies_somewhere_else() -> None:
    choice = Choice(("sgd", "adamw", "lion"))
    drawn = [choice.at((n + 0.5) / 300) for n in range(300)]
    assert {value: drawn.count(value) for value in choice.values} == dict.fromkeys(
        choice.values, 100
    )
    assert choice.at(1.0) == "lion", "the far end of the cube is the last value"
    assert [choice.share(value) for value in choice.values] == [0.0, 0.5, 1.0]


def test_choices_of_positive_numbers_lie_where_their_logarithms_do() -> None:
    choice = Choice((32, 64, 256))
    assert [choice.share(n) for n in choice.values] == pytest.approx([0.0, 1 / 3, 1.0])
    assert Choice((0, 5, 10)).share(5) == 0.5, "zero has no logarithm: equal distances"


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        (Range(0.0, 0.5), FloatDistribution(0.0, 0.5)),
        (Range(1e-4, 1e-2, log=True), FloatDistribution(1e-4, 1e-2, log=True)),
        (Range(2, 9), IntDistribution(2, 9)),
        (Range(2, 64, log=True), IntDistribution(2, 64, log=True)),
        (Choice(("sgd", "adamw")), CategoricalDistribution(("sgd", "adamw"))),
        (Choice((True, False)), CategoricalDistribution((True, False))),
    ],
    ids=str,
)
def test_optuna_samples_the_domain_itself(domain: Domain, expected: BaseDistribution) -> None:
    sampler = optuna.samplers.RandomSampler(seed=0)
    trial = optuna.create_study(sampler=sampler).ask()
    value = domain.suggest(trial, "it")
    assert trial.distributions == {"it": expected}
    assert domain.holds(value)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.5, 0.5, "two numbers that rise, got 0.5, 0.5"),
        (2, 1, "two numbers that rise, got 2, 1"),
        (0.0, math.inf, "two numbers that rise, got 0.0, inf"),
        (math.nan, 1.0, "two numbers that rise, got nan, 1.0"),
        (False, True, "two numbers that rise, got False, True"),
        ("a", "b", "two numbers that rise, got 'a', 'b'"),
    ],
)
def test_a_range_that_is_none_is_refused(low: float, high: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Range(low, high)


def test_other_bad_domains_say_what_was_got() -> None:
    with pytest.raises(ValueError, match=r"log=True must lie above 0, got 0\.0"):
        Range(0.0, 1.0, log=True)
    with pytest.raises(ValueError, match=r"baseline must lie in 0 to 0\.5, got 0\.7"):
        Range(0.0, 0.5, baseline=0.7)
    with pytest.raises(ValueError, match="baseline must be one of sgd or adamw, got 'lion'"):
        Choice(("sgd", "adamw"), baseline="lion")
    for values in ((), ("one",), ("twice", "twice"), (None, 1), ((1, 2), (3, 4))):
        with pytest.raises(ValueError, match="two different numbers or texts or more"):
            Choice(values)  # type: ignore[arg-type]


def test_plain_tuples_are_ranges_or_choices() -> None:
    assert domain_of("dropout", (0.0, 0.5)) == Range(0.0, 0.5)
    assert domain_of("weight_decay", (1e-4, 1e-2)) == Range(1e-4, 1e-2, log=True)
    assert domain_of("layers", (1, 2, 4)) == Choice((1, 2, 4))
    assert domain_of("optimizer", ["sgd", "adamw"]) == Choice(("sgd", "adamw"))
    assert domain_of("nesterov", (True, False)) == Choice((True, False))
    for single in (0.5, "sgd", True, 3):
        assert domain_of("dropout", single) == domain_of("dropout", (single,)) == Fixed(single)
    given = Choice((1, 2))
    assert domain_of("layers", given) is given


@pytest.mark.parametrize("given", [None, (None,), (), {"low": 1}, ("one", None), math.nan])
def test_what_is_no_domain_is_refused_with_the_parameters_name(given: object) -> None:
    with pytest.raises(ValueError, match=r"^dropout"):
        domain_of("dropout", given)


def test_a_range_that_falls_is_refused_with_the_parameters_name() -> None:
    with pytest.raises(ValueError, match=r"^dropout: .*two numbers that rise, got 0\.5, 0\.1"):
        domain_of("dropout", (0.5, 0.1))
    with pytest.raises(ValueError, match=r"^extra\['dropout'\]: .*rise, got 0\.5, 0\.1"):
        Space(extra={"dropout": (0.5, 0.1)})


@pytest.mark.parametrize("name", [*CYCLE, "weight_decay", "batch_size"])
def test_extra_is_no_second_place_for_what_has_one(name: str) -> None:
    with pytest.raises(ValueError, match=rf"extra\['{name}'\]: Space\({name}=\.\.\.\)"):
        Space(extra={name: (0.1, 0.2)})


def test_a_domains_baseline_goes_before_the_tasks_and_that_before_the_tables() -> None:
    assert searched("dropout", Range(0, 1.0, baseline=0.2), baseline=0.5).baseline == 0.2
    assert searched("pct_start", Range(0.1, 0.6), baseline=0.5).baseline == 0.5
    assert searched("pct_start", Range(0.1, 0.6), baseline=None).baseline == 0.3
    assert searched("dropout", Range(0.0, 1.0), baseline=0.0).baseline == 0.0, "zero is a value"
    assert searched("dropout", Range(0.0, 1.0), baseline=None).baseline is None


@pytest.mark.parametrize(
    ("name", "values", "span", "text"),
    [
        ("max_lr", [0.2, 0.05, 0.4], (0.05, 0.4), "0.05 to 0.4"),
        ("dropout", [0.25], (0.25, 0.25), "0.25 to 0.25"),
        ("batch_size", [128, 64, 128], (64, 128), "64 or 128"),
        ("optimizer", ["sgd", "adamw", "sgd"], ("adamw", "sgd"), "adamw or sgd"),
        ("nesterov", [True, True], (True,), "True"),
        ("nesterov", [True, False], (False, True), "False or True"),
        ("mixed", ["auto", 3], (3, "auto"), "3 or auto"),
    ],
)
def test_what_values_span(
    name: str, values: list[object], span: tuple[object, ...], text: str
) -> None:
    assert spanned(name, values) == span  # type: ignore[arg-type]
    assert span_text(name, span) == text  # type: ignore[arg-type]


def test_numbers_that_are_choices_are_told_one_by_one() -> None:
    assert spanned("width", [128, 64, 128], choices=True) == (64, 128)
    assert span_text("width", (64, 128), choices=True) == "64 or 128"
    assert spanned("dropout", [0.1, 0.1], choices=True) == (0.1,)


def test_values_are_written_as_the_table_says() -> None:
    assert [parameter(name).text(0.123456) for name in ("pct_start", "max_lr", "dropout")] == [
        "0.12",
        "0.123",
        "0.123",
    ]
    assert parameter("batch_size").text(128) == "128"
    assert parameter("layers").text(123456) == "123456", "whole numbers are never rounded"
    assert parameter("nesterov").text(False) == "False"
    assert parameter("optimizer").text("adamw") == "adamw"
    assert parameter("optimizer").heading == "optimizer"
    assert all(declared.name == name for name, declared in TABLE.items())


def test_a_configuration_is_a_mapping_by_name_in_the_order_given() -> None:
    params = Params(max_lr=0.2, pct_start=0.3, div_factor=25.0, dropout=0.1, optimizer="sgd")
    assert isinstance(params, Mapping)
    assert list(params) == ["max_lr", "pct_start", "div_factor", "dropout", "optimizer"]
    assert dict(params)["dropout"] == params["dropout"] == 0.1
    assert (params.max_lr, params.batch_size) == (0.2, None)
    assert params.of_the_task() == {"dropout": 0.1, "optimizer": "sgd"}
    assert str(params).endswith("pct_start 0.30, div_factor 25, dropout 0.1, optimizer sgd")
    with pytest.raises(KeyError):
        params["momentum"]
    assert "momentum" not in params


def test_equal_configurations_have_one_hash_whatever_their_order() -> None:
    one = Params(max_lr=0.2, optimizer="sgd", dropout=0.1)
    same = Params(dropout=0.1, max_lr=0.2, optimizer="sgd")
    assert one == same
    assert hash(one) == hash(same)
    assert len({one, same, Params(max_lr=0.2, optimizer="adamw", dropout=0.1)}) == 2
    assert one != Params(max_lr=0.2, optimizer="sgd")


def test_the_representation_makes_an_equal_configuration() -> None:
    params = Params(max_lr=0.1 + 0.2, optimizer="sgd", batch_size=64)
    assert eval(repr(params), {"Params": Params}) == params
    assert repr(params) == "Params(max_lr=0.30000000000000004, optimizer='sgd', batch_size=64)"


@pytest.mark.parametrize(
    "name", ["", "a b", "slot", "score", "max_lr_over_proposal", "line\nbreak", 3, "pct_start"]
)
def test_a_parameter_of_ones_own_has_a_name_that_nothing_else_has(name: object) -> None:
    with pytest.raises(ValueError, match="extra"):
        Space(extra={name: (0.0, 1.0)})  # type: ignore[dict-item]


def test_a_parameter_may_be_called_self() -> None:
    assert dict(Params(self=1.0)) == {"self": 1.0}


def test_a_space_takes_a_dict_of_extra_parameters_only() -> None:
    with pytest.raises(ValueError, match=r"extra must be a dict such as .* got \['dropout'\]"):
        Space(extra=["dropout"])  # type: ignore[arg-type]


def test_choices_that_do_not_rise_lie_within_the_cube() -> None:
    choice = Choice((2, 4, 1))
    assert [choice.share(value) for value in choice.values] == [0.5, 1.0, 0.0]


def test_one_and_true_are_two_values_and_nan_is_none() -> None:
    assert not Choice((1, 2)).holds(True)
    assert Choice((True, False)).holds(True)
    for values in ((float("nan"), 1.0), "ab"):
        with pytest.raises(ValueError, match="two different numbers"):
            Choice(values)  # type: ignore[arg-type]


def test_whole_numbers_have_a_whole_baseline() -> None:
    with pytest.raises(ValueError, match=r"and be a whole number, got 2\.5"):
        Range(1, 8, baseline=2.5)
