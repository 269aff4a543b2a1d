"""The bundled study `digits`, searched to its end by two real workers."""

import json
import math
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
import torch
from sqlalchemy import create_engine, text

from search.results.result import load_result
from studies.database import open_engine
from studies.digits import STUDY
from tests.conftest import ROOT, FinishedStudy, plain
from tests.learned import check_learned
from trainers.device import Site
from trainers.onecycle import OneCycle
from trainers.run import Run
from trainers.seeding import run_seed_for

pytestmark = pytest.mark.slow


def query(study: FinishedStudy, statement: str) -> list[tuple[object, ...]]:
    engine = create_engine(study.url)
    with engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(text(statement))]
    engine.dispose()
    return rows


def test_it_ends_well_and_prints_one_json_document(finished_digits: FinishedStudy) -> None:
    assert finished_digits.ended.code == 0, finished_digits.ended.err
    document = json.loads(finished_digits.ended.out)
    assert document["name"] == "digits"
    assert Path(document["report"]).stat().st_size > 10_000


def test_every_slot_was_trained_exactly_once(finished_digits: FinishedStudy) -> None:
    counts = query(
        finished_digits,
        "SELECT stage, state, count(*), count(DISTINCT slot), max(token) FROM work GROUP BY 1, 2",
    )
    answer = json.loads(finished_digits.ended.out)
    end, most = answer["search_end"], STUDY.screening.n_trials
    n_searched = most if end is None else end["n_cycles"]
    assert 6 <= n_searched <= most
    assert end is None or end["at_most"] == most
    n_confirmed = sum(len(candidate["scores"]) for candidate in answer["candidates"])
    assert 6 <= n_confirmed <= 32
    n_swept = next(s["n_runs"] for s in answer["spent"] if s["stage"] == "range_test")
    assert n_swept - answer["range_test"]["n_sweeps"] in (0, 1), "a slow one is not among them"
    assert sorted(counts) == [
        ("confirmation", "done", n_confirmed, n_confirmed, 1),
        ("range_test", "done", n_swept, n_swept, 1),
        ("search", "done", n_searched, n_searched, 1),
    ]


def test_both_workers_took_part(finished_digits: FinishedStudy) -> None:
    assert len(query(finished_digits, "SELECT DISTINCT owner FROM work")) >= 2


def test_raw_sweep_points_are_stored(finished_digits: FinishedStudy) -> None:
    steps = query(
        finished_digits,
        "SELECT sweep_steps, count(point.step), min(lr), max(lr) FROM work "
        "LEFT JOIN point ON work.id = work_id WHERE stage = 'range_test' "
        "GROUP BY work.id ORDER BY slot",
    )
    settings = STUDY.range_test
    lengths = [length for length, *_ in steps]
    n_fast = lengths.count(settings.n_steps)
    assert 2 <= n_fast <= settings.n_sweeps
    assert lengths[n_fast:] in ([], [settings.slow_steps])
    for length, count, low, high in steps:
        assert count == length
        assert (low, high) == (pytest.approx(1e-5), pytest.approx(10.0))


def test_every_cycle_has_its_epochs_with_the_rates_of_its_plan(
    finished_digits: FinishedStudy,
) -> None:
    rows = query(
        finished_digits,
        "SELECT work.id, params, epoch, lr_first, lr_last FROM epoch "
        "JOIN work ON work.id = work_id WHERE outcome = 'completed' ORDER BY 1, 3",
    )
    cycles = query(
        finished_digits,
        "SELECT id FROM work WHERE stage != 'range_test' AND outcome = 'completed' ORDER BY id",
    )
    assert [row[:1] + row[2:3] for row in rows] == [
        (cycle, epoch) for (cycle,) in cycles for epoch in range(1, 11)
    ]
    per_epoch = STUDY.task.steps_per_epoch
    for _, params, epoch, lr_first, lr_last in rows:
        plan = OneCycle(total_steps=10 * per_epoch, **json.loads(str(params)))
        first = (int(str(epoch)) - 1) * per_epoch
        assert lr_first == pytest.approx(plan.lrs()[first], rel=1e-9)
        assert lr_last == pytest.approx(plan.lrs()[first + per_epoch - 1], rel=1e-9)


def test_losses_and_accuracies_of_epochs_are_what_they_say(
    finished_digits: FinishedStudy,
) -> None:
    rows = query(
        finished_digits,
        "SELECT train_loss, train_accuracy, validation_loss, validation_accuracy, seconds, "
        "images_per_s FROM epoch",
    )
    for train_loss, train_accuracy, loss, accuracy, seconds, rate in rows:
        assert all(math.isfinite(float(str(v))) for v in (train_loss, loss, seconds, rate))
        assert 0 <= float(str(train_accuracy)) <= 1
        assert 0 <= float(str(accuracy)) <= 1


def test_the_best_configurations_learn_the_digits(finished_digits: FinishedStudy) -> None:
    document = json.loads(finished_digits.ended.out)
    winner = next(c for c in document["candidates"] if c["slot"] == document["winner"])
    assert sum(winner["scores"]) / len(winner["scores"]) > 0.95


def test_plain_optuna_reads_the_search(finished_digits: FinishedStudy) -> None:
    study = optuna.load_study(study_name="digits", storage=plain(finished_digits.url))
    complete = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    stored = dict(
        query(finished_digits, "SELECT slot, score FROM work WHERE stage = 'search'")  # type: ignore[arg-type]
    )
    assert len(study.trials) == len(complete) == len(stored)
    assert {t.user_attrs["slot"]: t.value for t in complete} == stored
    assert {tuple(sorted(t.params)) for t in complete} == {("div_factor", "max_lr", "pct_start")}


def test_the_protocol_is_stored(finished_digits: FinishedStudy) -> None:
    ((declared, resolved),) = query(finished_digits, "SELECT declared, resolved FROM study")
    fields = json.loads(str(declared)) | json.loads(str(resolved))
    assert fields["torch"] == ".".join(torch.__version__.split(".")[:2])
    assert fields["task.batch_size"] == "64"
    assert fields["precision"] == "fp32"
    assert len(fields["data checksum"]) == 64
    assert "(16, 1, 3, 3) torch.float32" in fields["parameters"]


@pytest.mark.parametrize(("stage", "slot"), [("search", 1), ("search", 5), ("confirmation", 4)])
def test_any_run_can_be_repeated_alone_with_the_same_numbers(
    finished_digits: FinishedStudy, stage: str, slot: int
) -> None:
    ((params, replicate, score),) = query(
        finished_digits,
        "SELECT params, replicate, score FROM work "
        f"WHERE stage = '{stage}' AND round = 0 AND slot = {slot}",
    )
    assert (replicate is None) == (stage == "search"), "all cycles of a search share one seed"
    seed = run_seed_for(0, stage, 0, int(str(replicate or 0)))
    trainer = STUDY.task.trainer(Site(device="cpu", data=None, cache=finished_digits.cache))
    plan = OneCycle(total_steps=STUDY.cycle_steps, **json.loads(str(params)))
    assert trainer.fit(Run(plan=plan, seed=seed)).score == score


def test_nothing_is_left_of_finished_runs(finished_digits: FinishedStudy) -> None:
    assert list(finished_digits.cache.glob("checkpoints/*/*")) == []


def test_the_result_is_read_back_as_printed(finished_digits: FinishedStudy) -> None:
    engine = open_engine(finished_digits.url)
    result = load_result(engine, "digits")
    engine.dispose()
    document = json.loads(finished_digits.ended.out)
    assert document["verdict"] == result.verdict()
    assert document["onecycle_lr"]["max_lr"] == result.recommended.params.max_lr
    assert result.plan.total_steps == 140
    check_learned(result)


def test_the_same_command_again_has_nothing_to_do_and_needs_no_torch(
    finished_digits: FinishedStudy,
) -> None:
    program = (
        "import runpy, sys\n"
        "try:\n"
        "    runpy.run_module('search.run', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as end:\n"
        "    print('code', end.code, 'torch' in sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            program,
            "--study",
            "digits",
            "--storage",
            plain(finished_digits.url),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "is finished: nothing left to do" in done.stderr
    assert done.stderr.strip().endswith("code 0 False"), done.stderr
    assert "OneCycleLR(" in done.stdout


def test_optuna_dashboard_opens_it(finished_digits: FinishedStudy) -> None:
    from optuna_dashboard import wsgi

    from studies.database import close_optuna, optuna_storage

    storage = optuna_storage(finished_digits.url)
    app = wsgi(storage)
    answers: list[str] = []
    environment = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/api/studies",
        "SERVER_NAME": "test",
        "SERVER_PORT": "80",
        "wsgi.input": None,
        "wsgi.errors": sys.stderr,
        "wsgi.url_scheme": "http",
    }
    body = b"".join(app(environment, lambda status, headers, error=None: answers.append(status)))
    close_optuna(storage)
    assert answers == ["200 OK"]
    assert "digits" in [s["study_name"] for s in json.loads(body)["study_summaries"]]
