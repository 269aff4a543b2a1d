"""The plan of a cycle: torch's rates, an end that div_factor does not move, plans refused."""

import math

import pytest
import torch
from torch.optim.lr_scheduler import OneCycleLR

from trainers.calls.schedule import Anneal
from trainers.errors import ScheduleError
from trainers.onecycle import OneCycle


def one_weight() -> list[torch.Tensor]:
    return [torch.zeros(1, requires_grad=True)]


def sgd() -> torch.optim.Optimizer:
    return torch.optim.SGD(one_weight(), lr=0.1, momentum=0.9)


def walk(scheduler: torch.optim.lr_scheduler.LRScheduler, n_steps: int) -> list[dict[str, object]]:
    """The first param group as each of `n_steps` optimizer steps found it."""
    seen = []
    for step in range(n_steps):
        seen.append(dict(scheduler.optimizer.param_groups[0]))
        scheduler.optimizer.step()
        if step + 1 < n_steps:
            scheduler.step()
    return seen


@pytest.mark.parametrize("total_steps", [10, 50, 97, 1000])
@pytest.mark.parametrize("pct_start", [0.2, 0.3, 0.5, 0.95])
@pytest.mark.parametrize("div_factor", [1.5, 25.0, 300.0])
def test_preview_equals_what_torch_gives_a_real_optimizer_at_every_step(
    total_steps: int, pct_start: float, div_factor: float
) -> None:
    plan = OneCycle(
        max_lr=0.4, total_steps=total_steps, pct_start=pct_start, div_factor=div_factor
    )
    reference = OneCycleLR(
        sgd(),
        max_lr=0.4,
        total_steps=total_steps,
        pct_start=pct_start,
        div_factor=div_factor,
        final_div_factor=250_000 / div_factor,
    )
    expected = [group["lr"] for group in walk(reference, total_steps)]
    assert list(plan.lrs()) == expected
    assert [g["lr"] for g in walk(plan.scheduler(sgd()), total_steps)] == expected
    assert plan.lrs()[0] == pytest.approx(0.4 / div_factor, rel=1e-15)


@pytest.mark.parametrize(("total_steps", "pct_start"), [(10, 0.2), (10, 0.5), (140, 0.3)])
def test_a_whole_number_of_warm_up_steps_ends_exactly_at_max_lr(
    total_steps: int, pct_start: float
) -> None:
    lrs = OneCycle(max_lr=0.7, total_steps=total_steps, pct_start=pct_start).lrs()
    assert max(lrs) == pytest.approx(0.7, rel=1e-15)
    assert lrs.index(max(lrs)) == round(pct_start * total_steps) - 1
    assert list(lrs[: lrs.index(max(lrs)) + 1]) == sorted(lrs[: lrs.index(max(lrs)) + 1])
    assert list(lrs[lrs.index(max(lrs)) :]) == sorted(lrs[lrs.index(max(lrs)) :], reverse=True)


def test_rates_follow_the_cosine_of_the_closed_form() -> None:
    lrs = OneCycle(max_lr=2.0, total_steps=20, pct_start=0.25, div_factor=10.0).lrs()
    first, last = 0.2, 2.0 / 250_000
    up = [first + (2.0 - first) * (1 - math.cos(math.pi * s / 4)) / 2 for s in range(5)]
    down = [last + (2.0 - last) * (1 + math.cos(math.pi * s / 15)) / 2 for s in range(1, 16)]
    assert list(lrs) == pytest.approx(up + down, rel=1e-9)


@pytest.mark.parametrize("div_factor", [1.01, 2.0, 25.0, 100.0, 249_999.0])
@pytest.mark.parametrize("total_steps", [10, 33, 140])
def test_the_last_rate_is_the_same_whatever_div_factor_is(
    total_steps: int, div_factor: float
) -> None:
    plan = OneCycle(max_lr=0.3, total_steps=total_steps, div_factor=div_factor)
    assert plan.lrs()[-1] == pytest.approx(0.3 / 250_000, rel=1e-9)


def test_the_default_is_torchs_default() -> None:
    defaults = OneCycleLR(sgd(), max_lr=0.4, total_steps=100)
    expected = [group["lr"] for group in walk(defaults, 100)]
    assert OneCycle(max_lr=0.4, total_steps=100).lrs() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_momentum_falls_to_its_base_at_the_peak_and_rises_again(optimizer: str) -> None:
    made = sgd() if optimizer == "SGD" else torch.optim.AdamW(one_weight(), lr=0.1)
    groups = walk(OneCycle(max_lr=0.1, total_steps=20).scheduler(made), 20)
    momenta = [g["momentum"] if optimizer == "SGD" else g["betas"][0] for g in groups]
    assert momenta[0] == pytest.approx(0.95)
    assert momenta[5] == pytest.approx(0.85)
    assert momenta[-1] == pytest.approx(0.95)
    assert momenta[:6] == sorted(momenta[:6], reverse=True)
    assert momenta[5:] == sorted(momenta[5:])


@pytest.mark.parametrize(
    "plan",
    [
        OneCycle(max_lr=0.4, total_steps=140),
        OneCycle(max_lr=0.123456789, total_steps=140, pct_start=1 / 3, div_factor=7.77777),
        OneCycle(max_lr=1, total_steps=140, div_factor=3, base_momentum=0.8, max_momentum=0.9),
    ],
)
@pytest.mark.parametrize("total_steps", [None, "epochs * len(train_loader)"])
def test_the_printed_call_gives_the_rates_and_momenta_of_the_plan(
    plan: OneCycle, total_steps: str | None
) -> None:
    names = {"torch": torch, "optimizer": sgd(), "epochs": 10, "train_loader": range(14)}
    printed = walk(eval(plan.call(total_steps=total_steps), names), 140)
    meant = walk(plan.scheduler(sgd()), 140)
    for name in ("lr", "momentum"):
        assert [g[name] for g in printed] == pytest.approx([g[name] for g in meant], rel=1e-4)


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("max_lr", 0.0, "0.0"),
        ("max_lr", -0.1, "-0.1"),
        ("max_lr", math.nan, "nan"),
        ("max_lr", math.inf, "inf"),
        ("total_steps", 1, "1"),
        ("total_steps", -5, "-5"),
        ("total_steps", 100.5, "100.5"),
        ("total_steps", True, "True"),
        ("pct_start", 0.0, "0 "),
        ("pct_start", 1.0, "1 "),
        ("pct_start", 1.2, "1.2"),
        ("pct_start", -0.3, "-0.3"),
        ("pct_start", math.nan, "nan"),
        ("pct_start", 0.019, "0.019"),  # 1.9 of 100 steps: torch skips or cuts the warm-up
        ("div_factor", 1.0, "1"),
        ("div_factor", 0.0, "0"),
        ("div_factor", 250_000.0, "250000"),
        ("div_factor", math.nan, "nan"),
        ("base_momentum", -0.1, "-0.1"),
        ("base_momentum", 0.96, "0.96"),
        ("max_momentum", 1.0, "1"),
        ("max_momentum", math.nan, "nan"),
    ],
)
def test_a_plan_that_torch_would_not_follow_is_refused_by_name_and_value(
    field: str, value: float, shown: str
) -> None:
    with pytest.raises(ScheduleError) as refused:
        OneCycle(**{"max_lr": 0.1, "total_steps": 100} | {field: value})  # type: ignore[arg-type]
    assert field in str(refused.value)
    assert shown in str(refused.value).split("got")[1]


def test_the_smallest_plans_that_are_allowed_reach_their_peak() -> None:
    assert max(OneCycle(max_lr=0.1, total_steps=100, pct_start=0.02).lrs()) == 0.1
    assert max(OneCycle(max_lr=0.1, total_steps=3, pct_start=0.67).lrs()) > 0.09


def test_each_param_group_keeps_its_ratio_to_the_first() -> None:
    one, other = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    optimizer = torch.optim.SGD(
        [{"params": [one], "lr": 0.2}, {"params": [other], "lr": 0.02}], momentum=0.9
    )
    plan = OneCycle(max_lr=0.5, total_steps=100)
    scheduler = plan.scheduler(optimizer)
    for lr in plan.lrs():
        first, second = (group["lr"] for group in optimizer.param_groups)
        assert (first, second) == (pytest.approx(lr), pytest.approx(lr / 10))
        optimizer.step()
        scheduler.step()


def test_groups_without_a_ratio_to_the_first_are_refused_by_a_cycle() -> None:
    parameters = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.0, 0.1)]
    with pytest.raises(ScheduleError, match="got 0: the 1 other groups keep"):
        OneCycle(max_lr=0.5, total_steps=100).scheduler(torch.optim.SGD(parameters))


@pytest.mark.parametrize("anneal_strategy", ["cos", "linear"])
@pytest.mark.parametrize("three_phase", [False, True])
@pytest.mark.parametrize("total_steps", [20, 97])
def test_every_form_of_the_cycle_has_torchs_rates_and_momenta_and_so_has_its_call(
    anneal_strategy: Anneal, three_phase: bool, total_steps: int
) -> None:
    plan = OneCycle(
        max_lr=0.4,
        total_steps=total_steps,
        pct_start=0.23,
        anneal_strategy=anneal_strategy,
        three_phase=three_phase,
        last_rate_divisor=25 * 300.0,
        base_momentum=0.8,
        max_momentum=0.9,
    )
    reference = OneCycleLR(
        sgd(),
        max_lr=0.4,
        total_steps=total_steps,
        pct_start=0.23,
        anneal_strategy=anneal_strategy,
        three_phase=three_phase,
        final_div_factor=300.0,
        base_momentum=0.8,
        max_momentum=0.9,
    )
    expected = walk(reference, total_steps)
    printed = eval(plan.call(), {"torch": torch, "optimizer": sgd()})
    for seen in (walk(plan.scheduler(sgd()), total_steps), walk(printed, total_steps)):
        for name in ("lr", "momentum"):
            assert [g[name] for g in seen] == pytest.approx([g[name] for g in expected], rel=1e-12)
    assert list(plan.lrs()) == [group["lr"] for group in expected]
    assert list(plan.momenta()) == [group["momentum"] for group in expected]


def test_three_phases_need_room_for_the_third() -> None:
    OneCycle(max_lr=0.4, total_steps=100, pct_start=0.49, three_phase=True)
    with pytest.raises(ScheduleError, match=r"pct_start must stay below 0\.5 .* got 0\.5 of 100"):
        OneCycle(max_lr=0.4, total_steps=100, pct_start=0.5, three_phase=True)


@pytest.mark.parametrize("ratios", [(1.0, 0.1), (1.0, 1.0, 3.0, 0.0)])
def test_the_printed_call_keeps_the_ratios_of_the_groups(ratios: tuple[float, ...]) -> None:
    def grouped() -> torch.optim.Optimizer:
        return torch.optim.Adagrad([{"params": one_weight(), "lr": 0.3 * r} for r in ratios])

    plan, searched = OneCycle(max_lr=0.5, total_steps=30), grouped()
    scheduler, pasted = plan.scheduler(searched), grouped()
    (driven,) = plan.driven
    assert driven.lr_ratios == pytest.approx(ratios)
    other = eval(plan.call(driven=driven), {"torch": torch, "optimizer": pasted})
    for _ in range(29):
        assert [g["lr"] for g in pasted.param_groups] == pytest.approx(
            [g["lr"] for g in searched.param_groups], rel=1e-12
        )
        for optimizer, each in ((searched, scheduler), (pasted, other)):
            optimizer.step()
            each.step()
