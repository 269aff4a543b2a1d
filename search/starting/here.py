"""Work in this process, until a study has ended or a stop is asked for."""

import os
import signal
import sys
import threading

from sqlalchemy import Engine

from search.errors import GivenBackError
from search.queue.together import Together
from search.starting import catalog
from search.starting.cost import Started
from search.workers.stop import Stop
from studies.registry import Definition
from studies.states import Stage, WorkEnd
from studies.tables import StudyRow
from trainers.device import Site
from trainers.run import Trainer


def work_here(
    engine: Engine,
    row: StudyRow,
    definition: Definition,
    *,
    trainer: Trainer,
    site: Site,
    stop: Stop,
    only: Stage | None,
    together: Together | None = None,
) -> WorkEnd:
    """Be one worker; `together` writes its beats with those of others."""
    from search.workers.worker import Worker

    return Worker(
        engine,
        row,
        definition.study,
        trainer=trainer,
        site=site,
        stop=stop,
        only=only,
        together=together,
    ).work()


def work_as_started(
    engine: Engine, started: Started, stop: Stop, *, together: Together | None = None
) -> WorkEnd:
    """Be one worker of a start."""
    return work_here(
        engine,
        started.row,
        started.definition,
        trainer=started.trainer,
        site=started.site,
        stop=stop,
        only=started.only,
        together=together,
    )


def leave(row: StudyRow, ended: WorkEnd, *, site: Site, stop: Stop, only: Stage | None) -> None:
    """End as a worker that another program started, or waits for; see raise_if_stopped()."""
    raise_if_stopped(ended, stop)
    if only is None:
        catalog.remove_checkpoints(row.id, site.cache)


def raise_if_stopped(ended: WorkEnd, stop: Stop) -> None:
    """Raise KeyboardInterrupt after a SIGINT, GivenBackError where else work was given back."""
    if ended == WorkEnd.STOPPED and stop.signal == signal.SIGINT:
        raise KeyboardInterrupt("work given back; the same call resumes it")
    if ended == WorkEnd.STOPPED:
        reason = "out of time" if stop.out_of_time() else "asked to stop"
        raise GivenBackError(
            f"{reason}: work given back; the same command resumes it",
            start_again=stop.warned_of_limit(),
        )
    if ended == WorkEnd.RENEW:
        raise GivenBackError(
            "out of memory: only a new process has all of it; the same command resumes it",
            start_again=True,
        )


def stop_at_end_of_stdin(stop: Stop) -> None:
    """Ask for a stop once the program at the other end of our stdin is gone, however that came."""
    threading.Thread(target=_read_to_the_end, args=(stop,), daemon=True).start()


def _read_to_the_end(stop: Stop) -> None:
    while os.read(sys.stdin.fileno(), 1024):  # unbuffered: a buffer's lock blocks the exit
        pass
    stop.ask()
