"""A finished study as GitHub-flavoured Markdown, to paste into a merge request."""

from collections.abc import Sequence

from search.results.provenance import Provenance
from search.results.result import StudyResult
from search.starting.cost import duration_text
from search.views.findings import Findings
from search.views.markdown import bullets, literal, table
from search.views.wording import (
    call_lines,
    candidate_cells,
    candidate_headings,
    fact_lines,
    params_cells,
)


def summary(found: Findings) -> str:
    """Return the answer, what it rests on, what to try next and provenance."""
    result = found.result
    explanation, _, *code = call_lines(result)
    names = candidate_headings(result)[1:-2]
    cells = params_cells(result.winner.params, result)
    values = ", ".join(f"`{name}` {cell}" for name, cell in zip(names, cells, strict=True))
    blocks = [
        f"## Study {literal(result.name)}",
        f"**{values}.** {literal(result.verdict())}",
        _candidates(result),
        f"{result.metric.title.capitalize()}: mean ± half of the 95 % interval over n fresh "
        "seeds. The baseline is torch's default 1cycle at the `max_lr` that the range test "
        "proposed; the test split is read for winner and baseline only.",
        explanation,
        "\n".join(["```python", *(line for line in code if line), "```"]),
        bullets(fact_lines(result)),
        _cost(result),
        *(["### What to try next"] if found.hints else []),
        *(_hint(hint.text, hint.commands) for hint in found.hints),
        _provenance(found.provenance),
    ]
    return "\n\n".join(blocks) + "\n"


def _candidates(result: StudyResult) -> str:
    rows = [(*candidate_cells(c, result), len(c.scores)) for c in result.ranked()]
    *first, validation, test = candidate_headings(result)
    unit = result.metric.unit
    return table([*first, validation + unit, test + unit, "n"], rows)


def _cost(result: StudyResult) -> str:
    rows = [(s.name, s.n_runs, f"{s.n_images:,}", duration_text(s.seconds)) for s in result.spent]
    return table(["cost", "runs", "training images", "time"], rows)


def _hint(text: str, commands: Sequence[str]) -> str:
    if not commands:
        return literal(text)
    return "\n".join([literal(text), "", "```sh", *commands, "```"])


def _provenance(found: Provenance) -> str:
    facts = [
        f"definition {found.definition}",
        f"made {found.made}, finished {found.finished}",
        ", ".join(f"{name} {text}" for name, text in found.versions.items()),
        "devices: " + ", ".join(f"{name} ({n} runs)" for name, n in found.devices.items()),
        f"study seed {found.seed}",
        f"database {found.database}",
    ]
    again = f"\n\n```sh\n{found.command}\n```" if found.command else ""
    return f"<details><summary>Provenance</summary>\n\n{bullets(facts)}{again}\n\n</details>"
