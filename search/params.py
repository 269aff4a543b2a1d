"""One configuration: the parameters of a cycle, by torch's names."""

from dataclasses import asdict, dataclass
from typing import Any

from trainers.onecycle import OneCycle


@dataclass(frozen=True, slots=True)
class Params:
    """One configuration, in torch's names; None: not searched, the task's own."""

    max_lr: float
    pct_start: float
    div_factor: float
    weight_decay: float | None = None
    batch_size: int | None = None

    def searched(self) -> dict[str, Any]:
        """Return what was searched, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def plan(self, total_steps: int) -> OneCycle:
        """Return the cycle of `total_steps` optimizer steps under this configuration."""
        return OneCycle(
            max_lr=self.max_lr,
            total_steps=total_steps,
            pct_start=self.pct_start,
            div_factor=self.div_factor,
        )

    def __str__(self) -> str:
        words = [
            f"max_lr {self.max_lr:.3g}",
            f"pct_start {self.pct_start:.2f}",
            f"div_factor {self.div_factor:.3g}",
        ]
        if self.weight_decay is not None:
            words.append(f"weight_decay {self.weight_decay:.3g}")
        if self.batch_size is not None:
            words.append(f"batch_size {self.batch_size}")
        return ", ".join(words)
