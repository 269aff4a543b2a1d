"""A finished study of many trials with learning curves, as rows: nothing is trained."""

import math
from collections.abc import Iterator
from dataclasses import asdict
from random import Random

from sqlalchemy import Engine, insert

from studies.answer import Answer, Noise
from studies.database import transaction
from studies.tables import Base, EpochRecord, StudyRow, WorkRow
from tests.finished_rows import study_row
from trainers.curve import Thinned
from trainers.onecycle import OneCycle
from trainers.run import EpochRow, Point

NAME = "learned"
STEPS_PER_EPOCH = 20


def put(engine: Engine, *, n_trials: int, epochs: int) -> None:
    """Make our tables and the study in an empty database."""
    Base.metadata.create_all(engine)
    with transaction(engine) as session:
        session.add(_study(n_trials, epochs))
        session.flush()
        cycles = list(_cycles(n_trials, epochs))
        session.add_all(work for work, _ in cycles)
        session.flush()
        rows = [{**asdict(e), "work_id": work.id} for work, of in cycles for e in of]
        session.execute(insert(EpochRecord), rows)


def _study(n_trials: int, epochs: int) -> StudyRow:
    row = study_row()
    row.name, row.epochs, row.n_trials = NAME, epochs, n_trials
    row.steps_per_epoch = STEPS_PER_EPOCH
    assert isinstance(row.ending, Answer)
    total = epochs * STEPS_PER_EPOCH
    schedules = {
        slot: tuple(OneCycle(max_lr=_rate(slot), total_steps=total).samples(50))
        for slot in range(3)
    }
    row.ending = Answer(
        winner=1,
        comparisons=row.ending.comparisons,
        compared=True,
        test=row.ending.test,
        importances=row.ending.importances,
        search_noise=Noise(0.004, 4, "neighbours"),
        schedules=schedules,
        versions={},
    )
    return row


def _rate(slot: int) -> float:
    return 0.08 * 10 ** (0.9 * math.sin(slot))


def _cycles(n_trials: int, epochs: int) -> Iterator[tuple[WorkRow, list[EpochRow]]]:
    for slot in range(n_trials):
        yield _cycle("search", slot, slot, None, epochs)
    for number in range(15):
        yield _cycle("confirmation", number + 1, number % 3, number // 3, epochs)


def _cycle(
    stage: str, slot: int, candidate: int, seed: int | None, epochs: int
) -> tuple[WorkRow, list[EpochRow]]:
    total, draw = epochs * STEPS_PER_EPOCH, Random(f"{stage} {slot}")
    max_lr = _rate(candidate)
    lrs = OneCycle(max_lr=max_lr, total_steps=total).lrs()
    breaks_at = total // 3 if seed is None and max_lr > 0.6 else total
    level = 0.25 + 0.3 * abs(math.log10(max_lr / 0.1))
    losses = [level + 2 * math.exp(-6 * s / total) + draw.gauss(0, 0.08) for s in range(breaks_at)]
    points = [Point(s, lr, loss) for s, (lr, loss) in enumerate(zip(lrs, losses, strict=False))]
    if breaks_at < total:
        points += [Point(breaks_at, lrs[breaks_at], math.nan)]
    thinned = Thinned(total)
    thinned.read(points)
    said = [
        EpochRow(
            epoch=n,
            lr_first=lrs[(n - 1) * STEPS_PER_EPOCH],
            lr_last=lrs[n * STEPS_PER_EPOCH - 1],
            train_loss=sum(losses[(n - 1) * STEPS_PER_EPOCH : n * STEPS_PER_EPOCH])
            / STEPS_PER_EPOCH,
            train_accuracy=0.5,
            validation_loss=losses[n * STEPS_PER_EPOCH - 1] + 0.1 + draw.gauss(0, 0.03),
            validation_accuracy=1 - 0.3 * losses[n * STEPS_PER_EPOCH - 1] + draw.gauss(0, 0.01),
            seconds=1.0,
            images_per_s=100.0,
        )
        for n in range(1, breaks_at // STEPS_PER_EPOCH + 1)
    ]
    broke = breaks_at < total
    work = WorkRow(
        study_id="the-study",
        stage=stage,
        round=0,
        epochs=epochs,
        slot=slot,
        candidate=None if seed is None else candidate,
        replicate=seed,
        state="done",
        params={"max_lr": max_lr, "pct_start": 0.3, "div_factor": 25.0},
        trial_number=slot if seed is None else None,
        outcome="diverged" if broke else "completed",
        score=0.1 if broke else said[-1].validation_accuracy,
        diverged_step=breaks_at if broke else None,
        diverged_lr=lrs[breaks_at] if broke else None,
        n_steps=len(points),
        n_images=64 * len(points),
        seconds=1.0,
        device="TestChip",
        step=len(points),
        curve=thinned.curve(),
    )
    return work, said
