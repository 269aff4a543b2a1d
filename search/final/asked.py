"""What one start of `train` was asked for, all of it checked."""

from dataclasses import dataclass
from pathlib import Path

from search.errors import UsageError
from search.final.place import Place
from trainers.final import TrainedOn
from trainers.seeding import MOST_SEED, run_seed_for

SPLITS: tuple[TrainedOn, ...] = ("train", "train+validation")
_MOST_MODELS = 1000


def trained_on(text: str) -> TrainedOn:
    """Return the splits that a text names; raise UsageError for another one."""
    for splits in SPLITS:
        if text == splits:
            return splits
    raise UsageError(f"--on must be {' or '.join(SPLITS)}, got {text!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class FinalAsked:
    """Which final models are wanted, and where.

    `seed` is that of the first model; None derives fresh ones from the study's. `changed`: the
    code of the study file may have changed since the search.
    """

    out: Path
    slot: int | None = None
    baseline: bool = False
    on: TrainedOn = "train"
    n_seeds: int = 1
    seed: int | None = None
    force: bool = False
    changed: bool = False

    def __post_init__(self) -> None:
        trained_on(self.on)
        if not 1 <= self.n_seeds <= _MOST_MODELS:
            raise UsageError(f"--seeds must lie between 1 and {_MOST_MODELS}, got {self.n_seeds}")
        last = MOST_SEED + 1 - self.n_seeds
        if self.seed is not None and not 0 <= self.seed <= last:
            raise UsageError(f"--seed must lie between 0 and {last}, got {self.seed}")
        if not self.out.name:
            raise UsageError(f"--out {self.out}: names no file")

    @property
    def places(self) -> tuple[Place, ...]:
        """Where the models go: model.pt, or model.seed0.pt, model.seed1.pt where several are."""
        out = self.out.expanduser().absolute()
        if self.n_seeds == 1:
            return (Place(out),)
        names = (f"{out.stem}.seed{k}{out.suffix}" for k in range(self.n_seeds))
        return tuple(Place(out.with_name(name)) for name in names)

    def seeds(self, study_seed: int) -> tuple[int, ...]:
        """Return the seed of each model: fresh ones, that no run of the study had."""
        if self.seed is not None:
            return tuple(self.seed + k for k in range(self.n_seeds))
        return tuple(run_seed_for(study_seed, "train", k) for k in range(self.n_seeds))
