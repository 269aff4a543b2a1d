"""The table of pitfalls: the log column says what the diagnosis really names."""

from benchmarks.diagnose import MISTAKES, cases, printed
from trainers.calls.diagnose import diagnose
from trainers.calls.logs import parse
from trainers.calls.pitfalls import PITFALLS
from trainers.calls.schedule import Steps


def test_the_diagnosis_names_exactly_the_pitfalls_that_the_table_says() -> None:
    names: set[str] = set()
    for case in cases(5, seed=1):
        steps = Steps(epochs=case.epochs, steps_per_epoch=case.per_epoch)
        for mistake in MISTAKES.values():
            diagnosis = diagnose(parse(printed(case, mistake)), case.schedule, steps)
            names |= {diagnosis.verdict, *(e.name for e in diagnosis.equals)}
    named = {pitfall.name for pitfall in PITFALLS} & names
    assert named == {pitfall.name for pitfall in PITFALLS if "log" in pitfall.seen}


def test_every_pitfall_is_seen_somewhere() -> None:
    assert all(pitfall.seen for pitfall in PITFALLS)
