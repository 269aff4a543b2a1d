"""What people's tools print: right loops are never called wrong, wrong ones never follow."""

import json
from random import Random

import pytest

from tests.log_forms import (
    BATCHES,
    BY_EPOCH,
    BY_STEP,
    EPOCHS,
    LOOPS,
    MAX_LR,
    WITHIN,
    Form,
    documents,
)
from trainers.calls.diagnose import diagnose
from trainers.calls.diagnosis import Diagnosis
from trainers.calls.logs import parse
from trainers.calls.schedule import Schedule, Steps

FORMS: dict[str, Form] = BY_EPOCH | WITHIN | BY_STEP
MADE = {
    "per-epoch": "stepped-per-epoch",
    "twice": "stepped-twice",
    "every-4th": "accumulation-counted",
    "too-few-batches": "wrong-steps-per-epoch",
    "too-many-batches": "wrong-steps-per-epoch",
}
NOISE = (
    "",
    "2024-01-02 03:04:05,678 INFO saved /tmp/ckpt_epoch_3_step_100.pt",
    "val acc 85.2 (best 86.1), best epoch 2",
    "Test: [ 10/79] loss 1.2",
    "GPU 3/8 mem 12.3/80.0 GB, 30/12/2024 10:00:00",
    "throughput 1234.5 img/s | 0.2 s/it",
    "weights: 23,508,032 parameters, seed=42 wd=0.0005",
    '{"loss": 1.2, "acc": 0.9}',
    "Traceback (most recent call last):",
    '  File "train.py", line 391, in <module>',
)


def found(text: str) -> Diagnosis:
    schedule = Schedule(max_lr=MAX_LR, total_steps=EPOCHS * BATCHES)
    return diagnose(parse(text), schedule, Steps(epochs=EPOCHS, steps_per_epoch=BATCHES))


def names(diagnosis: Diagnosis) -> set[str]:
    return {explanation.name for explanation in diagnosis.equals}


@pytest.mark.parametrize("form", FORMS)
def test_a_right_loop_follows_and_a_cut_one_is_truncated(form: str) -> None:
    assert found(FORMS[form](LOOPS["right"])).verdict == "follows-the-plan"
    assert found(FORMS[form](LOOPS["cut"])).verdict == "truncated"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("loop", ["per-epoch", "twice", "every-4th"])
def test_a_scheduler_stepped_otherwise_never_follows(form: str, loop: str) -> None:
    diagnosis = found(FORMS[form](LOOPS[loop]))
    assert diagnosis.verdict not in ("follows-the-plan", "truncated", "says-nothing")
    if (form, loop) != ("means", "twice"):  # a mean over every second rate is not tried
        assert MADE[loop] in names(diagnosis)


@pytest.mark.parametrize("form", BY_EPOCH | WITHIN)
@pytest.mark.parametrize("loop", ["too-few-batches", "too-many-batches"])
def test_another_number_of_batches_is_named_where_the_log_says_epochs(
    form: str, loop: str
) -> None:
    assert found(FORMS[form](LOOPS[loop])).verdict == "wrong-steps-per-epoch"


@pytest.mark.parametrize("form", FORMS)
def test_lines_between_change_no_verdict(form: str) -> None:
    random = Random(form)
    for loop, verdict in (("right", "follows-the-plan"), ("per-epoch", "stepped-per-epoch")):
        text = FORMS[form](LOOPS[loop])
        lines = text.split("\r" if "\n" not in text else "\n")
        noisy = [part for line in lines for part in (*_some(random), line)]
        assert found("\n".join(noisy)).verdict == verdict


def _some(random: Random) -> list[str]:
    return [random.choice(NOISE) for _ in range(random.choice((0, 0, 0, 1, 2)))]


@pytest.mark.parametrize("name", ["state", "history", "scalars"])
def test_a_whole_json_document_is_read(name: str) -> None:
    assert found(documents(LOOPS["right"])[name]).verdict == "follows-the-plan"
    assert found(documents(LOOPS["cut"])[name]).verdict == "truncated"
    assert found(documents(LOOPS["per-epoch"])[name]).verdict == "stepped-per-epoch"


def last_rates(loop: str) -> list[float]:
    return [line.used for line in LOOPS[loop] if line.batch == line.batches - 1]


@pytest.mark.parametrize("base", [0, 1])
def test_a_log_that_starts_in_the_middle_counts_from_0_or_1(base: int) -> None:
    lines = [f"Epoch {e + base} lr {lr:.6f}" for e, lr in enumerate(last_rates("right"))]
    diagnosis = found("\n".join(lines[3:]))
    assert diagnosis.verdict == "follows-the-plan"
    assert f"counted from {base}" in diagnosis.placing.what
    wrong = [f"Epoch {e + base} lr {lr:.8f}" for e, lr in enumerate(last_rates("per-epoch"))]
    assert found("\n".join(wrong[3:])).verdict == "stepped-per-epoch"


@pytest.mark.parametrize("digits", ["0.0", "0", "0.00"])
def test_digits_that_exclude_nothing_say_nothing(digits: str) -> None:
    diagnosis = found("\n".join(f"Epoch {e} lr={digits}" for e in range(1, EPOCHS + 1)))
    if digits == "0.00":  # max_lr=0.02 would be printed as 0.02
        assert diagnosis.verdict == "stepped-per-epoch"
        return
    assert diagnosis.verdict == "says-nothing"
    assert diagnosis.explanations[0].name == "stepped-per-epoch"
    assert {"wrong-steps-per-epoch", "constant-rate", "other-max-lr"} <= names(diagnosis)


def test_one_rate_shows_no_movement() -> None:
    assert found(f"Epoch 5 lr={last_rates('right')[4]!r}").verdict == "says-nothing"


def test_few_step_numbers_that_may_be_epochs_do_not_say_that_a_log_follows() -> None:
    head = "Wall time,Step,Value\n"
    wrong = [f"1700000000.5,{e},{lr!r}" for e, lr in enumerate(last_rates("per-epoch"))]
    diagnosis = found(head + "\n".join(wrong[:5]))
    assert diagnosis.verdict == "says-nothing"
    assert diagnosis.explanations[0].name == "stepped-per-epoch"
    first = [f"step {line.step} lr {line.used:.8f}" for line in LOOPS["right"][:20]]
    assert found("\n".join(first)).verdict == "truncated"


def test_rates_without_numbers_follow_only_one_a_step_or_one_an_epoch() -> None:
    every = [f"lr {line.used:.6f}" for line in LOOPS["right"] if line.batch % 10 == 0]
    diagnosis = found("\n".join(every))
    assert diagnosis.verdict == "says-nothing"
    assert [(e.name, e.values) for e in diagnosis.equals] == [("unnumbered", (10,))]


@pytest.mark.parametrize("begin", [0, 9])
def test_several_rates_an_epoch_without_batch_numbers_follow(begin: int) -> None:
    lines = [ln for ln in LOOPS["right"] if ln.batch % 10 == begin]
    text = "\n".join(f"Epoch {ln.epoch + 1} loss 1.2 lr {ln.used:.6f}" for ln in lines)
    assert found(text).verdict == "follows-the-plan"


@pytest.mark.parametrize(
    ("rate", "what"), [("nan", "nan"), ("-inf", "infinite"), ("1e400", "inf")]
)
def test_a_rate_that_is_no_number_is_told(rate: str, what: str) -> None:
    lines = [f"Epoch {e} lr={lr:.6f}" for e, lr in enumerate(last_rates("right"), 1)]
    diagnosis = found("\n".join([*lines[:5], f"Epoch 6 lr={rate}"]))
    assert diagnosis.verdict == diagnosis.explanations[0].name == "not-a-number"
    assert f"is {what}" in diagnosis.not_finite[0]
    assert "first at epoch 6" in diagnosis.not_finite[0]
    wrong = [f"Epoch {e} lr={lr:.8f}" for e, lr in enumerate(last_rates("per-epoch"), 1)]
    assert found("\n".join([*wrong[:5], f"Epoch 6 lr={rate}"])).verdict == "stepped-per-epoch"


def test_a_rate_that_never_moves_is_named() -> None:
    first = LOOPS["right"][0].used
    text = "\n".join(f"step {s} lr {first!r}" for s in range(10, 480, 10))
    assert found(text).verdict == "constant-rate"


def test_the_plan_under_another_max_lr_is_named_with_it() -> None:
    lines = [f"Epoch {e} lr={2 * lr:.6f}" for e, lr in enumerate(last_rates("right"), 1)]
    diagnosis = found("\n".join(lines))
    assert diagnosis.verdict == "other-max-lr"
    assert "another max_lr: 0.04" in diagnosis.explanations[0].what


def test_the_group_that_follows_is_taken_and_the_others_are_told() -> None:
    rates = list(enumerate(last_rates("right"), 1))
    diagnosis = found("\n".join(f"Epoch {e} lr=[{lr / 10:.7f}, {lr:.6f}]" for e, lr in rates))
    assert diagnosis.verdict == "follows-the-plan"
    assert diagnosis.log.group == "lr/1"
    assert diagnosis.others == ("lr: 0.1 times these rates",)


def test_a_resumed_run_goes_on_and_another_run_counts_alone() -> None:
    right = [f"Epoch {e} lr={lr:.6f}" for e, lr in enumerate(last_rates("right"), 1)]
    wrong = [f"Epoch {e} lr={lr:.8f}" for e, lr in enumerate(last_rates("per-epoch"), 1)]
    resumed = found("\n".join([*right[:5], *right[3:]]))
    assert (resumed.verdict, resumed.log.n_repeated) == ("follows-the-plan", 2)
    again = found("\n".join([*wrong, *right]))
    assert (again.verdict, again.log.n_of_earlier_runs) == ("follows-the-plan", EPOCHS)
    assert found("\n".join([*right, *wrong])).verdict == "stepped-per-epoch"


def test_batches_that_make_a_step_are_no_mistake_where_the_call_counts_steps() -> None:
    plan = Schedule(max_lr=MAX_LR, total_steps=EPOCHS * BATCHES)
    lines = [
        f"Epoch [{ln.epoch + 1}][{4 * ln.batch + 4}/{4 * BATCHES}] lr: {ln.used:.6f}"
        for ln in LOOPS["right"]
        if ln.batch % 10 == 9
    ]
    steps = Steps(epochs=EPOCHS, steps_per_epoch=BATCHES)
    assert diagnose(parse("\n".join(lines)), plan, steps).verdict == "follows-the-plan"


def test_garbage_around_a_log_raises_nothing_but_says_nothing_new() -> None:
    random = Random(3)
    alphabet = "lr epoch step [](){}:=,;|/'\"0123456789.e+-%\t│×nan"
    for _ in range(300):
        noise = "".join(random.choice(alphabet) for _ in range(random.randint(1, 200)))
        text = f"{noise}\nEpoch 1 lr=0.0026\nEpoch 2 lr=0.004\n{noise[::-1]}"
        json.dumps(sorted(names(found(text))))
