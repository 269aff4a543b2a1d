"""Stage 3: finalists and baseline race, then the pick is paired with the baseline."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from sqlalchemy.orm import Session

from search.queue.rows import done_rows
from search.stages.believed import Belief, belief_of
from search.stages.ending import GIVEN_UP, Cycles, answer_of, ending_at_once
from search.stages.finalists import finalists_of, racers_of
from search.stages.race import (
    AT_ONCE,
    GOOD_ENOUGH,
    MOST_EACH,
    Racers,
    Scores,
    expected_loss,
    next_cycles,
)
from search.stages.rounds import (
    PAIRS_FROM,
    Round,
    by_candidate,
    done,
    newest_round,
    next_round,
    whole_pairs,
)
from search.stages.search import BASELINE_SLOT, cycles_of, none_of_use
from search.stages.sequential import (
    Spread,
    compare_in_looks,
    has_ended,
    looks_of,
    looks_with_losses,
)
from search.stages.statistics import squares_of_pairs
from studies.answer import Answer, Comparison, NoAnswer
from studies.definition import Study
from studies.states import BROKEN, Stage, sign_of
from studies.tables import StudyRow, WorkRow

SHARED = 2
"""Seeds that a baseline which wins the race has in common with the best of the others: fewer have
no interval."""


def open_round(session: Session, row: StudyRow, study: Study) -> list[WorkRow]:
    """Return the first runs of a new round."""
    begun = Confirming.of(session, row, study, next_round(session, row)).go_on()
    assert isinstance(begun, list)
    return begun


def go_on(session: Session, row: StudyRow, study: Study) -> list[WorkRow] | Answer | NoAnswer:
    """Return the runs that open next, or what the confirmation concludes; no run of it is open.

    Both are a pure function of what is stored. A round that an earlier version opened ends by the
    rule of that version.
    """
    this = newest_round(session, row)
    if this.is_of_before:
        return ending_at_once(row, study, this, _cycles_of(session, row))
    return Confirming.of(session, row, study, this).go_on()


@dataclass(frozen=True, eq=False)
class Confirming:
    """One round, and what it rests on."""

    row: StudyRow
    study: Study
    this: Round
    cycles: Cycles

    @classmethod
    def of(cls, session: Session, row: StudyRow, study: Study, this: Round) -> "Confirming":
        return cls(row, study, this, _cycles_of(session, row))

    def go_on(self) -> list[WorkRow] | Answer | NoAnswer:
        """Return the runs that open next, or what the confirmation concludes."""
        if self.this.has_lost_baseline:
            return NoAnswer(GIVEN_UP)
        # A pick stays one: what its pairs say of others does not choose again.
        pick = next((slot for slot in self._paired if slot not in self._gone), None)
        if pick is None:
            racing = self._next_in_race()
            if racing:
                return self._race_runs(racing)
            pick = self._now.leader
        if pick != BASELINE_SLOT and (n_pairs := self._n_next_pairs(pick)):
            return self._pair_runs(pick, n_pairs)
        if all(work.outcome in BROKEN for work in done(self.this.works)):
            return NoAnswer(none_of_use(done(self.this.works), self.row))
        return answer_of(
            self.row,
            self.study,
            self.this,
            self.cycles,
            winner=pick,
            comparison=None if pick == BASELINE_SLOT else self._comparison(pick),
        )

    @cached_property
    def _paired(self) -> list[int]:
        """The picks so far, one after the other where an earlier one was given up."""
        picks = (two[0].candidate for two in self.this.pairs())
        return list(dict.fromkeys(pick for pick in picks if pick is not None))

    @cached_property
    def _gone(self) -> set[int]:
        """Who is no finalist any more: given up, or broken by a fresh seed of the race."""
        lost = {
            pick
            for pick in self._paired
            if not self._n_next_pairs(pick) and self._comparison(pick) is None
        }
        return self.this.out_of_the_race | lost

    @cached_property
    def _belief(self) -> Belief:
        """What was believed when the round opened."""
        earlier = [w for w in self.cycles.confirmed if w.round < self.this.number]
        belief = belief_of(self.row, self.study, self.cycles.searched, earlier)
        assert belief is not None  # no search in which every cycle broke comes here
        return belief

    @cached_property
    def _racers(self) -> Racers:
        """The baseline and those finalists who are left, as the search saw them."""
        began = {work.candidate for work in self.this.works if work.candidate is not None}
        before = BASELINE_SLOT if self.row.answer is None else self.row.answer.winner
        n = self.study.confirmation.n_finalists
        finalists = finalists_of(self._belief, n=n, before=before)
        # Who was trained stays one, should another machine's rounding rank others.
        slots = dict.fromkeys((BASELINE_SLOT, *finalists, *sorted(began)))
        left = [slot for slot in slots if slot not in self._gone]
        return racers_of(self._belief, left)

    @cached_property
    def _now(self) -> Racers:
        """The racers as they are seen after the finished cycles of this round."""
        return self._racers.after(self._scores(done(self.this.works)))

    def _scores(self, works: Iterable[WorkRow]) -> Scores:
        sign = sign_of(self.row.direction)
        scores = by_candidate(works, "score")
        return {slot: {r: sign * v for r, v in by.items()} for slot, by in scores.items()}

    def _next_in_race(self) -> list[int]:
        """Return the slots that the race trains next; none once there is a pick."""
        racers, most = self._racers, most_raced(self.study, len(self.cycles.searched))
        if len(racers.slots) > 1 and len(self.this.race) + AT_ONCE <= most:
            scores = self._scores(done(self.this.race))
            now = racers.after(scores)
            if expected_loss(now) > GOOD_ENOUGH * self._belief.unit:
                return next_cycles(racers, scores)
        if self._now.leader != BASELINE_SLOT:
            return []
        alone = self._now.ranked()[:2]
        return [slot for slot in alone for _ in range(SHARED - self.this.n_raced(slot))]

    def _n_next_pairs(self, pick: int) -> int:
        """Return how many pairs open next, up to the next look; 0 where they have ended."""
        planned, pairs = looks_of(self.study.confirmation.n_seeds), self.this.pairs(pick)
        comparison = self._comparison(pick)
        if len(pairs) >= planned[-1] or (comparison is not None and has_ended(comparison)):
            return 0
        look = max((look for look in (0, *planned) if look < len(pairs)), default=0)
        if pairs and not whole_pairs(pairs[look:]):
            return 0
        return next(look for look in planned if look > len(pairs)) - len(pairs)

    def _comparison(self, pick: int) -> Comparison | None:
        """Return what the pairs of a pick show so far, None where fewer than two are whole."""
        pairs = self.this.pairs(pick)
        whole = whole_pairs(pairs)
        if len(whole) < 2:
            return None
        sealed = all(work.sealed_score is not None for two in whole for work in two)
        column = "sealed_score" if sealed else "score"
        most = looks_of(self.study.confirmation.n_seeds)
        return compare_in_looks(
            [getattr(own, column) - getattr(other, column) for own, other in whole],
            self._spread(column),
            looks=looks_with_losses([two in whole for two in pairs], most),
            sign=sign_of(self.row.direction),
            split="test" if sealed else "validation",
        )

    def _spread(self, column: str) -> Spread:
        """Return what all other confirmation cycles say of a pair's deviation.

        Of the test split these are squares about means: no score of it chooses, and no other
        difference is looked at.
        """
        scores: dict[int, dict[tuple[int, int], float]] = {}
        for work in self.cycles.confirmed:
            value, replicate = getattr(work, column), work.replicate
            paired = work.round == self.this.number and (replicate or 0) >= PAIRS_FROM
            if value is None or paired or work.outcome in BROKEN:
                continue
            assert work.candidate is not None
            assert replicate is not None
            scores.setdefault(work.candidate, {})[work.round, replicate] = value
        return Spread(*squares_of_pairs(scores))

    def _race_runs(self, slots: Iterable[int]) -> list[WorkRow]:
        """Return a run of each of these candidates, with the next seed that is new to it."""
        trained = Counter(work.candidate for work in self.this.race)
        runs = list[tuple[int, int]]()
        for slot in slots:
            runs.append((slot, trained[slot]))
            trained[slot] += 1
        return self._runs(runs)

    def _pair_runs(self, pick: int, n: int) -> list[WorkRow]:
        """Return the runs of `n` pairs, each with a seed that nobody was trained with."""
        first = PAIRS_FROM + len(self.this.pairs())
        replicates = range(first, first + n)
        return self._runs([(slot, r) for r in replicates for slot in (pick, BASELINE_SLOT)])

    def _runs(self, runs: Iterable[tuple[int, int]]) -> list[WorkRow]:
        """Return runs, each of a candidate with a replicate."""
        params = {work.slot: work.params for work in self.cycles.searched}
        return [
            WorkRow(
                study_id=self.row.id,
                stage=Stage.CONFIRMATION,
                round=self.this.number,
                epochs=self.row.epochs,
                slot=self.this.next_slot + n,
                candidate=candidate,
                replicate=replicate,
                params=params[candidate],
            )
            for n, (candidate, replicate) in enumerate(runs)
        ]


def most_raced(study: Study, n_trials: int) -> int:
    """Return the cycles that a race takes at most, after a search of `n_trials`."""
    return MOST_EACH * (min(study.confirmation.n_finalists, n_trials - 1) + 1)


def _cycles_of(session: Session, row: StudyRow) -> Cycles:
    return Cycles(cycles_of(session, row), done_rows(session, row.id, Stage.CONFIRMATION))
