"""The diagnosis: mistakes made with real torch are named from their digits, and no other."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.diagnose import MISTAKES, Case, cases, follows, judged, printed
from search.views.terminal.diagnosis import lines
from tests.conftest import Ended
from trainers.calls.diagnose import diagnose
from trainers.calls.diagnosis import Diagnosis
from trainers.calls.logs import parse
from trainers.calls.rates import rates_of
from trainers.calls.schedule import Anneal, Schedule, Steps, preview
from trainers.errors import ScheduleError

QUESTION = """\
Epoch 1  train loss 2.01  LR=0.0004
Epoch 2  train loss 1.72  LR=0.0004
Epoch 118  train loss 0.41  LR=0.0005
Epoch 119  train loss 0.40  LR=0.0005
"""
CALL = ("--max-lr", "0.01", "--epochs", "200", "--steps-per-epoch", "128")


def diagnosed(text: str, steps: Steps, anneal: Anneal = "cos", max_lr: float = 0.01) -> Diagnosis:
    schedule = Schedule(max_lr=max_lr, total_steps=steps.planned, anneal_strategy=anneal)
    return diagnose(parse(text), schedule, steps)


def values(found: Diagnosis, name: str) -> tuple[int, ...]:
    return next((e.values for e in found.equals if e.name == name), ())


def test_the_log_of_the_question_was_stepped_3_to_5_times_an_epoch() -> None:
    found = diagnosed(QUESTION, Steps(epochs=200, steps_per_epoch=128))
    assert not found.follows
    assert found.verdict == "stepped-per-epoch"
    assert values(found, "stepped-per-epoch") == (3, 4, 5)
    assert found.remarks == (
        'Once an epoch fits only under anneal_strategy="linear" or steps_per_epoch=25 to 42',
        "128 looks like a batch size, not a number of batches: 50,000 images / 128 = 391 steps",
    )


@pytest.mark.parametrize(
    ("anneal", "steps_per_epoch"), [("linear", 128), ("cos", 25), ("cos", 42)]
)
def test_what_the_question_would_need_for_once_an_epoch_fits_there(
    anneal: Anneal, steps_per_epoch: int
) -> None:
    found = diagnosed(QUESTION, Steps(epochs=200, steps_per_epoch=steps_per_epoch), anneal)
    assert 1 in values(found, "stepped-per-epoch")


@pytest.mark.parametrize("steps_per_epoch", [24, 43])
def test_a_step_further_once_an_epoch_fits_no_more(steps_per_epoch: int) -> None:
    found = diagnosed(QUESTION, Steps(epochs=200, steps_per_epoch=steps_per_epoch))
    assert 1 not in values(found, "stepped-per-epoch")


def test_known_data_rule_out_other_numbers_of_steps() -> None:
    steps = Steps(epochs=200, steps_per_epoch=128, dataset_size=50_000, batch_size=128)
    found = diagnosed(QUESTION, steps)
    assert values(found, "wrong-steps-per-epoch") == ()
    assert found.remarks[1] == (
        "Your data make another number of steps: 50,000 / 128 = 390.625, so 391 batches, "
        "not 128, the size of a batch"
    )


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_made_with_torch_is_named_or_among_the_equals(name: str) -> None:
    found = [judged(case, name) for case in cases(4, seed=7)]
    assert all(j.right(name) for j in found if j.identifiable)
    if name not in ("resumed-without-state", "shifted-by-one"):
        assert sum(j.identifiable for j in found) >= 3


@pytest.mark.parametrize("case", cases(12, seed=3))
def test_a_log_that_follows_the_plan_is_no_false_alarm(case: Case) -> None:
    steps = Steps(epochs=case.epochs, steps_per_epoch=case.per_epoch)
    found = diagnose(parse(printed(case, follows)), case.schedule, steps)
    assert found.verdict == "follows-the-plan"


def test_every_digit_of_a_log_pins_the_mistake_down() -> None:
    lrs = preview(Schedule(max_lr=0.01, total_steps=2_000)).lrs
    text = "\n".join(f"Epoch {e} lr={lrs[3 * e]!r}" for e in range(1, 21))
    found = diagnosed(text, Steps(epochs=20, steps_per_epoch=100))
    assert [(e.name, e.values) for e in found.equals] == [
        ("stepped-per-epoch", (3,)),
        ("accumulation-counted", (3,)),
    ]


def test_fractions_of_an_epoch_are_placed_within_it() -> None:
    lrs = preview(Schedule(max_lr=0.01, total_steps=1_000)).lrs
    lines = [
        f"{{'learning_rate': {lrs[s]:.6f}, 'epoch': {s / 100:.2f}}}" for s in range(50, 1000, 50)
    ]
    assert diagnosed("\n".join(lines), Steps(epochs=10, steps_per_epoch=100)).follows


def test_a_log_that_nothing_explains_is_said_to_be_one() -> None:
    text = "\n".join(f"Epoch {e} lr={lr}" for e, lr in enumerate([0.0071, 0.0002, 0.0093], 1))
    found = diagnosed(text, Steps(epochs=10, steps_per_epoch=100))
    assert found.verdict == "unexplained"
    assert found.equals == ()
    said = "\n".join(lines(found))
    assert "No single mistake gives all of them. The closest:\n  1. " in said
    assert "the plan (" not in said


def test_a_call_without_epochs_is_refused() -> None:
    with pytest.raises(ScheduleError, match="a log by epochs needs epochs beside total_steps"):
        diagnosed(QUESTION, Steps(total_steps=100))


def test_the_command_answers_the_question_in_80_columns(
    main_here: Callable[..., Ended], tmp_path: Path
) -> None:
    log = tmp_path / "train.log"
    log.write_text(QUESTION)
    ended = main_here("diagnose", "--log", str(log), *CALL)
    assert ended.code == 0
    assert max(map(len, ended.out.splitlines())) <= 80
    text = " ".join(ended.out.split())
    assert (
        "which gives 2 of its 4 rates: epoch 118 says 0.0005 where torch ends at 0.00633" in text
    )
    assert "1. scheduler.step() called 3 to 5 times an epoch" in text
    assert "not once a batch (128); call scheduler.step() after every optimizer.step()." in text
    assert (
        "128 looks like a batch size, not a number of batches: 50,000 images / 128 = 391" in text
    )


@pytest.mark.parametrize("flags", [(), ("--log", "-")])
def test_the_command_reads_stdin_and_prints_json(
    flags: tuple[str, ...],
    main_here: Callable[..., Ended],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "train.log").write_text(QUESTION)
    with (tmp_path / "train.log").open() as file:
        monkeypatch.setattr("sys.stdin", file)
        document = json.loads(main_here("diagnose", *CALL, *flags, "--json").out)
    assert document["verdict"] == "stepped-per-epoch"
    assert document["explanations"][0]["values"] == [3, 4, 5]
    assert document["explanations"][0]["reproduced"] == document["rates"] == 4


def test_the_command_says_when_a_log_follows_the_plan_or_was_cut(
    main_here: Callable[..., Ended], tmp_path: Path
) -> None:
    log = tmp_path / "train.log"
    lrs = preview(Schedule(max_lr=0.1, total_steps=1_000)).lrs
    lines = [f"Epoch {e} lr={lrs[100 * e - 1]:.4f}\n" for e in range(1, 11)]
    flags = ("--log", str(log), "--max-lr", "0.1", "--epochs", "10", "--steps-per-epoch", "100")
    log.write_text("".join(lines))
    whole = main_here("diagnose", *flags).out
    assert "The log follows the plan: torch gives all 10 rates." in whole
    assert "ends at" not in whole
    log.write_text("".join(lines[:6]))
    said = " ".join(main_here("diagnose", *flags).out.split())
    assert "It ends at epoch 6 with" in said
    assert "the plan has 10 epochs of 100 steps: training was cut short" in said


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_the_command_reads_files_of_other_systems_and_says_what_it_read(
    encoding: str, main_here: Callable[..., Ended], tmp_path: Path
) -> None:
    log = tmp_path / "train.log"
    lrs = preview(Schedule(max_lr=0.1, total_steps=1_000)).lrs
    lines = [f"Epoch [{s // 100}][{s % 100}/100] lr={lrs[s]:.6f}\r\n" for s in range(0, 1000, 20)]
    log.write_bytes("".join(["lr=0.5\r\n", *lines]).encode(encoding))
    flags = ("--log", str(log), "--max-lr", "0.1", "--epochs", "10", "--steps-per-epoch", "100")
    document = json.loads(main_here("diagnose", *flags, "--json").out)
    assert document["verdict"] == "follows-the-plan"
    read = " | ".join(document["read"])
    assert "50 rates named 'lr', rounded to 1e-06" in read
    assert "epoch 0 to 9, counted from 0, and the batch in it, of 100" in read
    assert "(from 'Epoch [0' and '[0/100')" in read
    assert "the step's own, from 0" in read
    assert "left out: 1 rate in a line that says no place" in read


def test_the_command_says_why_a_log_says_nothing(
    main_here: Callable[..., Ended], tmp_path: Path
) -> None:
    log = tmp_path / "train.log"
    log.write_text("".join(f"Epoch {e} lr=0.0\n" for e in range(1, 11)))
    text = " ".join(main_here("diagnose", "--log", str(log), *CALL).out.split())
    assert "The log says nothing: its 10 rates fit the plan, and these as well" in text
    assert "10 rates named 'lr', rounded to 0.1" in text
    assert "Print more digits and more lines" in text


@pytest.mark.parametrize("text", ["", "no rate here\n", "Epoch 1 loss 2.0\n"])
def test_a_log_without_rates_is_one_line_that_says_what_is_read(
    text: str, main_here: Callable[..., Ended], tmp_path: Path
) -> None:
    log = tmp_path / "train.log"
    log.write_text(text)
    ended = main_here("diagnose", "--log", str(log), *CALL)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "no learning rate in the log; lines like 'Epoch 3 ... LR=0.0004'" in ended.err


def test_many_readings_of_a_long_cycle_cost_little() -> None:
    steps = Steps(epochs=1, steps_per_epoch=300_000)
    text = "\n".join(f"'epoch': {e / 1000:.3f}, 'lr': 0.0" for e in range(1_000))
    begun = time.process_time()
    assert diagnosed(text, steps).verdict == "says-nothing"
    assert time.process_time() - begun < 10


@pytest.mark.parametrize("three_phase", [False, True])
@pytest.mark.parametrize("anneal", ["cos", "linear"])
def test_rates_of_a_long_cycle_are_those_of_torch(anneal: Anneal, three_phase: bool) -> None:
    schedule = Schedule(
        max_lr=0.03, total_steps=20_011, anneal_strategy=anneal, three_phase=three_phase
    )
    seen = preview(schedule)
    assert rates_of(schedule) == pytest.approx([*seen.lrs, seen.after], rel=1e-9, abs=1e-18)


def test_a_log_that_is_not_there_is_one_line(main_here: Callable[..., Ended]) -> None:
    ended = main_here("diagnose", "--log", "/no/such.log", *CALL)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert ended.err.startswith("error: --log /no/such.log: cannot be read: No such file")
