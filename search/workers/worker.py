"""One worker: claim -> run -> write -> tell, until nothing is left or it is asked to stop."""

import logging
import traceback
from collections.abc import Sequence
from functools import cached_property
from typing import Literal

from sqlalchemy import Engine

from search.history.optuna_study import Histories
from search.history.settle import repair, settle, tell
from search.params import Params
from search.queue.heartbeat import Heartbeat
from search.queue.processes import process_identity, worker_name
from search.queue.roster import Roster
from search.queue.work import Claim, Ended, FencedOffError, Queue
from search.stages import range_test, screening
from search.stages.order import STAGE_NAMES, advance
from search.stages.space import Ranges
from search.workers.failures import failure_kind
from search.workers.outcome import ended_of
from search.workers.patience import Patience
from search.workers.stop import Stop
from studies.database import DatabaseUnreachableError, reading
from studies.definition import Study
from studies.tables import StudyRow
from trainers.calls.audit import AuditError, audit_batches, audit_run
from trainers.calls.lint import Call, lint
from trainers.checkpoint import Checkpoint
from trainers.device import Site, checkpoint_folder, device_name
from trainers.errors import DataError, ScheduleError, UserError
from trainers.onecycle import OneCycle
from trainers.run import EpochRow, Plan, Run, Trainer
from trainers.seeding import seed_for
from trainers.sweeps.sweep import Sweep

log = logging.getLogger(__name__)

_POLL_S = 0.2
_SIGNALS_TOGETHER_S = 0.5

MAX_PLACE_FAILURES = 3
"""After so many attempts in a row that failed of the place (disk, network, files), a worker ends:
somebody has to look."""


class Worker:
    """Does runs of one study at one site; `only` those of one stage, until that has ended."""

    def __init__(
        self,
        engine: Engine,
        row: StudyRow,
        study: Study,
        *,
        trainer: Trainer,
        site: Site,
        stop: Stop,
        only: str | None = None,
    ) -> None:
        self.only = only
        self.engine, self.row, self.study = engine, row, study
        self.trainer, self.site, self.stop = trainer, site, stop
        name, process = worker_name(), process_identity()
        self.device = f"{site.device} ({device_name(site.device)})"
        self.queue = Queue(engine, row, owner=name, process=process, only=only)
        self.roster = Roster(engine, row, name=name, process=process, device=self.device)
        self.patiently = Patience(stop)
        self._out_of_memory = False
        self._place_failures = 0
        self._waits_in: str | None = None

    @cached_property
    def histories(self) -> Histories:
        """Optuna's side of the study."""
        return Histories.stored(self.engine.url, self.row)

    @cached_property
    def _ranges(self) -> Ranges:
        """What is searched: written once, before the search opens."""
        with reading(self.engine) as session:
            return Ranges.of(session.get_one(StudyRow, self.row.id), self.study)

    def work(self) -> Literal["finished", "failed", "stopped", "renew"]:
        """Do runs until the study has ended or a stop is asked for.

        'renew': a run went out of memory, and only a new process has all of it again.
        """
        try:
            self.patiently(self.roster.join)
            self.patiently(self._repair)
            return self._work()
        except DatabaseUnreachableError as error:
            if not self.stop.asked():
                raise
            log.warning("%s; a run held here is taken over in %g s", error, self.row.grace_s)
            return "stopped"
        finally:
            self.roster.leave()
            if "histories" in self.__dict__:
                self.histories.close()

    def _repair(self) -> None:
        repair(self.queue, self.histories)

    def _settle(self) -> None:
        settle(self.queue, self.histories)

    def _work(self) -> Literal["finished", "failed", "stopped", "renew"]:
        while not (self.stop.asked() or self._out_of_memory):
            claim = self.patiently(self.queue.claim)
            if claim is not None:
                self._perform(claim)
                continue
            self.patiently(self._settle)
            stage = self.patiently(advance, self.engine, self.row.id, self.study)
            if stage == "finished" or stage == "failed":
                self.patiently(self._repair)
                return "finished" if stage == "finished" else "failed"
            if self.only is not None and stage != self.only:
                return "finished"
            self._wait(stage)
        return "stopped" if self.stop.asked() else "renew"

    def _wait(self, stage: str) -> None:
        """Wait a moment for the runs that others hold, and say so."""
        held = self.patiently(self.queue.held)
        if not held:
            return
        reason = f"{held} {STAGE_NAMES[stage]} run(s) of other workers"
        self.patiently(self.roster.wait, reason)
        if self._waits_in != stage:
            log.info("waiting for %s to end", reason)
        self._waits_in = stage
        self.stop.sleep(min(_POLL_S, self.row.beat_s))

    def _perform(self, claim: Claim) -> None:
        """Do one run and write how it ended; every way out leaves the row in a state to go on."""
        checkpoint = self._checkpoint(claim)
        with Heartbeat(self.queue, claim, beat_s=self.row.beat_s) as heartbeat:
            ended = self._attempt(claim, heartbeat, checkpoint)
        try:
            if heartbeat.lost:
                raise FencedOffError
            self._write(claim, ended, heartbeat.unwritten)
        except FencedOffError:
            log.warning("%s: another worker took this run over", _title(claim))
        else:
            if isinstance(ended, Ended):
                checkpoint.remove()
        self._look_at_the_place(ended if isinstance(ended, BaseException) else None)

    def _attempt(
        self, claim: Claim, heartbeat: Heartbeat, checkpoint: Checkpoint
    ) -> Ended | BaseException | None:
        """Return how the run ended, what it raised, or None where it was stopped or lost."""
        try:
            run = self._run(claim, heartbeat, checkpoint)
            _look_before(claim, run.plan)
            result = self.trainer.fit(run)
            run.look()
            audit_run(run.plan, run.points, result)
            audit_batches(run.batch_size, result)
            if result.outcome != "stopped" or run.diverged():
                judged = claim.stage != "range_test"
                return ended_of(run, result, study=self.study, judged=judged, device=self.device)
            if not run.stop_asked():
                raise AuditError("the loop stopped though nobody asked it to")
        except FencedOffError:
            heartbeat.lost = True
        except (UserError, KeyboardInterrupt) as error:
            return error
        except Exception as error:
            if failure_kind(error) == "infrastructure":
                self.stop.sleep(_SIGNALS_TOGETHER_S)  # a signal may meet our children before us
            if not (self.stop.asked() or heartbeat.lost):
                return error
            log.info("%s: %r after a request to stop", _title(claim), error)
        return None

    def _write(
        self, claim: Claim, ended: Ended | BaseException | None, epochs: Sequence[EpochRow]
    ) -> None:
        """Write how a run ended that is still ours; raise FencedOffError where it is not."""
        if isinstance(ended, Ended):
            row = self.patiently(self.queue.finish, claim, ended, epochs)
            log.info("%s: %s", _title(claim), ended.outcome)
            if claim.stage == "search":
                self.patiently(lambda: tell(self.queue, self.histories, row))
        elif isinstance(ended, Exception) and failure_kind(ended) is not None:
            self._fail(claim, ended)
        else:
            self.patiently(self.queue.give_back, claim, epochs)

    def _look_at_the_place(self, error: BaseException | None) -> None:
        """Raise what the user must fix before more work is of use."""
        if isinstance(error, (UserError, KeyboardInterrupt)):
            raise error
        kind = failure_kind(error) if isinstance(error, Exception) else None
        if kind == "data":
            raise DataError(f"the data cannot be read: {error}") from error
        if kind != "infrastructure":
            self._place_failures = 0
            return
        self._place_failures += 1
        if self._place_failures >= MAX_PLACE_FAILURES:
            raise UserError(
                f"{MAX_PLACE_FAILURES} attempts in a row failed here, the last with "
                f"{type(error).__name__}: {error}; "
                "the runs were given back, and the same command goes on"
            ) from error
        self.stop.sleep(self._place_failures)

    def _run(self, claim: Claim, heartbeat: Heartbeat, checkpoint: Checkpoint) -> Run:
        sweep = claim.stage == "range_test"
        fresh = claim.stage == "confirmation"
        number = claim.replicate if fresh else claim.slot
        assert number is not None
        params = None if sweep else self._params(claim)
        return Run(
            plan=self._sweep(claim) if params is None else self._cycle(claim, params),
            seed=seed_for(self.row.seed, claim.stage, claim.round, number),
            split=None if sweep else "validation",
            sealed_split="test" if fresh else None,
            on_epoch=heartbeat.epoch,
            stop_asked=lambda: self.stop.asked() or heartbeat.lost,
            is_lost=lambda: heartbeat.lost,
            checkpoint=checkpoint,
            wanted=self.study.readings if claim.stage == "search" else None,
            batch_size=claim.batch_size if params is None else params.batch_size,
            weight_decay=None if params is None else params.weight_decay,
        )

    def _sweep(self, claim: Claim) -> Sweep:
        return range_test.plan(
            self.study.range_test, n_steps=claim.length, adaptive=self.study.task.adaptive
        )

    def _cycle(self, claim: Claim, params: Params) -> OneCycle:
        return params.plan(self.study.steps_of(claim.length, batch_size=params.batch_size))

    def _params(self, claim: Claim) -> Params:
        """Return the configuration of a cycle, asked for where the slot has none yet."""
        unbound = claim.stage == "search" and claim.trial_number is None
        params = self._asked(claim) if unbound else claim.params
        assert params is not None
        return params

    def _asked(self, claim: Claim) -> Params:
        """Bind the slot to an Optuna trial and its parameters, once for all owners."""
        try:
            return self._ask(claim, asked_before=claim.token > 1)
        except DatabaseUnreachableError:
            return self.patiently(self._ask, claim, asked_before=True)

    def _ask(self, claim: Claim, *, asked_before: bool) -> Params:
        study = self.study
        fixed = claim.params or screening.given(
            claim.slot,
            screening=study.screening,
            study_seed=self.row.seed,
            ranges=self._ranges,
        )
        number, params = self.histories.of(claim.length).ask(
            claim.slot,
            study_seed=self.row.seed,
            ranges=self._ranges,
            screening=study.screening,
            fixed=fixed,
            asked_before=asked_before,
            attributes={"worker": self.queue.owner, "device": self.device},
        )
        self.queue.bind(claim, number, params)
        return params

    def _fail(self, claim: Claim, error: Exception) -> None:
        """Write a failed attempt with its traceback."""
        kind = failure_kind(error)
        assert kind is not None
        self._out_of_memory = kind == "memory"
        text = "".join(traceback.format_exception(error))
        given_up = self.patiently(self.queue.fail, claim, kind, text)
        log.error(
            "%s failed (%s): %s: %s%s",
            _title(claim),
            kind,
            type(error).__name__,
            error,
            "; given up" if given_up else "; it will be tried again",
        )

    def _checkpoint(self, claim: Claim) -> Checkpoint:
        folder = checkpoint_folder(self.site.cache) / self.row.id
        return Checkpoint(folder / f"{claim.work_id}.pt", expected=claim.token > 1)


def _look_before(claim: Claim, plan: Plan) -> None:
    """Refuse a cycle whose schedule is broken before it is trained; tell what is doubtful."""
    if not isinstance(plan, OneCycle):
        return
    for finding in lint(Call(schedule=plan.schedule)):
        if finding.severity == "error":
            raise ScheduleError(f"{_title(claim)}: {finding.line()}")
        if finding.severity == "warning":
            log.warning("%s: %s", _title(claim), finding.line())


def _title(claim: Claim) -> str:
    length = f" at {claim.length} epochs" if claim.stage == "search" else ""
    return f"{claim.stage} {claim.slot}{length}"
