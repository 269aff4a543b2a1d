"""The range test as a library: what it measures, says and refuses."""

import logging
import math
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from trainers.batches import Batches, moved
from trainers.errors import DataError, ScheduleError, TaskError, UserError
from trainers.range_test import RangeTestResult, range_test
from trainers.sweeps.judgement import Judgement
from trainers.sweeps.stopping import FEWEST_SWEEPS
from trainers.sweeps.sweep import Sweep


def data(n: int = 256) -> TensorDataset:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(n, 8, generator=generator)
    return TensorDataset(x, x.sum(1, keepdim=True) + torch.randn(n, 1, generator=generator))


def shuffled(batch_size: int = 32) -> DataLoader[Any]:
    return DataLoader(data(), batch_size=batch_size, shuffle=True)


def line() -> nn.Linear:
    model = nn.Linear(8, 1)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    return model


def sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)


def squared_error(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def measured(loss_fn: Callable[..., Tensor] = squared_error, **settings: Any) -> RangeTestResult:
    model = line()
    return range_test(model, sgd(model), shuffled(), loss_fn, **settings)


@pytest.fixture(autouse=True)
def _own_generator() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        yield


def test_the_sweeps_of_a_line_turn_below_the_rate_at_which_it_is_unstable() -> None:
    said = measured()
    # a quadratic of curvature h is stable under momentum m up to 2 * (1 + m) / h, and h is 2 here
    assert {judgement.ending for judgement in said.judgements} == {"diverged"}
    assert said.proposal is not None
    assert 0.1 < said.proposal.edge < 1.85
    assert said.bracket == (said.proposal.low, said.proposal.high)
    assert said.proposal.n_sweeps == len(said.curves) == 2, "which agree"
    assert said.proposal.apart == max(e := edges_of(said)) / min(e) < 2
    assert (said.slow, said.interval, said.proposal.drift) == (None, None, None)
    assert said.n_steps == sum(map(len, said.points)) <= 400


def edges_of(said: RangeTestResult) -> list[float]:
    return [judgement.edge for judgement in said.judgements if judgement.edge is not None]


def test_sweeps_that_disagree_are_followed_by_more_and_a_slow_one() -> None:
    """The curvature is drawn anew for each sweep: with it, the rate at which a line breaks."""
    scales = iter([1.0, 9.0, 1.0, 9.0, 3.0])
    scale = [next(scales)]
    steps = [0]

    def stretched(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        if bool((model.weight == start).all()) and steps[0]:
            scale[0] = next(scales, 3.0)
        steps[0] += 1
        return scale[0] * squared_error(model, batch)

    model = line()
    start = model.weight.detach().clone()
    said = range_test(model, sgd(model), shuffled(), stretched)
    assert len(said.points) == 5
    assert said.slow is not None
    assert len(said.slow) > 200, "twice the steps"
    assert said.proposal is not None
    assert said.proposal.drift is not None
    assert said.interval is not None
    assert said.interval[0] < said.proposal.edge < said.interval[1]
    assert said.seconds > 0


def test_each_loss_is_that_before_the_update_with_its_rate() -> None:
    weight = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))
    model = nn.ParameterList([weight])
    said = range_test(
        model,
        torch.optim.SGD([weight], lr=1.0),
        [0],
        lambda model, _: model[0] ** 2 / 2,
        end_lr=1.5,
        n_steps=60,
        n_sweeps=1,
        momentum=0.0,
    )
    position, expected = 1.0, []
    for lr in said.plan.lrs():
        expected.append(position**2 / 2)
        position *= 1 - lr
    assert [point.loss for point in said.points[0]] == pytest.approx(expected, rel=1e-6)
    assert tuple(point.lr for point in said.points[0]) == said.plan.lrs()


def test_every_param_group_is_swept_in_its_ratio_and_recorded() -> None:
    model = line()
    groups = [{"params": [model.weight], "lr": 0.2}, {"params": [model.bias], "lr": 0.02}]
    said = range_test(
        model, torch.optim.SGD(groups), shuffled(), squared_error, n_sweeps=1, end_lr=0.5
    )
    for point in said.points[0]:
        assert point.other_lrs == (pytest.approx(point.lr / 10, rel=1e-12),)


def test_the_same_seed_gives_the_same_sweeps_and_each_sweep_has_its_own() -> None:
    first, again, other = measured(seed=7), measured(seed=7), measured(seed=8)
    assert replace(first, seconds=0) == replace(again, seconds=0)
    losses = {curve.losses[:20] for said in (first, other) for curve in said.curves}
    assert len(losses) == len(first.curves) + len(other.curves) == 4


def test_a_generator_of_the_loader_is_seeded_anew_for_each_sweep() -> None:
    generator = torch.Generator().manual_seed(1)
    loader = DataLoader(data(), batch_size=32, shuffle=True, generator=generator)
    model = line()
    said = range_test(model, sgd(model), loader, squared_error, n_sweeps=3)
    assert len({curve.losses[:20] for curve in said.curves}) == len(said.curves) == 2


def test_accumulated_batches_make_the_step_of_one_large_batch() -> None:
    results = []
    for batch_size, accumulate in ((32, 1), (8, 4)):
        model = line()
        loader = DataLoader(data(), batch_size=batch_size)
        results.append(
            range_test(
                model,
                sgd(model),
                loader,
                squared_error,
                n_sweeps=1,
                end_lr=1,
                accumulate=accumulate,
            )
        )
    large, small = results
    assert large.n_steps == small.n_steps == 200
    assert small.curves[0].losses == pytest.approx(large.curves[0].losses, rel=1e-3)


def test_a_model_in_eval_mode_is_trained_and_frozen_parts_stay_frozen() -> None:
    modes = set()

    class Watched(nn.Dropout):
        def forward(self, x: Tensor) -> Tensor:
            modes.add((model.training, self.training))
            return x

    model = nn.Sequential(line(), Watched())
    settings: dict[str, Any] = {"n_steps": 50, "n_sweeps": 1}
    range_test(model.eval(), sgd(model), shuffled(), squared_error, **settings)
    assert modes == {(True, True)}
    modes.clear()
    model.train()[1].eval()
    with torch.no_grad():
        range_test(model, sgd(model), shuffled(), squared_error, **settings)
    assert modes == {(True, False)}


def test_a_sweep_ends_before_a_loss_is_asked_of_weights_that_are_no_numbers() -> None:
    def strict(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        if not all(p.isfinite().all() for p in model.parameters()):
            raise ValueError("these weights are no numbers")
        loss = squared_error(model, batch)
        return loss if loss < 1e3 else loss * math.inf

    said = measured(strict, n_sweeps=2)
    assert [judgement.ending for judgement in said.judgements] == ["diverged"] * 2
    assert said.n_steps < 400


def test_a_short_loader_is_read_again_and_that_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        measured(n_sweeps=3, n_steps=60)
    (said,) = [record.getMessage() for record in caplog.records]
    assert said == "a sweep takes 60 batches, the loader has 8: it is read again"


def test_sweeps_that_cannot_differ_count_as_one(caplog: pytest.LogCaptureFixture) -> None:
    model = line()
    said = range_test(model, sgd(model), [data()[:32]], squared_error)
    assert "all sweeps are the same" in caplog.text
    assert said.proposal is not None
    assert (said.proposal.n_sweeps, said.interval) == (1, None)
    assert len(said.judgements) == 2


def test_a_sweep_that_ends_before_its_edge_says_so_instead_of_a_number() -> None:
    said = measured(end_lr=0.01)
    assert said.judgements == (Judgement("reached end_lr", None, None),) * 5
    assert (said.proposal, said.bracket, said.interval) == (None, None, None)
    *_, last, why, _ = said.table().splitlines()
    assert last.split() == ["4", "reached", "end_lr", ">", "0.01", ">", "0.01"]
    assert said.slow is None, "there is no bracket that it could widen"
    assert "(5 reached end_lr): raise end_lr (now 0.01)" in why


def test_the_table_has_a_line_per_sweep_and_the_conclusion() -> None:
    said = measured(n_sweeps=2)
    title, head, *rows, edge, bracket, spread, cost = said.table().splitlines()
    assert title == "range test: 2 sweeps of 200 steps, lr 1e-05 to 10"
    assert head.split() == ["sweep", "ending", "rebound", "edge"]
    for number, (row, judgement) in enumerate(zip(rows, said.judgements, strict=True)):
        assert judgement.rebound is not None
        assert judgement.edge is not None
        numbers = [f"{judgement.rebound:.3g}", f"{judgement.edge:.3g}"]
        assert row.split() == [str(number), "diverged", *numbers]
    assert said.proposal is not None
    assert edge == (
        f"edge {said.proposal.edge:.3g}: median of n = 2 sweeps, a factor of "
        f"{said.proposal.apart:.2f} apart; too few for an interval"
    )
    assert spread.startswith(
        "the best max_lr lies within a factor of 4 of the proposal in 80 % of"
    )
    assert f"proposed max_lr {said.proposal.max_lr:.3g}" in bracket
    assert cost.startswith(f"cost: {said.n_steps} optimizer steps, ")


def test_the_gradient_norm_of_each_step_is_recorded() -> None:
    """Of x**2 / 2 it is |x|, so the loss says what it must be."""
    weight = nn.Parameter(torch.tensor(1.0))
    said = range_test(
        nn.ParameterList([weight]),
        torch.optim.SGD([weight], lr=1.0),
        [0],
        lambda model, _: model[0] ** 2 / 2,
        end_lr=1.5,
        n_steps=60,
        n_sweeps=1,
    )
    for point in said.points[0]:
        assert point.grad_norm == pytest.approx((2 * point.loss) ** 0.5, rel=1e-5)


# what is refused


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"start_lr": 1.0, "end_lr": 0.1}, ScheduleError, "start_lr=1, end_lr=0.1"),
        ({"start_lr": 1.0, "end_lr": 1.0}, ScheduleError, "start_lr=1, end_lr=1"),
        ({"n_steps": 49}, ScheduleError, "n_steps must be a whole number of at least 50, got 49"),
        ({"n_steps": 60.0}, ScheduleError, "n_steps .* got 60.0"),
        ({"n_sweeps": 0}, ScheduleError, "n_sweeps must be .* at least 1, got 0"),
        ({"accumulate": 0}, ScheduleError, "accumulate must be .* at least 1, got 0"),
        ({"loss_fn": nn.MSELoss()}, TaskError, r"loss_fn\(model, batch\), got MSELoss"),
        ({"loss_fn": lambda model, batch: 0.5}, TaskError, "one number, got float"),
        ({"loss_fn": lambda model, batch: model(batch[0])}, TaskError, r"got shape \(32, 1\)"),
        (
            {"loss_fn": lambda model, batch: squared_error(model, batch) * math.nan},
            TaskError,
            r"\(5 no finite loss\): the loss is no number before the first step",
        ),
    ],
)
def test_what_makes_no_range_test_is_refused_by_name_and_value(
    settings: dict[str, Any], error: type[UserError], message: str
) -> None:
    with pytest.raises(error, match=message):
        measured(**settings)


@pytest.mark.parametrize("how", ["scheduler", "loaded"])
def test_an_optimizer_that_has_a_scheduler_is_refused(how: str) -> None:
    model = line()
    scheduled = optimizer = sgd(model)
    torch.optim.lr_scheduler.ConstantLR(scheduled)
    if how == "loaded":
        optimizer = sgd(model)
        optimizer.load_state_dict(scheduled.state_dict())
    with pytest.raises(ScheduleError, match="make the scheduler after the range test"):
        range_test(model, optimizer, shuffled(), squared_error)


def test_a_scheduler_is_noticed_by_its_hold_on_the_step_alone() -> None:
    model = line()
    optimizer = sgd(model)
    torch.optim.lr_scheduler.ConstantLR(optimizer)
    del optimizer.param_groups[0]["initial_lr"]
    with pytest.raises(ScheduleError, match="has a learning-rate scheduler"):
        range_test(model, optimizer, shuffled(), squared_error)


def test_the_optimizer_of_another_model_is_refused() -> None:
    with pytest.raises(TaskError, match="none of the model's parameters"):
        range_test(line(), sgd(line()), shuffled(), squared_error)


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        ([], "the loader gives no batch; 200 make a sweep"),
        (DataLoader(data(8), batch_size=32, drop_last=True), "gives no batch"),
        (iter([data()[:]]), "got list_iterator, which can be read only once"),
    ],
)
def test_a_loader_without_batches_or_of_one_use_is_refused(loader: Any, message: str) -> None:
    model = line()
    with pytest.raises(DataError, match=message):
        range_test(model, sgd(model), loader, squared_error)


# batches


def test_every_tensor_of_a_batch_is_moved() -> None:
    pair = namedtuple("pair", "x y")
    meta, one = torch.device("meta"), torch.ones(1)
    batch = moved({"a": [one, (one, 3)], "b": pair(one, "text")}, meta)
    assert batch["a"][0].is_meta
    assert batch["a"][1][0].is_meta
    assert batch["a"][1][1] == 3
    assert isinstance(batch["b"], pair)
    assert batch["b"].x.is_meta
    assert batch["b"].y == "text"


def test_a_loader_is_read_from_its_beginning_where_it_ends() -> None:
    batches = Batches([1, 2, 3], torch.device("cpu"))
    assert list(batches.first(7)) == [1, 2, 3, 1, 2, 3, 1]
    assert list(batches.first(3)) == [1, 2, 3]


def test_the_default_range_is_that_of_a_study() -> None:
    from studies.definition import RangeTest

    settings = RangeTest()
    said = measured()
    plan = Sweep(
        start_lr=settings.start_lr,
        end_lr=settings.end_lr,
        total_steps=settings.n_steps,
        adaptive=False,
    )
    assert (said.plan, len(said.points)) == (plan, FEWEST_SWEEPS)
