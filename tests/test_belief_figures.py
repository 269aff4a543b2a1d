"""The figures of what is expected, against the surrogate's own values."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import make_url

from search.params import Params
from search.results.landscape import Landscape, landscape_later
from search.results.metric import Metric
from search.results.trials import Trial
from search.stages.believed import Belief, Tried, believe
from search.stages.search import cycles_of
from search.stages.space import Ranges
from search.starting import catalog
from search.views.figures.belief_figures import map_figure, slice_figure
from search.views.figures.parallel_figure import parallel_figure
from search.views.figures.trial_figures import MOST_SHOWN, Searched
from search.views.findings import Findings, findings
from studies.database import open_engine, reading
from studies.params import Choice, Fixed, Range
from studies.protocol import declared, stored_space
from studies.space import Space
from studies.states import Direction, RunState
from tests.conftest import Finished
from tests.table_study import STUDY
from trainers.sweeps.judgement import Proposal


def proposal(max_lr: float) -> Proposal:
    return Proposal(
        edge=None,
        low=max_lr / 4,
        high=max_lr * 4,
        max_lr=max_lr,
        n_sweeps=1,
        interval=None,
        drift=None,
        widened=False,
    )


RANGES = Ranges(
    bracket=(0.05, 0.8),
    proposed_max_lr=0.2,
    others=Space(
        batch_size=(64, 128), extra={"dropout": (0.0, 0.5), "optimizer": ("sgd", "adamw")}
    ).parameters({}),
    proposals={"64": 0.2, "128": 0.4},
    edge_moves=True,
)


def tried(n: int, direction: Direction, *, n_broken: int = 1) -> list[Tried]:
    """Scores that are best at the proposal; the last ones broke."""
    sign = 1 if direction == "maximize" else -1
    found = []
    for slot, params in enumerate(RANGES.candidates(n, seed=3)):
        far = RANGES.coordinates(params)[0] ** 2 + 0.1 * params["dropout"]  # type: ignore[operator]
        broke = slot >= n - n_broken
        score = sign * (0.1 if broke else 0.9 - 0.2 * far)
        found.append(Tried(slot, params, (score,), broke))
    return found


def belief_in(direction: Direction, n: int = 14) -> Belief:
    belief = believe(
        RANGES,
        tried(n, direction),
        metric="accuracy" if direction == "maximize" else "loss",
        direction=direction,
        diverged_value=0.1 if direction == "maximize" else -0.1,
        seed=1,
    )
    assert belief is not None
    return belief


def trials_of(belief: Belief) -> list[Trial]:
    nothing = dict.fromkeys(name for name in Trial.__slots__)
    return [
        Trial(
            **{
                **nothing,
                "slot": each.slot,
                "state": RunState.DONE,
                "outcome": "diverged" if each.broke else "completed",
                "score": each.scores[0],
                "params": each.params,
            }
        )
        for each in belief.tried
    ]


def searched(direction: Direction, *, tied: tuple[int, ...] = ()) -> Searched:
    metric = Metric("accuracy" if direction == "maximize" else "loss")
    proposals = {"64": proposal(0.2), "128": proposal(0.4)}
    return Searched(metric, proposals, {0: "baseline", 3: "answer"}, ("batch_size",), tied)


DIRECTIONS = pytest.mark.parametrize("direction", ["maximize", "minimize"])


def named(figure: Any, name: str) -> Any:
    return next(trace for trace in figure.data if trace.name and trace.name.startswith(name))


@DIRECTIONS
@pytest.mark.parametrize("name", ["max_lr", "pct_start", "div_factor", "dropout"])
def test_a_slice_is_the_surrogates_mean_within_its_band(name: str, direction: Direction) -> None:
    belief = belief_in(direction)
    land = Landscape(belief, belief.best_trained)
    figure = slice_figure(land, name, trials_of(belief), searched(direction))
    line, band = named(figure, "expected"), named(figure, "its 95 % band")
    factor = 100 if direction == "maximize" else 1
    through = dict(land.through)
    unit = RANGES.proposal_at(RANGES.setting_of(through)) if name == "max_lr" else 1.0
    points = [Params(**{**through, name: x * unit}) for x in line.x]
    expected = [factor * score for score in belief.expected(points)]
    assert [told[0] for told in line.customdata] == pytest.approx(expected)
    seen = [y for y in line.y if figure.layout.yaxis.range[0] < y < figure.layout.yaxis.range[1]]
    assert set(seen) <= set(np.float64(expected)) or seen == pytest.approx(
        [e for e in expected if e in seen]
    )
    lower = figure.data[0]
    assert all(a <= b for a, b in zip(lower.y, band.y, strict=True))
    deviation = factor * belief.surrogate.deviation(
        np.array([RANGES.coordinates(each) for each in points])
    )
    widths = np.array([told[2] - told[1] for told in line.customdata])
    assert np.median(widths / (3.92 * deviation)) == pytest.approx(1, abs=0.35)


@DIRECTIONS
def test_choices_stand_side_by_side_with_their_band_as_a_bar(direction: Direction) -> None:
    belief = belief_in(direction)
    land = Landscape(belief, belief.best_trained)
    figure = slice_figure(land, "optimizer", trials_of(belief), searched(direction))
    bars, factor = named(figure, "expected"), 100 if direction == "maximize" else 1
    points = [Params(**{**land.through, "optimizer": each}) for each in ("sgd", "adamw")]
    assert list(bars.y) == pytest.approx([factor * s for s in belief.expected(points)])
    assert min(*bars.error_y.array, *bars.error_y.arrayminus) > 0
    assert list(figure.layout.xaxis.ticktext) == ["sgd", "adamw"]


def test_along_batch_sizes_max_lr_moves_with_the_proposal() -> None:
    belief = belief_in("maximize")
    land = Landscape(belief, belief.best_trained)
    cut = land.slice("batch_size")
    factors = [p.max_lr / RANGES.proposal_at(RANGES.setting_of(p)) for p in cut.params]
    assert factors == pytest.approx([factors[0]] * 2)
    assert {p.max_lr for p in cut.params} != {cut.params[0].max_lr}


def test_few_trials_have_a_wide_band_and_dots_over_the_map() -> None:
    wide, narrow = (belief_in("maximize", n) for n in (4, 40))
    widths = []
    for belief in (wide, narrow):
        cut = Landscape(belief, wide.best_trained).slice("max_lr")
        widths.append(np.mean(np.subtract(cut.high, cut.low)))
    assert widths[0] > 1.5 * widths[1]
    figure = map_figure(Landscape(wide, wide.best_trained), trials_of(wide), searched("maximize"))
    assert len(named(figure, "little is known").x) > 0


@DIRECTIONS
def test_the_map_is_the_surrogates_mean_and_light_is_good(direction: Direction) -> None:
    belief = belief_in(direction, 30)
    land = Landscape(belief, belief.best_trained)
    figure = map_figure(land, trials_of(belief), searched(direction, tied=(1,)))
    area, factor = figure.data[0], 100 if direction == "maximize" else 1
    unit = RANGES.proposal_at(RANGES.setting_of(land.through))
    points = [
        Params(**{**land.through, "max_lr": x * unit, "pct_start": y})
        for y in area.y
        for x in area.x
    ]
    expected = factor * np.reshape(belief.expected(points), (len(area.y), len(area.x)))
    assert np.asarray(area.z) == pytest.approx(np.clip(expected, area.zmin, area.zmax), rel=1e-4)
    assert area.reversescale is (direction == "minimize")
    assert figure.layout.xaxis.type == "log"
    names = [trace.name for trace in figure.data[1:]]
    assert {"trial, n = 1 seed", "diverged (1)", "baseline", "answer"} <= set(names)


def test_lines_over_all_parameters_mark_the_tie_group() -> None:
    belief = belief_in("maximize")
    land = Landscape(belief, belief.best_trained)
    figure = parallel_figure(land, trials_of(belief), searched("maximize", tied=(3, 5, 6)))
    tied = named(figure, "within noise of the best (3 of 14)")
    assert set(tied.text) == {"slot 5", "slot 6"}, "the answer has a line of its own"
    axes = figure.layout.xaxis.ticktext
    assert axes[0] == "max_lr / proposal"
    assert axes[-1] == "accuracy"
    heights = [y for trace in figure.data for y in trace.y if y is not None]
    assert 0 <= min(heights) <= max(heights) <= 1
    texts = {note.text for note in figure.layout.annotations}
    assert {"64", "128", "sgd", "adamw", "0.05", "0.60"} <= texts


def test_of_very_many_trials_the_best_are_drawn_and_it_is_said() -> None:
    belief = belief_in("maximize")
    one = trials_of(belief)[0]
    many = [replace(one, slot=slot, score=slot / 10_000) for slot in range(1_000)]
    figure = slice_figure(
        Landscape(belief, belief.best_trained), "dropout", many, searched("maximize")
    )
    marks = named(figure, "trial, n = 1 seed, the best 300 of 1,000")
    assert len(marks.x) == MOST_SHOWN
    assert min(marks.y) < 1, "the baseline is kept"
    assert len(json.dumps(figure.to_plotly_json(), default=list)) < 60_000


@pytest.fixture
def found(finished: Finished) -> Findings:
    engine = open_engine(make_url(finished.storage))
    found = findings(engine, catalog.find(engine, "table"))
    engine.dispose()
    return found


def test_what_is_stored_says_the_same_as_the_studys_own_file(
    finished: Finished, found: Findings
) -> None:
    engine = open_engine(make_url(finished.storage))
    row = catalog.find(engine, "table")
    with reading(engine) as session:
        cycles = cycles_of(session, row)
        stored = landscape_later(session, row)()
    engine.dispose()
    assert stored is not None
    assert found.landscape is not None
    assert found.landscape.through == found.result.recommended.params
    params = [Params(**work.params) for work in cycles if work.params]
    own = Ranges.of(row, STUDY)
    assert [stored.belief.ranges.coordinates(p) for p in params] == [
        own.coordinates(p) for p in params
    ]
    assert [replace(p, baseline=None) for p in own.others] == [
        replace(p, baseline=None) for p in stored.belief.ranges.others
    ]


@pytest.mark.parametrize(
    "space",
    [
        Space(),
        Space(max_lr=(0.001, 0.1), pct_start=(0.2, 0.4)),
        Space(weight_decay=(1e-5, 1e-2), batch_size=(5, 10)),
        Space(
            extra={
                "dropout": Range(0.0, 0.5, baseline=0.1),
                "depth": (1, 4),
                "width": Choice((32, 64), baseline=32),
                "act": ("relu", 'it\'s "gelu"'),
                "held": Fixed(True),
            }
        ),
    ],
)
def test_every_space_is_read_back_from_the_protocol(space: Space) -> None:
    stored = {f"space.{name}": f"{getattr(space, name)!r}" for name in Space.__slots__}
    assert stored_space(stored) == space
    plain = declared(replace(STUDY, space=Space(max_lr=(0.01, 0.1))), "")
    assert stored_space(plain) == Space(max_lr=(0.01, 0.1))


@pytest.mark.parametrize("text", ["__import__('os').system('x')", "{**x}", "Range(", "open('x')"])
def test_a_stored_space_is_never_run_as_code(text: str) -> None:
    with pytest.raises(ValueError, match=r"cannot be read|malformed"):
        stored_space({"space.extra": text})
