"""What a tracker is told: of a study and of each of its runs, in one form for all trackers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from studies.states import RunState, Stage

STUDY = "study"
"""The key of the study itself; that of a run is its number in the table of work."""


class Point(NamedTuple):
    """One value of a curve: at an epoch of a cycle, or at a step of a sweep; `at` is UTC, in s."""

    name: str
    step: int
    value: float
    at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Tracked:
    """The study, or one of its runs.

    `params` never change, `tags` may. `points` are its curves; `results` are the numbers that it
    ended with, at `last_step`. `version` changes with all that is told. Times are UTC, in s.
    """

    key: str
    name: str
    state: RunState
    params: Mapping[str, object]
    tags: Mapping[str, str]
    version: str
    began: float
    ended: float | None = None
    note: str = ""
    results: Mapping[str, float] | None = None
    last_step: int = 0
    points: tuple[Point, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackedStudy:
    """A stored study as it is now; the `points` of its runs are read by with_points().

    `label` names it among all studies: its name and the first characters of its id.
    """

    id: str
    label: str
    stage: Stage
    metric: str
    whole: Tracked
    runs: tuple[Tracked, ...]


def plain_name(name: str) -> str:
    """Return a name that every tracker takes as that of a curve or a parameter."""
    return re.sub(r"[^\w.-]", "_", name)[:200].strip(".") or "_"
