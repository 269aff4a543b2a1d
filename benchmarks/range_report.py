"""The page of the range test's benchmark, from its recorded files alone."""

import math
from collections.abc import Iterable, Sequence
from statistics import fmean, median

from benchmarks.optimum import Optimum, interval
from benchmarks.range_records import RangeRecords, Source
from benchmarks.settings import SETTINGS, Setting, number_of
from benchmarks.tables import Page, table
from search.starting.cost import costs
from trainers.sweeps.judgement import Proposal
from trainers.task import Task

STEPS = (100, 200, 400)


COMMAND = "python -m benchmarks.range_test --report --write docs/benchmarks/range-test.md"

OPENING = """
CIFAR-10 (JPEG): 10,000 training, 5,000 validation and 10,000 test images; `digits` are
scikit-learn's. torch 2.14.1, one thread a run, channels_last, bf16 (`digits`: fp32). Two cores of
an AMD EPYC (Zen 4), except for `batch-512`, the other tools and the other lengths of `digits`,
which ran on an Intel Xeon (Sapphire Rapids). Every cycle is torch's default 1cycle (`pct_start`
0.3, `div_factor` 25), whose last rate is `max_lr / 250,000`.

K is the number of sweeps of a range test. The edge is their median. A repetition is 5 sweeps of
200 steps that no other repetition has, and one slow sweep of 400. Regret is the interpolated mean
test accuracy at the optimum minus that at the proposal, in points. `>=` stands where a rate lies
outside the grid, so that nothing was trained there.
"""

_GRID = """
Rates are a factor of 2 apart: at least 8 around the optimum with 3 seeds each, the 3 best by
validation again with 3 or 5 fresh seeds, far rates once. Other lengths have 5 to 8 rates with 2
seeds (`digits`: 4). The optimum is the top of a parabola in log(`max_lr`) through the rates whose
mean test accuracy is at most 4 points below the best. Its 90 % interval is a bootstrap over
seeds, which is somewhat too narrow at these n.

The grid of `cifar-small` at 8 epochs ends at 2, so that optimum may lie higher. In `no-norm` one
cycle near the optimum has a standard deviation of 3 to 5 points (n = 6 a rate): half a point of
regret can hardly be seen there.
"""
_LENGTHS = """
Range tests of 5 sweeps of 200 steps, for cycles of each length. The rule was fixed on the rows
with 76, 140, 156, 312 and 624 steps. The other six lengths of `digits` and `digits-adamw` were
recorded afterwards: they are held out.
"""
_ACROSS = """
Each source at its usual length: settings in which its median regret is below one point, and the
highest of its median regrets. A rate outside the grid counts as not below.
"""
_TOOLS = """
torch-lr-finder 0.2.2, fastai 2.8.12, Lightning 2.6.6 and pytorch-ignite 0.5.5, called as their
documents call them, on the same net, data and loss. Each repetition has weights and a data order
of its own. The other tools suggest one rate for any cycle from one sweep; ours takes 5 sweeps and
a slow one.
"""
_CHECKS = """
Cycles at the median suggestion of each tool and rule (ours: K = 5, 200 steps; others: 100 steps),
with seeds that no other cycle has, beside what the grid's curve says of that rate. Bold: ours.
"""


def report(records: RangeRecords) -> Page:
    """Return all tables; a setting without a complete grid has no regrets yet."""
    parts = [
        ("The settings", "", _settings()),
        ("Where the optimum is", _GRID, _optima(records)),
        ("Our proposals, by length of the cycle", _LENGTHS, _lengths(records)),
        ("Our brackets", "Widths and drifts are in decades.", _brackets(records)),
        ("Every source across the settings", _ACROSS, _across(records)),
        ("Ours beside other tools", _TOOLS, _suggestions(records)),
        ("Drift with steps", "log10 of the ratio of medians.", _drifts(records)),
        ("Cycles trained at the suggestions", _CHECKS, _checks(records)),
        ("Tools that failed", "", _failures(records)),
    ]
    return Page(
        title="The range test: long tables",
        command=COMMAND,
        opening=OPENING,
        sections=[(title, f"{legend.strip()}\n\n{rows}".strip()) for title, legend, rows in parts],
    )


def _settings() -> str:
    rows = []
    for setting in SETTINGS.values():
        study, task = setting.study, setting.study.task
        assert isinstance(task, Task)
        net = str(task.model).partition(":")[2]
        optimizer = type(task.optimizer).__name__
        cells = [task.batch_size, study.epochs, study.cycle_steps]
        rows.append([f"`{setting.name}`", f"`{net}`", optimizer, *cells])
    return _table("setting|net|optimizer|batch size|epochs of the cycle|steps of the cycle", rows)


def _optima(records: RangeRecords) -> str:
    rows = []
    for setting in SETTINGS.values():
        full = setting.study.epochs
        for epochs in sorted({full, *(epochs for epochs, _ in setting.other_lengths)}):
            optimum = records.optimum(setting, epochs)
            if optimum is None:
                continue
            scores = records.scores(setting, epochs)
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


def _suggestions(records: RangeRecords) -> str:
    rows = []
    for setting in SETTINGS.values():
        optimum = records.optimum(setting, setting.study.epochs)
        for n_steps in STEPS:
            for source in _sources(records, setting, n_steps):
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


def _across(records: RangeRecords) -> str:
    """Return in how many settings each source is good enough, at its usual length."""
    medians: dict[tuple[str, int], list[tuple[float, bool]]] = {}
    for setting in SETTINGS.values():
        optimum = records.optimum(setting, setting.study.epochs)
        for source in (*records.ours(setting, 200), *records.theirs(setting, 100)):
            if optimum is not None and source.given:
                measured = all(map(optimum.is_measured, source.given))
                regret = median(100 * optimum.regret(at) for at in source.given)
                medians.setdefault((source.name, source.n_steps), []).append((regret, measured))
    rows = []
    for (name, n_steps), regrets in medians.items():
        n_good = sum(measured and regret < 1 for regret, measured in regrets)
        highest, measured = max(regrets)
        sign = "" if measured else ">= "
        rows.append([name, n_steps, f"{n_good} of {len(regrets)}", f"{sign}{highest:.1f}"])
    return _table("source|steps|settings below 1 point|highest median regret", rows)


def _drifts(records: RangeRecords) -> str:
    rows = []
    for setting in SETTINGS.values():
        middles: dict[str, dict[int, float]] = {}
        for n_steps in STEPS:
            for source in _sources(records, setting, n_steps):
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


def _brackets(records: RangeRecords) -> str:
    rows = []
    for setting in SETTINGS.values():
        optimum = records.optimum(setting, setting.study.epochs)
        for n_steps in STEPS:
            proposals = records.proposals(setting, n_steps)
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


def _lengths(records: RangeRecords) -> str:
    """Return what range tests of 200 steps, K = 5, are worth for cycles of each length."""
    rows = []
    for setting in SETTINGS.values():
        full = setting.study.epochs
        for epochs in sorted({full, *(epochs for epochs, _ in setting.other_lengths)}):
            optimum = records.optimum(setting, epochs)
            proposals = records.proposals(setting, 200, epochs=epochs)
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


def _checks(records: RangeRecords) -> str:
    rows = []
    for setting in SETTINGS.values():
        epochs = setting.study.epochs
        optimum = records.optimum(setting, epochs)
        checks = records.scores(setting, epochs, checks=True)
        ours = _our_number(records, setting) if checks else None
        for rate, scores in sorted(checks.items()):
            if optimum is not None:
                expected = optimum.score_at(math.log10(rate))
                trained = fmean(scores)
                rows.append(
                    [
                        setting.name,
                        f"**{rate:.3g}**" if number_of(rate) == ours else f"{rate:.3g}",
                        f"{100 * expected:.1f} %",
                        f"{100 * trained:.1f} %",
                        len(scores),
                    ]
                )
    return _table("setting|max_lr|interpolated|trained|n", rows)


def _our_number(records: RangeRecords, setting: Setting) -> int | None:
    """Return the rate that our range tests of the usual size propose in the median."""
    middle = records.ours(setting, 200)[1].middle
    return None if middle is None else number_of(10**middle)


def _failures(records: RangeRecords) -> str:
    rows = [
        [setting.name, n_steps, source.name, _count(source), "; ".join(source.errors) or "-"]
        for setting in SETTINGS.values()
        for n_steps in STEPS
        for source in records.theirs(setting, n_steps)
        if len(source.given) < len(source.rates)
    ]
    return table(["setting", "steps", "source", "n", "error"], rows, empty="None did.")


def _sources(records: RangeRecords, setting: Setting, n_steps: int) -> list[Source]:
    every = [*records.ours(setting, n_steps), *records.theirs(setting, n_steps)]
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
    *_, searched, confirmed = costs(study, n_trials=study.screening.n_trials)
    return (searched.n_runs + confirmed.n_runs) * study.cycle_steps


def _count(source: Source) -> str:
    n, given = len(source.rates), len(source.given)
    return f"{n}" if given == n else f"{n}, {n - given} failed"


def _rate(log_rate: float) -> str:
    return f"{10**log_rate:.2g}"


def _range(ends: tuple[float, float]) -> str:
    return f"{_rate(ends[0])} to {_rate(ends[1])}"


def _table(head: str, rows: Sequence[Sequence[object]]) -> str:
    return table(head.split("|"), rows)
