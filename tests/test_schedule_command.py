"""`schedule`: the numbers that torch applies, a chart, a table, the lint, and its exit codes."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Ended
from trainers.calls.schedule import Schedule, preview

QUESTION = ("--max-lr", "0.01", "--epochs", "200", "--steps-per-epoch")
DATA = ("--dataset-size", "50000", "--batch-size", "128")
SHORT = ("--max-lr", "0.1", "--epochs", "5", "--steps-per-epoch", "20")


def test_the_numbers_and_the_table_are_those_of_torch(main_here: Callable[..., Ended]) -> None:
    ended = main_here("schedule", *SHORT)
    seen = preview(Schedule(max_lr=0.1, total_steps=100))
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0] == "OneCycleLR(max_lr=0.1, epochs=5, steps_per_epoch=20)"
    assert "total steps  100: 5 epochs x 20 steps" in lines
    assert "first rate   0.004; max_lr / div_factor = max_lr / 25" in lines
    assert "peak         0.1 at step 30 of 100, in epoch 2" in lines
    assert "4e-07; max_lr / (div_factor * final_div_factor) = max_lr / 250,000" in ended.out
    rows = [line.split() for line in lines if line.split()[1:2] == [f"{seen.lrs[40]:.4g}"]]
    assert rows == [
        [
            "3",
            *(f"{lr:.4g}" for lr in (seen.lrs[40], seen.lrs[40], seen.lrs[59])),
            f"{seen.momenta[40]:.4f}",
        ]
    ]
    assert ended.out.endswith("nothing is wrong with this call\n")
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in ended.out


def test_a_rate_that_misses_its_formula_is_said_to(main_here: Callable[..., Ended]) -> None:
    out = main_here("schedule", *SHORT, "--pct-start", "0.005").out
    assert "first rate   0.09999, not max_lr / div_factor = max_lr / 25 = 0.004" in out


def test_json_has_every_epoch_and_the_findings(main_here: Callable[..., Ended]) -> None:
    document = json.loads(main_here("schedule", *QUESTION, "128", *DATA, "--json").out)
    seen = preview(Schedule(max_lr=0.01, total_steps=25_600))
    assert document["total_steps"] == 25_600
    assert document["taken_steps"] == 78_200
    assert [row["first"] for row in document["rows"]] == list(seen.lrs[::128])
    assert [row["last"] for row in document["rows"]] == list(seen.lrs[127::128])
    assert document["peak_step"] == 7_680
    assert document["last_lr"] == seen.lrs[-1]
    (finding,) = document["findings"]
    assert finding["pitfall"] == "total-steps-too-small"
    assert finding["instead"].startswith("Write steps_per_epoch=391 (50,000 / 128 = 390.625")


def test_strict_ends_with_1_on_an_error_and_0_on_less(main_here: Callable[..., Ended]) -> None:
    assert main_here("schedule", *QUESTION, "128", *DATA).code == 0
    assert main_here("schedule", *QUESTION, "128", *DATA, "--strict").code == 1
    assert main_here("schedule", *QUESTION, "391", *DATA, "--strict", "--lr", "0.001").code == 0


def test_the_loader_gives_the_steps_where_the_call_does_not(
    main_here: Callable[..., Ended],
) -> None:
    flags = ("--drop-last", "--accumulate", "4")
    ended = main_here("schedule", "--max-lr", "0.01", "--epochs", "10", *DATA, *flags)
    assert max(map(len, ended.out.splitlines()[:9])) <= 80
    assert "980: 10 epochs x 98 steps; 50,000 / 128 = 390.625, so 390 batches (drop_last), " in (
        " ".join(ended.out.split())
    )


def test_a_cycle_without_epochs_is_shown_in_ten_parts(main_here: Callable[..., Ended]) -> None:
    ended = main_here("schedule", "--max-lr", "0.1", "--total-steps", "95", "--no-cycle-momentum")
    assert "momentum     not cycled" in ended.out
    assert re.findall(r"^ *([\d,]+-[\d,]+) ", ended.out, re.MULTILINE) == [
        *(f"{begin}-{begin + 9}" for begin in range(1, 91, 10)),
        "91-95",
    ]


def test_a_long_table_is_thinned_and_keeps_first_peak_and_last(
    main_here: Callable[..., Ended],
) -> None:
    out = main_here("schedule", *QUESTION, "40").out
    table = out.partition("epoch ")[2].splitlines()
    epochs = [int(line.split()[0]) for line in table[1:] if line[:6].strip().isdigit()]
    assert {1, 60, 200} <= set(epochs)
    assert len(epochs) <= 24
    assert f"{len(epochs)} of 200 epochs; --json has all" in out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--max-lr", "0", "--total-steps", "9"), "error: max_lr must be a number above 0, got 0"),
        (("--max-lr", "1", "--epochs", "9"), "error: give total_steps, or epochs with steps_per"),
        (
            ("--max-lr", "1", "--total-steps", "100", "--pct-start", "0.01"),
            "error: warm-up-skipped: pct_start leaves less than one warm-up step, or exactly one: "
            "0.01 x 100 = 1 step, and torch divides by zero.",
        ),
        (
            ("--max-lr", "1", "--total-steps", "9", "--save", "/no/such/folder/page.html"),
            "error: --save /no/such/folder/page.html: cannot be written: No such file",
        ),
    ],
)
def test_what_the_user_must_fix_is_one_line(
    main_here: Callable[..., Ended], flags: tuple[str, ...], words: str
) -> None:
    ended = main_here("schedule", *flags)
    assert ended.code == 2
    assert ended.out == ""
    assert ended.err.startswith(words)
    assert ended.err.count("\n") == 1


def test_the_saved_page_holds_both_curves(main_here: Callable[..., Ended], tmp_path: Path) -> None:
    page = tmp_path / "plot.html"
    assert main_here("schedule", *SHORT, "--save", str(page)).code == 0
    text = page.read_text()
    assert "learning rate" in text
    assert "momentum (Adam: beta1)" in text
    assert "optimizer step (of 100)" in text


def test_help_answers_without_torch(onecycle: Callable[..., Ended]) -> None:
    ended = onecycle("schedule", "--help", COLUMNS="80", PYTHONPROFILEIMPORTTIME="1")
    assert ended.code == 0
    assert "final-div-factor" in ended.out
    assert not any(line.endswith(" torch") for line in ended.err.splitlines())


WHOLE = [
    "--total-steps",
    "--epochs",
    "--steps-per-epoch",
    "--dataset-size",
    "--batch-size",
    "--accumulate",
]
DIVISORS = ["--div-factor", "--final-div-factor"]
FLOATS = [
    *DIVISORS,
    "--max-lr",
    "--pct-start",
    "--base-momentum",
    "--max-momentum",
    "--lr",
    "--momentum",
]
SOUND = {"--max-lr": "0.1", "--epochs": "3", "--dataset-size": "1000", "--batch-size": "10"}


def with_flag(flag: str, value: str) -> list[str]:
    return [text for pair in (SOUND | {flag: value}).items() for text in pair]


@pytest.mark.parametrize("flag", WHOLE)
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "1e400", "2.5", "1" + "0" * 400])
def test_a_count_that_is_none_is_refused_in_one_line(
    main_here: Callable[..., Ended], flag: str, value: str
) -> None:
    ended = main_here("schedule", *with_flag(flag, value))
    assert ended.code == 2
    assert flag.removeprefix("--").replace("-", "_") in ended.err.replace("-", "_")
    assert "Traceback" not in ended.err
    if ended.err.startswith("error: "):
        assert ended.err.count("\n") == 1


@pytest.mark.parametrize("flag", FLOATS)
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400", "-1", "x"])
def test_a_number_that_is_none_is_refused_in_one_line(
    main_here: Callable[..., Ended], flag: str, value: str
) -> None:
    ended = main_here("schedule", *with_flag(flag, value))
    assert "Traceback" not in ended.err
    if value == "-1" and flag in DIVISORS:  # torch takes it, and the lint says what comes of it
        assert "error: divisor-below-one" in ended.out
        return
    assert ended.code == 2
    assert flag.removeprefix("--").split("-")[0] in ended.err
    if ended.err.startswith("error: "):
        assert ended.err.count("\n") == 1


@pytest.mark.parametrize("flag", FLOATS)
@pytest.mark.parametrize("value", ["0", "1e-320", "1e-300", "1e-30", "1e30", "1e300", "0.5", "1"])
def test_a_number_of_any_size_is_shown_or_refused(
    main_here: Callable[..., Ended], flag: str, value: str
) -> None:
    ended = main_here("schedule", *with_flag(flag, value))
    assert ended.code in (0, 2)
    assert ended.code == 0 or (ended.err.startswith("error: ") and ended.err.count("\n") == 1)


@pytest.mark.parametrize("command", ["schedule", "diagnose"])
@pytest.mark.parametrize(
    "flags",
    [
        ("--total-steps", "999999999999"),
        ("--epochs", str(10**9), "--steps-per-epoch", "1"),
        ("--epochs", "3", "--steps-per-epoch", str(10**9)),
        ("--epochs", "3", "--dataset-size", str(10**12), "--batch-size", "1"),
    ],
)
def test_a_cycle_too_long_to_be_stepped_is_refused_with_the_limit(
    main_here: Callable[..., Ended], command: str, flags: tuple[str, ...]
) -> None:
    ended = main_here(command, "--max-lr", "0.1", *flags)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: a cycle can have at most 1,000,000 steps here, got ")
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize("command", ["schedule", "diagnose", "export"])
def test_every_option_says_what_it_is_in_a_sentence(command: str) -> None:
    import typer

    from search.__main__ import app

    known = typer.main.get_command(app).commands[command]  # type: ignore[attr-defined]
    assert [option.name for option in known.params if not option.help] == []
