"""The page of a finished study: one self-contained HTML file."""

import json
import math
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from sqlalchemy import URL

from search.errors import UsageError
from search.results.landscape import Landscape
from search.results.result import StudyResult
from search.results.trials import Trial
from search.starting.cost import duration_text
from search.text import file_name, printable
from search.views import wording
from search.views.findings import Findings
from search.views.tiles import tiles
from studies.params import parameter, setting_text
from studies.urls import sqlite_file
from trainers.sweeps.result import baseline_text, conclusion, count, range_name, spread_lines

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from search.views.figures.curve_lines import Learned
    from search.views.figures.trial_figures import Searched

MOST_ROWS = 2_000
"""Of the table of trials: a browser sorts so many while one waits, and the page stays small."""

MOST_PICKED = 200
"""Of the trials whose curves can be looked at: they take about 1 kB each."""

_HEAD_BYTES = 65_536  # style sheet, tiles and verdict take 10 kB; names of parameters add little


def default_path(url: URL, name: str) -> Path:
    """Return where a study's page goes: beside a SQLite file, else the user's data folder.

    The database's name is part of it, for another database may hold a study of that name.
    """
    file = sqlite_file(url)
    if file is not None:
        return file.with_name(f"{file.stem}-{file_name(name)}.html")
    return (
        platformdirs.user_data_path("onecycle")
        / f"{file_name(url.database or '')}-{file_name(name)}.html"
    )


def write_report(findings: Findings, path: Path) -> None:
    """Write the page of a finished study to `path`, making its folder.

    A reader finds the old page or the whole new one. Raises UsageError where nothing can be
    written.
    """
    text = page(findings)
    # The process id: two reports of one study may be written at once.
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"the report cannot be written to {path}: {reason}") from error
    finally:
        with suppress(OSError):
            draft.unlink()


def page(findings: Findings) -> str:
    """Return the page of a finished study as HTML."""
    from plotly.offline import get_plotlyjs

    from search.views.figures import curve_lines

    environment = Environment(
        loader=PackageLoader("search.views.page"),
        # Names, errors and devices come from the database, and are not trusted to hold no HTML.
        autoescape=True,
        # A misspelled name in the template is an error, not an empty place.
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    result = findings.result
    learned = curve_lines.Learned.of(result)
    return environment.get_template("report.html").render(
        result=result,
        trials=_best_first(findings),
        n_trials=len(findings.trials),
        hints=findings.hints,
        train=findings.train,
        provenance=findings.provenance,
        figures=_figures(findings),
        picked=_picked(learned),
        n_learned=len(learned.trials),
        picked_at_most=MOST_PICKED,
        trial_points=curve_lines.TRIAL_POINTS,
        curves_by=learned.unit,
        missing_curves=curve_lines.missing_lines(learned),
        landscape=findings.landscape,
        range_test=[*conclusion(result.proposal), *spread_lines(result.proposal)],
        other_range_tests={
            key: conclusion(result.proposals[key]) for key in findings.range_test.others
        },
        n_sweeps=len(findings.range_test.points),
        seeds=wording.seeds_text([c.scores for c in result.candidates]),
        tiles=tiles(result, list(findings.provenance.devices)),
        wording=wording,
        setting_text=setting_text,
        parameter=parameter,
        duration_text=duration_text,
        count=count,
        baseline_text=baseline_text,
        range_name=range_name,
        # 4.7 of the page's 5.7 MB. It comes last in the file: the first screen is drawn after 0.1
        # s, with it in the head after 2 s (docs/log.md).
        plotly=Markup(get_plotlyjs()),
    )


def says_answer(path: Path, result: StudyResult) -> bool:
    """Whether the page at `path` says what the verdict takes; False where it cannot be read."""
    verdict = str(escape(printable(result.verdict(), keep="\n"))).encode()
    try:
        with path.open("rb") as file:
            return verdict in file.read(_HEAD_BYTES)
    except OSError:
        return False


def _shown(value: object) -> object:
    """Return what an expression of the page shows: of text, what prints."""
    return printable(value, keep="\n") if type(value) is str else value


def _best_first(findings: Findings) -> Sequence[Trial]:
    """Return the rows of the table, all in their order, or the MOST_ROWS best of the study.

    Those without a score come last.
    """
    if len(findings.trials) <= MOST_ROWS:
        return findings.trials
    sign = -1.0 if findings.result.direction == "maximize" else 1.0
    result = findings.result
    marked = {c.slot for c in (result.baseline, result.challenger) if c is not None}

    def place(trial: Trial) -> tuple[bool, float]:
        worth = math.inf if trial.score is None else sign * trial.score
        return trial.slot not in marked, worth

    return sorted(findings.trials, key=place)[:MOST_ROWS]


def _figures(findings: Findings) -> dict[str, "Drawing"]:
    from search.views.figures import (
        answer_figures,
        curve_figures,
        curve_lines,
        rate_figures,
        trial_figures,
    )

    result = findings.result
    learned = curve_lines.Learned.of(result)
    searched = trial_figures.Searched.of(result)
    drawn = {
        "search": trial_figures.search_figure(findings.trials, searched),
        "schedule": answer_figures.schedule_figure(result),
        "confirmation": answer_figures.confirmation_figure(result),
    }
    if learned.runs:
        # In steps: the page's script turns them into epochs, and back where that is asked for.
        drawn["curves"] = curve_figures.curves_figure(learned, unit="step")
    if findings.range_test.points:
        drawn["range_test"] = rate_figures.range_test_figure(findings.range_test)
    for key, measured in findings.range_test.others.items():
        drawn[f"range_test-{key.replace(' ', '-')}"] = rate_figures.range_test_figure(measured)
    if findings.landscape is not None:
        drawn |= _expected(findings.landscape, findings.trials, searched)
    if result.shares:
        ends = None if findings.landscape is None else findings.landscape.importance_ends()
        drawn["importance"] = answer_figures.importance_figure(result, ends)
    return {name: Drawing.of(figure) for name, figure in drawn.items()}


def _expected(
    landscape: Landscape, trials: Sequence[Trial], searched: "Searched"
) -> dict[str, "Figure"]:
    """Return the figures of what is expected over the range."""
    from search.views.figures.belief_figures import map_figure, slice_figure
    from search.views.figures.parallel_figure import parallel_figure

    drawn = {
        f"slice-{name}": slice_figure(landscape, name, trials, searched)
        for name in landscape.domains
    }
    if landscape.has_map:
        drawn["map"] = map_figure(landscape, trials, searched)
    return {**drawn, "parallel": parallel_figure(landscape, trials, searched)}


def _picked(learned: "Learned") -> Markup:
    """Return the trials whose curves can be looked at, as JSON in which no tag can begin."""
    from search.views.figures.curve_lines import picked

    text = json.dumps(picked(learned, MOST_PICKED), separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure of the page: what plotly.js draws, and the style of its box.

    On narrow screens the style sheet gives each entry of the legend a line of its own.
    """

    json: Markup
    style: str

    @classmethod
    def of(cls, figure: "Figure") -> "Drawing":
        """Move the height from the figure to its box; plotly escapes what its texts hold."""
        height_px, figure.layout.height = figure.layout.height, None
        marks = (*figure.data, *figure.layout.shapes)
        n_entries = sum(mark.showlegend is not False for mark in marks)
        style = f"height: calc({height_px}px + {n_entries} * var(--entry))"
        return cls(Markup(figure.to_json()), style)
