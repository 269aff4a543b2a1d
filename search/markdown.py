"""A finished study as GitHub-flavoured Markdown, to paste into a merge request."""

import re
from collections.abc import Iterable, Sequence

from search.findings import Findings
from search.plan import duration_text
from search.provenance import Provenance
from search.result import StudyResult
from search.wording import (
    call_lines,
    candidate_name,
    importance_text,
    noise_text,
    region_text,
)
from trainers.range_test_result import conclusion


def markdown(found: Findings) -> str:
    """Return the answer, what it rests on, what to try next and provenance."""
    result = found.result
    explanation, _, source, _, count = call_lines(result)
    said = [
        *("range test: " + line for line in conclusion(result.range_test)),
        region_text(result),
        importance_text(result),
        noise_text(result),
        f"comparisons made on the test split: {result.n_comparisons}",
    ]
    winner = result.winner.params
    blocks = [
        f"## Study {_plain(result.name)}",
        f"**`max_lr` {winner.max_lr:.3g}, `pct_start` {winner.pct_start:.2f}, "
        f"`div_factor` {winner.div_factor:.3g}.** {_plain(result.verdict())}",
        _candidates(result),
        f"{result.metric.title.capitalize()}: mean ± half of the 95 % interval over n fresh "
        "seeds. The baseline is torch's default 1cycle at the `max_lr` that the range test "
        "proposed; the test split is read for winner and baseline only.",
        explanation,
        f"```python\n{source}\n{count}\n```",
        "\n".join(f"- {_plain(line)}" for line in said),
        _cost(result),
        "### What to try next" if found.hints else "",
        *(_hint(hint.text, hint.commands) for hint in found.hints),
        _provenance(found.provenance),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _candidates(result: StudyResult) -> str:
    metric = result.metric
    parameters = ("configuration", "max_lr", "pct_start", "div_factor")
    heads = [*parameters, "n", f"validation{metric.unit}", f"test{metric.unit}"]
    rows = [
        [
            candidate_name(c, result),
            f"{c.params.max_lr:.3g}",
            f"{c.params.pct_start:.2f}",
            f"{c.params.div_factor:.3g}",
            str(len(c.scores)),
            metric.interval(c.scores),
            "sealed" if c.test is None else metric.interval(c.test),
        ]
        for c in result.ranked()
    ]
    return _table(heads, rows)


def _cost(result: StudyResult) -> str:
    rows = [
        [s.name, str(s.n_runs), f"{s.n_images:,}", duration_text(s.seconds)] for s in result.spent
    ]
    return _table(["cost", "runs", "training images", "time"], rows)


def _hint(text: str, commands: Sequence[str]) -> str:
    if not commands:
        return _plain(text)
    return "\n".join([_plain(text), "", "```sh", *commands, "```"])


def _provenance(found: Provenance) -> str:
    rows = [
        ["definition", found.definition],
        ["made, finished", f"{found.made}, {found.finished}"],
        ["versions", ", ".join(f"{name} {text}" for name, text in found.versions.items())],
        ["devices", ", ".join(f"{name} ({n} runs)" for name, n in found.devices.items())],
        ["study seed", str(found.seed)],
        ["database", found.database],
        *([["again", found.command]] if found.command else []),
    ]
    table = _table(["provenance", ""], rows, numbers=False)
    return f"<details><summary>Provenance</summary>\n\n{table}\n\n</details>"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = True) -> str:
    """Return a table whose columns after the first hold numbers, set to the right."""
    rule = ["---", *["--:" if numbers else "---"] * (len(heads) - 1)]
    cells = [[_plain(cell) for cell in row] for row in (heads, *rows)]
    lines = [cells[0], rule, *cells[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """Return text that Markdown shows as it is, in a cell of a table too."""
    return re.sub(r"([\\`*{}\[\]<>#|~]|\b_|_\b)", r"\\\1", text)
