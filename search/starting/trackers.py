"""Which experiment trackers are meant, and how one is shown: never with a password in it."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urlsplit

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from search.errors import UsageError
from search.text import shell_line
from studies.urls import HIDDEN, masked_text

VARIABLE = "ONECYCLE_TRACK"
"""Trackers of a start that names none, one a line; a command line would show a password."""

_FORMS = {
    "tensorboard": "tensorboard:DIR",
    "mlflow": "mlflow:URI",
    "wandb": "wandb:PROJECT",
}
ALLOWED = "allowed: tensorboard:DIR, mlflow:URI, wandb:PROJECT"
_URIS = "http://HOST:PORT, https://HOST, sqlite:///FILE, or the URL of another database"

# What may be shown of text that is malformed: anything else may be a piece of a password.
_PLAIN = re.compile(r"[\w./~-]*(:\d{1,5}(?![\w]))?[\w./-]*")
_DATABASES = ("sqlite", "postgresql", "postgres", "mysql", "mssql")
_PROJECT = re.compile(r"[^/\\#?%:\s][^/\\#?%:]{0,127}")  # what W&B takes as a project's name


@dataclass(frozen=True, slots=True)
class Tracker:
    """One tracker: `kind` is the tool, `place` a folder, a URI or a project, as it was given."""

    kind: str
    place: str

    @property
    def text(self) -> str:
        """The text that it was parsed from; it may hold a password."""
        return f"{self.kind}:{self.place}"

    @property
    def shown(self) -> str:
        """The tracker as it is shown."""
        return f"{self.kind}:{_masked(self.place) if self.kind == 'mlflow' else self.place}"

    def scrubbed(self, text: str) -> str:
        """Return text of others, such as a library's error, without what is secret here."""
        for secret in _secrets(self.place) if self.kind == "mlflow" else ():
            for form in {secret, quote(secret, safe=""), unquote(secret)}:
                text = text.replace(form, HIDDEN) if len(form) >= 3 else text
        return text

    def missing_line(self, study: str) -> str:
        """Return the command that sends what a tracker has not got."""
        return shell_line("onecycle", "export", "--study", study, "--to", self.shown)


def trackers_of(texts: Iterable[str] | None, *, flag: str = "--track") -> tuple[Tracker, ...]:
    """Return the trackers named by `texts`, else by ONECYCLE_TRACK; each of them once.

    Raises UsageError for text that names none, and where its package is not installed.
    """
    if texts is None:
        flag, texts = VARIABLE, os.environ.get(VARIABLE, "").splitlines()
        texts = [text for text in texts if text.strip()]
    if isinstance(texts, str):
        raise UsageError(f"track must be a list of texts, as track=[{texts!r}]")
    return tuple(dict.fromkeys(_checked(str(text), flag) for text in texts))


def _checked(text: str, flag: str) -> Tracker:
    kind, _, place = text.strip().partition(":")
    kind, place = kind.strip().lower(), place.strip()
    if kind not in _FORMS:
        raise UsageError(f"{flag} {_hint(text)} names no tracker; {ALLOWED}")
    if not place:
        raise UsageError(f"{flag} {kind}: names no place; write {_FORMS[kind]}")
    check = {"tensorboard": _check_folder, "mlflow": _check_uri, "wandb": _check_project}[kind]
    fault = check(place)
    if fault is not None:
        raise UsageError(f"{flag} {_hint(f'{kind}:{place}')}: {fault}")
    tracker = Tracker(kind, place)
    spec = find_spec(kind)
    # Without an origin it is a folder of that name in the current one, such as W&B's own ./wandb.
    if spec is None or spec.origin is None:
        raise UsageError(
            f"{flag} {tracker.shown}: {kind} is not installed; "
            f"pip install 'onecycle-search[{kind}]'"
        )
    return tracker


def _check_folder(place: str) -> str | None:
    """Return why TensorBoard's events cannot be written there, before anything is trained."""
    if "://" in place:
        return f"must be a folder of this machine; write {_FORMS['tensorboard']}"
    folder = Path(place).expanduser()
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        return f"{there} is a file; name a folder"
    if not os.access(there, os.W_OK | os.X_OK):
        return f"{there} cannot be written; name another folder"
    return None


def _check_uri(place: str) -> str | None:
    """Return why this is no place of MLflow's."""
    fault = f"must be {_URIS}"
    if re.match(r"(\.{0,2}/|~/|file:)", place):
        # MLflow 3 refuses one: "in maintenance mode, migrate to a database backend".
        return "MLflow keeps no runs in folders any more; write mlflow:sqlite:///mlflow.db"
    if re.fullmatch(r"(databricks|databricks-uc|uc)(://\S*)?", place):
        return None
    scheme = place.partition(":")[0].partition("+")[0].lower()
    if scheme in _DATABASES and "://" in place:
        try:
            make_url(place)
        except (ArgumentError, ValueError):
            return fault
        return None
    if scheme not in ("http", "https"):
        return fault
    url = _split(place)
    return fault if url is None or not url.hostname or re.search(r"\s", place) else None


def _check_project(place: str) -> str | None:
    entity, slash, project = place.rpartition("/")
    names = (entity, project) if slash else (project,)
    if all(_PROJECT.fullmatch(name) for name in names):
        return None
    return (
        "must be PROJECT or ENTITY/PROJECT, each of at most 128 characters, without \\ # ? % and :"
    )


def _split(place: str) -> SplitResult | None:
    """Return the parts of a URL; None where it has a port that is no number, or no form at all."""
    try:
        url = urlsplit(place)
        _ = url.port
    except ValueError:
        return None
    return url


def _secrets(place: str) -> list[str]:
    """Return what may not be shown of a URI of MLflow's: the longest first."""
    url = _split(place)
    if url is None:
        return [place]
    user_info = url.netloc.rpartition("@")[0]
    password = user_info.partition(":")[2]
    # http://TOKEN@host: what stands alone before the @ is as secret.
    found = [user_info, password or user_info, url.query, url.fragment]
    found += [value for _, _, value in (each.partition("=") for each in url.query.split("&"))]
    return sorted({each for each in found if each}, key=len, reverse=True)


def _masked(place: str) -> str:
    scheme = place.partition(":")[0].partition("+")[0].lower()
    if scheme in _DATABASES:
        return masked_text(make_url(place))
    url = _split(place)
    if url is None or not url.netloc:
        return place.partition("?")[0]
    host = url.netloc.rpartition("@")[2]
    hidden = f"{HIDDEN}@" if "@" in url.netloc else ""
    return f"{url.scheme}://{hidden}{host}{url.path}{f'?{HIDDEN}' if url.query else ''}"


def _hint(text: str) -> str:
    """Return what may be shown of text that names no tracker."""
    kind, colon, place = text.partition(":")
    if not re.fullmatch(r"[\w.-]{1,40}", kind):
        return repr(text) if _PLAIN.fullmatch(text) else HIDDEN
    if not colon:
        return repr(kind)
    scheme = re.match(r"[a-z]+://", place)
    if _PLAIN.fullmatch(place):
        return repr(text)
    return f"{kind}:{scheme[0] if scheme else ''}{HIDDEN}"
