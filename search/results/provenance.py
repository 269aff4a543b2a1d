"""Where a study's numbers come from: versions, devices, seed, protocol, database, command."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from search.results.pasting import Shell
from studies.tables import StudyRow, WorkRow


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


def provenance(session: Session, row: StudyRow, *, database: str, shell: Shell) -> Provenance:
    """Return where the numbers of a finished study come from; `database` is shown as it is."""
    stored: Mapping[str, str] = (row.result or {}).get("versions", {})
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
    flags = ("--seed", str(row.seed), "--trials", str(row.n_trials))
    return shell.run(*flags, name=shell.new_name)


def _moment(time: datetime | None) -> str:
    return "not recorded" if time is None else f"{time:%Y-%m-%d %H:%M} UTC"


def _devices(session: Session, study_id: str) -> dict[str, int]:
    rows = session.execute(
        select(WorkRow.device, func.count())
        .where(WorkRow.study_id == study_id, WorkRow.state == "done")
        .group_by(WorkRow.device)
        .order_by(func.count().desc())
    )
    return {device or "not recorded": n for device, n in rows}
