"""Range test + study -> parameters: what Optuna is asked for, and the cycle they make."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from search.params import Params
from studies.definition import Study
from studies.params import CYCLE, Domain, Parameter, Range, Value, parameter, setting_key
from studies.protocol import has_first_choices, stored_space
from studies.space import Space
from studies.tables import StudyRow

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

# A trial with another range drops a parameter from TPE's joint space (Optuna 5.0, measured).
RELATIVE_MAX_LR = "max_lr_over_proposal"
"""Optuna's parameter where the proposal moves within a study, so that its range does not."""


def baseline(proposed_max_lr: float) -> Params:
    """Return torch's default 1cycle at the proposed max_lr."""
    # The defaults of torch.optim.lr_scheduler.OneCycleLR.
    return Params(max_lr=proposed_max_lr, pct_start=0.3, div_factor=25.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranges:
    """All that a study searches, once its range test is done; it never changes after that.

    `bracket` and `proposed_max_lr` are the baseline's; `others` are the parameters beside max_lr,
    `fixed` those that are held at one value. `proposals` are those of each setting by its name
    where several have a range test, in the parameters `moving`; the brackets of all reach equally
    far around them. `edge_moves`: a parameter may move the edge within one range test.
    `first_choices`: whether the search begins with them (search.stages.first).
    """

    bracket: tuple[float, float]
    proposed_max_lr: float
    others: tuple[Parameter, ...]
    proposals: Mapping[str, float] = field(default_factory=dict)
    moving: tuple[str, ...] = ("batch_size",)
    fixed: Mapping[str, Value] = field(default_factory=dict)
    edge_moves: bool = False
    first_choices: bool = True

    @classmethod
    def of(cls, row: StudyRow, study: Study) -> "Ranges":
        """Return those of a stored study."""
        return cls._of(row, study.parameters, study.space)

    @classmethod
    def stored(cls, row: StudyRow) -> "Ranges":
        """Return the same by what is stored alone; the baseline's values are not part of it.

        Raises ValueError where the stored space cannot be read.
        """
        space = stored_space(row.declared)
        return cls._of(row, space.parameters({}), space)

    @classmethod
    def _of(cls, row: StudyRow, others: tuple[Parameter, ...], space: Space) -> "Ranges":
        assert row.bracket_low is not None
        assert row.bracket_high is not None
        assert row.proposed_max_lr is not None
        return cls(
            bracket=(row.bracket_low, row.bracket_high),
            proposed_max_lr=row.proposed_max_lr,
            others=others,
            proposals={key: each["proposal"] for key, each in (row.batch_sizes or {}).items()},
            moving=row.moving,
            fixed=space.fixed(),
            # NULL of studies from before, which sampled max_lr itself beside extra parameters.
            edge_moves=row.batch_sizes is not None,
            first_choices=has_first_choices(row.declared),
        )

    @property
    def relative(self) -> bool:
        """Whether Optuna samples max_lr as a multiple of the proposal.

        It does so where a searched parameter may move the edge.
        """
        return self.edge_moves or any(
            each.name in ("weight_decay", "batch_size") for each in self.others
        )

    @property
    def reach(self) -> tuple[float, float]:
        """The bracket over its proposal, the same for all settings."""
        low, high = self.bracket
        return low / self.proposed_max_lr, high / self.proposed_max_lr

    @property
    def n_dimensions(self) -> int:
        """How many parameters are searched."""
        return 1 + len(self.others)

    def setting_of(self, values: Mapping[str, Value]) -> str | None:
        """Return the name of the setting that a configuration has; None where there is but one."""
        if not self.proposals:
            return None
        return setting_key({name: values[name] for name in self.moving})

    def proposal_at(self, setting: str | None) -> float:
        """Return the max_lr proposed for a setting; None: the only one."""
        return self.proposed_max_lr if setting is None else self.proposals[setting]

    def bracket_at(self, setting: str | None) -> tuple[float, float]:
        """Return the range of max_lr for a setting; None: the only one."""
        proposal = self.proposal_at(setting)
        if proposal == self.proposed_max_lr:
            return self.bracket
        return proposal * self.reach[0], proposal * self.reach[1]

    def parameters_at(self, setting: str | None) -> tuple[Parameter, ...]:
        """Return all parameters, max_lr first, with the range that it has for a setting."""
        low, high = self.bracket_at(setting)
        max_lr = replace(parameter("max_lr"), domain=_rates(low, high))
        return (max_lr, *self.others)

    def baseline(self) -> Params:
        """Return torch's default 1cycle at the proposal, with the task's own values."""
        own = {p.name: p.baseline for p in self.others if p.baseline is not None}
        return Params(**{**baseline(self.proposed_max_lr), **own, **self.fixed})

    def at(self, point: Sequence[float]) -> Params:
        """Return the configuration at a point of the unit cube, of `n_dimensions`."""
        values = {
            each.name: _domain(each).at(share)
            for each, share in zip(self.others, point[1:], strict=True)
        }
        max_lr = _rates(*self.bracket_at(self.setting_of(values)))
        return Params(max_lr=max_lr.at(point[0]), **values, **self.fixed)

    def position(self, params: Params) -> tuple[float, ...]:
        """Return where a configuration lies in the unit cube: the inverse of at().

        Choices of numbers lie where their logarithms do, not in the middle of their shares.
        """
        parameters = self.parameters_at(self.setting_of(params))
        return tuple(_domain(p).share(params[p.name]) for p in parameters if p.name in params)

    def coordinates(self, params: Params) -> tuple[float, ...]:
        """Return where a configuration lies for the surrogate (search.belief.surrogate).

        log10 of max_lr over the proposal of its setting, pct_start, log10 of div_factor, and of
        each further parameter that is searched its share (studies.params.Domain.share).
        """
        factor = params.max_lr / self.proposal_at(self.setting_of(params))
        cycle = {name: float(params.get(name, _TORCHS[name])) for name in CYCLE}
        further = (p for p in self.others if p.name not in CYCLE)
        return (
            math.log10(factor),
            cycle["pct_start"],
            math.log10(cycle["div_factor"]),
            *(_domain(p).share(params[p.name]) for p in further),
        )

    @property
    def coordinate_names(self) -> tuple[str, ...]:
        """The parameters that coordinates() are of, in its order."""
        return (*CYCLE, *(p.name for p in self.others if p.name not in CYCLE))

    def candidates(self, n: int, *, seed: int) -> list[Params]:
        """Return `n` configurations of a scrambled Sobol sequence over all that is searched."""
        return [self.at(point) for point in sobol(n, self.n_dimensions, seed=seed)]

    def near(self, params: Params, n: int, *, reach: float, seed: int) -> list[Params]:
        """Return `n` configurations at most `reach` from one, along each side of the unit cube."""
        centre = self.position(params)
        return [
            self.at(
                [
                    min(1.0, max(0.0, c + reach * (2 * x - 1)))
                    for c, x in zip(centre, shift, strict=True)
                ]
            )
            for shift in sobol(n, self.n_dimensions, seed=seed)
        ]

    def suggest(self, trial: "BaseTrial") -> Params:
        """Ask Optuna for one configuration; the ranges never change within a study."""
        low, high = self.reach if self.relative else self.bracket
        name = RELATIVE_MAX_LR if self.relative else "max_lr"
        sampled = trial.suggest_float(name, low, high, log=True)
        values = {each.name: _domain(each).suggest(trial, each.name) for each in self.others}
        proposal = self.proposal_at(self.setting_of(values)) if self.relative else 1.0
        return Params(max_lr=sampled * proposal, **values, **self.fixed)

    def sampled(self, params: Params) -> dict[str, Any]:
        """Return a configuration as Optuna's parameters: what suggest() asks for."""
        searched = {name: value for name, value in params.items() if name not in self.fixed}
        # A rate at a bound may miss it by a rounding, and Optuna accepts that with a mere warning.
        if not self.relative:
            low, high = self.bracket
            return {**searched, "max_lr": min(high, max(low, params.max_lr))}
        low, high = self.reach
        factor = params.max_lr / self.proposal_at(self.setting_of(params))
        others = {name: value for name, value in searched.items() if name != "max_lr"}
        return {RELATIVE_MAX_LR: min(high, max(low, factor)), **others}


def sobol(n: int, n_dimensions: int, *, seed: int) -> list[list[float]]:
    """Return the first `n` points of a scrambled Sobol sequence in the unit cube.

    A longer sequence begins with the same points, so that a point depends on its number alone.
    """
    from scipy.stats import qmc

    # scipy calls it rng since 1.15, and still takes the old name.
    sequence = qmc.Sobol(n_dimensions, scramble=True, seed=seed)
    # Powers of two keep a Sobol sequence balanced (scipy.stats.qmc.Sobol).
    points: list[list[float]] = sequence.random_base2(max(0, n - 1).bit_length()).tolist()
    return points[:n]


_TORCHS = baseline(1.0)


@cache  # hundreds of candidates ask for the same, at every proposal
def _rates(low: float, high: float) -> Range:
    """Return the range of max_lr of a bracket."""
    return Range(low, high, log=True)


def _domain(parameter: Parameter) -> Domain:
    """Return the domain of a parameter that a study searches, which has one."""
    assert parameter.domain is not None
    return parameter.domain
