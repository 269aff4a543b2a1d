"""A small finished study as rows: three configurations, one diverged, two confirmed."""

from collections.abc import Iterator

import numpy as np
from sqlalchemy import Engine

from search.stages import statistics as confirmation
from studies.answer import Answer, Noise
from studies.database import transaction
from studies.tables import Base, PointRecord, StudyRow, WorkRow
from trainers.onecycle import OneCycle

NAME = "a<b>"
EPOCHS, STEPS_PER_EPOCH = 4, 25
DIVERGED_STEP = 37
SEARCH = ((0.08, 0.3, 25.0, 0.97), (0.2, 0.4, 10.0, 0.98), (0.39, 0.1, 3.0, 0.1))
"""max_lr, pct_start, div_factor and score by slot; the baseline first, the last one diverges."""
VALIDATION = {0: (0.96, 0.97, 0.965), 1: (0.98, 0.985, 0.98)}
TEST = {0: (0.95, 0.955, 0.96), 1: (0.97, 0.98, 0.975)}
SWEEP_LRS = np.geomspace(1e-5, 10.0, 120)
DECLARED = {
    "range_test.n_sweeps": "2",
    "range_test.n_steps": "120",
    "range_test.start_lr": "1e-05",
    "range_test.end_lr": "10.0",
}


def study_row() -> StudyRow:
    comparison = confirmation.compare(TEST[1], TEST[0])
    return StudyRow(
        id="the-study",
        name=NAME,
        spec="digits",
        source="",
        declared={"task": "Task", "torch": "2.99", **DECLARED},
        resolved={"precision": "fp32"},
        seed=7,
        direction="maximize",
        metric="accuracy",
        diverged_value=0.1,
        batch_size=64,
        steps_per_epoch=STEPS_PER_EPOCH,
        n_trials=len(SEARCH),
        epochs=EPOCHS,
        beat_s=5.0,
        grace_s=30.0,
        stage="finished",
        edge=1.1,
        bracket_low=0.025,
        bracket_high=0.4,
        proposed_max_lr=0.08,
        ending=Answer(
            winner=1,
            comparisons=(comparison,),
            compared=True,
            test=TEST,
            importances={"max_lr": 0.7, "pct_start": 0.2, "div_factor": 0.1},
            search_noise=Noise(0.004, 4, "neighbours"),
            schedules={
                slot: tuple(
                    OneCycle(max_lr=max_lr, total_steps=EPOCHS * STEPS_PER_EPOCH).samples(50)
                )
                for slot, max_lr in ((0, 0.08), (1, 0.2))
            },
            versions={},
        ),
    )


def run_row(stage: str, slot: int, **columns: object) -> WorkRow:
    shared = {"round": 0, "state": "done", "n_images": 6400, "seconds": 1.5, "device": "TestChip"}
    length = {"sweep_steps": 120} if stage == "range_test" else {"epochs": EPOCHS}
    values = {**shared, **length, "outcome": "completed", **columns}
    return WorkRow(study_id="the-study", stage=stage, slot=slot, **values)


def configuration(slot: int) -> dict[str, dict[str, float]]:
    return {"params": dict(zip(("max_lr", "pct_start", "div_factor"), SEARCH[slot], strict=False))}


def rows() -> Iterator[WorkRow]:
    for slot in range(2):
        yield run_row("range_test", slot)
    for slot, (*_, score) in enumerate(SEARCH):
        ending: dict[str, object] = {"outcome": "completed", "n_steps": EPOCHS * STEPS_PER_EPOCH}
        if slot == 2:
            ending = {"outcome": "diverged", "diverged_step": DIVERGED_STEP, "diverged_lr": 0.31}
        yield run_row("search", slot, score=score, **configuration(slot), **ending)
    for index, (slot, scores) in enumerate(VALIDATION.items()):
        for seed, score in enumerate(scores):
            place = {"candidate": slot, "replicate": seed, **configuration(slot)}
            yield run_row("confirmation", 3 * index + seed, score=score, **place)


def sweep_losses(slot: int) -> np.ndarray:
    """A descent at 0.01, a rise after 0.1, an explosion; the last two are not finite."""
    x = np.log10(SWEEP_LRS)
    losses = 2.3 - 1.8 / (1 + 10 ** (-2 * (x + 2))) + 10 ** (2 * (x + 0.2 * slot))
    losses[-2:] = np.nan
    return losses


def put(engine: Engine) -> None:
    """Make our tables and the study in an empty database."""
    Base.metadata.create_all(engine)
    with transaction(engine) as session:
        session.add(study_row())
        session.flush()
        work = list(rows())
        session.add_all(work)
        session.flush()
        for row in work[:2]:
            for step, loss in enumerate(sweep_losses(row.slot)):
                finite = bool(np.isfinite(loss))
                session.add(
                    PointRecord(
                        work_id=row.id,
                        step=step,
                        lr=float(SWEEP_LRS[step]),
                        loss=float(loss) if finite else None,
                    )
                )
