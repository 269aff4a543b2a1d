"""Range test + study -> parameters: what Optuna is asked for, and the cycle they make."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from search.params import Params
from studies.definition import Study
from studies.params import Domain, Parameter, Range, Value, parameter
from studies.tables import StudyRow

if TYPE_CHECKING:
    from optuna.trial import Trial

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
    `proposals` those of each batch size where several are searched. The brackets of all reach
    equally far around their proposals.
    """

    bracket: tuple[float, float]
    proposed_max_lr: float
    others: tuple[Parameter, ...]
    proposals: Mapping[int, float] = field(default_factory=dict)

    @classmethod
    def of(cls, row: StudyRow, study: Study) -> "Ranges":
        """Return those of a stored study."""
        assert row.bracket_low is not None
        assert row.bracket_high is not None
        assert row.proposed_max_lr is not None
        return cls(
            bracket=(row.bracket_low, row.bracket_high),
            proposed_max_lr=row.proposed_max_lr,
            others=study.parameters,
            proposals={
                int(size): frozen["proposal"] for size, frozen in (row.batch_sizes or {}).items()
            },
        )

    @property
    def relative(self) -> bool:
        """Whether Optuna samples max_lr as a multiple of the proposal.

        It does so where a searched parameter may move the edge.
        """
        return any(each.name in ("weight_decay", "batch_size") for each in self.others)

    @property
    def reach(self) -> tuple[float, float]:
        """The bracket over its proposal, the same for all batch sizes."""
        low, high = self.bracket
        return low / self.proposed_max_lr, high / self.proposed_max_lr

    @property
    def n_dimensions(self) -> int:
        """How many parameters are searched."""
        return 1 + len(self.others)

    def proposal_at(self, batch_size: int | None) -> float:
        """Return the max_lr proposed for a batch size; None: the only one."""
        return self.proposed_max_lr if batch_size is None else self.proposals[batch_size]

    def bracket_at(self, batch_size: int | None) -> tuple[float, float]:
        """Return the range of max_lr for a batch size; None: the only one."""
        proposal = self.proposal_at(batch_size)
        if proposal == self.proposed_max_lr:
            return self.bracket
        return proposal * self.reach[0], proposal * self.reach[1]

    def parameters_at(self, batch_size: int | None) -> tuple[Parameter, ...]:
        """Return all parameters, max_lr first, with the range that it has for a batch size."""
        low, high = self.bracket_at(batch_size)
        max_lr = replace(parameter("max_lr"), domain=Range(low, high, log=True))
        return (max_lr, *self.others)

    def baseline(self) -> Params:
        """Return torch's default 1cycle at the proposal, with the task's own values."""
        own = {p.name: p.baseline for p in self.others if p.baseline is not None}
        return Params(**{**baseline(self.proposed_max_lr), **own})

    def at(self, point: Sequence[float]) -> Params:
        """Return the configuration at a point of the unit cube, of `n_dimensions`."""
        values = {
            each.name: _domain(each).at(share)
            for each, share in zip(self.others, point[1:], strict=True)
        }
        max_lr, *_ = self.parameters_at(_size(values))
        return Params(max_lr=_domain(max_lr).at(point[0]), **values)

    def position(self, params: Params) -> tuple[float, ...]:
        """Return where a configuration lies in the unit cube: the inverse of at().

        Choices of numbers lie where their logarithms do, not in the middle of their shares.
        """
        parameters = self.parameters_at(params.batch_size)
        return tuple(_domain(p).share(params[p.name]) for p in parameters if p.name in params)

    def suggest(self, trial: "Trial") -> Params:
        """Ask Optuna for one configuration; the ranges never change within a study."""
        low, high = self.reach if self.relative else self.bracket
        name = RELATIVE_MAX_LR if self.relative else "max_lr"
        sampled = trial.suggest_float(name, low, high, log=True)
        values = {each.name: _domain(each).suggest(trial, each.name) for each in self.others}
        max_lr = sampled * self.proposal_at(_size(values)) if self.relative else sampled
        return Params(max_lr=max_lr, **values)

    def sampled(self, params: Params) -> dict[str, Any]:
        """Return a configuration as Optuna's parameters: what suggest() asks for."""
        if not self.relative:
            return dict(params)
        low, high = self.reach
        factor = params.max_lr / self.proposal_at(params.batch_size)
        others = {name: value for name, value in params.items() if name != "max_lr"}
        # A quotient may miss its bound by a rounding, and Optuna accepts that with a mere warning.
        return {RELATIVE_MAX_LR: min(high, max(low, factor)), **others}


def _domain(parameter: Parameter) -> Domain:
    """Return the domain of a parameter that a study searches, which has one."""
    assert parameter.domain is not None
    return parameter.domain


def _size(values: Mapping[str, Value]) -> int | None:
    size = values.get("batch_size")
    return None if size is None else int(size)
