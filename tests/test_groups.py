"""What an optimizer is to a schedule: measured for any class, and nobody's objects are touched."""

import copy
import logging
import random
from collections.abc import Callable

import pytest
import torch
from torch import nn, optim

from tests.odd_optimizers import LARS, SAM, Clipped, Lion, OnNoCPU, WithSums
from trainers.calls.audit import audit_run
from trainers.errors import ScheduleError
from trainers.groups import is_adaptive
from trainers.onecycle import OneCycle
from trainers.probe import grows_with_gradient
from trainers.run import Run, RunResult
from trainers.sweeps.sweep import Sweep

Make = Callable[..., optim.Optimizer]


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3))


OF_TORCH: dict[str, bool] = {
    "SGD": True,
    "ASGD": True,
    "Adam": False,
    "AdamW": False,
    "Adamax": False,
    "NAdam": False,
    "RAdam": False,
    "RMSprop": False,
    "Adagrad": False,
    "Adadelta": False,
    "Adafactor": False,
    "Rprop": False,
}


@pytest.mark.parametrize("stepped", [False, True])
@pytest.mark.parametrize("name", OF_TORCH)
def test_what_is_known_of_torchs_own_is_what_is_measured(name: str, stepped: bool) -> None:
    model = net()
    optimizer = getattr(optim, name)(model.parameters(), lr=0.01)
    if stepped:
        model(torch.ones(1, 1, 4, 4)).sum().backward()
        optimizer.step()
    assert grows_with_gradient(optimizer) is OF_TORCH[name]
    assert is_adaptive(optimizer) is not OF_TORCH[name]


def test_muon_is_adaptive() -> None:
    matrix = optim.Muon([nn.Parameter(torch.ones(3, 4))], lr=0.01)
    assert grows_with_gradient(matrix) is False
    assert is_adaptive(matrix)


@pytest.mark.parametrize(
    ("make", "adaptive"),
    [
        (lambda p: Lion(p, lr=1e-4), True),
        (lambda p: Lion(p, lr=1e-4, decay=1.0), True),
        (lambda p: LARS(p, lr=0.1, momentum=0.9), True),
        (lambda p: SAM(p, optim.SGD, lr=0.1, momentum=0.9), False),
        (lambda p: SAM(p, optim.AdamW, lr=0.1), True),
        (lambda p: WithSums(p, lr=0.1), True),
        (lambda p: Clipped(p, lr=0.1), False),
        (lambda p: type("Mine", (optim.SGD,), {})(p, lr=0.0, weight_decay=0.3), False),
        (lambda p: type("Mine", (optim.Adam,), {})(p, lr=torch.tensor(1.0), eps=1e-4), True),
        (lambda p: type("Mine", (optim.RAdam,), {})(p, lr=1e-3), True),
    ],
)
def test_an_optimizer_of_anybodys_is_measured(make: Make, adaptive: bool) -> None:
    assert is_adaptive(make(net().parameters())) is adaptive


@pytest.mark.parametrize("make", [lambda p: Lion(p, lr=0.1), lambda p: SAM(p, optim.SGD, lr=0.1)])
def test_a_measurement_touches_nothing(make: Make) -> None:
    model = net()
    optimizer = make(model.parameters())
    called: list[object] = []
    optimizer.register_step_pre_hook(lambda *given: called.append(given))
    model(torch.ones(1, 1, 4, 4)).sum().backward()
    weights = copy.deepcopy(model.state_dict())
    grads = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    groups = [dict(group) for group in optimizer.param_groups]
    generators = torch.get_rng_state(), random.getstate()
    is_adaptive(optimizer)
    assert all(torch.equal(weights[n], value) for n, value in model.state_dict().items())
    for parameter, grad in zip(model.parameters(), grads, strict=True):
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, grad)
    assert [dict(group) for group in optimizer.param_groups] == groups
    assert not optimizer.state
    assert not called
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert random.getstate() == generators[1]


@pytest.mark.parametrize(
    ("make", "adaptive", "words"),
    [
        (lambda p: OnNoCPU(p, lr=0.1), False, "its groups have no betas"),
        (lambda p: OnNoCPU(p, lr=0.1, betas=(0.9, 0.99)), True, "its groups have betas"),
        (
            lambda p: type("Fused", (optim.RMSprop,), {"step": OnNoCPU.step})(p),
            True,
            "it derives from RMSprop",
        ),
    ],
)
def test_what_cannot_be_measured_is_assumed_and_said(
    make: Make, adaptive: bool, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    optimizer = make(net().parameters())
    assert grows_with_gradient(optimizer) is None
    with caplog.at_level(logging.WARNING):
        assert is_adaptive(optimizer) is adaptive
        is_adaptive(optimizer)
    (said,) = caplog.messages
    assert f"{type(optimizer).__name__} cannot be tried on a small copy" in said
    assert words in said


@pytest.mark.parametrize("name", ["Adagrad", "Adadelta", "ASGD", "Adafactor"])
def test_one_without_momentum_runs_under_cycle_and_sweep_and_says_so(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    kind = type(f"Own{name}", (getattr(optim, name),), {})  # each class is told of once
    for plan in (
        OneCycle(max_lr=0.1, total_steps=60),
        Sweep(start_lr=1e-4, end_lr=1.0, total_steps=60),
    ):
        model = net()
        optimizer = kind(model.parameters())
        with caplog.at_level(logging.INFO):
            scheduler = plan.scheduler(optimizer)
        run = Run(plan=plan, seed=0)
        for step in range(60):
            run.report(step, 1.0, lrs=[group["lr"] for group in optimizer.param_groups])
            optimizer.step()
            if step < 59:
                scheduler.step()
        run.look()
        ended = RunResult(score=1.0, outcome="completed", n_steps=60, n_images=60, seconds=1.0)
        audit_run(plan, run.points, ended)
        assert "momentum" not in optimizer.param_groups[0]
    (said,) = caplog.messages
    assert said == f"Own{name} has no momentum to cycle: cycle_momentum=False"


def test_momentum_zero_is_cycled_as_torch_does_and_the_way_out_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    kind = type("Plain", (optim.SGD,), {})
    with caplog.at_level(logging.INFO):
        optimizer = kind(net().parameters(), lr=0.1)
        OneCycle(max_lr=0.1, total_steps=60).scheduler(optimizer)
    assert optimizer.param_groups[0]["momentum"] == 0.95
    assert 'Space(extra={"cycle_momentum": False})' in caplog.text
    left = kind(net().parameters(), lr=0.1)
    OneCycle(max_lr=0.1, total_steps=60, cycle_momentum=False).scheduler(left)
    assert left.param_groups[0]["momentum"] == 0
    Sweep(start_lr=1e-4, end_lr=1.0, total_steps=60, momentum=None).scheduler(left)
    assert left.param_groups[0]["momentum"] == 0


@pytest.mark.parametrize(
    "plan",
    [OneCycle(max_lr=0.1, total_steps=60), Sweep(start_lr=1e-4, end_lr=1.0, total_steps=60)],
)
def test_an_optimizer_that_no_schedule_drives_is_refused(plan: OneCycle | Sweep) -> None:
    with pytest.raises(ScheduleError, match="Rprop takes its rate at the first step only"):
        plan.scheduler(optim.Rprop(net().parameters()))


def test_a_sweep_of_the_other_kind_says_what_the_step_does() -> None:
    plan = Sweep(start_lr=1e-4, end_lr=1.0, total_steps=60, adaptive=False)
    with pytest.raises(ScheduleError, match="its step does not grow with the gradient"):
        plan.scheduler(optim.RMSprop(net().parameters()))
