"""The tables of the range test's benchmark, as Markdown, from its files alone."""

import math
from collections.abc import Iterable, Sequence
from statistics import fmean, median

from benchmarks.optimum import Optimum, interval
from benchmarks.readings import Readings, Source
from benchmarks.settings import SETTINGS, Setting
from trainers.sweeps.judgement import Proposal

STEPS = (100, 200, 400)


def report(readings: Readings) -> str:
    """Return all tables; a setting without a complete grid has no regrets yet."""
    parts = [
        ("Optimum of the grids (test accuracy)", _optima(readings)),
        ("Suggestions", _suggestions(readings)),
        ("Drift with steps: log10 of the ratio of medians", _drifts(readings)),
        ("Our brackets", _brackets(readings)),
        ("Our proposals and the length of the cycle", _lengths(readings)),
        ("Cycles really trained at suggestions", _checks(readings)),
        ("Tools that failed", _failures(readings)),
    ]
    return "\n\n".join(f"### {title}\n\n{table}" for title, table in parts)


def _optima(readings: Readings) -> str:
    rows = []
    for setting in SETTINGS.values():
        full = setting.study.full_epochs
        for epochs in sorted({full, *(epochs for epochs, _ in setting.other_lengths)}):
            optimum = readings.optimum(setting, epochs)
            if optimum is None:
                continue
            scores = readings.scores(setting, epochs)
            rows.append(
                [
                    setting.name,
                    epochs,
                    _rate(optimum.at),
                    _range(interval(scores)),
                    _range(optimum.within(0.005)),
                    _range(optimum.within(0.01)),
                    f"{100 * optimum.score:.1f} %",
                    f"{len(scores)} rates, {sum(map(len, scores.values()))} cycles",
                ]
            )
    head = "setting|epochs|optimum|90 %|within 0.5 points|within 1 point|accuracy|n"
    return _table(head, rows)


def _suggestions(readings: Readings) -> str:
    rows = []
    for setting in SETTINGS.values():
        optimum = readings.optimum(setting, setting.study.full_epochs)
        for n_steps in STEPS:
            for source in _sources(readings, setting, n_steps):
                middle, sd = source.middle, source.sd
                rows.append(
                    [
                        setting.name,
                        n_steps,
                        source.name,
                        _count(source),
                        "-" if middle is None else _rate(middle),
                        "-" if sd is None else f"{sd:.2f}",
                        f"{fmean(source.costs):.0f}",
                        f"{fmean(source.costs) / _study_steps(setting):.1%}",
                        *_regrets(optimum, source),
                    ]
                )
    head = "setting|steps|source|n|median|sd log10|cost, steps|of the study's|median regret|worst"
    return _table(head, rows)


def _drifts(readings: Readings) -> str:
    rows = []
    for setting in SETTINGS.values():
        middles: dict[str, dict[int, float]] = {}
        for n_steps in STEPS:
            for source in _sources(readings, setting, n_steps):
                if source.middle is not None:
                    middles.setdefault(source.name, {})[n_steps] = source.middle
        for name, by_steps in middles.items():
            moves = [
                f"{by_steps[2 * n] - by_steps[n]:+.2f}" if {n, 2 * n} <= set(by_steps) else "-"
                for n in STEPS[:-1]
            ]
            if moves != ["-", "-"]:
                rows.append([setting.name, name, *moves])
    return _table("setting|source|100 to 200|200 to 400", rows)


def _brackets(readings: Readings) -> str:
    rows = []
    for setting in SETTINGS.values():
        optimum = readings.optimum(setting, setting.study.full_epochs)
        for n_steps in STEPS:
            proposals = readings.proposals(setting, n_steps)
            found = [proposal for proposal in proposals if proposal is not None]
            if not found:
                continue
            widths = [math.log10(p.high / p.low) for p in found]
            slow = [p.drift for p in found if p.drift is not None]
            rows.append(
                [
                    setting.name,
                    n_steps,
                    f"{len(found)} of {len(proposals)}",
                    "-"
                    if optimum is None
                    else f"{_n_holding(found, optimum)} of {len(proposals)}",
                    f"{median(widths):.2f}",
                    f"{max(widths):.2f}",
                    f"{median(slow):+.2f} ({len(slow)})" if slow else "-",
                    sum(p.widened for p in found),
                ]
            )
    head = "setting|steps|with a bracket|hold the optimum|median width|widest|median drift (n)"
    return _table(head + "|widened", rows)


def _lengths(readings: Readings) -> str:
    """Return what range tests of 200 steps, K = 5, are worth for cycles of each length."""
    rows = []
    for setting in SETTINGS.values():
        full = setting.study.full_epochs
        for epochs in sorted({full, *(epochs for epochs, _ in setting.other_lengths)}):
            optimum = readings.optimum(setting, epochs)
            proposals = readings.proposals(setting, 200, epochs=epochs)
            found = [proposal for proposal in proposals if proposal is not None]
            if optimum is None or not found:
                continue
            regrets = [100 * optimum.regret(math.log10(p.max_lr)) for p in found]
            rows.append(
                [
                    setting.name,
                    setting.study.steps_of(epochs),
                    f"{10**optimum.at / median(p.edge for p in found):.3f}",
                    f"{median(p.max_lr / p.edge for p in found):.3f}",
                    f"{median(regrets):.1f}",
                    f"{max(regrets):.1f}",
                    f"{_n_holding(found, optimum)} of {len(proposals)}",
                ]
            )
    head = "setting|steps of the cycle|optimum / edge|proposal / edge|median regret|worst"
    return _table(head + "|hold the optimum", rows)


def _checks(readings: Readings) -> str:
    rows = []
    for setting in SETTINGS.values():
        epochs = setting.study.full_epochs
        optimum = readings.optimum(setting, epochs)
        for rate, scores in sorted(readings.scores(setting, epochs, checks=True).items()):
            if optimum is not None:
                expected = optimum.score_at(math.log10(rate))
                trained = fmean(scores)
                rows.append(
                    [
                        setting.name,
                        f"{rate:.3g}",
                        f"{100 * expected:.1f} %",
                        f"{100 * trained:.1f} %",
                        len(scores),
                    ]
                )
    return _table("setting|max_lr|interpolated|trained|n", rows)


def _failures(readings: Readings) -> str:
    rows = [
        [setting.name, n_steps, source.name, _count(source), "; ".join(source.errors) or "-"]
        for setting in SETTINGS.values()
        for n_steps in STEPS
        for source in readings.theirs(setting, n_steps)
        if len(source.given) < len(source.rates)
    ]
    return _table("setting|steps|source|n|error", rows)


def _sources(readings: Readings, setting: Setting, n_steps: int) -> list[Source]:
    every = [*readings.ours(setting, n_steps), *readings.theirs(setting, n_steps)]
    return [source for source in every if source.rates]


def _n_holding(proposals: Iterable[Proposal], optimum: Optimum) -> int:
    return sum(p.low <= 10**optimum.at <= p.high for p in proposals)


def _regrets(optimum: Optimum | None, source: Source) -> tuple[str, str]:
    """Return median and worst regret in points: at least that, if a rate was not measured."""
    if optimum is None or not source.given:
        return "-", "-"
    regrets = [100 * optimum.regret(at) for at in source.given]
    sign = "" if all(map(optimum.is_measured, source.given)) else ">= "
    return f"{sign}{median(regrets):.1f}", f"{sign}{max(regrets):.1f}"


def _study_steps(setting: Setting) -> int:
    """Return the steps of search and confirmation at the full length."""
    study = setting.study
    n_confirmed = (study.confirmation.n_finalists + 1) * study.confirmation.n_seeds
    return (study.screening.n_trials + n_confirmed) * study.cycle_steps


def _count(source: Source) -> str:
    n, given = len(source.rates), len(source.given)
    return f"{n}" if given == n else f"{n}, {n - given} failed"


def _rate(log_rate: float) -> str:
    return f"{10**log_rate:.2g}"


def _range(ends: tuple[float, float]) -> str:
    return f"{_rate(ends[0])} to {_rate(ends[1])}"


def _table(head: str, rows: Sequence[Sequence[object]]) -> str:
    if not rows:
        return "Nothing is recorded yet."
    names = head.split("|")
    lines = [" | ".join(names), " | ".join("---" for _ in names)]
    lines += [" | ".join(str(cell) for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)
