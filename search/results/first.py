"""What a range test alone answers: the first choice, unconfirmed, for no cycle was trained."""

from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from search.errors import NoResultError
from search.params import Params
from search.queue.rows import stored_study
from search.results.status import stored_definition
from search.stages import range_test
from search.stages.first import first_choices
from search.stages.space import Ranges
from search.starting.catalog import has_not_begun
from search.starting.target import RANGE_TEST
from studies.database import reading
from studies.protocol import trained_on
from studies.states import Stage
from studies.tables import StudyRow, WorkRow
from trainers.groups import Driven
from trainers.onecycle import OneCycle
from trainers.sweeps.judgement import WITHIN_FACTOR, WITHIN_FAMILIES, WITHIN_SHARE
from trainers.sweeps.result import RangeTestResult

UNCONFIRMED = "unconfirmed: no cycle was trained"


@dataclass(frozen=True, kw_only=True, slots=True)
class FirstChoice:
    """The configuration that a range test proposes, and the cycle that it makes.

    `batch_size` and `steps_per_epoch` are the configuration's; `driven` is the optimizer that the
    sweeps met.
    """

    name: str
    spec: str
    params: Params
    epochs: int
    steps_per_epoch: int
    batch_size: int
    driven: Driven | None
    trained_on: str
    measured: RangeTestResult

    @property
    def plan(self) -> OneCycle:
        """Its cycle."""
        return self.params.plan(self.epochs * self.steps_per_epoch)

    def as_json(self) -> dict[str, Any]:
        """Return the same as plain JSON values."""
        return {
            "study": self.name,
            "confirmed": False,
            "n_cycles": 0,
            "verdict": UNCONFIRMED,
            "params": dict(self.params),
            "onecycle_lr": {
                **self.plan.keywords(self.driven),
                "total_steps": self.plan.total_steps,
            },
            "epochs": self.epochs,
            "steps_per_epoch": self.steps_per_epoch,
            "batch_size": self.batch_size,
            "range_test": asdict(self.measured.proposal) if self.measured.proposal else None,
            "spread": {
                "factor": WITHIN_FACTOR,
                "share": WITHIN_SHARE,
                "n_families": WITHIN_FAMILIES,
            },
        }


def first_choice(engine: Engine, row: StudyRow) -> FirstChoice:
    """Return the first choice of a study whose range test has ended.

    Raises NoResultError where the sweeps propose nothing, or its study file is not here.
    """
    with reading(engine) as session:
        row = stored_study(session, row)
        measured = range_test.measured_at_all(session, row)
        said = measured.proposal
        if said is None or said.edge is None:
            raise NoResultError(
                f"{measured.why_no_proposal()}; without a proposal there is no first choice, and "
                "a search goes on in a wide range: the same command without --budget"
            )
        study = stored_definition(row)
        if study is None:
            raise NoResultError(
                f"study {row.name!r}: its study file {row.spec!r} is not here, or was changed, "
                "and the first choice depends on it"
            )
        params = first_choices(Ranges.of(row, study))[:2][-1]
        size = params.batch_size
        return FirstChoice(
            name=row.name,
            spec=row.spec,
            params=params,
            epochs=row.epochs,
            steps_per_epoch=row.steps_per_epoch_of(params),
            batch_size=row.batch_size if size is None else size,
            driven=_driven(session, row),
            trained_on=trained_on(row.declared),
            measured=measured,
        )


def has_first_choice_alone(engine: Engine, row: StudyRow) -> bool:
    """Whether a study has had its range test, as its budget says, and no cycle has begun."""
    return row.budget == RANGE_TEST and has_not_begun(engine, row)


def _driven(session: Session, row: StudyRow) -> Driven | None:
    """Return the optimizer that the sweeps of the baseline's setting met."""
    sweeps = session.scalars(
        select(WorkRow)
        .where(WorkRow.study_id == row.id, WorkRow.stage == Stage.RANGE_TEST)
        .order_by(WorkRow.slot)
    )
    return next((work.driven for work in sweeps if work.driven is not None), None)
