"""Bracket + study -> parameters: what Optuna is asked for, and the cycle they make."""

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


def suggest(trial: "Trial", bracket: tuple[float, float], space: Space) -> Params:
    """Ask Optuna for one configuration; the ranges never change within a study."""
    return Params(
        max_lr=trial.suggest_float("max_lr", *bracket, log=True),
        pct_start=trial.suggest_float("pct_start", *space.pct_start),
        div_factor=trial.suggest_float("div_factor", *space.div_factor, log=True),
    )
