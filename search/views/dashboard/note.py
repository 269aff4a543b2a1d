"""A study as a page of Markdown: where it stands, what came out, what it rests on."""

from sqlalchemy import Engine

from search.results.metric import Metric
from search.results.result import StudyResult
from search.results.spent import spent
from search.results.status import overview
from search.text import shell_line
from search.views.markdown import bullets, code, literal, table
from search.views.wording import (
    CALL_EXPLAINED,
    answer_lines,
    call_code,
    candidate_cells,
    candidate_headings,
    candidate_name,
    cost_text,
    fact_lines,
    proposal_lines,
)
from studies.database import reading
from studies.protocol import trained_on
from studies.tables import StudyRow
from trainers.sweeps.result import RangeTestResult

_GAP = "\N{EM SPACE}"  # Optuna Dashboard sets the cells of a table side by side


def note(
    engine: Engine, row: StudyRow, measured: RangeTestResult, result: StudyResult | None
) -> str:
    """Return what a colleague needs to know of a study, without HTML; `result` when it has one."""
    parts = [f"## Study {code(row.name)}: {row.stage.words}", protocol_line(row)]
    if result is not None:
        parts += _answer(result)
        command, does = "report", "writes the page with all curves and trials"
    else:
        parts += _so_far(engine, row, measured)
        command, does = "status", "shows who works on it and what failed"
    line = shell_line("onecycle", command, "--study", row.name)
    return "\n\n".join([*parts, f"{code(line)} {does}."]) + "\n"


def protocol_line(row: StudyRow) -> str:
    """Return what all cycles of a study have in common, in one line."""
    said = {**row.declared, **(row.resolved or {})}
    words = [
        f"definition {code(row.spec)}",
        *([literal(said["task.optimizer"])] if "task.optimizer" in said else []),
        f"batches of {row.batch_size}",
        *([literal(said["precision"])] if "precision" in said else []),
        f"{row.n_trials} configurations",
        f"cycles of {row.epochs} epochs of {row.steps_per_epoch} steps",
        f"seed {row.seed}",
        *([f"torch {literal(said['torch'])}"] if "torch" in said else []),
    ]
    return "Protocol: " + ", ".join(words) + "."


def _answer(result: StudyResult) -> list[str]:
    """Return verdict, candidates, the call to paste and what they rest on."""
    name, n = candidate_name(result.recommended, result), result.recommended.validation.n
    return [
        f"**{literal(result.verdict())}**",
        f"'Best Trial' on this page is this answer, {name}, with its mean over {n} fresh seeds. "
        "The other values are single scores, the best of which was partly lucky.",
        bullets(answer_lines(result)),
        _candidates(result),
        CALL_EXPLAINED,
        f"```python\n{call_code(result)}\n```",
        "### What it rests on",
        bullets([*fact_lines(result), f"cost: {cost_text(result.spent, result.trained_on)}"]),
    ]


def _candidates(result: StudyResult) -> str:
    rows = [(*candidate_cells(c, result), c.validation.n) for c in result.ranked()]
    *first, validation, test = candidate_headings(result)
    headings = (*first, f"{validation}, {result.metric.title}", test, "fresh seeds")
    said = "Scores are means over the seeds ± half of their 95 % interval."
    return f"{table(headings, rows, gap=_GAP)}\n\n{said}"


def _so_far(engine: Engine, row: StudyRow, measured: RangeTestResult) -> list[str]:
    """Return how far a study is that has no result (yet)."""
    now = overview(engine, row.name)
    metric = Metric.of_study(row, [] if now.best is None else [now.best.score])
    stages = [(s.name, s.done, s.running + s.waiting, s.given_up) for s in now.stages]
    parts = [table(("stage", "done", "to do", "given up"), stages, gap=_GAP)]
    if now.reason is not None:
        parts.insert(0, f"**Ended without a result**: {literal(now.reason)}")
    else:
        parts.append(
            "Cards of the answer, its confirmation and schedules come when the study has ended. "
            "Until then 'Best Trial' on this page is the best single score, not an answer, and "
            "importances are not told."
        )
    if now.best is not None:
        best = now.best
        parts.append(
            f"Best so far: {metric.value(best.score)} ({literal(metric.title)}, n = 1 seed) at "
            f"{best.length} epochs, slot {best.slot}: {literal(str(best.params))}. The best of "
            "many noisy trials is partly the luckiest: the confirmation decides."
        )
    facts = []
    if measured.proposal is not None:
        facts += proposal_lines(measured.proposal, {})
    with reading(engine) as session:
        cost = cost_text(spent(session, row), trained_on(row.declared))
    facts.append(f"cost so far: {cost or 'nothing'}")
    return [*parts, bullets(facts)]
