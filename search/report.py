"""The page of a finished study: one HTML file that asks nothing of the network."""

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from sqlalchemy import URL, Engine, func, select

from search import catalog, range_test
from search.errors import UsageError
from search.figures import seeds_text
from search.plan import duration_text
from search.result import StudyResult
from search.terminal import call_lines, candidate_name, result_lines
from studies.database import reading, sqlite_file
from studies.tables import StudyRow, WorkRow
from trainers.range_test_result import conclusion

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def default_path(url: URL, name: str) -> Path:
    """Return where a study's page goes: beside a SQLite file, else the user's data folder.

    The database's name is part of it, for another database may hold a study of that name.
    """
    file = sqlite_file(url)
    if file is not None:
        return file.with_name(f"{file.stem}-{name}.html")
    return platformdirs.user_data_path("onecycle") / f"{url.database}-{name}.html"


def write_report(engine: Engine, result: StudyResult, path: Path) -> None:
    """Write the page of a finished study to `path`, making its folder.

    A reader finds the old page or the whole new one. Raises UsageError where nothing can be
    written.
    """
    text = page(engine, result)
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


def page(engine: Engine, result: StudyResult) -> str:
    """Return the page of a finished study as HTML."""
    from plotly.offline import get_plotlyjs

    study = catalog.find(engine, result.name)
    trials = catalog.trials(engine, result.name)
    environment = Environment(
        loader=PackageLoader("search"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        study=study,
        result=result,
        trials=trials,
        candidates=result.ranked(),
        figures=_figures(engine, study, result, trials),
        range_test=conclusion(result.range_test),
        n_sweeps=next((s.n_runs for s in result.spent if s.stage == "range_test"), 0),
        noise=[s for s in result_lines(result) if s.startswith(("importance", "noise", "within"))],
        call=call_lines(result),
        seeds=seeds_text([c.scores for c in result.candidates]),
        devices=_devices(engine, study.id),
        plotly=Markup(get_plotlyjs()),
        candidate_name=candidate_name,
        duration_text=duration_text,
    )


def _figures(
    engine: Engine, study: StudyRow, result: StudyResult, trials: Sequence[dict[str, Any]]
) -> dict[str, Markup]:
    from search import figures

    with reading(engine) as session:
        measured = range_test.measured(session, study)
    drawn = {
        "confirmation": figures.confirmation_figure(result),
        "range_test": figures.range_test_figure(measured),
        "search": figures.search_figure(
            [t for t in trials if t["length"] == result.epochs], result
        ),
        "schedule": figures.schedule_figure(result),
    }
    return {name: _embedded(figure, name) for name, figure in drawn.items()}


def _embedded(figure: "Figure", name: str) -> Markup:
    """Return a figure as HTML; plotly escapes what its texts hold.

    The height moves from the figure to its box, where the style sheet raises it
    on narrow screens, for legends take more lines there.
    """
    height_px, figure.layout.height = figure.layout.height, None
    html = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=f"figure-{name}",
        default_height=f"calc({height_px}px + var(--taller))",
        config={"responsive": True, "displayModeBar": False},
    )
    return Markup(html)


def _devices(engine: Engine, study_id: str) -> Iterable[tuple[str, int]]:
    """Return each device that finished runs of the study, with their number."""
    with reading(engine) as session:
        rows = session.execute(
            select(WorkRow.device, func.count())
            .where(WorkRow.study_id == study_id, WorkRow.state == "done")
            .group_by(WorkRow.device)
            .order_by(func.count().desc())
        )
        return [(device or "not recorded", n) for device, n in rows]
