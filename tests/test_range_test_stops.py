"""The sweeps of a stored study: as many as its edges ask for, whoever makes them."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import URL, Engine, select

from search.starting import catalog
from search.workers.stop import Stop
from search.workers.worker import Worker
from studies.database import open_engine, prepare, reading
from studies.definition import RangeTest, Space, Study
from studies.registry import Definition
from studies.tables import StudyRow, WorkRow
from tests.table_study import STEPS_PER_EPOCH, STUDY, Formula, sweep_loss
from trainers.device import Site
from trainers.run import Run, RunResult
from trainers.seeding import run_seed_for
from trainers.table import TableTrainer
from trainers.task import OwnLoop

MOST = 4
AGREE, DIFFER = (1.0, 1.2, 1.0, 1.0), (0.2, 1.0, 0.9, 1.1)
"""What each slot's edge is multiplied by: within 0.3 decades, and further apart."""
SLOW = MOST


class Sweeps(TableTrainer):
    """Sweeps whose edges a test says by slot; it writes down which were made."""

    def __init__(self, factors: Sequence[float], *, stop: Stop | None = None) -> None:
        super().__init__(Formula(), batch_size=10, steps_per_epoch=STEPS_PER_EPOCH)
        room = MOST + 1
        self.factors = {
            run_seed_for(0, "range_test", 0, room * n + slot): factor
            for n, start in enumerate(range(0, len(factors), MOST))
            for slot, factor in enumerate((*factors[start : start + MOST], 1.0))
        }
        self.stop, self.made = stop, list[int]()

    def fit(self, run: Run) -> RunResult:
        if run.seed not in self.factors:
            return super().fit(run)
        self.made.append(run.seed)
        if self.stop is not None and self.made.count(run.seed) == 1:
            self.stop.ask()
        self.table = At(self.factors[run.seed])  # type: ignore[assignment]
        self.batch_size = run.batch_size or 10
        return super().fit(run)


@dataclasses.dataclass
class At(Formula):
    """The study's losses with the edge elsewhere."""

    factor: float

    def losses(self, lrs: Sequence[float], *, seed: int) -> Sequence[float]:
        return [sweep_loss(lr / self.factor) for lr in lrs]


@dataclasses.dataclass
class Bench:
    """A stored study, and ways to work on its range test."""

    engine: Engine
    row: StudyRow
    study: Study
    site: Site

    def work(self, trainer: TableTrainer, *, stop: Stop | None = None) -> None:
        Worker(
            self.engine,
            self.row,
            self.study,
            trainer=trainer,
            site=self.site,
            stop=stop or Stop(),
            only="range_test",  # type: ignore[arg-type]
        ).work()

    def sweeps(self) -> dict[int, tuple[int | None, int]]:
        """Return steps and number of claims by slot."""
        with reading(self.engine) as session:
            works = session.scalars(select(WorkRow).where(WorkRow.stage == "range_test"))
            return {work.slot: (work.sweep_steps, work.token) for work in works}

    def stored(self) -> StudyRow:
        return catalog.find(self.engine, self.row.name)


@pytest.fixture
def engine(sqlite_url: URL) -> Iterator[Engine]:
    engine = open_engine(sqlite_url)
    prepare(engine)
    yield engine
    engine.dispose()


def bench_of(engine: Engine, folder: Path, **changes: object) -> Bench:
    study = dataclasses.replace(
        STUDY,
        task=OwnLoop(factory=Sweeps, batch_size=10, steps_per_epoch=STEPS_PER_EPOCH),  # type: ignore[arg-type]
        range_test=RangeTest(n_sweeps=MOST, n_steps=60),
        **changes,
    )
    row = catalog.find_or_create(engine, Definition(study, "", ""), name="table", seed=None)
    return Bench(engine, row, study, Site(device="cpu", data=None, cache=folder))


@pytest.mark.parametrize("n_workers", [1, 3])
@pytest.mark.parametrize(
    ("factors", "expected"),
    [
        (AGREE, {0: 60, 1: 60}),
        # The fourth brings the interval below a factor of 4: 0.2, 1.0, 0.9 alone say too little.
        (DIFFER, {0: 60, 1: 60, 2: 60, 3: 60, SLOW: 120}),
    ],
)
def test_a_study_makes_the_sweeps_that_its_edges_ask_for_and_no_other(
    engine: Engine,
    tmp_path: Path,
    n_workers: int,
    factors: Sequence[float],
    expected: Mapping[int, int],
) -> None:
    bench = bench_of(engine, tmp_path)
    trainers = [Sweeps(factors) for _ in range(n_workers)]
    with ThreadPoolExecutor(n_workers) as pool:
        list(pool.map(bench.work, trainers))
    assert bench.sweeps() == {slot: (steps, 1) for slot, steps in expected.items()}
    assert sum(len(trainer.made) for trainer in trainers) == len(expected)
    assert bench.stored().stage == "search"


def test_the_first_two_sweeps_are_opened_together_and_the_others_one_at_a_time(
    engine: Engine, tmp_path: Path
) -> None:
    bench, trainer = bench_of(engine, tmp_path), Sweeps(DIFFER)
    seen = [len(bench.sweeps())]
    while bench.stored().stage == "range_test":
        trainer.stop = Stop()
        bench.work(trainer, stop=trainer.stop)
        seen.append(len(bench.sweeps()))
    assert sorted(set(seen)) == [2, 3, 4, 5]


def test_a_range_test_stopped_in_every_sweep_ends_as_one_that_is_not(
    engine: Engine, tmp_path: Path
) -> None:
    bench = bench_of(engine, tmp_path)
    bench.work(Sweeps(DIFFER))
    undisturbed = bench.stored()
    catalog.delete(engine, "table")
    bench = bench_of(engine, tmp_path)
    trainer = Sweeps(DIFFER)
    while bench.stored().stage == "range_test":
        stop = trainer.stop = Stop()
        bench.work(trainer, stop=stop)
    ended = bench.stored()
    assert set(bench.sweeps()) == {0, 1, 2, 3, SLOW}
    assert max(Counter(trainer.made).values()) > 1, "sweeps were given back and made again"
    for name in ("edge", "bracket_low", "bracket_high", "proposed_max_lr"):
        assert getattr(ended, name) == getattr(undisturbed, name)


def test_each_batch_size_stops_on_its_own(engine: Engine, tmp_path: Path) -> None:
    bench = bench_of(engine, tmp_path, space=Space(pct_start=(0.3, 0.6), batch_size=(10, 20, 40)))
    bench.work(Sweeps((*AGREE, *DIFFER, *AGREE)))
    second, third = MOST + 1, 2 * (MOST + 1)
    slots = [0, 1, *range(second, third), third, third + 1]
    assert sorted(bench.sweeps()) == slots
    assert set(bench.stored().batch_sizes or {}) == {"10", "20", "40"}


def test_sweeps_that_were_all_opened_at_once_are_simply_made(
    engine: Engine, tmp_path: Path
) -> None:
    """As studies stored them before range tests stopped."""
    from studies.database import transaction

    bench = bench_of(engine, tmp_path)
    with transaction(engine) as session:
        session.add_all(
            WorkRow(
                study_id=bench.row.id, stage="range_test", round=0, slot=slot, sweep_steps=steps
            )
            for slot, steps in ((2, 60), (3, 60), (SLOW, 120))
        )
    bench.work(Sweeps(AGREE))
    assert bench.sweeps() == {slot: (60, 1) for slot in range(MOST)} | {SLOW: (120, 1)}
    assert bench.stored().stage == "search"
