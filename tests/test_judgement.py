"""What curves say, on curves whose turn is known in closed form."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from trainers.sweeps.judgement import Ending, Judgement, judge, judge_together, propose
from trainers.sweeps.reasons import no_bracket
from trainers.sweeps.smoothing import smooth
from trainers.sweeps.sweep import LRCurve, Sweep

START, END, TURN, PLATEAU = 1e-5, 10.0, 0.1, 2.3
RISE = 2.0  # the loss turns as lr ** RISE


def rates(n_steps: int = 200) -> NDArray[np.float64]:
    return np.array(Sweep(start_lr=START, end_lr=END, total_steps=n_steps).lrs())


def known_loss(lrs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Plateau at 2.3, a drop of 2 around 1e-3, then a rise of 10 % of the drop at TURN."""
    descent = 2.0 / (1 + (1e-3 / lrs) ** 1.5)
    return PLATEAU - descent + 0.2 * (lrs / TURN) ** RISE


def curve(losses: NDArray[np.float64], lrs: NDArray[np.float64] | None = None) -> LRCurve:
    lrs = rates(len(losses)) if lrs is None else lrs
    return LRCurve(tuple(map(float, lrs)), tuple(map(float, losses)))


def noisy(seed: int, sd: float, n_steps: int = 200) -> LRCurve:
    noise = np.random.default_rng(seed).normal(0, sd, n_steps)
    return curve(known_loss(rates(n_steps)) + noise)


def true_crossing(share: float) -> float:
    lrs = np.logspace(-5, 1, 60_001)
    losses = known_loss(lrs)
    lowest = int(losses.argmin())
    level = losses[lowest] + share * (PLATEAU - losses[lowest])
    return float(lrs[lowest + int(np.argmax(losses[lowest:] > level))])


@pytest.mark.parametrize("n_steps", [100, 200, 400])
@pytest.mark.parametrize("sd", [0.0, 0.05, 0.1])
def test_rebound_and_edge_lie_within_a_factor_of_the_truth(sd: float, n_steps: int) -> None:
    for seed in range(20):
        said = judge(noisy(seed, sd, n_steps))
        assert said.ending == "rebounded"
        assert said.rebound == pytest.approx(true_crossing(0.1), rel=0.5)
        assert said.edge == pytest.approx(true_crossing(0.5), rel=0.35)
        assert said.rebound < said.edge


def test_an_explosion_does_not_reach_back() -> None:
    calm = known_loss(rates())
    wild = np.where(calm > PLATEAU, calm * 1e6, calm)
    assert judge(curve(wild)).rebound == judge(curve(calm)).rebound


@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
@pytest.mark.parametrize("shift", [0.0, -10.0, 1000.0])
@pytest.mark.parametrize("kind", ["descends", "flat", "diverges"])
def test_scale_and_sign_of_the_loss_do_not_matter(kind: str, scale: float, shift: float) -> None:
    losses = np.array(noisy(3, 0.05).losses)
    if kind == "flat":
        losses = PLATEAU + np.random.default_rng(0).normal(0, 0.05, 200)
    if kind == "diverges":
        losses[rates() > TURN * 0.7] = math.inf
    assert judge(curve(losses * scale + shift * scale)) == judge(curve(losses))


@pytest.mark.parametrize("kind", ["descends", "flat", "diverges", "falls", "explodes"])
def test_any_affine_map_of_the_losses_leaves_every_rate_where_it_is(kind: str) -> None:
    generator = np.random.default_rng(11)
    for seed in range(60):
        losses = np.array(noisy(seed, 0.1).losses)
        if kind == "flat":
            losses = generator.normal(PLATEAU, 0.1, 200)
        if kind == "diverges":
            losses[int(generator.integers(0, 200)) :] = math.nan
        if kind == "falls":
            losses = losses[: int(generator.integers(90, 140))]
        if kind == "explodes":
            losses = np.where(losses > PLATEAU, losses**4, losses)
        a, b = 10 ** generator.uniform(-6, 6), generator.uniform(-100, 100)
        assert judge(curve(a * (losses + b))) == judge(curve(losses)), (seed, a, b)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_the_first_rate_without_a_finite_loss_is_the_edge(broken: float) -> None:
    losses = known_loss(rates())
    first = int(np.searchsorted(rates(), TURN * 2))
    losses[first] = broken  # what comes after it does not count
    said = judge(curve(losses))
    assert said.ending == "diverged"
    assert said.edge == rates()[first]
    assert said.rebound == pytest.approx(true_crossing(0.1), rel=0.1)


def test_a_loss_that_breaks_while_it_falls_has_its_rebound_there() -> None:
    losses = known_loss(rates())
    first = int(np.searchsorted(rates(), 1e-3))
    losses[first:] = math.nan
    assert judge(curve(losses)) == Judgement("diverged", rates()[first], rates()[first])


def test_a_loss_that_still_falls_at_the_last_rate_has_no_rebound() -> None:
    for seed in range(50):
        noise = np.random.default_rng(seed).normal(0, 0.05, 200)
        losses = PLATEAU - 2 / (1 + 3.0 / rates()) + noise
        assert judge(curve(losses)) == Judgement("reached end_lr", None, None)


@pytest.mark.parametrize("share", [0.3, 0.45])
def test_an_edge_that_the_sweep_does_not_reach_is_no_number(share: float) -> None:
    last = int(np.searchsorted(rates(), true_crossing(share)))
    said = judge(curve(known_loss(rates())[:last], rates()[:last]))
    assert said.ending == "reached end_lr"
    assert said.edge is None
    assert said.rebound == pytest.approx(true_crossing(0.1), rel=0.3)


def test_a_sweep_that_breaks_after_its_edge_has_diverged_and_keeps_the_edge() -> None:
    losses = known_loss(rates())
    calm = judge(curve(losses))
    losses[np.searchsorted(rates(), 3.0) :] = math.inf
    assert calm.ending == "rebounded"
    assert judge(curve(losses)) == Judgement("diverged", calm.rebound, calm.edge)


NOISES: dict[str, Callable[[np.random.Generator, int], NDArray[np.float64]]] = {
    "normal": lambda generator, n: generator.normal(0, 0.2, n),
    "heavy tails": lambda generator, n: generator.standard_t(2, n),
    "skewed": lambda generator, n: generator.exponential(1, n),
}


@pytest.mark.parametrize(
    ("kind", "n_steps"),
    [("normal", 50), ("normal", 100), ("normal", 200), ("heavy tails", 100), ("skewed", 100)],
)
def test_of_1000_flat_curves_less_than_1_percent_pass_for_a_descent_alone_or_in_fives(
    kind: str, n_steps: int
) -> None:
    generator = np.random.default_rng(5)
    flat = [curve(PLATEAU + NOISES[kind](generator, n_steps)) for _ in range(1000)]
    alone = sum(judge(each).ending != "never descended" for each in flat)
    fives = [judge_together(flat[first : first + 5]) for first in range(0, 1000, 5)]
    together = sum(sum(s.ending != "never descended" for s in five) > 2 for five in fives)
    assert alone < 10
    assert together < 2  # of 200


@pytest.mark.parametrize("sd", [1.5, 2.5])  # of a drop of 1.94
def test_five_sweeps_together_show_a_drop_that_none_of_them_shows(sd: float) -> None:
    edges, n_alone = [], 0
    for first in range(0, 100, 5):
        sweeps = [noisy(seed, sd) for seed in range(first, first + 5)]
        proposal = propose(judge_together(sweeps))
        n_alone += propose([judge(each) for each in sweeps]) is not None
        edges += [] if proposal is None else [proposal.edge]
    assert len(edges) >= (19 if sd < 2 else 8)
    assert n_alone < len(edges) / 2
    assert np.median(edges) == pytest.approx(true_crossing(0.5), rel=0.25)


def test_a_sweep_that_broke_before_the_others_descended_says_nothing_of_the_edge() -> None:
    sweeps = [noisy(seed, 1.5) for seed in range(5)]
    broken = LRCurve(sweeps[0].lrs, (*sweeps[0].losses[:40], *[math.nan] * 160))
    assert {said.ending for said in judge_together(sweeps)} == {"rebounded"}
    first, *others = judge_together([broken, *sweeps[1:]])
    assert first == Judgement("broke too early", None, rates()[40])
    assert {said.ending for said in others} == {"rebounded"}


def test_a_flat_sweep_beside_clear_ones_is_not_carried_by_them() -> None:
    clear = [noisy(seed, 0.1) for seed in range(4)]
    flat = curve(np.random.default_rng(0).normal(PLATEAU, 0.1, 200))
    endings = [said.ending for said in judge_together([*clear, flat])]
    assert endings == [*["rebounded"] * 4, "never descended"]
    assert judge_together(clear) == [judge(each) for each in clear]


@pytest.mark.parametrize(("n_steps", "allowed"), [(50, 15), (100, 5), (200, 1)])
def test_noise_that_explodes_seldom_passes_for_a_descent(n_steps: int, allowed: int) -> None:
    alarms, lrs = 0, rates(n_steps)
    for seed in range(500):
        noise = np.random.default_rng(seed).normal(0, 0.2, n_steps)
        losses = PLATEAU + noise * (1 + lrs / TURN) + (lrs / TURN) ** RISE
        alarms += judge(curve(losses)).ending != "never descended"
    assert alarms <= allowed


@pytest.mark.parametrize("n_steps", [50, 100, 200])
def test_a_drop_of_ten_times_the_noise_is_always_a_descent(n_steps: int) -> None:
    endings = [judge(noisy(seed, 0.2, n_steps)).ending for seed in range(200)]
    assert endings == ["rebounded"] * 200


def test_a_long_explosion_does_not_hide_the_descent_before_it() -> None:
    lrs = np.logspace(-5, 5, 200)
    noise = np.random.default_rng(0).uniform(0.1, 2, 200)
    losses = known_loss(lrs) * np.where(lrs > 1, noise, 1)
    assert judge(curve(losses, lrs)).rebound == pytest.approx(true_crossing(0.1), rel=0.5)


@pytest.mark.parametrize("level", [0.0, math.log(10), -1e4])
def test_a_constant_loss_is_said_to_be_one(level: float) -> None:
    float32 = np.full(200, np.float32(level), dtype=np.float64)
    assert judge(curve(float32)) == Judgement("constant loss", None, None)


def test_a_plateau_that_breaks_broke_too_early_and_says_where() -> None:
    losses = np.random.default_rng(0).normal(PLATEAU, 0.1, 200)
    losses[150:] = math.nan
    assert judge(curve(losses)) == Judgement("broke too early", None, rates()[150])


def test_a_loss_that_breaks_in_the_first_steps_is_told_from_one_that_was_never_a_number() -> None:
    losses = known_loss(rates())
    losses[9:] = math.inf
    assert judge(curve(losses)) == Judgement("broke at once", None, rates()[9])


@pytest.mark.parametrize("end", [math.nan, -math.inf, None])
def test_a_loss_without_a_lower_bound_has_no_edge_wherever_it_ends(end: float | None) -> None:
    noise = np.random.default_rng(0).normal(0, 0.05, 200)
    losses = 0.1 - np.cumsum(rates()) * np.maximum(1, rates()) ** 3 + noise
    if end is not None:
        losses[190:] = end
    assert judge(curve(losses)) == Judgement("no lower bound", None, None)


def test_a_loss_that_falls_below_zero_to_its_bound_has_an_edge() -> None:
    noise = np.random.default_rng(0).normal(0, 0.01, 200)
    cosine = (known_loss(rates()) - PLATEAU) / 2  # from 0 to -1 and back
    assert judge(curve(cosine + noise)).ending == "rebounded"
    cosine[np.searchsorted(rates(), 1e-2) :] = -0.97
    assert judge(curve(cosine + noise)).ending == "reached end_lr"


def test_losses_that_are_not_numbers_from_the_start_are_said_to_be() -> None:
    losses = np.full(200, math.nan)
    assert judge(curve(losses)) == Judgement("no finite loss", None, rates()[0])


@pytest.mark.parametrize("centre", [50, 99, 140])
def test_smoothing_has_no_lag(centre: int) -> None:
    log_lrs = np.linspace(-5, 1, 200)
    dip = -np.exp(-0.5 * ((log_lrs - log_lrs[centre]) / 0.1) ** 2)
    smoothed = smooth(log_lrs, dip)
    assert int(smoothed.argmin()) == centre
    width = min(centre, 199 - centre)
    window = smoothed[centre - width : centre + width + 1]
    inner = slice(width - 20, width + 21)
    assert window[inner] == pytest.approx(window[::-1][inner], abs=1e-4)


@pytest.mark.parametrize("n_steps", [50, 99, 100, 101, 120, 129, 200, 201, 401, 409])
def test_the_first_level_of_an_exponential_sweep_is_that_of_a_tenth_of_its_steps(
    n_steps: int,
) -> None:
    n_first = max(10, n_steps // 10)
    losses = known_loss(rates(n_steps))
    told, level = judge(curve(losses)), np.median(losses[:n_first])
    losses[:n_first:2], losses[1:n_first:2] = level + 0.3, level - 0.3
    losses[n_first] = level + 0.3  # it would tip the median
    assert judge(curve(losses)) == told
    losses[0] = level - 0.3
    assert judge(curve(losses)) != told


def test_smoothing_is_a_gaussian_of_a_quarter_of_a_decade() -> None:
    log_lrs = np.linspace(-5, 1, 601)
    step = (log_lrs > -2).astype(float)
    expected = [0.5 * (1 + math.erf(x / 0.25 / math.sqrt(2))) for x in log_lrs + 1.995]
    assert smooth(log_lrs, step) == pytest.approx(np.array(expected), abs=2e-3)


def said(*edges: float | None) -> list[Judgement]:
    return [Judgement("rebounded" if e else "reached end_lr", 0.01, e) for e in edges]


@pytest.mark.parametrize(
    ("edges", "edge"),
    [
        ([0.3], 0.3),
        ([0.9, 0.1, 0.3], 0.3),
        ([0.2, 0.8], 0.4),  # an even number: the geometric mean of the middle two
        ([0.1, 0.8, 0.2, 1.6], 0.4),
        ([None, 0.3, 0.1], 0.3),  # a sweep without an edge counts as the highest
        ([None, 0.1, 0.2, None, 0.4], 0.4),
    ],
)
def test_the_proposal_is_a_share_of_the_median_edge_with_a_factor_of_four_around_it(
    edges: list[float | None], edge: float
) -> None:
    proposal = propose(said(*edges))
    assert proposal is not None
    assert proposal.edge == pytest.approx(edge)
    assert proposal.max_lr == pytest.approx(0.16 * edge)
    assert (proposal.low, proposal.high) == pytest.approx((0.16 * edge / 4, 0.16 * edge * 4))


@pytest.mark.parametrize(
    ("cycle_steps", "adaptive", "share"),
    [
        (None, False, 0.16),
        (312, False, 0.16),
        (156, False, 0.08),  # in proportion to the steps
        (76, False, 0.16 * 76 / 312),
        (20, False, 0.16 * 76 / 312),  # shorter ones were not measured
        (624, False, 0.32),
        (20_000, False, 0.32),  # nor were longer ones
        (20, True, 0.033),
        (20_000, True, 0.033),
    ],
)
def test_the_proposal_follows_the_length_of_the_cycle_and_the_kind_of_optimizer(
    cycle_steps: int | None, adaptive: bool, share: float
) -> None:
    proposal = propose(said(2.0), cycle_steps=cycle_steps, adaptive=adaptive)
    assert proposal is not None
    assert proposal.max_lr == pytest.approx(2.0 * share)


@pytest.mark.parametrize(
    "edges",
    [[], [None], [0.1, None], [None, 0.1, None], [0.1, 0.2, None, None], [None, None]],
)
def test_nothing_is_proposed_when_half_of_the_sweeps_have_no_edge(
    edges: list[float | None],
) -> None:
    assert propose(said(*edges)) is None


def test_a_sweep_that_says_nothing_is_left_out_and_one_that_still_falls_counts_as_high() -> None:
    turned = said(0.1, 0.2, 0.4)
    mute = Judgement("never descended", None, None)
    falling = Judgement("reached end_lr", None, None)
    alone, with_mute, with_falling = (
        propose(turned),
        propose([*turned, mute]),
        propose([*turned, falling]),
    )
    assert alone is not None
    assert with_mute is not None
    assert with_falling is not None
    assert (alone.edge, with_mute.edge) == (pytest.approx(0.2), pytest.approx(0.2))
    assert with_falling.edge == pytest.approx(math.sqrt(0.2 * 0.4))
    assert propose([turned[0], mute]) is None


@pytest.mark.parametrize("edges", [(0.1, 0.2, 0.2), (0.3, 0.1, 0.2), (0.9, 1.1, 1.0, 0.4, 2.0)])
def test_the_interval_is_that_of_students_t_for_the_mean_of_log10(
    edges: tuple[float, ...],
) -> None:
    proposal = propose(said(*edges))
    logs = np.log10(edges)
    expected = stats.t.interval(0.95, len(logs) - 1, logs.mean(), stats.sem(logs))
    assert proposal is not None
    assert proposal.n_sweeps == len(edges)
    assert proposal.interval is not None
    assert np.log10(proposal.interval) == pytest.approx(expected)


def test_the_interval_holds_the_true_rate_in_95_of_100_range_tests() -> None:
    generator, held = np.random.default_rng(0), 0
    for _ in range(1000):
        proposal = propose(said(*(10 ** generator.normal(-1, 0.2, 5))))
        assert proposal is not None
        assert proposal.interval is not None
        held += proposal.interval[0] < 0.1 < proposal.interval[1]
    assert 930 <= held <= 970


@pytest.mark.parametrize(
    ("judgements", "n_sweeps", "has_interval"),
    [
        (said(0.1), 1, False),
        (said(0.1, 0.2), 2, False),  # the width would be one difference's
        (said(0.1, 0.2, 0.2), 3, True),
        (said(0.1, 0.2, None), 3, False),  # the third lies above the last rate, nobody knows where
        ([*said(0.1, 0.2), Judgement("never descended", None, 5.0)], 2, False),
        ([*said(0.1, 0.2, 0.2), Judgement("never descended", None, 5.0)], 3, True),
        ([*said(0.1, 0.2, 0.2), Judgement("no finite loss", None, 1e-5)], 3, True),
        ([*said(0.1, 0.2), Judgement("reached end_lr", 0.2, None)], 3, False),
    ],
)
def test_an_interval_needs_three_sweeps_and_no_edge_above_the_last_rate(
    judgements: list[Judgement], n_sweeps: int, has_interval: bool
) -> None:
    proposal = propose(judgements)
    assert proposal is not None
    assert proposal.n_sweeps == n_sweeps
    assert (proposal.interval is not None) == has_interval


def test_what_to_do_is_said_of_what_most_silent_sweeps_did() -> None:
    never, broken = Judgement("never descended", None, None), Judgement("no finite loss", None, 1)
    high = Judgement("reached end_lr", 0.2, None)
    why = no_bracket(
        [*said(0.1, None), high, never, never, never, broken], start_lr=1e-5, end_lr=1
    )
    counts = "1 rebounded, 2 reached end_lr, 3 never descended, 1 no finite loss"
    assert why.startswith(f"no bracket ({counts}): no drop of the loss")


@pytest.mark.parametrize(
    ("ending", "remedy"),
    [
        ("reached end_lr", "raise end_lr (now 2)"),
        ("never descended", "more sweeps or steps"),
        ("constant loss", "parameters that the optimizer has"),
        ("broke too early", "at 0.03, before it had fallen: clip the gradients"),
        ("broke at once", "lower start_lr (now 1e-05), say to 1e-08"),
        ("no finite loss", "before the first step: check the data"),
        ("no lower bound", "Space(max_lr=(low, high))"),
    ],
)
def test_each_ending_without_an_edge_has_a_way_on(ending: Ending, remedy: str) -> None:
    silent = [Judgement(ending, None, lr) for lr in (0.05, 0.03)]
    assert remedy in no_bracket(silent, start_lr=1e-5, end_lr=2)


BROKE_AT = [Judgement("rebounded", 0.01, lr) for lr in (0.1, 0.2, 0.4)]


@pytest.mark.parametrize(
    ("slow", "drift", "low", "high"),
    [
        (None, None, 1.0, 1.0),
        (Judgement("rebounded", 0.01, 0.2), 0.0, 1.0, 1.0),
        (Judgement("diverged", 0.01, 0.2 * 10**0.29), 0.29, 1.0, 1.0),
        (Judgement("diverged", 0.01, 0.2 * 10**0.4), 0.4, 1.0, 10**0.4),
        (Judgement("rebounded", 0.01, 0.2 / 10**0.4), -0.4, 10**-0.4, 1.0),
        (Judgement("rebounded", 0.01, 0.2 * 10), 1.0, 1.0, 10**0.6),
        (Judgement("reached end_lr", None, None), None, 1.0, 10**0.6),
        (Judgement("never descended", None, None), None, 1.0, 1.0),
    ],
)
def test_a_drift_of_more_than_three_tenths_of_a_decade_widens_the_bracket_that_way(
    slow: Judgement | None, drift: float | None, low: float, high: float
) -> None:
    steady, said = propose(BROKE_AT), propose(BROKE_AT, slow=slow)
    assert steady is not None
    assert said is not None
    assert said.drift == (None if drift is None else pytest.approx(drift))
    assert (said.low, said.high) == pytest.approx((steady.low * low, steady.high * high))
    assert said.widened == (low * high != 1)
    assert (said.edge, said.max_lr) == (steady.edge, steady.max_lr)
