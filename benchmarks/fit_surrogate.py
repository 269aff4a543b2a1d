"""Fit the constants of the surrogate to recorded families, and check them on those left out.

    python -m benchmarks.fit_surrogate                 check the product's constants and a fit
    python -m benchmarks.fit_surrogate --write         and keep the fit where it is ahead
    python -m benchmarks.fit_surrogate --no-fit        check the product's constants alone

A fit leaves out a family and everything that shares its net or data. It is kept only if what it
says of left-out families is denser at what they scored, by two standard errors.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.resources import files
from itertools import islice
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

from benchmarks.commands import Flags, at_least, ended, existing_folder
from benchmarks.records import CycleRecord, Journal, SweepRecord
from search.belief.kernel import Constants, Floats, constants
from search.belief.surrogate import (
    Observations,
    Surrogate,
    metric_unit,
    surrogate,
    unit_is_guessed,
)
from trainers.errors import UserError
from trainers.sweeps.judgement import BRACKET_FACTOR, judge_together, propose

RECORDED = Path(__file__).parent / "recorded"
FOLDS = "surrogate-folds.jsonl"
"""The constants that were fitted without some families, by which those are judged."""
FIRST = ((1.5, 0.45, 15.0), (1.0, 0.3, 25.0), (0.63, 0.45, 15.0), (3.2, 0.45, 15.0))
"""What a search starts with: max_lr over the proposal, pct_start, div_factor."""
AFTER = (6, 12)
SEEDS = (0, 1)
"""Those that every configuration has; the others were given to the best alone."""
_N_FOLDS = 5
_LEARNT = 2.0  # points above a cycle that broke
_N_SUBSETS = 6
_N_FITTED = 3  # of them a fit goes by, for time
_N_DRAWS = 400
_FACTOR = 1.35
_LEAST_GAIN = 0.005
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


def foretold(
    family: Measured, known: Constants, *, n: int, n_searches: int = _N_SUBSETS
) -> Iterator[tuple[Surrogate, Observations, np.random.Generator]]:
    """Yield posteriors after n cycles of searches, with what they have not seen.

    Searches that have found nothing that learns are left out: they know that they know nothing.
    """
    for order, seed, random in islice(family.searches(), n_searches):
        measured = family.observations(order[:n], seed=seed)
        if measured.scores.max() < family.diverged_value + _LEARNT * family.unit:
            continue
        guessed = unit_is_guessed(family.metric)
        model = surrogate(measured, unit=family.unit, guessed_unit=guessed, known=known)
        yield model, family.observations(order[n:]), random


def check(family: Measured, known: Constants, *, n: int) -> Check | None:
    """Return what posteriors after n cycles say of the configurations not tried yet.

    None where no search has found a configuration that learns.
    """
    inside, better, densities = [], [], []
    middle = np.median([np.mean(each) for each in family.scores])
    for model, unseen, random in foretold(family, known, n=n):
        draws = model.draws(unseen.points, _N_DRAWS, rng=random, n_seeds=unseen.n_seeds)
        low, high = np.quantile(draws, [0.1, 0.9], axis=0)
        within = (low <= unseen.scores) & (unseen.scores <= high)
        inside.append(within.mean())
        better.append(within[unseen.scores >= middle].mean())
        densities.append(model.log_densities(unseen).mean())
    return Check(fmean(inside), fmean(better), fmean(densities)) if inside else None


def density(family: Measured, known: Constants) -> float:
    """Return the mean log density of what searches have not seen; 0 where none has learnt."""
    densities = [
        model.log_densities(unseen).mean()
        for n in AFTER
        for model, unseen, _ in foretold(family, known, n=n, n_searches=_N_FITTED)
    ]
    return fmean(densities) if densities else 0.0


def fitted(
    families: Sequence[Measured], start: Mapping[str, Any], *, n_rounds: int
) -> dict[str, Any]:
    """Return the constants, as stored, under which unseen scores of the families are densest.

    One constant after the other is made larger or smaller by a factor of 1.35 and kept where that
    gains at least 0.005: few families say little of most constants. The marginal likelihood of
    all scores was tried as well and foretold left-out families no better than the start.
    """

    def gain(stored: Mapping[str, Any]) -> float:
        return fmean(density(family, Constants.of(stored)) for family in families)

    best, highest = dict(start), gain(start)
    for _ in range(n_rounds):
        for place in FREE:
            tries = [_moved(best, place, factor) for factor in (_FACTOR, 1 / _FACTOR)]
            gains = [gain(each) for each in tries]
            if max(gains) >= highest + _LEAST_GAIN:
                highest = max(gains)
                best = tries[gains.index(highest)]
    return best


Place = tuple[str | int, ...]


FREE: tuple[Place, ...] = (
    ("scale", "sd_of_log"),
    ("noise_over_scale", "median"),
    ("noise_over_scale", "sd_of_log"),
    ("parts", 0, "sd"),
    ("parts", 0, "max_lr"),
    ("parts", 1, "sd"),
    ("parts", 1, "max_lr"),
)
"""Where the constants stand that a fit may move: those that these families say most of. Not the
scale's median, which the deviations of the parts say as well."""


def _moved(stored: Mapping[str, Any], place: Place, factor: float) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(stored))
    *way, last = place
    inner: Any = copy
    for key in way:
        inner = inner[key]
    inner[last] = float(f"{inner[last] * factor:.3g}")
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
        if not curves:
            raise UserError(f"{folder}: no sweeps of {name} are recorded there")
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
    scores: dict[tuple[float, ...], dict[int, float]] = {}
    for record in cycles:
        params = record.params
        point = (
            float(np.log10(params.max_lr / proposed_max_lr)),
            params["pct_start"],
            float(np.log10(params["div_factor"])),
        )
        score = diverged_value if record.score is None else record.score
        if abs(point[0]) <= _MARGIN * np.log10(BRACKET_FACTOR) and record.work.seed in SEEDS:
            scores.setdefault(point, {})[record.work.seed] = score
    table = np.array([[by_seed[seed] for seed in SEEDS] for by_seed in scores.values()])
    return Measured(
        name=name,
        shares=shares,
        metric=metric,
        diverged_value=diverged_value,
        points=np.array(list(scores)),
        scores=tuple(map(tuple, _without_seeds(table).tolist())),
    )


def _without_seeds(table: Floats) -> Floats:
    """Return scores (configurations, seeds) less what a seed adds to all of them.

    A search trains all configurations with one seed, so that what it adds moves none against
    another. Judged by the better half: where cycles break, seeds differ by far more.
    """
    means = table.mean(axis=1, keepdims=True)
    better = table[means[:, 0] >= np.median(means)]
    result: Floats = table - np.median(better - better.mean(axis=1, keepdims=True), axis=0)
    return result


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


def apart(folder: Path = RECORDED) -> list[tuple[Measured, Constants]]:
    """Return each family with constants that it had no part in: of a fold, else the product's."""
    by_name = {}
    if (folder / FOLDS).exists():
        for line in (folder / FOLDS).read_text(encoding="utf-8").splitlines():
            stored = json.loads(line)
            by_name |= dict.fromkeys(stored["left_out"], Constants.of(stored))
    own = json.loads(files("search.belief").joinpath("surrogate.json").read_text(encoding="utf-8"))
    every = measured_families(folder)
    by_name = {f.name: constants() for f in every if f.name not in own["fitted_on"]} | by_name
    return [(family, by_name[family.name]) for family in every if family.name in by_name]


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    flags = Flags("fit_surrogate", __doc__)
    flags.add_argument(
        "--recorded", type=existing_folder, default=RECORDED, help="default: %(default)s"
    )
    instead = flags.add_mutually_exclusive_group()
    instead.add_argument("--write", action="store_true", help="keep a fit that is ahead")
    instead.add_argument("--no-fit", action="store_true", help="check the constants as they are")
    flags.add_argument(
        "--rounds", type=at_least(1), default=1, help="of the fit; default: %(default)s"
    )
    return flags.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Check, and fit where that is asked for; return the exit code: 0, ahead or not."""
    return ended(partial(_checked, _arguments(argv)))


def _checked(asked: argparse.Namespace) -> None:
    families = measured_families(asked.recorded)
    path = Path(str(files("search.belief").joinpath("surrogate.json")))
    stored = json.loads(path.read_text(encoding="utf-8"))
    print(f"{len(families)} families in {len(folds(families))} folds that share nothing")
    before = _print_checks("the product's constants", [(constants(), families)])
    if asked.no_fit:
        return
    fits = []
    for group in folds(families):
        rest = [family for family in families if family not in group]
        fits.append((fitted(rest, stored, n_rounds=asked.rounds), group))
        print(f"fitted without {', '.join(family.name for family in group)}", file=sys.stderr)
    after = _print_checks("fitted to the other folds", [(Constants.of(c), g) for c, g in fits])
    leads = [a - b for a, b in zip(after, before, strict=True)]
    lead, error = fmean(leads), stdev(leads) / len(leads) ** 0.5
    n_ahead = sum(each > 0 for each in leads)
    print(f"the fit is denser by {lead:+.3f} +- {error:.3f}, in {n_ahead} of {len(leads)}")
    every = fitted(families, stored, n_rounds=asked.rounds)
    print(json.dumps(every, indent=2))
    if asked.write and lead > 2 * error:
        every["fitted_on"] = [family.name for family in families]
        path.write_text(json.dumps(every, indent=2) + "\n", encoding="utf-8")
        lines = [json.dumps({**c, "left_out": [f.name for f in g]}) for c, g in fits]
        (asked.recorded / FOLDS).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _print_checks(
    title: str, parts: Sequence[tuple[Constants, Sequence[Measured]]]
) -> list[float]:
    """Print a table of checks; return each family's density, in the order of names."""
    rows = {
        family.name: [each for n in AFTER if (each := check(family, known, n=n))]
        for known, group in parts
        for family in group
    }
    rows = {name: checks for name, checks in rows.items() if len(checks) == len(AFTER)}
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
