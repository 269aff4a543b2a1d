"""Time left, against simulated studies on a clock that is handed in: a factor of 1.5 at most."""

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

import pytest

from search.results.time_left import (
    Taken,
    TimeLeft,
    ToDo,
    UnderWay,
    confirmation_totals,
    search_totals,
    time_left,
)
from studies.states import Stage

EPOCHS, STEPS = 8, 400
ORDER = (Stage.RANGE_TEST, Stage.SEARCH, Stage.CONFIRMATION)


@dataclass(frozen=True)
class Kind:
    """A workload by what its runs take, and a worker between two; `counts`: it reports epochs."""

    sweep_s: float
    cycle_s: float
    confirmed_s: float
    counts: bool = True
    between_s: float = 0.3


KINDS = {
    "images": Kind(6.0, 20.0, 22.0),
    "hours": Kind(900.0, 7200.0, 7500.0),
    "scored for long": Kind(3.0, 40.0, 55.0),
    "a loop that counts nothing": Kind(2.0, 12.0, 12.0, counts=False),
    "seconds": Kind(1.0, 1.4, 1.5),
    "less than a second": Kind(0.3, 0.4, 0.4, between_s=0.1),
}


@dataclass(frozen=True)
class Look:
    """What is known when a run has ended, and how long the study really takes from then on."""

    n_ended: int
    said: TimeLeft | None
    truth: float


def looks(
    kind: Kind, *, n_search: int, n_confirmed: int, n_workers: int, seed: int, exact: bool
) -> Iterator[Look]:
    """Yield a look at each end of a run of a simulated study."""
    rng = Random(seed)
    seconds = {
        Stage.RANGE_TEST: kind.sweep_s,
        Stage.SEARCH: kind.cycle_s,
        Stage.CONFIRMATION: kind.confirmed_s,
    }
    free = [(0.0, str(worker)) for worker in range(n_workers)]
    ended: list[Taken] = []
    snapshots: list[tuple[float, TimeLeft | None]] = []
    opened_all = dict.fromkeys(ORDER, 0)
    for stage, size in _batches(n_search, n_confirmed):
        opened_all[stage] += size
        waiting, held = size, list[tuple[float, float, str]]()
        while waiting or held:
            while waiting and free:
                began, worker = heapq.heappop(free)
                waiting -= 1
                took = seconds[stage] * math.exp(rng.gauss(0, 0.08))
                heapq.heappush(held, (began + kind.between_s + took, took, worker))
            now, took, worker = heapq.heappop(held)
            ended.append(
                Taken(
                    stage=stage,
                    seconds=took,
                    n_steps=STEPS // 2 if stage == Stage.RANGE_TEST else STEPS,
                    owner=worker,
                    end_s=now,
                )
            )
            said = time_left(
                ended,
                list(_to_do(stage, waiting, len(held), ended, opened_all, exact, n_search)),
                [_seen(stage, kind, now, end, took) for end, took, _ in held],
                cycle_steps=STEPS,
                cycle_epochs=EPOCHS,
                n_workers=n_workers,
            )
            snapshots.append((now, said))
            heapq.heappush(free, (now, worker))
        begins = max(at for at, _ in free)  # nothing opens before all have ended
        free = [(begins, worker) for _, worker in free]
    end = snapshots[-1][0]
    for n, (now, said) in enumerate(snapshots, 1):
        yield Look(n, said, end - now)


def _batches(n_search: int, n_confirmed: int) -> Iterator[tuple[Stage, int]]:
    """Yield what opens together: two sweeps, the search, two cycles of a race at a time, pairs."""
    yield Stage.RANGE_TEST, 2
    yield Stage.SEARCH, n_search
    n_race = min(n_confirmed, 8)
    for _ in range(n_race // 2):
        yield Stage.CONFIRMATION, 2
    left = n_confirmed - n_race
    for size in (6, 2, 2, 4, 6):
        if left >= size:
            yield Stage.CONFIRMATION, size
            left -= size


def _seen(stage: Stage, kind: Kind, now: float, end: float, took: float) -> UnderWay:
    elapsed = took - (end - now)
    counts = kind.counts and stage != Stage.RANGE_TEST
    return UnderWay(
        stage=stage,
        share=math.floor(EPOCHS * elapsed / took) / EPOCHS if counts else None,
        elapsed_s=max(0.0, elapsed),
        epoch_s=took / EPOCHS if counts else None,
    )


def _to_do(
    stage: Stage,
    waiting: int,
    running: int,
    ended: Sequence[Taken],
    opened: dict[Stage, int],
    exact: bool,
    n_search: int,
) -> Iterator[ToDo]:
    totals = {
        Stage.RANGE_TEST: {2: 1},
        Stage.SEARCH: {n_search: 1} if exact else search_totals(24),
        Stage.CONFIRMATION: confirmation_totals(32, n_pairs=10),
    }
    for each in ORDER[ORDER.index(stage) :]:
        is_open = each == stage
        if is_open and each == Stage.SEARCH:
            begun = running + sum(run.stage == each for run in ended)
            yield ToDo(stage=each, waiting=0, running=running, opened=begun, totals=totals[each])
        else:
            yield ToDo(
                stage=each,
                waiting=waiting if is_open else 0,
                running=running if is_open else 0,
                opened=opened[each],
                totals=totals[each],
            )


def ratio(look: Look) -> float:
    """Return how many times too long the time is that is said."""
    assert look.said is not None
    return look.said.seconds / look.truth


@pytest.mark.parametrize("n_workers", [1, 2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_after_the_third_run_a_study_of_known_length_is_said_within_a_factor_of_1_5(
    kind: str, n_workers: int
) -> None:
    for seed in range(5):
        study = list(
            looks(
                KINDS[kind],
                n_search=24,
                n_confirmed=18,
                n_workers=n_workers,
                seed=seed,
                exact=True,
            )
        )
        searching = [look for look in study if 3 <= look.n_ended <= 2 + 24]
        assert all(1 / 1.5 <= ratio(look) <= 1.5 for look in searching)
        assert study[0].said is not None, "one sweep tells something"


def test_searches_that_end_by_themselves_are_said_as_often_as_their_spread_allows() -> None:
    rng, within, held, n = Random(1), 0, 0, 0
    searches, confirmations = search_totals(24), confirmation_totals(32, n_pairs=10)
    for seed in range(300):
        study = list(
            looks(
                KINDS["images"],
                n_search=_drawn(searches, rng),
                n_confirmed=_drawn(confirmations, rng) // 2 * 2,
                n_workers=1 + seed % 2,
                seed=seed,
                exact=False,
            )
        )
        third = study[2]
        assert third.said is not None
        n += 1
        within += 1 / 1.5 <= ratio(third) <= 1.5
        held += third.said.low <= third.truth <= third.said.high
    print(f"within a factor of 1.5: {within / n:.2f}, within the range: {held / n:.2f}")
    assert within / n > 0.7
    assert held / n > 0.72


def _drawn(totals: dict[int, int], rng: Random) -> int:
    return rng.choices(list(totals), weights=list(totals.values()))[0]


def taken(stage: Stage, seconds: float, **more: object) -> Taken:
    values = {"n_steps": STEPS, "owner": "w", "end_s": 0.0, **more}
    return Taken(stage=stage, seconds=seconds, **values)  # type: ignore[arg-type]


def left(runs: Sequence[Taken], to_do: ToDo, *held: UnderWay, n_workers: int = 1) -> TimeLeft:
    said = time_left(
        runs, [to_do], held, cycle_steps=STEPS, cycle_epochs=EPOCHS, n_workers=n_workers
    )
    assert said is not None
    return said


SIX = ToDo(stage=Stage.SEARCH, waiting=6, running=0)


def test_nothing_measured_says_nothing() -> None:
    said = time_left([], [SIX], [], cycle_steps=STEPS, cycle_epochs=EPOCHS, n_workers=1)
    assert said is None


def test_each_stage_costs_what_its_own_runs_took() -> None:
    runs = [taken(Stage.RANGE_TEST, 1.0), taken(Stage.SEARCH, 10.0)]
    assert left(runs, SIX).seconds == pytest.approx(60)
    assert left(runs, ToDo(stage=Stage.RANGE_TEST, waiting=2, running=0)).seconds == 2.0


def test_a_cycle_that_broke_at_once_does_not_stand_for_one() -> None:
    broke = taken(Stage.SEARCH, 0.1, diverged=True, n_steps=4)
    said = left([taken(Stage.RANGE_TEST, 10.0), broke], SIX)
    assert said.seconds == pytest.approx(6 * 10.1 / 404 * 400)
    assert left([broke, taken(Stage.SEARCH, 9.9)], SIX).seconds == pytest.approx(30), "half break"


def test_a_cycle_known_by_sweeps_alone_has_a_wide_range() -> None:
    said = left([taken(Stage.RANGE_TEST, 10.0)], SIX)
    assert said.high / said.low == pytest.approx(1.5**2)
    assert said.text() == "about 60 s (40 s to 2 min) left"
    assert left([taken(Stage.SEARCH, 10.0)], SIX).text() == "about 60 s left"


def test_what_a_worker_takes_between_runs_counts() -> None:
    runs = [taken(Stage.SEARCH, 2.0, end_s=3.0 * n) for n in range(4)]
    assert left(runs, SIX).seconds == pytest.approx(6 * 3.0)


def test_what_a_worker_loads_for_its_first_choice_is_not_taken_for_usual() -> None:
    ends = [0.5, 2.5, 3.1, 3.7, 4.3]  # the second run was chosen in 1.5 s, the others in 0.1 s
    runs = [taken(Stage.SEARCH, 0.5, end_s=end_s) for end_s in ends]
    assert left(runs, SIX).seconds == pytest.approx(6 * 0.6)


def test_what_a_worker_waits_in_a_confirmation_counts_on_average() -> None:
    runs = [taken(Stage.CONFIRMATION, 1.0, end_s=end_s) for end_s in (1.0, 2.0, 4.0, 5.0, 7.0)]
    six = ToDo(stage=Stage.CONFIRMATION, waiting=6, running=0)
    assert left(runs, six).seconds == pytest.approx(6 * 1.5)


def test_a_run_of_which_another_worker_had_a_part_tells_less_than_whole_ones() -> None:
    runs = [taken(Stage.SEARCH, 10.0), taken(Stage.SEARCH, 1.0, resumed=True)]
    assert left(runs, SIX).seconds == pytest.approx(60)
    assert left(runs[1:], SIX).seconds == pytest.approx(6)


@pytest.mark.parametrize(
    ("run", "over"),
    [
        (UnderWay(stage=Stage.SEARCH, share=0.5, elapsed_s=1.0), 0.5),
        (UnderWay(stage=Stage.SEARCH, share=None, elapsed_s=2.5), 0.25),
        (UnderWay(stage=Stage.SEARCH, share=None, elapsed_s=99.0), 0.95),
    ],
)
def test_a_run_under_way_counts_by_its_epochs_or_by_the_clock(run: UnderWay, over: float) -> None:
    one = ToDo(stage=Stage.SEARCH, waiting=0, running=1)
    assert left([taken(Stage.SEARCH, 10.0)], one, run).seconds == pytest.approx(10 * (1 - over))


def test_the_slower_recent_runs_count() -> None:
    runs = [taken(Stage.SEARCH, 1.0)] * 20 + [taken(Stage.SEARCH, 3.0)] * 10
    assert left(runs, SIX).seconds == pytest.approx(18)


def test_a_search_longer_than_any_recorded_one_still_ends() -> None:
    long = ToDo(stage=Stage.SEARCH, waiting=0, running=0, opened=60, totals=search_totals(200))
    assert 1 <= left([taken(Stage.SEARCH, 1.0)], long).seconds < 10


@pytest.mark.parametrize("most", [2, 7, 24, 200])
def test_a_search_comes_to_no_more_than_its_most(most: int) -> None:
    assert max(search_totals(most)) == min(most, 24)


@pytest.mark.parametrize(
    ("most", "n_pairs", "usual"),
    [(32, 10, 18), (15, 3, 14), (2, 0, 2), (62, 25, 18), (26, 10, 12)],
)
def test_a_confirmation_is_as_long_as_recorded_ones_of_its_size(
    most: int, n_pairs: int, usual: int
) -> None:
    totals = confirmation_totals(most, n_pairs=n_pairs)
    assert min(totals) >= 2
    assert max(totals) <= most
    assert max(totals, key=lambda n: totals[n]) == usual


def test_of_a_confirmation_as_recorded_nothing_is_changed() -> None:
    assert len(confirmation_totals(32, n_pairs=10)) >= 15
    assert max(confirmation_totals(32, n_pairs=10)) == 32
