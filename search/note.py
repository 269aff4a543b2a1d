"""A study as a page of Markdown: where it stands, what came out, what it rests on."""

import re
from collections.abc import Sequence
from itertools import takewhile

from sqlalchemy import Engine

from search.metric import Metric
from search.plan import duration_text
from search.result import StudyResult
from search.spent import StageSpent, spent
from search.status import overview
from search.terminal import call_lines, candidate_name, result_lines
from studies.database import reading
from studies.tables import StudyRow
from trainers.range_test_result import RangeTestResult, conclusion


def note(
    engine: Engine, row: StudyRow, measured: RangeTestResult, result: StudyResult | None
) -> str:
    """Return what a colleague needs to know of a study, without HTML; `result` when it has one."""
    parts = [f"## Study `{row.name}`: {row.stage.replace('_', ' ')}", protocol_line(row)]
    if result is not None:
        parts += _answer(result)
        command, does = f"report --study {row.name}", "writes the page with all curves and trials"
    else:
        parts += _so_far(engine, row, measured)
        command, does = f"status --study {row.name}", "shows who works on it and what failed"
    return "\n\n".join([*parts, f"`onecycle {command}` {does}."]) + "\n"


def protocol_line(row: StudyRow) -> str:
    """Return what all cycles of a study have in common, in one line."""
    said = {**row.declared, **(row.resolved or {})}
    words = [
        f"definition `{row.spec}`",
        *([said["task.optimizer"]] if "task.optimizer" in said else []),
        f"batches of {row.batch_size}",
        *([said["precision"]] if "precision" in said else []),
        f"{row.n_trials} configurations",
        f"cycles of {' / '.join(map(str, row.lengths))} epochs of {row.steps_per_epoch} steps",
        f"seed {row.seed}",
        *([f"torch {said['torch']}"] if "torch" in said else []),
    ]
    return "Protocol: " + ", ".join(words) + "."


def _answer(result: StudyResult) -> list[str]:
    """Return verdict, candidates, the call to paste and what they rest on."""
    verdict, call = result.verdict(), call_lines(result)
    facts = takewhile(lambda line: line != call[0], result_lines(result))
    code = [line for line in call[1:] if line]
    return [
        f"**{_literal(verdict)}**",
        _candidates(result),
        call[0],
        "\n".join(["```python", *code, "```"]),
        "### What it rests on",
        _bullets([line for line in facts if line not in ("", verdict)]),
    ]


def _candidates(result: StudyResult) -> str:
    metric = result.metric
    rows = [
        (
            candidate_name(c, result),
            f"{c.params.max_lr:.3g}",
            f"{c.params.pct_start:.2f}",
            f"{c.params.div_factor:.3g}",
            metric.interval(c.scores),
            "sealed" if c.test is None else metric.interval(c.test),
            str(c.validation.n),
        )
        for c in result.ranked()
    ]
    headings = (
        "configuration",
        "max_lr",
        "pct_start",
        "div_factor",
        f"validation, {metric.title}",
        "test",
        "fresh seeds",
    )
    return (
        _table(headings, rows)
        + "\n\nScores are means over the seeds ± half of their 95 % interval."
    )


def _so_far(engine: Engine, row: StudyRow, measured: RangeTestResult) -> list[str]:
    """Return how far a study is that has no result (yet)."""
    now, metric = overview(engine, row.name, None), Metric(row.metric)
    stages = [(s.name, s.done, s.running + s.waiting, s.given_up) for s in now.stages]
    parts = [_table(("stage", "done", "to do", "given up"), stages)]
    if now.reason is not None:
        parts.insert(0, f"**Ended without a result**: {_literal(now.reason)}")
    else:
        parts.append("Cards of search, confirmation and schedules come when the study has ended.")
    if now.best is not None:
        best = now.best
        parts.append(
            f"Best so far: {metric.value(best.score)} ({_literal(metric.title)}, n = 1 seed) at "
            f"{best.length} epochs, slot {best.slot}: {_literal(str(best.params))}. The best of "
            "many noisy trials is partly the luckiest: the confirmation decides."
        )
    facts = []
    if measured.proposal is not None:
        facts += ["range test: " + line for line in conclusion(measured.proposal)]
    with reading(engine) as session:
        facts.append(_cost(spent(session, row)))
    return [*parts, _bullets(facts)]


def _cost(stages: Sequence[StageSpent]) -> str:
    each = [
        f"{s.name} {s.n_runs} runs, {s.n_images:,} images, {duration_text(s.seconds)}"
        for s in stages
    ]
    return "cost so far: " + ("; ".join(each) or "nothing")


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {_literal(line)}" for line in lines)


def _table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    ruler = ["---", *["---:"] * (len(headings) - 1)]
    cells = [[_literal(str(cell)) for cell in row] for row in (headings, *rows)]
    cells = [[first, *("\N{EM SPACE}" + each for each in rest)] for first, *rest in cells]
    lines = (cells[0], ruler, *cells[1:])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _literal(text: str) -> str:
    """Return text that Markdown shows as it is, in one line."""
    return re.sub(r"([\\`*_\[\]<>|$~])", r"\\\1", " ".join(text.split()))
