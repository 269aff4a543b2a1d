"""What `train` shows: the steps of a cycle while it trains, and the models that came out."""

import json as json_module
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from search.final.models import FinalModel, FinalModels
from search.final.training import Watch
from search.starting.cost import duration_text
from search.text import printable
from search.views.beside import beside
from search.views.terminal.answer import on_stdout, say, say_title
from search.views.terminal.progress import Progress as SearchProgress
from search.views.terminal.tables import Column, table_of
from trainers.run import Run

_LOOK_S = 0.2
_LINE_EVERY_S = 30.0  # where nobody watches: a log of hours stays readable


@contextmanager
def shown() -> Iterator[Watch]:
    """Give what shows each run of this process: a bar on a terminal, lines elsewhere."""
    with SearchProgress() as progress:

        @contextmanager
        def watch(run: Run, title: str) -> Iterator[None]:
            console = progress.console if progress.live else None
            with beside(partial(_show, run, title, console)):
                yield

        yield watch


def _show(run: Run, title: str, console: Console | None, over: threading.Event) -> None:
    if console is None:
        _print_steps(run, title, over)
    else:
        _show_bar(run, title, over, console)


def _show_bar(run: Run, title: str, over: threading.Event, console: Console) -> None:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[said]}", markup=False),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(title, total=run.plan.total_steps, said="")
        ending = False
        while not ending:
            ending = over.wait(_LOOK_S)
            bar.update(task, completed=len(run.points), said=_last_epoch(run))


def _print_steps(run: Run, title: str, over: threading.Event) -> None:
    total, began = run.plan.total_steps, time.monotonic()
    _tell(f"{title}: {total} steps")
    while not over.wait(_LINE_EVERY_S):
        _tell(f"{title}: step {len(run.points)} of {total} {_last_epoch(run)}".rstrip())
    took = duration_text(time.monotonic() - began)
    _tell(f"{title}: {len(run.points)} of {total} steps are done, {took} here")


def _last_epoch(run: Run) -> str:
    if not run.epochs:
        return ""
    row = run.epochs[-1]
    return f"epoch {row.epoch}, train loss {row.train_loss:.4g}"


def _tell(line: str) -> None:
    print(printable(line), file=sys.stderr, flush=True)


def print_models(models: FinalModels, *, json: bool) -> None:
    """Print on stdout what was trained, how it scores, and how it is loaded."""
    if json:
        print(json_module.dumps(models.as_json(), indent=2))
        return
    console = on_stdout()
    for line in _heading(models):
        say(console, line)
    console.print()
    say_title(console, f"{models.metric.title} of the weights as written")
    console.print(_table(models, console.width), soft_wrap=True)
    console.print()
    for line in (*_expected(models), *models.notes):
        say(console, line)
    console.print()
    say(console, "Load it:")
    for line in models.loading:  # whole, for whoever pastes them
        console.print(f"    {printable(line)}", markup=False, soft_wrap=True)


def _heading(models: FinalModels) -> list[str]:
    chosen, facts = models.chosen, models.models[0].facts
    what = "baseline" if chosen.is_baseline else f"slot {chosen.slot}"
    lines = [
        f"{models.study}: {what}, {chosen.why}",
        f"{chosen.params}",
        f"trained on {models.trained_on}: {facts.epochs} epochs, {facts.n_steps} steps with "
        f"batches of {facts.batch_size}",
    ]
    if models.searched_steps != facts.n_steps:
        lines.append(
            f"the same epochs take more steps than the {models.searched_steps} of the search; "
            "the cycle is stretched over them"
        )
    return lines


def _table(models: FinalModels, width: int) -> Table:
    def scores(split: str) -> list[str]:
        return [models.metric.value(model.facts.scores[split]) for model in models.models]

    seeds = [str(model.facts.seed) for model in models.models]
    files = [printable(_file(model)) for model in models.models]
    columns = [
        Column(heading="seed", cells=seeds, left=True),
        *(Column(heading=split, cells=scores(split)) for split in models.splits),
        Column(heading="file", cells=files, left=True, folds=True),
    ]
    return table_of(columns, width)


def _file(model: FinalModel) -> str:
    return f"{model.path}{'' if model.is_new else ' (trained before)'}"


def _expected(models: FinalModels) -> list[str]:
    """Return which score a further training may expect."""
    metric, n = models.metric, len(models.models)
    if n > 1:
        means = ", ".join(
            f"{split} {metric.interval(models.scores(split))}" for split in models.splits
        )
        return [
            f"{metric.title}: {means} (mean ± half of its 95 % interval, n = {n} seeds)",
            "Expect the mean: the best of several seeds is partly luck, and scores less on new "
            "data.",
        ]
    confirmed = models.chosen.confirmed
    if confirmed is None or models.trained_on != "train":
        return ["One seed (n = 1): --seeds 5 tells how far the score moves with it."]
    mean, half = metric.value(confirmed.mean), metric.value(confirmed.half_width)
    return [
        f"One seed (n = 1). In the confirmation the mean over {confirmed.n} seeds was {mean} ± "
        f"{half} on validation: expect that of another training."
    ]
