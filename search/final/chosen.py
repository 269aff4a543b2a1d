"""Which configuration of a study becomes the final model."""

from dataclasses import dataclass, replace

from sqlalchemy import Engine

from search.errors import NoResultError, UsageError
from search.params import Params
from search.queue.rows import params_of, search_rows
from search.results.result import load_result
from search.stages.search import BASELINE_SLOT, given
from search.stages.space import Ranges
from studies.answer import Answer, Estimate
from studies.database import reading
from studies.definition import Study
from studies.states import Stage
from studies.tables import StudyRow


@dataclass(frozen=True, slots=True)
class Chosen:
    """One configuration of a study, and how it was come by.

    `confirmed` is its validation score over fresh seeds, None where it was not confirmed.
    `n_comparisons` counts the study's comparisons on the test split; None: that is still sealed.
    """

    slot: int
    params: Params
    why: str
    confirmed: Estimate | None
    n_comparisons: int | None

    @property
    def is_baseline(self) -> bool:
        """Whether this is torch's default 1cycle at the proposal."""
        return self.slot == BASELINE_SLOT


def chosen(
    engine: Engine, row: StudyRow, study: Study, *, slot: int | None, baseline: bool
) -> Chosen:
    """Return what the study recommends, or the configuration that is asked for.

    Raises NoResultError where the study does not say yet, UsageError for a slot that it lacks.
    """
    if slot is not None and baseline:
        raise UsageError(f"--slot {slot}: leave it out with --baseline, which is slot 0")
    if row.proposed_max_lr is None:
        raise NoResultError(_no_range_test(row))
    if slot is None and not baseline:
        return _recommended(engine, row)
    slot = BASELINE_SLOT if slot is None else slot
    why = "torch's defaults at the proposal" if slot == BASELINE_SLOT else "asked for by --slot"
    return Chosen(
        slot=slot,
        params=_params(engine, row, study, slot),
        why=why,
        confirmed=_confirmed(engine, row, slot),
        n_comparisons=_n_comparisons(row),
    )


def on_both_splits(study: Study, row: StudyRow) -> Study:
    """Return the study with a task that is trained on train and validation together.

    Raises UsageError where a workload cannot, or where nothing would be left to score it.
    """
    joins = getattr(study.task, "with_validation", None)
    if joins is None:
        raise UsageError(
            f"--on train+validation: the {type(study.task).__name__} of study {row.name!r} has no "
            "with_validation(), which returns the same trained on both; leave it out"
        )
    if _n_comparisons(row) is None:
        raise UsageError(
            "--on train+validation: only the test split is left to score that, and it stays "
            f"sealed until study {row.name!r} has been confirmed; leave it out"
        )
    return replace(study, task=joins())


def _no_range_test(row: StudyRow) -> str:
    if row.stage == Stage.FAILED:
        return f"study {row.name!r} ended without a result: {row.reason}"
    return (
        f"study {row.name!r} is in its range test, which proposes the first max_lr: there is no "
        "configuration to train yet"
    )


def _recommended(engine: Engine, row: StudyRow) -> Chosen:
    try:
        result = load_result(engine, row.name)
    except NoResultError as error:
        raise NoResultError(
            f"{error}; --baseline, or --slot N of one that `trials` lists, trains without it"
        ) from None
    best = result.recommended
    return Chosen(
        slot=best.slot,
        params=best.params,
        why="what the study recommends",
        confirmed=best.validation,
        n_comparisons=_n_comparisons(row),
    )


def _params(engine: Engine, row: StudyRow, study: Study, slot: int) -> Params:
    if not 0 <= slot < row.n_trials:
        raise UsageError(
            f"--slot {slot}: study {row.name!r} has the slots 0 to {row.n_trials - 1}"
        )
    with reading(engine) as session:
        works = session.scalars(search_rows(row)).all()
        asked = {work.slot: params_of(work) for work in works}
    # What needs no results is known before a worker has asked for it.
    params = asked.get(slot) or given(
        slot,
        screening=study.screening,
        study_seed=row.seed,
        ranges=Ranges.of(row, study),
    )
    if params is None:
        known = ", ".join(str(each) for each, params in sorted(asked.items()) if params)
        raise UsageError(
            f"--slot {slot}: study {row.name!r} has not chosen its parameters yet; known: "
            f"{known or '0'}"
        )
    return params


def _confirmed(engine: Engine, row: StudyRow, slot: int) -> Estimate | None:
    if row.stage != Stage.FINISHED:
        return None
    candidates = load_result(engine, row.name).candidates
    return next((c.validation for c in candidates if c.slot == slot), None)


def _n_comparisons(row: StudyRow) -> int | None:
    """Return how often the study compared on the test split, None where it is sealed."""
    answer: Answer | None = row.answer
    if answer is None or not answer.test:
        return None
    return sum(each.split == "test" for each in answer.comparisons)
