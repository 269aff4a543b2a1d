"""The judge of searches: what it counts, pairs, leaves out and keeps."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.families.table import FAMILIES, apart_from
from benchmarks.families.world import FamilyWorld
from benchmarks.fit_surrogate import FOLDS
from benchmarks.judge import alone, former, ours
from benchmarks.judge.__main__ import RECORDED, lacking
from benchmarks.judge.answers import Answer, Answers, Compared
from benchmarks.judge.constants import held_out
from benchmarks.judge.counted import Counted
from benchmarks.judge.judged import FITTED, NAMES, Judged, relatives
from benchmarks.judge.kept import Kept, Row, Verdict
from benchmarks.judge.page import page
from benchmarks.judge.refits import Measured
from benchmarks.judge.refits import left_out as fitted_without
from benchmarks.judge.report import Regrets, confirmations, median
from benchmarks.judge.trained import CHOSEN, STRATEGIES, KeptSearches, Searched, differences
from search.belief import surrogate
from search.belief.kernel import Constants
from search.params import Params
from search.stages.space import Ranges
from tests.table_study import STUDY, Formula, cycle_score, sweep_loss
from trainers.errors import UserError
from trainers.onecycle import OneCycle


class Ledger(Formula):
    """A table that writes down every step, as a training would take them."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def scores(self, cycle: OneCycle, *, epochs: int, seed: int) -> tuple[float, float]:
        self.steps.append(cycle.total_steps)
        return super().scores(cycle, epochs=epochs, seed=seed)

    def losses(self, lrs: Sequence[float], *, seed: int) -> Sequence[float]:
        self.steps.append(len(lrs))
        return super().losses(lrs, seed=seed)

    @property
    def cycles(self) -> float:
        return sum(self.steps) / STUDY.cycle_steps


def test_an_answer_costs_every_sweep_and_cycle_that_led_to_it() -> None:
    for budget in (6, 10):
        ledger = Ledger()
        search = ours.Search(STUDY, ledger, seed=1)
        found = ours.within_budgets(search, budgets=(budget,))["ours"]
        assert found.by_budget[f"{budget}"].cycles == pytest.approx(ledger.cycles)
        assert budget - 1 < ledger.cycles <= budget


def test_a_confirmed_answer_costs_its_confirmation_too() -> None:
    ledger = Ledger()
    found = ours.to_the_end(ours.Search(STUDY, ledger, seed=1))
    assert found.by_budget["confirmed"].cycles == pytest.approx(ledger.cycles)
    assert found.compared is not None
    ledger = Ledger()
    found = former.to_the_end(former.FormerSearch(STUDY, ledger, seed=1))
    assert found.by_budget["confirmed"].cycles == pytest.approx(ledger.cycles)
    sweeps = former.N_SWEEPS * 60 + 120
    cycles = former.N_TRIALS + 4 * former.N_SEEDS
    assert sum(ledger.steps) == sweeps + cycles * STUDY.cycle_steps


def test_a_range_test_beyond_the_budget_is_answered_at_what_it_costs() -> None:
    search = former.FormerSearch(STUDY, Formula(), seed=1)
    (answer,) = former.within_budgets(search, budgets=(6,)).by_budget.values()
    assert search.swept == (former.N_SWEEPS * 60 + 120) / STUDY.cycle_steps == answer.cycles
    assert answer.params.max_lr == search.proposal.max_lr


def test_plain_optuna_answers_with_its_best_trial_within_its_range() -> None:
    ledger = Ledger()
    low, high = 0.05, 0.5
    found = alone.searched(
        STUDY, ledger, seed=3, sampler="tpe", max_lr=(low, high), budgets=(2, 12)
    ).by_budget
    assert found["12"].cycles == ledger.cycles == 12
    plans = [found[budget].params.plan(STUDY.cycle_steps) for budget in ("2", "12")]
    assert all(low <= plan.max_lr <= high for plan in plans)
    assert cycle_score(plans[1]) > cycle_score(plans[0]) - 0.05


def test_a_sweep_counts_until_it_breaks() -> None:
    class Breaks(Formula):
        def losses(self, lrs: Sequence[float], *, seed: int) -> Sequence[float]:
            return [2.3] * 9 + [float("nan")] * (len(lrs) - 9)

    counted = Counted(Breaks(), STUDY, seed=0)
    counted.losses([0.1] * 60, seed=0)
    assert counted.swept == 10 / STUDY.cycle_steps == counted.cycles


def test_strategies_of_a_repetition_see_the_same_sweeps_and_none_twice() -> None:
    class Numbered(Formula):
        def losses(self, lrs: Sequence[float], *, seed: int) -> Sequence[float]:
            return [float(seed % 12)] * len(lrs)

    def seen(seed: int) -> list[float]:
        counted = Counted(Numbered(), STUDY, seed=seed)
        return [counted.losses([0.1] * 5, seed=n)[0] for n in range(6)]

    assert seen(12_345) == seen(12_345)
    assert all(len(set(seen(seed))) == 6 for seed in range(0, 9_000, 1_234))
    assert len({tuple(seen(seed)) for seed in range(0, 90_000, 1_234)}) > 20


def _small() -> Judged:
    wide = Ranges(others=STUDY.parameters, bracket=(0.01, 4.0), proposed_max_lr=0.2)
    recorded = {}
    for number, params in enumerate(wide.candidates(16, seed=1)):
        score = cycle_score(params.plan(STUDY.cycle_steps))
        noise = 0.004 * (-1) ** number
        recorded[params] = {0: (score + noise, score), 1: (score - noise, score)}
    lrs = np.geomspace(1e-5, 10, 60)
    sweeps = [[sweep_loss(float(lr)) for lr in lrs]]
    return Judged(FamilyWorld(STUDY, recorded, sweeps), (0.01, 4.0))


def test_who_knows_the_truth_loses_nothing_and_nobody_gains() -> None:
    family = _small()
    dense = family.dense()
    truth = family.world.truth(dense)
    best = dense[int(np.argmax(truth))]
    assert family.regret(best) == 0
    lost = [family.regret(params) for params in dense[:50]]
    assert min(lost) >= 0
    assert lost == pytest.approx([100 * (max(truth) - t) for t in truth[:50]])
    ahead, _ = family.ahead(best, dense[0])
    assert ahead == pytest.approx(lost[0])


def test_what_is_left_out_shares_net_or_data_and_all_of_it_is() -> None:
    for name, family in FAMILIES.items():
        taught = apart_from(name)
        assert name not in taught
        for other in set(taught) & FAMILIES.keys():
            assert FAMILIES[other].net != family.net
            assert FAMILIES[other].data != family.data
        if family.data == "cifar":
            assert not set(FITTED) & set(taught)
        for other in FAMILIES:
            shares = FAMILIES[other].net == family.net or FAMILIES[other].data == family.data
            assert (other in relatives(name)) == shares
    assert all(name in relatives(name) for name in NAMES)


def test_a_fit_never_sees_the_family_that_it_is_judged_on() -> None:
    def measured(name: str) -> Measured:
        return Measured(name, False, 300, 32, np.zeros((1, 1, 1)), (0.0, 0.0))

    odd, *others = map(measured, ("digits-conv", "markov-gru", "sensors-lstm", "signals-conv"))
    # The odd one alone is best at 1, the others at 0: they teach it 0.
    found = fitted_without(
        [odd, *others], [0, 1], lambda family, choice: 10.0 * ((family is odd) != choice)
    )
    assert found["digits-conv"] == (10.0, 0)


def _row(strategy: str, repetition: int, lost: float, family: str = "digits-conv") -> Row:
    return Row(family, strategy, repetition, {"10": (lost, 10.0)}, None, 0.1)


def test_differences_are_paired_by_repetition() -> None:
    lost = [0.1, 0.9, 3.0, 0.4, 2.2]
    rows = [_row("before", n, each, f) for f in "ab" for n, each in enumerate(lost)]
    rows += [_row("ours", n, each - 0.3, f) for f in "ab" for n, each in enumerate(lost[:4])]
    regrets = Regrets.from_rows(rows)
    found = regrets.behind(("ours", "10"), ("before", "10"), median)
    assert found == pytest.approx((-0.3, -0.3, -0.3, 2))


def test_errors_are_counted_where_nothing_is_gained_and_power_where_it_is() -> None:
    verdicts = [
        Verdict("better", -0.1, 0.5, 0.4, 9),
        Verdict("no", -0.2, 0.6, 0.4, 9),
        Verdict("no", 0.0, 0.4, 0.4, 9),  # the baseline was picked: nothing is claimed
        Verdict("better", 0.7, 0.1, 0.8, 9),
        Verdict("no", 0.6, 0.1, 0.7, 9),
    ]
    rows = [
        Row("a", "ours, confirmed", n, {"confirmed": (0.4, 20.0)}, verdict, 0.1)
        for n, verdict in enumerate(verdicts)
    ]
    *_, line = confirmations(rows).splitlines()
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[-4:] == ["40%", "50% of 2", "50% of 2", "- of 0"]
    assert cells[4] == "20.0 (20.0)"


def test_judging_resumes_after_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "judge.jsonl"
    kept = Kept(path)
    kept.open({"optuna": "5"})
    verdict = Verdict("better", 0.7, 0.1, 0.8, 9)
    rows = [Row("a", "ours", n, {"10": (0.5, 9.5)}, verdict, 0.1) for n in range(3)]
    kept.add(rows)
    whole = path.read_bytes()
    path.write_bytes(whole + b'["a","ours",3,0.1,{"10":[0.')
    again = Kept(path)
    again.open({"optuna": "5"})
    assert path.read_bytes() == whole
    assert list(again.rows.values()) == rows
    left = lacking(again, families=("a", "b"), strategies=("ours",), repetitions=4)
    assert list(left) == [("a", "ours", (3,)), ("b", "ours", (0, 1, 2, 3))]
    with pytest.raises(UserError, match="optuna '5'"):
        again.open({"optuna": "6"})


def test_a_row_says_what_an_answer_loses_and_costs() -> None:
    family = _small()
    dense = family.dense()
    pick, baseline = dense[0], dense[1]
    answers = Answers({"confirmed": Answer(pick, 17.25)}, Compared(pick, baseline, "better", 8))
    row = Row.of(family, "ours, confirmed", 0, answers, seconds=1.0)
    assert row.answers["confirmed"] == (round(family.regret(pick), 3), 17.25)
    assert row.verdict is not None
    assert row.verdict.pick == row.answers["confirmed"][0]
    assert Row.from_json(row.to_json()) == row


def test_trained_differences_are_those_of_pairs(tmp_path: Path) -> None:
    kept = KeptSearches(tmp_path / "trained.jsonl")
    assert len(kept.lacking(2)) == 2 * len(CHOSEN)
    for name in CHOSEN:
        for number, level in enumerate((0.5, 0.9)):
            behind = {"ours": 0.0, "before": 0.01, "tpe, careful": 0.02}
            scores = {s: [(level - behind[s], level)] * 3 for s in STRATEGIES}
            answers = {s: (dict(Params(max_lr=0.1)), 10.0) for s in STRATEGIES}
            kept.add(Searched(name, number, answers, scores))
    assert KeptSearches(kept.path).lacking(2) == []
    (line,) = (row for row in differences(kept).splitlines() if "before | all" in row)
    assert "| 8 | +1.00 [+1.00, +1.00] | +0.00 [+0.00, +0.00] |" in line


def test_the_page_is_what_the_recorded_file_says() -> None:
    written = Path("docs/benchmarks/judge.md").read_text()
    assert written == page(Kept(RECORDED)).markdown()


def test_a_family_is_searched_with_constants_that_it_had_no_part_in() -> None:
    shipped = surrogate.constants()
    with held_out("digits-mlp") as known:
        assert surrogate.constants() is known
    assert surrogate.constants() is shipped
    lines = (RECORDED.parent / FOLDS).read_text().splitlines()
    (own,) = (fold for fold in map(json.loads, lines) if "digits-mlp" in fold["left_out"])
    assert known == Constants.of(own)
    assert "digits-mlp" not in own["fitted_on"]
