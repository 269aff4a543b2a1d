"""What one start was asked for: flags and arguments become one value, all of it checked."""

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from search.errors import UsageError
from search.starting.slurm import MOST_WORKERS
from search.starting.target import Target
from search.starting.trackers import Tracker, trackers_of
from search.starting.travel import why_it_stays
from search.workers.patience import START_PATIENCE_S
from search.workers.stop import Stop
from studies.definition import Study, check_name
from studies.made_of import made_of
from studies.registry import Definition, load
from studies.urls import storage_url
from trainers.seeding import MOST_SEED

log = logging.getLogger(__name__)

MOST_MINUTES = 525_600


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One start: which study, where it is stored, how large, and what may work on it.

    `workers=None` takes one per GPU, on a CPU one per core. `fresh` removes a stored study first
    (search.starting.renewal).
    """

    definition: Definition
    name: str
    storage: str | None = None
    seed: int | None = None
    target: Target = field(default_factory=Target)
    device: str = "auto"
    data: str | Path | None = None
    workers: int | None = 1
    timeout_min: float | None = None
    wait_s: float = START_PATIENCE_S
    fresh: bool = False
    track: tuple[Tracker, ...] = ()

    @property
    def study(self) -> Study:
        """The study as its author wrote it."""
        return self.definition.study

    def stop(self) -> Stop:
        """Return the request to stop of this start, which its deadline makes."""
        return Stop(timeout_s=None if self.timeout_min is None else 60 * self.timeout_min)


def asked_of(
    definition: Definition,
    *,
    name: str | None = None,
    storage: str | None = None,
    trials: int | str | None = None,
    budget: str | None = None,
    seed: int | None = None,
    device: str = "auto",
    data: str | Path | None = None,
    workers: int | None = 1,
    timeout_min: float | None = None,
    wait_s: float = START_PATIENCE_S,
    fresh: bool = False,
    track: Iterable[str] | None = None,
) -> Asked:
    """Return what was asked for; raise UserError for the first value that is not allowed."""
    name = checked_name(definition.study.name if name is None else name)
    check_counts(workers=workers, seed=seed, timeout_min=timeout_min, wait_s=wait_s)
    storage_url(storage)  # also of a dry run, which opens nothing
    return Asked(
        definition=definition,
        name=name,
        storage=storage,
        seed=seed,
        target=Target.parse(trials, budget),
        device=device,
        data=data,
        workers=_possible_workers(definition, workers),
        timeout_min=timeout_min,
        wait_s=wait_s,
        fresh=fresh,
        track=trackers_of(track),
    )


def definition_of(study: str | Path | Study | Definition) -> Definition:
    """Return a Study made in this program, or what a name or a path means."""
    if isinstance(study, Definition):
        return study
    if isinstance(study, Study):
        return Definition(study, made_of(study), "")
    return load(str(study))


def checked_name(name: str) -> str:
    """Return a name of a stored study; raise UsageError for what would not do as one."""
    try:
        check_name(name)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return name


def _possible_workers(definition: Definition, workers: int | None) -> int | None:
    """Return the workers that a definition can have; a Study object has to travel to them."""
    if definition.spec or workers == 1:
        return workers
    reason = why_it_stays(definition)
    if reason is None:
        return workers
    if workers is not None:
        raise UsageError(f"workers={workers}: {reason}, or pass workers=1")
    log.warning("one worker, in this process: %s", reason)
    return 1


def check_counts(
    *,
    workers: int | None = None,
    seed: int | None = None,
    timeout_min: float | None = None,
    wait_s: float = 0.0,
) -> None:
    """Raise UsageError for the first number that is out of range."""
    if workers is not None and not 1 <= workers <= MOST_WORKERS:
        raise UsageError(f"workers must be at least 1 and at most {MOST_WORKERS}, got {workers}")
    if seed is not None and not 0 <= seed <= MOST_SEED:
        raise UsageError(f"seed must lie between 0 and {MOST_SEED}, got {seed}")
    if timeout_min is not None and not 0 < timeout_min <= MOST_MINUTES:
        raise UsageError(
            f"timeout-min must be above 0 minutes and at most {MOST_MINUTES:,} (a year), "
            f"got {timeout_min:g}"
        )
    if not 0 <= wait_s < math.inf:
        raise UsageError(f"wait-s must be at least 0 seconds, got {wait_s:g}")
