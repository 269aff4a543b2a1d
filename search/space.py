"""Bracket + study -> parameters: what Optuna is asked for, and the cycle they make."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from studies.definition import Space
from trainers.onecycle import OneCycle

if TYPE_CHECKING:
    from optuna.trial import Trial


@dataclass(frozen=True, slots=True)
class Params:
    """One configuration, in torch's names."""

    max_lr: float
    pct_start: float
    div_factor: float

    def plan(self, total_steps: int) -> OneCycle:
        """Return the cycle of `total_steps` optimizer steps under this configuration."""
        return OneCycle(
            max_lr=self.max_lr,
            total_steps=total_steps,
            pct_start=self.pct_start,
            div_factor=self.div_factor,
        )

    def __str__(self) -> str:
        return (
            f"max_lr {self.max_lr:.3g}, pct_start {self.pct_start:.2f}, "
            f"div_factor {self.div_factor:.3g}"
        )


def baseline(proposal: float) -> Params:
    """Return torch's default 1cycle at the proposed max_lr."""
    return Params(max_lr=proposal, pct_start=0.3, div_factor=25.0)


def at(point: Sequence[float], bracket: tuple[float, float], space: Space) -> Params:
    """Return the configuration at a point of the unit cube; rates and divisors are log scaled."""
    low, high = space.pct_start
    return Params(
        max_lr=_log_between(*bracket, point[0]),
        pct_start=low + (high - low) * point[1],
        div_factor=_log_between(*space.div_factor, point[2]),
    )


def position(
    params: Params, bracket: tuple[float, float], space: Space
) -> tuple[float, float, float]:
    """Return where a configuration lies in the unit cube: the inverse of at()."""
    low, high = space.pct_start
    return (
        _log_share(*bracket, params.max_lr),
        (params.pct_start - low) / (high - low),
        _log_share(*space.div_factor, params.div_factor),
    )


def _log_between(low: float, high: float, share: float) -> float:
    return low * math.exp(share * math.log(high / low))


def _log_share(low: float, high: float, value: float) -> float:
    return math.log(value / low) / math.log(high / low)


def suggest(trial: "Trial", bracket: tuple[float, float], space: Space) -> Params:
    """Ask Optuna for one configuration; the ranges never change within a study."""
    return Params(
        max_lr=trial.suggest_float("max_lr", *bracket, log=True),
        pct_start=trial.suggest_float("pct_start", *space.pct_start),
        div_factor=trial.suggest_float("div_factor", *space.div_factor, log=True),
    )
