"""Range test + study -> parameters: what Optuna is asked for, and the cycle they make."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from search.params import Params
from studies.definition import Space, Study
from studies.tables import StudyRow

if TYPE_CHECKING:
    from optuna.trial import Trial

RELATIVE_MAX_LR = "max_lr_over_proposal"
"""Optuna's parameter where the proposal moves within a study, so that its range does not."""


def baseline(proposal: float) -> Params:
    """Return torch's default 1cycle at the proposed max_lr."""
    return Params(max_lr=proposal, pct_start=0.3, div_factor=25.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranges:
    """All that a study searches, its range test done; nothing of it changes within the study.

    `bracket` and `proposal` are the baseline's, whose `weight_decay` and `batch_size` are given
    where these are searched; `proposals` are then those of each batch size. The brackets of all
    reach equally far around their proposals.
    """

    space: Space
    bracket: tuple[float, float]
    proposal: float
    proposals: Mapping[int, float] = field(default_factory=dict)
    weight_decay: float | None = None
    batch_size: int | None = None

    @classmethod
    def of(cls, row: StudyRow, study: Study) -> "Ranges":
        """Return those of a stored study."""
        assert row.bracket_low is not None
        assert row.bracket_high is not None
        assert row.proposal is not None
        sizes = row.batch_sizes or {}
        return cls(
            space=study.space,
            bracket=(row.bracket_low, row.bracket_high),
            proposal=row.proposal,
            proposals={int(size): found["proposal"] for size, found in sizes.items()},
            weight_decay=study.task.weight_decay if study.space.weight_decay else None,
            batch_size=row.batch_size if sizes else None,
        )

    @property
    def relative(self) -> bool:
        """Whether Optuna samples max_lr as a multiple of the proposal."""
        return self.space.weight_decay is not None or self.space.batch_size is not None

    @property
    def reach(self) -> tuple[float, float]:
        """The bracket over its proposal, the same for all batch sizes."""
        low, high = self.bracket
        return low / self.proposal, high / self.proposal

    @property
    def n_dimensions(self) -> int:
        """How many parameters are searched."""
        return 3 + (self.space.weight_decay is not None) + (self.space.batch_size is not None)

    def proposal_at(self, batch_size: int | None) -> float:
        """Return the max_lr proposed for a batch size; None: the only one."""
        return self.proposal if batch_size is None else self.proposals[batch_size]

    def bracket_at(self, batch_size: int | None) -> tuple[float, float]:
        """Return the range of max_lr for a batch size; None: the only one."""
        proposal = self.proposal_at(batch_size)
        if proposal == self.proposal:
            return self.bracket
        return proposal * self.reach[0], proposal * self.reach[1]

    def baseline(self) -> Params:
        """Return torch's default 1cycle at the proposal, with the task's own values."""
        plain = baseline(self.proposal)
        return replace(plain, weight_decay=self.weight_decay, batch_size=self.batch_size)

    def at(self, point: Sequence[float]) -> Params:
        """Return the configuration at a point of the unit cube, of `n_dimensions`.

        Rates, divisors and weight decays are log scaled; batch sizes have equal shares.
        """
        space, rest = self.space, list(point[3:])
        low, high = space.pct_start
        weight_decay = batch_size = None
        if space.weight_decay is not None:
            weight_decay = _log_between(*space.weight_decay, rest.pop(0))
        if space.batch_size is not None:
            n = len(space.batch_size)
            batch_size = space.batch_size[min(n - 1, int(n * rest.pop(0)))]
        return Params(
            max_lr=_log_between(*self.bracket_at(batch_size), point[0]),
            pct_start=low + (high - low) * point[1],
            div_factor=_log_between(*space.div_factor, point[2]),
            weight_decay=weight_decay,
            batch_size=batch_size,
        )

    def position(self, params: Params) -> tuple[float, ...]:
        """Return where a configuration lies in the unit cube: the inverse of at().

        Batch sizes lie where their logarithms do, not in the middle of their shares.
        """
        space = self.space
        low, high = space.pct_start
        found = [
            _log_share(*self.bracket_at(params.batch_size), params.max_lr),
            (params.pct_start - low) / (high - low),
            _log_share(*space.div_factor, params.div_factor),
        ]
        if space.weight_decay is not None and params.weight_decay is not None:
            found.append(_log_share(*space.weight_decay, params.weight_decay))
        if space.batch_size is not None and params.batch_size is not None:
            sizes = space.batch_size
            found.append(_log_share(sizes[0], sizes[-1], params.batch_size))
        return tuple(found)

    def suggest(self, trial: "Trial") -> Params:
        """Ask Optuna for one configuration; the ranges never change within a study."""
        space = self.space
        if self.relative:
            sampled = trial.suggest_float(RELATIVE_MAX_LR, *self.reach, log=True)
        else:
            sampled = trial.suggest_float("max_lr", *self.bracket, log=True)
        pct_start = trial.suggest_float("pct_start", *space.pct_start)
        div_factor = trial.suggest_float("div_factor", *space.div_factor, log=True)
        weight_decay = batch_size = None
        if space.weight_decay is not None:
            weight_decay = trial.suggest_float("weight_decay", *space.weight_decay, log=True)
        if space.batch_size is not None:
            batch_size = int(trial.suggest_categorical("batch_size", space.batch_size))
        return Params(
            max_lr=sampled * self.proposal_at(batch_size) if self.relative else sampled,
            pct_start=pct_start,
            div_factor=div_factor,
            weight_decay=weight_decay,
            batch_size=batch_size,
        )

    def sampled(self, params: Params) -> dict[str, Any]:
        """Return a configuration as Optuna's parameters: what suggest() asks for."""
        if not self.relative:
            return params.searched()
        low, high = self.reach
        found = params.searched()
        factor = found.pop("max_lr") / self.proposal_at(params.batch_size)
        return {RELATIVE_MAX_LR: min(high, max(low, factor)), **found}


def _log_between(low: float, high: float, share: float) -> float:
    return low * math.exp(share * math.log(high / low))


def _log_share(low: float, high: float, value: float) -> float:
    return math.log(value / low) / math.log(high / low)
