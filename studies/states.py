"""Where studies and runs stand, and why an attempt failed: each state named once."""

from enum import StrEnum
from typing import Literal

Direction = Literal["maximize", "minimize"]
"""Which scores are better, in Optuna's words."""


def sign_of(direction: Direction) -> float:
    """Return 1 where a greater score is better, -1 where a smaller one is."""
    return 1.0 if direction == "maximize" else -1.0


class Stage(StrEnum):
    """Where a study stands: one of its three stages, or one of its two ends."""

    RANGE_TEST = "range_test"
    SEARCH = "search"
    CONFIRMATION = "confirmation"
    FINISHED = "finished"
    FAILED = "failed"

    @property
    def is_end(self) -> bool:
        """Whether the study has no more work."""
        return self in ENDS

    @property
    def words(self) -> str:
        """The stage in words."""
        return self.value.replace("_", " ")


STAGES = (Stage.RANGE_TEST, Stage.SEARCH, Stage.CONFIRMATION)
"""The stages that have runs, in their order."""


class RunState(StrEnum):
    """Where a run stands. `FAILED`: given up, nothing will be tried again."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"

    @property
    def is_end(self) -> bool:
        """Whether nothing more comes of the run."""
        return self in ENDED_RUNS


ENDS = (Stage.FINISHED, Stage.FAILED)
ENDED_RUNS = (RunState.DONE, RunState.FAILED)
OPEN_RUNS = (RunState.WAITING, RunState.RUNNING)


class FailureKind(StrEnum):
    """What ended an attempt.

    `DATA` and `INFRASTRUCTURE` are of the place where it ran, and do not count against the run.
    `DIED`: the run was given up because its owners died.
    """

    # The values stand in databases, in JSON and on the terminal: new ones are added, none is
    # renamed.
    MEMORY = "memory"
    BUG = "bug"
    DATA = "data"
    INFRASTRUCTURE = "infrastructure"
    DIED = "died"

    @property
    def counts(self) -> bool:
        """Whether the failure counts against the run."""
        return self in (FailureKind.MEMORY, FailureKind.BUG)


RunOutcome = Literal["completed", "diverged", "stopped", "did not learn", "score no number"]
"""How a finished run ended. "diverged": a loss was not finite. The last two are of cycles with
finite losses: a score no better than that of a broken cycle, or one that is no number."""

BROKEN = ("diverged", "did not learn", "score no number")
"""Outcomes of a cycle whose score is that of a broken one by convention, not measured."""


class WorkEnd(StrEnum):
    """How one worker's, or one start's, work on a study ended.

    `RENEW`: a run went out of memory, and only a new process has all of it again.
    """

    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"
    RENEW = "renew"
