"""A user's OneCycleLR call: what torch applies, how its steps came about, rates in closed form."""

import math
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import OneCycleLR

from trainers.calls.schedule import Schedule, Steps, preview, rate_at
from trainers.errors import ScheduleError

CALLS: list[dict[str, Any]] = [
    {},
    {"anneal_strategy": "linear"},
    {"three_phase": True},
    {"three_phase": True, "anneal_strategy": "linear", "pct_start": 0.4},
    {"three_phase": True, "pct_start": 0.5},
    {"three_phase": True, "pct_start": 0.6},
    {"pct_start": 0.005},
    {"pct_start": 0.0},
    {"pct_start": 1.0},
    {"pct_start": 0.123, "div_factor": 7.7, "final_div_factor": 33.0},
    {"div_factor": 0.5},
    {"div_factor": -2.0},
    {"final_div_factor": 0.01, "cycle_momentum": False},
    {"base_momentum": 0.8, "max_momentum": 0.9},
]


def seen_by_a_real_optimizer(schedule: Schedule) -> tuple[list[float], list[float]]:
    """Rates and momenta of every step of a loop that does as torch's documentation says."""
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    scheduler = schedule.scheduler(optimizer)
    assert type(scheduler) is OneCycleLR
    lrs, momenta = [], []
    for step in range(schedule.total_steps):
        weight.grad = torch.ones(1)
        lrs.append(optimizer.param_groups[0]["lr"])
        momenta.append(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        if step + 1 < schedule.total_steps:
            scheduler.step()
    return lrs, momenta


@pytest.mark.parametrize("arguments", CALLS)
@pytest.mark.parametrize("total_steps", [10, 97, 100])
def test_preview_and_closed_form_give_the_rates_of_a_real_loop_at_every_step(
    arguments: dict[str, Any], total_steps: int
) -> None:
    schedule = Schedule(max_lr=0.3, total_steps=total_steps, **arguments)
    lrs, momenta = seen_by_a_real_optimizer(schedule)
    seen = preview(schedule)
    assert list(seen.lrs) == lrs
    assert list(seen.momenta) == (momenta if schedule.cycle_momentum else [])
    assert [rate_at(schedule, step) for step in range(total_steps)] == lrs
    if seen.after is None:
        with pytest.raises(ZeroDivisionError):
            rate_at(schedule, total_steps)
    else:
        assert rate_at(schedule, total_steps) == seen.after


def test_a_long_cycle_ends_as_its_divisors_say() -> None:
    seen = preview(Schedule(max_lr=0.01, total_steps=78_200))
    assert seen.lrs[0] == pytest.approx(0.01 / 25)
    assert seen.lrs[-1] == pytest.approx(0.01 / (25 * 1e4))
    assert seen.peak == 0.3 * 78_200 - 1
    assert seen.after is not None
    assert seen.after > seen.lrs[-1]
    assert seen.mean_lr / 0.01 == pytest.approx(0.5 * (0.3 * 1.04 + 0.7), rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"pct_start": 0.1}, "ZeroDivisionError"),
        ({"div_factor": 0.0}, "ZeroDivisionError"),
        ({"pct_start": 1}, "Expected float between 0 and 1"),
    ],
)
def test_a_call_that_torch_refuses_is_told_in_torchs_words(
    arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(ScheduleError, match=f"torch refuses OneCycleLR.*{words}"):
        preview(Schedule(max_lr=0.1, total_steps=10, **arguments))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_lr", 0.0),
        ("max_lr", math.nan),
        ("max_lr", math.inf),
        ("total_steps", 0),
        ("total_steps", 2.5),
        ("total_steps", True),
        ("pct_start", 1.1),
        ("pct_start", -0.1),
        ("pct_start", math.nan),
        ("div_factor", math.inf),
        ("final_div_factor", math.nan),
        ("anneal_strategy", "cosine"),
        ("base_momentum", 1.0),
        ("max_momentum", -0.1),
    ],
)
def test_what_is_no_number_is_refused_by_name_and_value(field: str, value: object) -> None:
    with pytest.raises(ScheduleError, match=f"^{field} ") as refused:
        Schedule(**{"max_lr": 0.1, "total_steps": 100} | {field: value})  # type: ignore[arg-type]
    got = f"{value:g}" if isinstance(value, float) and value == value else repr(value)
    assert got in str(refused.value).split("got")[1]


def test_the_call_is_written_with_what_differs_from_torchs_defaults() -> None:
    schedule = Schedule(max_lr=0.01, total_steps=25_600, three_phase=True, div_factor=10.0)
    assert schedule.call({"epochs": 200, "steps_per_epoch": 128}) == (
        "OneCycleLR(max_lr=0.01, epochs=200, steps_per_epoch=128, div_factor=10, three_phase=True)"
    )
    assert (
        Schedule(max_lr=0.01, total_steps=10).call() == "OneCycleLR(max_lr=0.01, total_steps=10)"
    )


@pytest.mark.parametrize("size", [64, 65, 70, 96, 127])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_steps_are_those_of_a_real_loader(size: int, drop_last: bool, accumulate: int) -> None:
    loader = torch.utils.data.DataLoader(range(size), batch_size=32, drop_last=drop_last)  # type: ignore[arg-type]
    taken = sum((i + 1) % accumulate == 0 or i + 1 == len(loader) for i, _ in enumerate(loader))
    steps = Steps(
        epochs=7, dataset_size=size, batch_size=32, drop_last=drop_last, accumulate=accumulate
    )
    assert steps.batches == len(loader)
    assert steps.loader_steps == steps.per_epoch == taken
    assert steps.planned == steps.taken == 7 * taken


def test_planned_and_taken_steps_are_told_apart() -> None:
    steps = Steps(epochs=200, steps_per_epoch=128, dataset_size=50_000, batch_size=128)
    assert (steps.planned, steps.taken) == (25_600, 78_200)
    assert steps.explained() == ("200 epochs x 128 steps; 50,000 / 128 = 390.625, so 391 batches")
    assert Steps(epochs=200, steps_per_epoch=128).taken is None
    assert Steps(total_steps=100, epochs=10, steps_per_epoch=12).taken == 120
    assert Steps(total_steps=100, epochs=10).per_epoch == 10


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "give total_steps, or epochs with steps_per_epoch"),
        ({"epochs": 3}, "give total_steps, or epochs with steps_per_epoch"),
        ({"steps_per_epoch": 3}, "give total_steps, or epochs with steps_per_epoch"),
        (
            {"epochs": 0, "steps_per_epoch": 3},
            "epochs must be a whole number of at least 1, got 0",
        ),
        ({"epochs": 3, "dataset_size": 100}, "dataset_size=100 needs batch_size"),
        ({"total_steps": 3, "accumulate": 4}, "accumulate=4 needs dataset_size and batch_size"),
        ({"total_steps": 3, "drop_last": True}, "drop_last needs dataset_size and batch_size"),
        (
            {"epochs": 3, "dataset_size": 9, "batch_size": 10, "drop_last": True},
            "batch_size=10 with drop_last leaves no batch of dataset_size=9",
        ),
    ],
)
def test_steps_that_cannot_be_counted_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ScheduleError) as refused:
        Steps(**arguments)
    assert words in str(refused.value)
