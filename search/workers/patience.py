"""Waiting for a database that is away."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from search.workers.stop import Stop
from studies.errors import DatabaseUnreachableError

if TYPE_CHECKING:
    import tenacity

log = logging.getLogger(__name__)

_P = ParamSpec("_P")
_R = TypeVar("_R")

# In the middle of work: longer than a server's upgrade with a restart; the work is kept meanwhile.
PATIENCE_S = 1800.0

# At a start nothing is lost yet: longer than a failover (about 30 s for managed PostgreSQL), short
# for somebody who mistyped a host.
START_PATIENCE_S = 60.0

# Schedulers kill 30 s after they asked (Slurm's KillWait, Kubernetes' default grace period).
PATIENCE_WHEN_STOPPED_S = 10.0


class Patience:
    """Calls again while the database does not answer: for `seconds`, or until a stop is asked."""

    def __init__(self, stop: Stop, *, seconds: float = PATIENCE_S) -> None:
        self._stop, self._seconds = stop, seconds

    def __call__(self, call: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Return what `call` returns; raise DatabaseUnreachableError when patience has ended."""
        import tenacity  # the command line reads START_PATIENCE_S, and answers --help at once

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(DatabaseUnreachableError),
            wait=tenacity.wait_random_exponential(multiplier=0.2, max=5),
            stop=self._has_ended,
            before_sleep=_say,
            reraise=True,
        )
        return retrying(call, *args, **kwargs)

    def _has_ended(self, state: "tenacity.RetryCallState") -> bool:
        waited = state.seconds_since_start or 0.0
        stopped_s = min(PATIENCE_WHEN_STOPPED_S, self._seconds)
        return waited >= (stopped_s if self._stop.asked() else self._seconds)


def _say(state: "tenacity.RetryCallState") -> None:
    """Say once per call that the database is waited for."""
    if state.attempt_number == 1 and state.outcome is not None:
        log.warning("%s; waiting for it", state.outcome.exception())
