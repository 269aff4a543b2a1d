"""One worker: claim -> run -> write -> tell, until nothing is left or it is asked to stop."""

import logging
import math
import threading
import traceback
from collections.abc import Callable
from functools import cached_property
from types import TracebackType
from typing import Literal, ParamSpec, TypeVar

import tenacity
from sqlalchemy import Engine

from search import range_test, space
from search.history import History
from search.processes import process_identity, worker_name
from search.screening import BASELINE_SLOT
from search.stages import advance
from search.stop import Stop
from search.work import Claim, Ended, FailureKind, FencedOffError, Queue
from studies.database import DatabaseUnreachableError, reading
from studies.definition import Study
from studies.tables import StudyRow
from trainers.audit import AuditError, audit
from trainers.checkpoint import Checkpoint
from trainers.device import Site, device_name
from trainers.errors import UserError
from trainers.run import Plan, Run, RunResult, Trainer
from trainers.seeding import seed_for

log = logging.getLogger(__name__)

_P = ParamSpec("_P")
_R = TypeVar("_R")

_patience = tenacity.retry(
    retry=tenacity.retry_if_exception_type(DatabaseUnreachableError),
    wait=tenacity.wait_random_exponential(multiplier=0.2, max=5),
    stop=tenacity.stop_after_delay(300),
    before_sleep=tenacity.before_sleep_log(log, logging.WARNING),
    reraise=True,
)


class Heartbeat:
    """Beats for one claim from a thread of its own; `lost` once another owner has taken over."""

    def __init__(self, queue: Queue, claim: Claim, *, beat_s: float) -> None:
        self.lost = False
        self._queue, self._claim, self._beat_s = queue, claim, beat_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._over.wait(self._beat_s):
            try:
                self._queue.beat(self._claim)
            except FencedOffError:
                self.lost = True
                return
            except DatabaseUnreachableError as error:
                log.warning("%s; training goes on", error)


class Worker:
    """Does runs of one study at one site."""

    def __init__(
        self,
        engine: Engine,
        row: StudyRow,
        study: Study,
        *,
        trainer: Trainer,
        site: Site,
        stop: Stop,
    ) -> None:
        self.engine, self.row, self.study = engine, row, study
        self.trainer, self.site, self.stop = trainer, site, stop
        self.queue = Queue(engine, row, owner=worker_name(), process=process_identity())
        self._out_of_memory = False
        self.device = f"{site.device} ({device_name(site.device)})"

    @cached_property
    def history(self) -> History:
        """Optuna's side of the study."""
        return History(self.engine.url, name=self.row.name, study_id=self.row.id)

    def work(self) -> Literal["finished", "failed", "stopped", "renew"]:
        """Do runs until the study has ended or a stop is asked for.

        'renew': a run went out of memory, and only a new process has all of it again.
        """
        try:
            _patiently(repair, self.queue, self.history)
            while not (self.stop.asked() or self._out_of_memory):
                claim = _patiently(self.queue.claim)
                if claim is not None:
                    self._perform(claim)
                    continue
                _patiently(settle, self.queue, self.history)
                stage = _patiently(
                    advance, self.engine, self.row.id, self.study, self.history.importances
                )
                if stage == "finished" or stage == "failed":
                    _patiently(repair, self.queue, self.history)
                    return "finished" if stage == "finished" else "failed"
                self._wait(stage)
            return "stopped" if self.stop.asked() else "renew"
        finally:
            self.history.close()

    def _wait(self, stage: str) -> None:
        """Wait a moment for the runs that others hold."""
        log.debug("waiting at the end of the %s for the runs of other workers", stage)
        self.stop.sleep(0.2)

    def _perform(self, claim: Claim) -> None:
        """Do one run and write how it ended; every way out leaves the row in a state to go on."""
        checkpoint = self._checkpoint(claim)
        with Heartbeat(self.queue, claim, beat_s=self.row.beat_s) as heartbeat:
            run: Run | None = None
            try:
                run = self._run(claim, heartbeat, checkpoint)
                result = self.trainer.fit(run)
                run.look()
                audit(run.plan, run.points, result)
                stopped = result.outcome == "stopped" and not run.diverged()
                if stopped and not run.stop_asked():
                    raise AuditError("the loop stopped though nobody asked it to")
                ended = None if stopped else self._ended(claim, run, result)
            except FencedOffError:
                heartbeat.lost = True
            except (UserError, KeyboardInterrupt):
                self._unless_lost(heartbeat, self.queue.give_back, claim)
                raise
            except Exception as error:
                if run is not None and run.stop_asked():
                    self._unless_lost(heartbeat, self.queue.give_back, claim)
                else:
                    self._unless_lost(heartbeat, self._fail, claim, error)
                return
        if heartbeat.lost:
            log.warning("%s: another worker took this run over", _title(claim))
        elif ended is None:
            self._unless_lost(heartbeat, self.queue.give_back, claim)
        else:
            self._unless_lost(heartbeat, self.queue.finish, claim, ended)
            if not heartbeat.lost:
                checkpoint.remove()
                log.info("%s: %s", _title(claim), ended.outcome)
            _patiently(settle, self.queue, self.history)

    def _unless_lost(
        self, heartbeat: Heartbeat, write: Callable[_P, object], *args: _P.args, **kw: _P.kwargs
    ) -> None:
        """Write about a run if it is still ours; an owner that was replaced stays quiet."""
        try:
            if not heartbeat.lost:
                _patiently(write, *args, **kw)
        except FencedOffError:
            heartbeat.lost = True

    def _run(self, claim: Claim, heartbeat: Heartbeat, checkpoint: Checkpoint) -> Run:
        sweep = claim.stage == "range_test"
        fresh = claim.stage == "confirmation"
        number = claim.replicate if fresh else claim.slot
        assert number is not None
        return Run(
            plan=self._plan(claim),
            seed=seed_for(self.row.seed, claim.stage, claim.round, number),
            split=None if sweep else "validation",
            sealed_split="test" if fresh else None,
            on_epoch=lambda epoch: _patiently(self.queue.write_epoch, claim, epoch),
            stop_asked=lambda: self.stop.asked() or heartbeat.lost,
            checkpoint=checkpoint,
        )

    def _plan(self, claim: Claim) -> Plan:
        if claim.stage == "range_test":
            return range_test.plan(self.study.range_test)
        params = claim.params or _patiently(self._ask, claim)
        return params.plan(claim.length * self.study.task.steps_per_epoch)

    def _ask(self, claim: Claim) -> space.Params:
        """Bind the slot to an Optuna trial and its parameters, once for all owners."""
        with reading(self.engine) as session:
            row = session.get_one(StudyRow, self.row.id)
        assert row.bracket_low is not None
        assert row.bracket_high is not None
        assert row.proposal is not None
        number, params = self.history.ask(
            claim.slot,
            study_seed=row.seed,
            bracket=(row.bracket_low, row.bracket_high),
            space=self.study.space,
            fixed=space.baseline(row.proposal) if claim.slot == BASELINE_SLOT else None,
            asked_before=claim.token > 1,
        )
        self.queue.bind(claim, number, params)
        return params

    def _ended(self, claim: Claim, run: Run, result: RunResult) -> Ended:
        """Return what is written of a run that ended: a cycle that broke is worth chance level."""
        judged = claim.stage != "range_test"
        broke = run.diverged() or (judged and self._is_worthless(result.score))
        score, sealed = (result.score, result.sealed_score) if judged else (None, None)
        if broke and judged:
            score = self.study.diverged_value
            sealed = score if run.sealed_split is not None else None
        elif self._is_worthless(sealed):
            sealed = self.study.diverged_value
        if judged and score is None:
            raise AuditError("the loop completed a cycle without a score")
        return Ended(
            outcome="diverged" if broke else "completed",
            score=score,
            sealed_score=sealed,
            n_steps=result.n_steps,
            n_images=result.n_images,
            seconds=result.seconds,
            device=self.device,
            diverged=run.diverged_at,
            points=() if judged else run.points,
        )

    def _is_worthless(self, score: float | None) -> bool:
        """Whether a score is no number, or worse than that of a cycle that broke."""
        if score is None:
            return False
        gain = score - self.study.diverged_value
        worse = gain < 0 if self.study.direction == "maximize" else gain > 0
        return worse or not math.isfinite(score)

    def _fail(self, claim: Claim, error: Exception) -> None:
        """Write a failed attempt with its traceback."""
        kind = failure_kind(error)
        self._out_of_memory = kind == "memory"
        text = "".join(traceback.format_exception(error))
        given_up = self.queue.fail(claim, kind, text)
        log.error(
            "%s failed (%s): %s: %s%s",
            _title(claim),
            kind,
            type(error).__name__,
            error,
            "; given up" if given_up else "; it will be tried again",
        )

    def _checkpoint(self, claim: Claim) -> Checkpoint:
        return Checkpoint(self.site.cache / "checkpoints" / self.row.id / f"{claim.work_id}.pt")


def failure_kind(error: Exception) -> FailureKind:
    """Return what an exception says about an attempt: nothing about the configuration, ever.

    torch raises OutOfMemoryError for GPUs, and a RuntimeError of its CPU allocator.
    """
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "CPUAllocator" in str(error):
        return "memory"
    return "infrastructure" if isinstance(error, OSError) else "bug"


def repair(queue: Queue, history: History) -> None:
    """Put right what owners killed between two commits left behind."""
    settle(queue, history)
    history.drop_unbound(queue.bound())


def settle(queue: Queue, history: History) -> None:
    """Tell Optuna of every ended run that it was not told of, whoever did the run."""
    for row in queue.untold():
        assert row.trial_number is not None
        attributes = {
            "outcome": row.outcome or row.failure,
            "seconds": row.seconds,
            "device": row.device,
            "worker": row.owner,
            "epochs": row.length,
            "diverged_step": row.diverged_step,
            "diverged_lr": row.diverged_lr,
        }
        history.tell(
            row.trial_number,
            row.score if row.state == "done" else None,
            {name: value for name, value in attributes.items() if value is not None},
        )
        queue.told(row.id)


def _patiently(write: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """Call, and call again while the database does not answer (for up to five minutes)."""
    return _patience(write)(*args, **kwargs)


def _title(claim: Claim) -> str:
    return f"{claim.stage} {claim.slot}"
