"""Where a study's numbers come from, and commands about it to paste into a shell."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import URL, func, select
from sqlalchemy.orm import Session

from search.text import shell_line
from studies.format import STUDY_FORMAT
from studies.registry import command_words, own_name
from studies.states import RunState
from studies.tables import StudyRow, WorkRow
from studies.urls import default_url, masked_text

_PYTHON = ("python", "-m")


@dataclass(frozen=True, slots=True)
class Shell:
    """Where a study is kept, as flags of a command.

    `spec` is the bundled name or the path that it was made from; a new study of it is called
    `new_name`. `storage` is empty where no flag is needed, or none can be printed.
    """

    spec: str
    name: str
    new_name: str
    storage: tuple[str, ...]

    def run(self, *flags: str, name: str | None = None) -> str:
        """Return the search of this study, or of another `name` from the same definition."""
        called = name or self.name
        named = () if called == self._own_name else ("--name", called)
        return self._text("search.run", *command_words(self.spec), *named, *flags)

    def new_range_test(self, *flags: str) -> str:
        """Return a range test under the new name."""
        named = (*command_words(self.spec), "--name", self.new_name)
        return self._text("search", "range-test", *named, *flags)

    @property
    def _own_name(self) -> str:
        """The name that the definition gives a study; that of a file is not known here."""
        return own_name(self.spec)

    def train(self) -> str:
        """Return the training of the final model; '' for a study of an object."""
        if not self.spec:
            return ""
        return self._text("search", "train", "--name", self.name, "--out", "model.pt")

    def _text(self, *words: str) -> str:
        return shell_line(*_PYTHON, *words, *self.storage)


def storage_flag(url: URL) -> tuple[str, ...]:
    """Return the flag for a database; none for the default one, and where it holds a password."""
    text = url.set(drivername=url.get_backend_name()).render_as_string(hide_password=False)
    # A password does not belong in a page or a shell's history.
    if url == default_url() or text != masked_text(url):
        return ()
    return ("--storage", text)


def free_name(name: str, taken: Collection[str]) -> str:
    """Return the name of a next study: digits, digits-2, digits-3."""
    # A longer number is a date or an id, and part of the name.
    numbered = re.fullmatch(r"(.+)-(\d{1,6})", name)
    base, number = (numbered[1], int(numbered[2])) if numbered else (name, 1)
    while (called := f"{base}-{number + 1}") in taken:
        number += 1
    return called


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a reader needs to trust the numbers, or to measure them again.

    `versions` are those of the worker that ended the study; `devices` name each device with the
    number of its finished runs; `command` repeats the study under another name, None where it
    was made from an object in some program. Times are UTC.
    """

    definition: str
    made: str
    finished: str
    seed: int
    versions: dict[str, str]
    devices: dict[str, int]
    database: str
    command: str | None
    protocol: dict[str, str]
    study_format: int = STUDY_FORMAT


def provenance(session: Session, row: StudyRow, *, database: str, shell: Shell) -> Provenance:
    """Return where the numbers of a finished study come from; `database` is shown as it is."""
    stored = {} if row.answer is None else row.answer.versions
    return Provenance(
        definition=row.spec or "an object of a program",
        made=_moment(row.created_at),
        finished=_moment(row.finished_at),
        seed=row.seed,
        versions=dict(stored) or {"torch": row.declared.get("torch", "not recorded")},
        devices=_devices(session, row.id),
        database=database,
        command=_again(row, shell) if row.spec else None,
        protocol={**row.declared, **(row.resolved or {})},
    )


def _again(row: StudyRow, shell: Shell) -> str:
    flags = ["--seed", str(row.seed)]
    if row.exact:
        flags += ["--trials", str(row.n_trials)]
    elif row.budget is not None:
        flags += ["--budget", row.budget]
    return shell.run(*flags, name=shell.new_name)


def _moment(time: datetime | None) -> str:
    return "not recorded" if time is None else f"{time:%Y-%m-%d %H:%M} UTC"


def _devices(session: Session, study_id: str) -> dict[str, int]:
    rows = session.execute(
        select(WorkRow.device, func.count())
        .where(WorkRow.study_id == study_id, WorkRow.state == RunState.DONE)
        .group_by(WorkRow.device)
        .order_by(func.count().desc())
    )
    return {device or "not recorded": n for device, n in rows}
