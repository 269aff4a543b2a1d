"""Readings inside a cycle: what they are, and that training does not notice them."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy import make_url

from tests.rows import query
from tests.test_loop import DEVICES, N_STEPS, Maker, linear, make_classifier, net
from trainers.checkpoint import Checkpoint
from trainers.loop import Classifier
from trainers.onecycle import OneCycle
from trainers.readings import Averages, Readings
from trainers.run import Reading, Run, RunResult

CYCLE = OneCycle(max_lr=0.1, total_steps=N_STEPS)
WANTED = Readings(at=(0.25, 0.5, 0.75), decay=0.9, n_batches=2)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def trained(classifier: Classifier, **fields: Any) -> tuple[Run, RunResult, dict[str, Any]]:
    run = Run(plan=CYCLE, seed=3, **fields)
    result = classifier.fit(run)
    maker = classifier.task.model
    assert isinstance(maker, Maker)
    return run, result, {**maker.made[-1].state_dict(), "generator": torch.get_rng_state()}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_is_bit_for_bit_the_same_with_and_without_readings(
    device: str, precision: str, cache: Path
) -> None:
    plain, result, weights = trained(make_classifier(cache, device, precision=precision))
    looked, same, there = trained(
        make_classifier(cache, device, precision=precision), wanted=WANTED
    )
    assert all(torch.equal(weights[name], there[name]) for name in weights)
    assert looked.points == plain.points
    assert result.score == same.score
    assert [e.validation_loss for e in looked.epochs] == [e.validation_loss for e in plain.epochs]
    assert plain.readings == []
    assert [reading.step for reading in looked.readings] == [4, 9, 13]


def test_a_reading_is_the_average_of_the_weights_with_fresh_batch_norm_statistics(
    cache: Path,
) -> None:
    classifier = make_classifier(cache)
    averages = Averages(net(), WANTED, total_steps=N_STEPS)
    model = net()
    with torch.no_grad():
        for step in (4, 8):
            for parameter in model.parameters():
                parameter.fill_(float(step))
            averages.follow(model, step)
    mean = 0.9**4 * 4 + (1 - 0.9**4) * 8
    images = [classifier.batch(0, step)[0] for step in range(2)]
    averaged = averages.recalibrated(images)
    for parameter in averaged.parameters():
        assert parameter.detach().numpy() == pytest.approx(mean)
    outputs = torch.cat([averaged[0](batch) for batch in images])  # type: ignore[index]
    assert averaged[1].running_mean.numpy() == pytest.approx(  # type: ignore[index,union-attr]
        outputs.mean((0, 2, 3)).detach().numpy(), rel=1e-4
    )


def test_a_run_that_goes_on_from_a_checkpoint_reads_the_same(cache: Path, tmp_path: Path) -> None:
    whole, _, _ = trained(make_classifier(cache), wanted=WANTED)
    checkpoint = Checkpoint(tmp_path / "run.pt")
    steps_left = [11]

    def out_of_steps() -> bool:
        steps_left[0] -= 1
        return steps_left[0] < 0

    trained(make_classifier(cache), wanted=WANTED, checkpoint=checkpoint, stop_asked=out_of_steps)
    rest, result, _ = trained(make_classifier(cache), wanted=WANTED, checkpoint=checkpoint)
    assert result.outcome == "completed"
    assert [untimed(r) for r in rest.readings] == [untimed(r) for r in whole.readings]


def untimed(reading: Reading) -> tuple[int, float, float]:
    return reading.step, reading.loss, reading.accuracy


def test_a_net_without_batch_norm_is_read_too(cache: Path) -> None:
    run, _, _ = trained(make_classifier(cache, model=linear), wanted=WANTED)
    assert len(run.readings) == 3
    assert all(math.isfinite(r.loss) and 0 <= r.accuracy <= 1 for r in run.readings)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("at", ()),
        ("at", (0.5, 0.25)),
        ("at", (0.0, 0.5)),
        ("at", (1.0,)),
        ("decay", 1.0),
        ("n_batches", 0),
    ],
)
def test_readings_that_cannot_be_are_refused_by_name(field: str, value: object) -> None:
    fields: dict[str, Any] = {"at": (0.5,), field: value}
    with pytest.raises(ValueError, match=field):
        Readings(**fields)


def test_a_study_with_readings_stores_them_for_its_search_cycles(
    tmp_path: Path, main_here: Callable[..., Any]
) -> None:
    path, storage = tmp_path / "read.py", f"sqlite:///{tmp_path}/a.db"
    path.write_text(
        "from dataclasses import replace\n"
        "from studies.definition import Confirmation, RangeTest, Screening\n"
        "from studies.digits import STUDY as DIGITS\n"
        "from trainers.readings import Readings\n"
        "STUDY = replace(\n"
        "    DIGITS, name='read', readings=Readings(at=(0.25, 0.5)),\n"
        "    screening=Screening(n_trials=2, epochs=3),\n"
        "    confirmation=Confirmation(n_finalists=1, n_seeds=2),\n"
        "    range_test=RangeTest(n_sweeps=1, n_steps=100),\n"
        ")\n"
    )
    run = ("run", "--study", str(path), "--storage", storage, "--workers", "1")
    assert main_here(*run).code == 0
    rows = query(
        make_url(storage),
        "SELECT work.stage, slot, step, accuracy FROM reading JOIN work ON work.id = work_id "
        "ORDER BY slot, step",
    )
    assert [row[:3] for row in rows] == [
        ("search", slot, step) for slot in (0, 1) for step in (10, 21)
    ]
    assert all(0 < row[3] <= 1 for row in rows)
