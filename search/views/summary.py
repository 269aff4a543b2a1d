"""A finished study as GitHub-flavoured Markdown, to paste into a merge request."""

from collections.abc import Sequence

from search.results.provenance import Provenance
from search.results.result import StudyResult
from search.starting.cost import duration_text
from search.views.findings import Findings
from search.views.markdown import bullets, literal, table
from search.views.wording import (
    CALL_EXPLAINED,
    TRAIN_EXPLAINED,
    answer_lines,
    call_code,
    candidate_cells,
    candidate_headings,
    fact_lines,
)
from trainers.sweeps.result import baseline_text


def summary(findings: Findings) -> str:
    """Return the answer, what it rests on, what to try next and provenance."""
    result = findings.result
    answer = result.recommended.params.texts()
    values = ", ".join(f"`{name}` {text}" for name, text in answer.items())
    tested = "the training has no test split"
    if result.has_test:
        tested = "the test split is read for pick and baseline only"
    blocks = [
        f"## Study {literal(result.name)}",
        f"**{values}.** {literal(result.verdict())}",
        bullets(answer_lines(result)),
        _candidates(result),
        f"{literal(result.metric.title.capitalize())}: mean ± half of the 95 % interval over n "
        "fresh seeds. The baseline is torch's default 1cycle at "
        f"{baseline_text(result.proposal)}; {tested}.",
        CALL_EXPLAINED,
        f"```python\n{call_code(result)}\n```",
        *([_hint(TRAIN_EXPLAINED, [findings.train])] if findings.train else []),
        bullets(fact_lines(result)),
        _cost(result),
        *(["### What to try next"] if findings.hints else []),
        *(_hint(hint.text, hint.commands) for hint in findings.hints),
        _provenance(findings.provenance),
    ]
    return "\n\n".join(blocks) + "\n"


def _candidates(result: StudyResult) -> str:
    rows = [(*candidate_cells(c, result), len(c.scores)) for c in result.ranked()]
    *first, validation, test = candidate_headings(result)
    unit = result.metric.unit
    return table([*first, validation + unit, test + unit, "n"], rows)


def _cost(result: StudyResult) -> str:
    rows = [(s.name, s.n_runs, f"{s.n_images:,}", duration_text(s.seconds)) for s in result.spent]
    return table(["cost", "runs", f"training {result.trained_on}", "time"], rows)


def _hint(text: str, commands: Sequence[str]) -> str:
    if not commands:
        return literal(text)
    return "\n".join([literal(text), "", "```sh", *commands, "```"])


def _provenance(origin: Provenance) -> str:
    facts = [
        f"definition {origin.definition}",
        f"made {origin.made}, finished {origin.finished}",
        ", ".join(f"{name} {text}" for name, text in origin.versions.items())
        + f", study format {origin.study_format}",
        "devices: " + ", ".join(f"{name} ({n} runs)" for name, n in origin.devices.items()),
        f"study seed {origin.seed}",
        f"database {origin.database}",
    ]
    again = f"\n\n```sh\n{origin.command}\n```" if origin.command else ""
    return f"<details><summary>Provenance</summary>\n\n{bullets(facts)}{again}\n\n</details>"
