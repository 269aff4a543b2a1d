"""What Optuna Dashboard answers, completed: our cards, note, answer and importances."""

import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import NoResultFound

from search.history.optuna_study import OWNER
from search.views.dashboard.cards import Answer, Cards, Shown
from search.views.dashboard.guard import READING
from studies.errors import DatabaseError, StudyError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from optuna.storages import BaseStorage

log = logging.getLogger(__name__)

_STUDY = re.compile(r"/api/studies/\d+/*", re.ASCII)
_IMPORTANCES = re.compile(r"/api/studies/(\d+)/param_importances/*", re.ASCII)
_DIGITS = 6  # of a score in the card "Best Trial", which shows all that it is given


def with_cards(app: "WSGIApplication", cards: Cards) -> "WSGIApplication":
    """Add cards, note and answer to what the application says of one study; nothing is stored.

    Stored in Optuna's study, which save_plotly_graph_object() does, they would age, and the page
    would show them in any order, for it keeps their ids in a set.
    """

    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        asked = environ["REQUEST_METHOD"] == "GET" and _STUDY.fullmatch(environ["PATH_INFO"])
        if not asked:
            return app(environ, start_response)
        status, headers, body = _answered(app, environ)
        if not status.startswith("200"):
            start_response(status, headers)
            return [body]
        study = json.loads(body)
        shown = _shown(cards, {a["key"]: a["value"] for a in study["user_attrs"]})
        if shown is not None:
            study = _completed(study, shown)
            if shown.answer is not None:
                study["best_trials"] = _best_trials(app, environ, study, shown.answer)
            study["best_trials"] = [_rounded(trial) for trial in study["best_trials"]]
        return _json(start_response, study)

    return answer


_DISTRIBUTIONS = {False: "FloatDistribution", True: "CategoricalDistribution"}


def with_importances(
    app: "WSGIApplication", cards: Cards, storage: "BaseStorage"
) -> "WSGIApplication":
    """Answer with the importances of a study's result, none before there is one.

    The dashboard's own are PED-ANOVA's, and would contradict what is said elsewhere.
    """

    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        asked = _IMPORTANCES.fullmatch(environ["PATH_INFO"])
        if asked is None or environ["REQUEST_METHOD"] != "GET":
            return app(environ, start_response)
        try:
            number = int(asked[1])
            attributes = storage.get_study_user_attrs(number)
            shown = _shown(cards, attributes)
        except (KeyError, OverflowError):  # no such study
            shown = None
        if shown is None:
            return app(environ, start_response)
        answer = shown.answer
        found = {} if answer is None else answer.importances
        choices = frozenset[str]() if answer is None else answer.choices
        listed = [
            {
                "name": name,
                "importance": share,
                "distribution": _DISTRIBUTIONS[name in choices],
            }
            for name, share in found.items()
        ]
        return _json(start_response, {"param_importances": [listed]})

    return answer


def _shown(cards: Cards, attributes: Mapping[str, Any]) -> Shown | None:
    """Return what is to be shown of an Optuna study of ours; None of another, or in an outage."""
    if OWNER not in attributes:
        return None
    try:
        return cards.of(attributes[OWNER])
    except (DatabaseError, StudyError, NoResultFound) as error:  # or just deleted
        log.warning("%s", error)
        return None


def _completed(study: dict[str, Any], shown: Shown) -> dict[str, Any]:
    """Return what is told about an Optuna study, with what we have to add to one of ours.

    A note that somebody wrote on the dashboard stands in the place of ours.
    """
    drawn = [{"id": name, "graph_object": text} for name, text in shown.figures.items()]
    note = study["note"] if study["note"]["body"] else {**study["note"], "body": shown.note}
    return {
        **study,
        "plotly_graph_objects": [*drawn, *study["plotly_graph_objects"]],
        "note": note,
        "objective_names": [shown.metric],
    }


def _best_trials(
    app: "WSGIApplication", environ: "WSGIEnvironment", study: dict[str, Any], answer: Answer
) -> list[dict[str, Any]]:
    """Return the answer's trial with its mean score, for the card "Best Trial".

    The page asks for trials from some number on; where ours is not among them it is asked for.
    """
    trials = study["trials"]
    if not any(trial["number"] == answer.trial_number for trial in trials):
        fresh = {k: v for k, v in environ.items() if not k.startswith("bottle.")}  # parsed before
        fresh["QUERY_STRING"] = f"after={answer.trial_number}"
        trials = json.loads(_answered(app, fresh)[2])["trials"]
    return [{**t, "values": [answer.score]} for t in trials if t["number"] == answer.trial_number]


def _rounded(trial: dict[str, Any]) -> dict[str, Any]:
    """Return a trial whose values have as many digits as mean anything."""
    values = trial.get("values") or []
    return {**trial, "values": [round(v, _DIGITS) if isinstance(v, float) else v for v in values]}


_PAGES = re.compile(r"/dashboard(/.*)?", re.ASCII)


def with_order(app: "WSGIApplication") -> "WSGIApplication":
    """Put our cards in front of the dashboard's own, by a style sheet in its page.

    Where a browser does not know :has() (before 2023), they stay where the page has them.
    """

    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        asked = environ["REQUEST_METHOD"] == "GET" and _PAGES.fullmatch(environ["PATH_INFO"])
        if not asked:
            return app(environ, start_response)
        # Whole: a page that the browser has kept may be without the style sheet.
        whole = {k: v for k, v in environ.items() if k != "HTTP_IF_MODIFIED_SINCE"}
        status, headers, body = _answered(app, whole)
        body = body.replace(b"</head>", b"<style>" + _STYLE.encode() + b"</style></head>", 1)
        kept = [(k, v) for k, v in headers if k.lower() != "content-length"]
        start_response(status, [*kept, ("Content-Length", str(len(body)))])
        return [body]

    return answer


_OURS = '[id^="user-defined-plot:onecycle-"]'
_GRID = f".MuiGrid-container:has({_OURS})"
_STYLE = f"""
{_GRID} {{ order: -1; margin-top: 8px; }}
{_GRID} > :not(:has({_OURS})) {{ order: 1; }}
{_GRID} > :has([id$=":onecycle-answer"]) {{ flex-basis: 100%; max-width: 100%; }}
.MuiCard-root:has(#plot-history):has(~ .MuiGrid-container {_OURS})::after {{
  content: "Best Value is the best single score so far (one seed), not the answer.";
  display: block; padding: 0 16px 12px; font: 14px system-ui, sans-serif; opacity: 0.75;
}}
@media (max-width: 700px) {{
  {_GRID} > * {{ flex-basis: 100%; max-width: 100%; }}
  {_OURS} {{ height: 600px !important; }}  /* legends take as many lines as they have names */
  [id$=":onecycle-answer"] {{ height: 760px !important; }}
  main {{ min-width: 0; }}  /* its row of switches held the whole page 714 pixels wide */
  main fieldset.MuiFormControl-root {{ flex-wrap: wrap; }}
}}
"""
"""The page of optuna-dashboard 0.21: history, then a grid of importances, timeline, plots that a
study brings, and the best trial."""


def _json(start_response: "StartResponse", document: object) -> Iterable[bytes]:
    body = json.dumps(document).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response("200 OK", headers)
    return [body]


def with_bodies(app: "WSGIApplication") -> "WSGIApplication":
    """Answer 200 and an empty document where there is no content.

    The page of optuna-dashboard 0.21 reads JSON of every answer to a write, and says that what
    has been deleted or saved has failed where it finds none.
    """

    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in READING:
            return app(environ, start_response)
        status, headers, body = _answered(app, environ)
        if status.startswith("204"):
            body = b"{}"
            status, headers = "200 OK", [("Content-Type", "application/json")]
        start_response(status, headers)
        return [body]

    return answer


def _answered(
    app: "WSGIApplication", environ: "WSGIEnvironment"
) -> tuple[str, list[tuple[str, str]], bytes]:
    """Return status, headers and body of an answer that comes in one piece."""
    heads: list[tuple[str, list[tuple[str, str]]]] = []

    def start(
        status: str, headers: list[tuple[str, str]], error: object = None, /
    ) -> Callable[[bytes], object]:
        heads.append((status, headers))
        return lambda data: None

    pieces = app(environ, start)
    try:
        body = b"".join(pieces)
    finally:
        if hasattr(pieces, "close"):  # of a file (PEP 3333)
            pieces.close()
    return *heads[-1], body
