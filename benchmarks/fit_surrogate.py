"""Fit the constants of the surrogate to recorded families, and check them on those left out.

    python -m benchmarks.fit_surrogate                 check the product's constants and a fit
    python -m benchmarks.fit_surrogate --write         and keep the fit where it is ahead
    python -m benchmarks.fit_surrogate --no-fit        check the product's constants alone

A fit leaves out a family and everything that shares its net or data. It is kept only if what it
says of left-out families is, on average, denser at what they scored.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.records import CycleRecord, Journal, SweepRecord
from search.stages.kernel import Constants, Floats, constants
from search.stages.surrogate import Observations, metric_unit, surrogate, unit_is_guessed
from trainers.sweeps.judgement import BRACKET_FACTOR, judge_together, propose

RECORDED = Path(__file__).parent / "recorded"
FIRST = ((1.5, 0.45, 15.0), (1.0, 0.3, 25.0), (0.63, 0.45, 15.0), (3.2, 0.45, 15.0))
"""What a search starts with: max_lr over the proposal, pct_start, div_factor."""
AFTER = (6, 12)
_N_FOLDS = 5
_N_SUBSETS = 6
_N_DRAWS = 400
_TIGHT = 0.4
"""In logarithms: how far a fit may take a constant from where it started, as one deviation."""
_MARGIN = 1.1  # of the bracket in decades: Sobol points were drawn around another proposal


@dataclass(frozen=True, kw_only=True, slots=False)
class Measured:
    """The scores of one family within its bracket: points (n, 3), and scores by seed of each.

    `shares` names its net and its data.
    """

    name: str
    shares: frozenset[str]
    metric: str
    diverged_value: float
    points: Floats
    scores: tuple[tuple[float, ...], ...]

    @cached_property
    def unit(self) -> float:
        """One point of the metric, from all scores."""
        return metric_unit(
            self.metric, [float(np.mean(s)) for s in self.scores], self.diverged_value
        )

    def observations(self, chosen: Sequence[int], *, seed: int | None = None) -> Observations:
        """Return the rows of some configurations: all their seeds, or one."""
        scores = [
            self.scores[i] if seed is None else self.scores[i][seed : seed + 1] for i in chosen
        ]
        means = np.array([np.mean(each) for each in scores])
        return Observations(self.points[chosen], means, np.array([len(s) for s in scores]))

    def every_cycle(self) -> Observations:
        """Return one row a cycle."""
        n_seeds = [len(each) for each in self.scores]
        rows = np.repeat(self.points, n_seeds, axis=0)
        return Observations(rows, np.concatenate(self.scores), np.ones(len(rows), dtype=np.int64))

    def searches(self) -> Iterator[tuple[list[int], int, np.random.Generator]]:
        """Yield what searches might try, in order: the first choices, then any of the bracket."""
        targets = [[np.log10(factor), pct, np.log10(div)] for factor, pct, div in FIRST]
        first = []
        for target in targets:
            apart = (np.abs(self.points - target) / [0.6, 0.8, 2.0]).sum(axis=1)
            apart[first] = np.inf
            first.append(int(apart.argmin()))
        for number in range(_N_SUBSETS):
            random = np.random.default_rng([number, len(self.points)])
            others = random.permutation([i for i in range(len(self.points)) if i not in first])
            yield [*first, *others.tolist()], number % 2, random


@dataclass(frozen=True, slots=True)
class Check:
    """How well a posterior foretold scores that it had not seen.

    `inside`: the share within the 80 % interval; `better` the same of those in the better half.
    `density`: the mean log density, in points.
    """

    inside: float
    better: float
    density: float


def check(family: Measured, known: Constants, *, n: int) -> Check:
    """Return what the posterior after n cycles says of the configurations not tried yet."""
    inside, better, densities = [], [], []
    means = np.array([np.mean(each) for each in family.scores])
    for order, seed, random in family.searches():
        tried, left = order[:n], order[n:]
        model = surrogate(
            family.observations(tried, seed=seed),
            unit=family.unit,
            guessed_unit=unit_is_guessed(family.metric),
            known=known,
        )
        draws = model.draws(family.points[left], _N_DRAWS, rng=random)
        noise = model.noise / np.sqrt([len(family.scores[i]) for i in left])
        noisy = draws + noise * random.standard_normal(draws.shape)
        low, high = np.quantile(noisy, [0.1, 0.9], axis=0)
        within = (low <= means[left]) & (means[left] <= high)
        inside.append(within.mean())
        better.append(within[means[left] >= np.median(means)].mean())
        apart = (means[left] - draws) / noise
        logs = -0.5 * apart**2 - np.log(noise / family.unit * np.sqrt(2 * np.pi))
        densities.append((np.logaddexp.reduce(logs, axis=0) - np.log(len(draws))).mean())
    return Check(fmean(inside), fmean(better), fmean(densities))


def evidence(family: Measured, known: Constants) -> float:
    """Return the log density of all scores of a family within the bracket."""
    guessed = unit_is_guessed(family.metric)
    return surrogate(
        family.every_cycle(), unit=family.unit, guessed_unit=guessed, known=known
    ).log_evidence


def fitted(
    families: Sequence[Measured], start: Mapping[str, Any], *, n_steps: int
) -> dict[str, Any]:
    """Return the constants, as stored, under which the scores of the families are densest.

    By L-BFGS over their logarithms; each is held near where it started, as few families would
    otherwise move constants that they say nothing about.
    """
    from scipy.optimize import minimize

    places = list(_free(start))
    origin = np.log([_get(start, place) for place in places])

    def loss(logs: Floats) -> float:
        known = Constants.of(_moved(start, places, logs))
        total = sum(evidence(family, known) for family in families)
        return float(0.5 * (((logs - origin) / _TIGHT) ** 2).sum() - total)

    found = minimize(loss, origin, method="L-BFGS-B", options={"maxiter": n_steps, "eps": 1e-3})
    return _moved(start, places, found.x)


Place = tuple[str | int, ...]


def _free(stored: Mapping[str, Any]) -> Iterator[Place]:
    """Yield where the constants stand that a fit may move.

    Not the scale's median, which the deviations of the parts say as well, nor what no family has.
    """
    yield from [("scale", "sd_of_log"), ("noise_over_scale", "median")]
    yield from [("noise_over_scale", "sd_of_log"), ("fold",), ("level",)]
    for number, part in enumerate(stored["parts"]):
        if "others" not in part:
            yield from (("parts", number, name) for name in part)


def _get(stored: Any, place: Place) -> float:
    for key in place:
        stored = stored[key]
    return float(stored)


def _moved(stored: Mapping[str, Any], places: Sequence[Place], logs: Floats) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(stored))
    for (*way, last), value in zip(places, np.exp(logs).tolist(), strict=True):
        inner: Any = copy
        for key in way:
            inner = inner[key]
        inner[last] = value
    return copy


def measured_families(folder: Path = RECORDED) -> list[Measured]:
    """Return all families that are recorded: the two tables, and the small ones by name."""
    return [*_tables(folder), *_small(folder / "families")]


def _tables(folder: Path) -> Iterator[Measured]:
    from benchmarks.tasks import STUDIES

    for name, study in STUDIES.items():
        curves = [
            record.curve()
            for record in Journal(folder / f"{name}.sweeps.jsonl").records.values()
            if isinstance(record, SweepRecord) and record.work.length == study.range_test.n_steps
        ]
        proposal = propose(judge_together(curves), adaptive=bool(study.task.adaptive))
        assert proposal is not None, name
        cycles = [
            record
            for record in Journal(folder / f"{name}.cycles.jsonl").records.values()
            if isinstance(record, CycleRecord)
        ]
        longest = max(record.work.length for record in cycles)
        full = [record for record in cycles if record.work.length == longest]
        yield _measured(name, frozenset({name, "cifar"}), "accuracy", 0.1, full, proposal.max_lr)


def _small(folder: Path) -> Iterator[Measured]:
    if not folder.is_dir():
        return
    from benchmarks.families.design import DEFAULTS
    from benchmarks.families.table import FAMILIES

    for name, family in FAMILIES.items():
        path = folder / f"{name}.jsonl"
        if not path.exists():
            continue
        cycles = [
            record for record in Journal(path).records.values() if isinstance(record, CycleRecord)
        ]
        middles = [r.params.max_lr for r in cycles if r.work.number == DEFAULTS]
        if not middles or len({r.work.number for r in cycles}) < DEFAULTS:
            continue  # still being recorded
        metric = "R^2" if family.n_classes is None else "accuracy"
        shares = frozenset({f"net {family.net}", f"data {family.data}"})
        yield _measured(name, shares, metric, family.diverged_value, cycles, middles[0])


def _measured(
    name: str,
    shares: frozenset[str],
    metric: str,
    diverged_value: float,
    cycles: Sequence[CycleRecord],
    proposed_max_lr: float,
) -> Measured:
    scores: dict[tuple[float, ...], list[float]] = {}
    for record in cycles:
        params = record.params
        point = (
            float(np.log10(params.max_lr / proposed_max_lr)),
            params["pct_start"],
            float(np.log10(params["div_factor"])),
        )
        score = diverged_value if record.score is None else record.score
        if abs(point[0]) <= _MARGIN * np.log10(BRACKET_FACTOR):
            scores.setdefault(point, []).append(score)
    return Measured(
        name=name,
        shares=shares,
        metric=metric,
        diverged_value=diverged_value,
        points=np.array(list(scores)),
        scores=tuple(map(tuple, scores.values())),
    )


def folds(families: Sequence[Measured], *, n: int = _N_FOLDS) -> list[list[Measured]]:
    """Return the families in at most n folds that share neither net nor data with each other."""
    groups: list[list[Measured]] = []
    for family in families:
        near = [g for g in groups if any(family.shares & other.shares for other in g)]
        groups = [g for g in groups if not any(g is each for each in near)]
        groups.append([*(member for group in near for member in group), family])
    parts: list[list[Measured]] = [[] for _ in range(min(n, len(groups)))]
    for group in sorted(groups, key=len, reverse=True):
        min(parts, key=len).extend(group)
    return parts


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fit_surrogate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--recorded", type=Path, default=RECORDED)
    parser.add_argument("--write", action="store_true", help="keep a fit that is ahead")
    parser.add_argument("--no-fit", action="store_true", help="check the constants as they are")
    parser.add_argument("--steps", type=int, default=12, help="of the fit; default: %(default)s")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 0, also where the fit is not ahead."""
    asked = _arguments(argv)
    families = measured_families(asked.recorded)
    path = Path(str(files("search.stages").joinpath("surrogate.json")))
    stored = json.loads(path.read_text(encoding="utf-8"))
    print(f"{len(families)} families in {len(folds(families))} folds that share nothing")
    before = _print_checks("the product's constants", [(constants(), families)])
    if asked.no_fit:
        return 0
    parts = []
    for group in folds(families):
        rest = [family for family in families if family not in group]
        parts.append((Constants.of(fitted(rest, stored, n_steps=asked.steps)), group))
        print(f"fitted without {', '.join(family.name for family in group)}", file=sys.stderr)
    after = _print_checks("fitted to the other folds", parts)
    lead = fmean(after) - fmean(before)
    n_ahead = sum(a > b for a, b in zip(after, before, strict=True))
    print(f"the fit is denser by {lead:+.3f} on average, in {n_ahead} of {len(after)} families")
    every = fitted(families, stored, n_steps=asked.steps)
    print(json.dumps(every, indent=2))
    if asked.write and lead > 0:
        names = ", ".join(family.name for family in families)
        every["fitted_on"] = f"{len(families)} recorded families: {names}"
        path.write_text(json.dumps(every, indent=2) + "\n", encoding="utf-8")
    return 0


def _print_checks(
    title: str, parts: Sequence[tuple[Constants, Sequence[Measured]]]
) -> list[float]:
    """Print a table of checks; return each family's density, in the order of names."""
    rows = {
        family.name: [check(family, known, n=n) for n in AFTER]
        for known, group in parts
        for family in group
    }
    print(f"{title}: inside 80 % intervals (better half), log density, after {AFTER} cycles")
    for name, checks in sorted(rows.items()):
        cells = [f"{c.inside:.2f} ({c.better:.2f}) {c.density:+.2f}" for c in checks]
        print(f"  {name:<22} {'   '.join(cells)}")
    for index, n in enumerate(AFTER):
        all_of_n = [checks[index] for checks in rows.values()]
        inside, better = fmean(c.inside for c in all_of_n), fmean(c.better for c in all_of_n)
        density = fmean(c.density for c in all_of_n)
        print(f"  mean after {n}: {inside:.3f} ({better:.3f}) {density:+.3f}")
    return [fmean(c.density for c in rows[name]) for name in sorted(rows)]


if __name__ == "__main__":
    sys.exit(main())
