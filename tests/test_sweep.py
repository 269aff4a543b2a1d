"""The plan of a sweep: torch's LambdaLR, groups, momentum held at the peak's value."""

import math
import warnings

import pytest
import torch

from trainers.errors import ScheduleError
from trainers.run import Point
from trainers.sweeps.sweep import LRCurve, Sweep


def optimizers() -> dict[str, torch.optim.Optimizer]:
    weight = [torch.zeros(1, requires_grad=True)]
    return {
        "momentum": torch.optim.SGD(weight, lr=0.5, momentum=0.9),
        "betas": torch.optim.AdamW(weight, lr=0.5, betas=(0.9, 0.99)),
    }


@pytest.mark.parametrize("total_steps", [2, 3, 100, 777])
@pytest.mark.parametrize(("start_lr", "end_lr"), [(1e-5, 10.0), (3e-7, 0.7)])
def test_rates_rise_by_one_factor_from_start_to_end(
    start_lr: float, end_lr: float, total_steps: int
) -> None:
    lrs = Sweep(start_lr=start_lr, end_lr=end_lr, total_steps=total_steps).lrs()
    assert len(lrs) == total_steps
    assert lrs[0] == start_lr
    assert lrs[-1] == pytest.approx(end_lr, rel=1e-15)
    decades = math.log10(end_lr / start_lr)
    expected = [
        10 ** (math.log10(start_lr) + decades * i / (total_steps - 1)) for i in range(total_steps)
    ]
    assert lrs == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["momentum", "betas"])
def test_torch_gives_the_rates_of_the_plan_and_each_group_keeps_its_ratio(
    name: str,
) -> None:
    plan = Sweep(start_lr=1e-4, end_lr=1.0, total_steps=50)
    optimizer = optimizers()[name]
    for lr in (0.005, 0.0):
        optimizer.add_param_group({"params": [torch.zeros(2, requires_grad=True)], "lr": lr})
    scheduler = plan.scheduler(optimizer)
    first, second, frozen = [], [], []
    for step in range(50):
        for seen, group in zip((first, second, frozen), optimizer.param_groups, strict=True):
            seen.append(group["lr"])
        optimizer.step()
        if step < 49:
            scheduler.step()
    assert tuple(first) == plan.lrs()
    assert second == pytest.approx([0.01 * lr for lr in first], rel=1e-12)
    assert frozen == [0.0] * 50


@pytest.mark.parametrize("lr", [0.0, math.inf])
def test_groups_without_a_ratio_to_the_first_are_refused(lr: float) -> None:
    first = {"params": [torch.zeros(1, requires_grad=True)], "lr": lr}
    plan = Sweep(start_lr=1e-4, end_lr=1.0, total_steps=5)
    plan.scheduler(torch.optim.SGD([first]))  # alone, its own lr does not count
    second = {"params": [torch.zeros(1, requires_grad=True)], "lr": 0.1}
    first["lr"] = lr
    with pytest.raises(ScheduleError, match=f"first param group .* got {lr:g}"):
        plan.scheduler(torch.optim.SGD([first, second]))


@pytest.mark.parametrize("momentum", [0.85, 0.6])
def test_momentum_is_held_at_the_value_at_the_peak_of_a_cycle(momentum: float) -> None:
    plan = Sweep(start_lr=1e-4, end_lr=1.0, total_steps=5, momentum=momentum)
    for name, optimizer in optimizers().items():
        scheduler = plan.scheduler(optimizer)
        for _ in range(4):
            (group,) = optimizer.param_groups
            assert group[name] == (momentum if name == "momentum" else (momentum, 0.99))
            optimizer.step()
            scheduler.step()


def test_the_default_momentum_is_that_of_a_cycle_at_its_peak() -> None:
    from trainers.onecycle import OneCycle

    sweep = Sweep(start_lr=1e-4, end_lr=1.0, total_steps=5)
    assert sweep.momentum == OneCycle(max_lr=1.0, total_steps=10).base_momentum == 0.85


def test_an_optimizer_without_momentum_can_be_swept() -> None:
    optimizer = torch.optim.Adagrad([torch.zeros(1, requires_grad=True)], lr=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Sweep(start_lr=1e-4, end_lr=1.0, total_steps=5).scheduler(optimizer)
    assert optimizer.param_groups[0]["lr"] == 1e-4


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("start_lr", 0.0, "start_lr=0"),
        ("start_lr", -1.0, "start_lr=-1"),
        ("start_lr", 1.0, "start_lr=1"),
        ("start_lr", math.nan, "start_lr=nan"),
        ("end_lr", 1e-6, "end_lr=1e-06"),
        ("end_lr", math.inf, "end_lr=inf"),
        ("end_lr", math.nan, "end_lr=nan"),
        ("total_steps", 1, "1"),
        ("total_steps", 10.5, "10.5"),
        ("momentum", 1.0, "1"),
        ("momentum", -0.1, "-0.1"),
        ("momentum", math.nan, "nan"),
    ],
)
def test_a_bad_sweep_is_refused_by_name_and_value(field: str, value: float, shown: str) -> None:
    good = {"start_lr": 1e-5, "end_lr": 1.0, "total_steps": 100}
    with pytest.raises(ScheduleError) as refused:
        Sweep(**good | {field: value})  # type: ignore[arg-type]
    assert field in str(refused.value)
    assert shown in str(refused.value).split("got")[1]


def test_a_curve_holds_the_points_in_the_order_of_their_steps() -> None:
    curve = LRCurve.from_points([Point(1, 0.2, 3.0), Point(0, 0.1, 4.0), Point(2, 0.4, math.inf)])
    assert curve == LRCurve(lrs=(0.1, 0.2, 0.4), losses=(4.0, 3.0, math.inf))


@pytest.mark.parametrize(
    ("optimizer", "is_of_adams_kind"), [(torch.optim.SGD, False), (torch.optim.AdamW, True)]
)
def test_a_sweep_refuses_the_kind_of_optimizer_that_its_study_does_not_say(
    optimizer: type[torch.optim.Optimizer], is_of_adams_kind: bool
) -> None:
    made = optimizer([torch.zeros(1)], lr=0.1)  # type: ignore[call-arg]
    for adaptive in (None, is_of_adams_kind):
        Sweep(start_lr=1e-5, end_lr=1, total_steps=60, adaptive=adaptive).scheduler(made)
    wrong = Sweep(start_lr=1e-5, end_lr=1, total_steps=60, adaptive=not is_of_adams_kind)
    with pytest.raises(ScheduleError, match=f"adaptive must be {is_of_adams_kind} for"):
        wrong.scheduler(made)
