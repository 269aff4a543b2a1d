"""What a study will cost, before anything is spent: as lines of text, or as JSON."""

import json as json_module

from search.params import Params
from search.starting.cost import StageCost, Started, duration_text, estimated_text
from search.text import printable
from search.views.terminal.answer import on_stdout
from search.views.terminal.tables import wrapped
from studies.definition import Study
from studies.params import CYCLE
from studies.states import Stage

_WIDTH = 80
_NAME = 14  # columns of characters of a stage's name, with its indent


def plan_text(started: Started, *, width: int = _WIDTH) -> str:
    """Return the plan and its cost, before it is spent, as a few lines."""
    study, word = started.definition.study, started.trained_on
    lines = [plan_head(started)]
    for cost in started.costs:
        unit = "sweep" if cost.stage == Stage.RANGE_TEST else "cycle"
        units = unit + "s" * (cost.n_runs != 1)
        lines.append(
            f"  {cost.name:<12} {cost.n_runs:>4} {units:<6} of {cost.steps:>5} steps = "
            f"{cost.n_images:>12,} training {word}"
        )
        lines += [f"  {'':<12} {line}" for line in _at_most(cost, unit)]
    if study.space.batch_size is not None:
        own, *others = study.batch_sizes
        sizes = " and ".join(map(str, others))
        lines.append(f"  {'':<12} steps are those of batch_size {own}; {sizes} take others")
    lines += [f"  {line}" for line in _values_text(study)]
    total = sum(cost.n_images for cost in started.costs)
    most = sum(cost.most_images for cost in started.costs)
    lines.append(f"  {'in all':<12} {total:>35,} training {word}")
    if most > total:
        lines.append(f"  {'':<12} at most {most:,}")
    lines += [f"  {_time_text(started)}", f"  {_TIMED}"]
    return "\n".join(
        part for line in lines for part in wrapped(line, min(width, _WIDTH), hang=_hang(line))
    )


def plan_head(started: Started) -> str:
    """Return who works on what, and how fast, in one line."""
    return (
        f"study {printable(started.row.name)}: {started.n_workers} worker(s) on "
        f"{started.site.device}, {started.images_per_s:,.0f} {started.trained_on}/s"
    )


_TIMED = "by a warm-up of a few steps; scoring, and starts of workers, are not counted"
"""What the time rests on."""


def _time_text(started: Started) -> str:
    text = f"{estimated_text(started.seconds)} here"
    most = duration_text(started.most_seconds)
    return text if most == duration_text(started.seconds) else f"{text}, at most {most}"


def _hang(line: str) -> int:
    """Return how far a wrapped line is indented: as far as what stands beside a stage's name."""
    indent = len(line) - len(line.lstrip())
    return 2 if indent != 2 else _NAME - indent


def _values_text(study: Study) -> list[str]:
    """Return the baseline's values of what is searched beside the cycle, and what is held."""
    own = {p.name: p.baseline for p in study.parameters if p.name not in CYCLE}
    values = {
        "baseline": {name: value for name, value in own.items() if value is not None},
        "held fixed": study.space.fixed(),
    }
    return [f"{title:<12} {Params(**each)}" for title, each in values.items() if each]


def _at_most(cost: StageCost, unit: str) -> list[str]:
    """Return what a stage may come to, and of what it then consists; nothing where it is exact."""
    if not cost.extra_runs:
        return []
    text = f"at most {cost.most_runs} {unit}s = {cost.most_images:,}"
    if cost.stage == Stage.RANGE_TEST:
        return [f"{text}, where sweeps disagree;", "the last then takes twice the steps"]
    if cost.stage == Stage.SEARCH:
        return [f"{text};", "it ends by itself once one more is expected to gain too little"]
    return [text]


def print_plan(started: Started, *, json: bool) -> None:
    """Print the plan of a study on stdout."""
    if not json:
        print(plan_text(started, width=on_stdout().width))
        return
    document = {
        "study": started.row.name,
        "device": started.site.device,
        "workers": started.n_workers,
        "images_per_s": started.images_per_s,
        "seconds_per_run": started.run_s,
        "seconds": started.seconds,
        "seconds_at_most": started.most_seconds,
        "stages": [
            {
                "stage": c.stage,
                "name": c.name,
                "runs": c.n_runs,
                "steps": c.steps,
                "images": c.n_images,
                "runs_at_most": c.most_runs,
                "images_at_most": c.most_images,
            }
            for c in started.costs
        ],
    }
    print(json_module.dumps(document, indent=2))
