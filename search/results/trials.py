"""Every configuration of a study's search, and what came of it: the rows of tables and files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from search.params import Params
from search.queue.rows import params_of, search_rows
from search.starting.catalog import find
from studies.database import reading
from studies.params import Value
from studies.states import BROKEN, FailureKind, RunOutcome, RunState
from studies.tables import StudyRow, WorkRow


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One cycle of the search: its configuration, how it ended and what it took.

    `params` is None before the slot has asked for its configuration.
    """

    slot: int
    trial_number: int | None
    state: RunState
    outcome: RunOutcome | None
    score: float | None
    params: Params | None
    epochs: int | None
    n_steps: int | None
    n_images: int | None
    seconds: float | None
    diverged_step: int | None
    diverged_lr: float | None
    failure: FailureKind | None
    device: str | None

    @classmethod
    def of(cls, work: WorkRow) -> "Trial":
        """Return the trial of a row of work."""
        same = {name: getattr(work, name) for name in cls.__slots__ if name != "params"}
        return cls(params=params_of(work), **same)

    def values(self, names: Sequence[str]) -> dict[str, Any]:
        """Return a row of plain values for a file, the parameters `names` among them."""
        params: Mapping[str, Value] = self.params or {}
        return {
            name: params.get(name) if name in names else getattr(self, name)
            for name in columns(names)
        }

    @property
    def broken(self) -> bool:
        """Whether training diverged, or its score is of no use."""
        return self.outcome in BROKEN


def columns(names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of a file of trials, in which these parameters were searched."""
    own = [name for name in Trial.__slots__ if name != "params"]
    place = own.index("score") + 1
    return (*own[:place], *names, *own[place:])


def searched_names(trials: Sequence[Trial]) -> tuple[str, ...]:
    """Return the parameters that trials have, in the order of the study."""
    names = dict.fromkeys(name for trial in trials for name in trial.params or ())
    return tuple(names)


def trials(engine: Engine, name: str) -> list[Trial]:
    """Return every cycle of a stored study's search by slot."""
    row = find(engine, name)
    with reading(engine) as session:
        return trials_of(session, row)


def trials_of(session: Session, row: StudyRow) -> list[Trial]:
    """Return the same as trials(), within a session."""
    return [Trial.of(work) for work in session.scalars(search_rows(row).order_by(WorkRow.slot))]
