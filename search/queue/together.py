"""Beats of workers of one host, written together: one transaction in place of one for each.

A beat that was not written so is written by its worker alone. That then learns what is wrong:
another owner has taken over, or the database is away.
"""

import json
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from sqlalchemy import (
    ARRAY,
    JSON,
    BindParameter,
    Engine,
    Integer,
    Text,
    any_,
    cast,
    func,
    literal,
    select,
    update,
)
from sqlalchemy.types import TypeEngine

from search.queue.rows import write_new_epochs
from search.queue.work import Reached
from studies.clock import now
from studies.database import one_statement, transaction
from studies.errors import DatabaseError
from studies.states import RunState
from studies.tables import WorkRow
from trainers.run import EpochRow

GATHER_S = 2.0
"""So long the first beat waits for others. Eight workers then write half a time a second, and a
person sees an epoch two seconds later."""
_LOOK_S = 0.2


@dataclass(frozen=True, slots=True)
class Beat:
    """What one worker has to say of the run that it holds."""

    work_id: int
    token: int
    epochs: tuple[EpochRow, ...] = ()
    reached: Reached | None = None


class Together(Protocol):
    """Writes beats with those of other workers."""

    gather_s: float

    def beat(self, beat: Beat, *, over: threading.Event) -> bool:
        """Write a beat; return whether it was written. False too once its run is `over`."""


@dataclass(eq=False, slots=True)
class _Batch:
    beats: list[Beat] = field(default_factory=list)
    written: frozenset[int] = frozenset()
    done: threading.Event = field(default_factory=threading.Event)


class Gatherer:
    """Gathers the beats of the threads that call it, each for one worker."""

    def __init__(self, engine: Engine, *, gather_s: float = GATHER_S) -> None:
        self.gather_s = gather_s
        self._engine = engine
        self._lock = threading.Lock()
        self._open: _Batch | None = None

    def beat(self, beat: Beat, *, over: threading.Event) -> bool:
        """Write a beat with those of others that come soon: the first who comes writes for all."""
        with self._lock:
            batch, is_first = self._open, self._open is None
            if batch is None:
                batch = self._open = _Batch()
            batch.beats.append(beat)
        if is_first:
            over.wait(self.gather_s)
            self._write(batch)
        while not batch.done.wait(_LOOK_S):
            if over.is_set():
                return False
        return beat.work_id in batch.written

    def _write(self, batch: _Batch) -> None:
        with self._lock:
            self._open = None
        if len(batch.beats) == 1:  # together it would cost the server twice as much
            batch.done.set()
            return
        try:
            batch.written = write_beats(self._engine, batch.beats)
        except DatabaseError:
            pass  # each now writes alone, and meets the same
        finally:
            batch.done.set()


def _array(of: type[TypeEngine[Any]], values: Sequence[object]) -> BindParameter[Any]:
    return literal(values, ARRAY(of))


def write_beats(engine: Engine, beats: Sequence[Beat]) -> frozenset[int]:
    """Write beats of several runs, with their epochs; return the ids of the runs it did so for.

    Left out are runs that have another owner by now, whose rows are locked, or whose owners died
    before. Only for PostgreSQL. It waits for no lock, so it is part of no deadlock.
    """
    reached = [beat.reached for beat in beats]
    come = (
        func.unnest(
            _array(Integer, [beat.work_id for beat in beats]),
            _array(Integer, [beat.token for beat in beats]),
            _array(Integer, [each and each.step for each in reached]),
            _array(Text, [each and json.dumps(asdict(each.curve)) for each in reached]),
        )
        .table_valued("id", "token", "step", "curve")
        .render_derived(name="come")
    )
    ours = (
        select(WorkRow.id, come.c.step, cast(come.c.curve, JSON).label("curve"))
        .join(come, (WorkRow.id == come.c.id) & (WorkRow.token == come.c.token))
        # By their ids once more: the planner does not know how few come. And not by their state
        # here, by whose index it would read all that run.
        .where(WorkRow.id == any_(_array(Integer, [beat.work_id for beat in beats])))
        .where(WorkRow.deaths == 0)
        .with_for_update(of=WorkRow, skip_locked=True)
        .cte("ours")
    )
    beaten = (
        update(WorkRow)
        .where(WorkRow.id == ours.c.id, WorkRow.state == RunState.RUNNING)
        .values(
            beat=WorkRow.beat + 1,
            beat_at=now(),
            step=func.coalesce(ours.c.step, WorkRow.step),
            curve=func.coalesce(ours.c.curve, WorkRow.curve),
        )
        .returning(WorkRow.id)
        .execution_options(synchronize_session=False)
    )
    writes = transaction if any(beat.epochs for beat in beats) else one_statement
    with writes(engine) as session:
        written = frozenset(session.scalars(beaten))
        write_new_epochs(
            session, {beat.work_id: beat.epochs for beat in beats if beat.work_id in written}
        )
        return written
