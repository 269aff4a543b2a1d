"""All that is reported of a finished study, read at one moment: for page, terminal, programs."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import URL, Engine, select
from sqlalchemy.orm import Session

from search.queue.rows import stored_study
from search.results.landscape import Landscape, landscape_later
from search.results.provenance import Provenance, Shell, free_name, provenance, storage_flag
from search.results.result import StudyResult, result_of, with_curves
from search.results.trials import Trial
from search.stages import range_test
from search.views.hints import Hint, hints
from studies.database import reading
from studies.tables import StudyRow
from studies.urls import masked_text
from trainers.sweeps.result import RangeTestResult


@dataclass(frozen=True, slots=True)
class Findings:
    """The answer, what the sweeps measured, every trial, what to try next, and provenance.

    `expected` makes the landscape. `train` is the command that trains the final model, '' for a
    study of an object.
    """

    result: StudyResult
    range_test: RangeTestResult
    expected: Callable[[], Landscape | None]
    trials: Sequence[Trial]
    hints: tuple[Hint, ...]
    train: str
    provenance: Provenance

    @property
    def landscape(self) -> Landscape | None:
        """What is expected over the range, cut through the answer; None where that cannot be
        told. The first who asks waits for it."""
        return self.expected()

    def as_json(self) -> dict[str, Any]:
        """Return all but the points of the sweeps and the trials as plain JSON values."""
        return {
            **self.result.as_json(),
            "next": [asdict(hint) for hint in self.hints],
            "train": self.train,
            "provenance": asdict(self.provenance),
        }


def findings(engine: Engine, row: StudyRow) -> Findings:
    """Return what a finished study found; raise NoResultError for one that has no answer."""
    with reading(engine) as session:
        row = stored_study(session, row)
        measured = range_test.measured_at_all(session, row)
        result = with_curves(session, row, result_of(session, row, measured))
        shell = _shell(session, row, engine.url)
        return Findings(
            result=result,
            range_test=measured,
            expected=landscape_later(session, row, result.recommended.params),
            trials=result.trials,
            hints=hints(result, measured, shell),
            train=shell.train(),
            provenance=provenance(session, row, database=masked_text(engine.url), shell=shell),
        )


def shell_of(engine: Engine, row: StudyRow) -> Shell:
    """Return what makes commands about a stored study."""
    with reading(engine) as session:
        return _shell(session, row, engine.url)


def _shell(session: Session, row: StudyRow, url: URL) -> Shell:
    names = session.scalars(select(StudyRow.name)).all()
    return Shell(row.spec, row.name, free_name(row.name, names), storage_flag(url))
