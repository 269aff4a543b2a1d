"""The benchmarks' own commands tell what is wrong in one line, and end with 2."""

from pathlib import Path

import pytest

from benchmarks import fit_surrogate, range_test, record, search, trained
from benchmarks.commands import INTERRUPTED, ended
from benchmarks.families import __main__ as families
from benchmarks.judge import __main__ as judge

WRONG = [
    (record.main, ["--workers", "0"], "--workers: must be a whole number of at least 1, got '0'"),
    (record.main, ["--task", "mnist"], "mnist"),
    (record.main, ["--data", "no/such/folder"], "no/such/folder"),
    (range_test.main, ["--workers", "-1"], "--workers: must be a whole number of at least 1"),
    (range_test.main, ["--write", "page.md"], "--write needs --report"),
    (families.main, ["--workers", "two"], "got 'two'"),
    (families.main, ["--dry-run", "--write", "page.md"], "--write: not allowed with"),
    (judge.main, ["--repetitions", "0"], "--repetitions: must be"),
    (judge.main, ["--trained", "--refit"], "--refit: not allowed with"),
    (judge.main, ["--refit", "--only", "ours"], "--only and --family choose"),
    (fit_surrogate.main, ["--recorded", "no/such/folder"], "no/such/folder"),
    (fit_surrogate.main, ["--rounds", "0"], "--rounds: must be"),
    (search.main, [], "one of the arguments --save --write is required"),
    (search.main, ["--save", "x", "--only", "c random"], "invalid choice: 'c random'"),
    (trained.main, ["--save", "x", "--seeds", "1"], "at least 2, got '1'"),
]


@pytest.mark.parametrize(("main", "flags", "told"), WRONG)
def test_a_wrong_flag_is_told_in_one_line(main, flags, told, capsys):  # type: ignore[no-untyped-def]
    with pytest.raises(SystemExit) as refused:
        main(flags)
    err = capsys.readouterr().err
    assert refused.value.code == 2
    assert told in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_what_is_not_there_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere, page = tmp_path / "nowhere" / "kept.jsonl", tmp_path / "page.md"
    tried = [
        (judge.main, ["--out", str(nowhere)]),
        (judge.main, ["--out", str(nowhere), "--write", str(page)]),
        (fit_surrogate.main, ["--no-fit", "--recorded", str(tmp_path)]),
        (record.main, ["--out", str(nowhere.parent.joinpath("file"))]),
    ]
    nowhere.parent.write_text("a file, where folders are meant")
    for main, flags in tried:
        assert main(flags) == 2, flags
        told = capsys.readouterr().err
        assert told.startswith("error: "), told
        assert told.count("\n") == 1, told


def test_a_command_returns_what_it_found_or_that_it_was_interrupted() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    assert ended(lambda: 1) == 1
    assert ended(lambda: None) == 0
    assert ended(interrupted) == INTERRUPTED
