"""One worker: claim -> run -> write -> tell, until nothing is left or it is asked to stop."""

import logging
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property

from sqlalchemy import Engine

from search.history.optuna_study import History, repair, settle, tell
from search.params import Params
from search.queue.heartbeat import Heartbeat
from search.queue.roster import Roster, process_identity, worker_name
from search.queue.rows import seed_of, stored_study
from search.queue.together import Together
from search.queue.work import Claim, Ended, FencedOffError, Queue, Reached
from search.stages import range_test, search
from search.stages.early_end import end_if_enough
from search.stages.known import Known, known
from search.stages.order import advance
from search.stages.propose import next_params
from search.stages.space import Ranges
from search.workers.outcome import ended_of, failure_kind
from search.workers.patience import Patience
from search.workers.stop import Stop
from studies.database import reading
from studies.definition import Study
from studies.errors import DatabaseUnreachableError, StudyDeletedError
from studies.states import FailureKind, Stage, WorkEnd
from studies.tables import StudyRow
from studies.urls import scrubbed
from trainers.calls.audit import AuditError, audit_batches, audit_run
from trainers.calls.lint import Call, lint
from trainers.checkpoint import Checkpoint
from trainers.device import Site, checkpoint_folder, device_name
from trainers.errors import DataError, ScheduleError, UserError
from trainers.onecycle import OneCycle
from trainers.run import Plan, Run, Trainer
from trainers.sweeps.sweep import Sweep

log = logging.getLogger(__name__)

# How soon a worker that waits sees what others opened or gave back: after a tenth of what it has
# waited, between these. Cycles may take half a second, or hours.
_LEAST_POLL_S, _POLL_S = 0.02, 0.2
# Many that wait ask no more often than that together (but each once a beat): the first that asks
# opens what comes next, and what is open is claimed by those that ask within the same moment.
_POLLS_PER_S = 100
_SIGNALS_TOGETHER_S = 0.5  # systemd and Slurm signal a whole group, in any order

MAX_PLACE_FAILURES = 3
"""After so many attempts in a row that failed of the place (disk, network, files), a worker ends:
somebody has to look."""


@dataclass(frozen=True, slots=True)
class Failed:
    """An attempt that an exception ended, and what that says (studies.states.FailureKind)."""

    kind: FailureKind
    error: Exception


@dataclass(frozen=True, slots=True)
class GivenBack:
    """An attempt that ended early, for a stop, a new owner, or what the user must fix."""

    error: BaseException | None = None


class Worker:
    """Does runs of one study at one site; `only` those of one stage, until that has ended.

    `together` writes its beats with those of other workers.
    """

    def __init__(
        self,
        engine: Engine,
        row: StudyRow,
        study: Study,
        *,
        trainer: Trainer,
        site: Site,
        stop: Stop,
        only: Stage | None = None,
        together: Together | None = None,
    ) -> None:
        self.only, self.together = only, together
        self.engine, self.row, self.study = engine, row, study
        if study.diverged_value is None:
            self.study = replace(study, diverged_value=row.diverged_value)
        self.trainer, self.site, self.stop = trainer, site, stop
        name, process = worker_name(), process_identity()
        self.device = f"{site.device} ({device_name(site.device)})"
        self.queue = Queue(engine, row, owner=name, process=process, only=only)
        self.roster = Roster(engine, row, name=name, process=process, device=self.device)
        self.patiently = Patience(stop)
        self._out_of_memory = False
        self._place_failures = 0
        self._waits_in: Stage | None = None
        self._waits_since: float | None = None
        self._seen: Known | None = None

    @cached_property
    def history(self) -> History:
        """Optuna's side of the study."""
        return History.stored(self.engine.url, self.row)

    @cached_property
    def _ranges(self) -> Ranges:
        """What is searched: written once, before the search opens."""
        with reading(self.engine) as session:
            return Ranges.of(stored_study(session, self.row), self.study)

    def work(self) -> WorkEnd:
        """Do runs until the study has ended or a stop is asked for."""
        try:
            self.patiently(self.roster.join)
            self.patiently(self._repair)
            return self._work()
        except DatabaseUnreachableError as error:
            if not self.stop.asked():
                raise
            log.warning("%s; a run held here is taken over in %g s", error, self.row.grace_s)
            return WorkEnd.STOPPED
        except Exception:
            self._check_stored()
            raise
        finally:
            self.roster.leave()
            if "history" in self.__dict__:  # a cached property that was never asked for
                self.history.close()

    def _check_stored(self) -> None:
        """Raise StudyDeletedError where the study was deleted, which explains any other error."""
        with suppress(DatabaseUnreachableError), reading(self.engine) as session:
            stored_study(session, self.row)

    def _repair(self) -> None:
        repair(self.queue, self.history)

    def _settle(self) -> None:
        settle(self.queue, self.history)

    def _work(self) -> WorkEnd:
        while not (self.stop.asked() or self._out_of_memory):
            self.patiently(self._look_ahead)
            claim = self.patiently(self.queue.claim)
            if claim is not None:
                self._perform(claim)
                self._waits_since = None
                continue
            self.patiently(self._settle)
            stage = self.patiently(advance, self.engine, self.row.id, self.study)
            if stage.is_end:
                self._check_stored()
                self.patiently(self._repair)
                return WorkEnd.FINISHED if stage == Stage.FINISHED else WorkEnd.FAILED
            if self.only is not None and stage != self.only:
                return WorkEnd.FINISHED
            self._wait(stage)
        return WorkEnd.STOPPED if self.stop.asked() else WorkEnd.RENEW

    def _look_ahead(self) -> None:
        """End the search before the next claim where one more cycle would gain too little."""
        # An exact number stays exact: nothing has to be asked.
        if self.only in (None, Stage.SEARCH) and not self.row.exact:
            seen = end_if_enough(self.engine, self.row.id, self.study, before=self._seen)
            self._seen = seen or self._seen

    def _wait(self, stage: Stage) -> None:
        """Wait a moment for the runs that others hold, and say so."""
        held = self.patiently(self.queue.held)
        if not held:
            return
        reason = f"{held} {stage.words} run(s) of other workers"
        n_waiting = self.patiently(self.roster.wait, reason)
        if self._waits_in != stage:
            log.info("waiting for %s to end", reason)
        self._waits_in = stage
        now = time.monotonic()
        if self._waits_since is None:
            self._waits_since = now
        nap = max(_LEAST_POLL_S, (now - self._waits_since) / 10)
        longest = max(_POLL_S, n_waiting / _POLLS_PER_S)
        self.stop.sleep(min(nap, longest, self.row.beat_s))

    def _perform(self, claim: Claim) -> None:
        """Do one run and write how it ended; every way out leaves the row in a state to resume."""
        checkpoint = self._checkpoint(claim)
        with Heartbeat(
            self.queue, claim, beat_s=self.row.beat_s, together=self.together
        ) as heartbeat:
            attempt = self._attempt(claim, heartbeat, checkpoint)
        try:
            if heartbeat.lost:
                raise FencedOffError
            self._write(claim, attempt, heartbeat)
        except FencedOffError:
            try:
                self._check_stored()
            except StudyDeletedError:
                checkpoint.remove()  # saved after those of the study had been deleted
                raise
            log.warning("%s: another worker took this run over", claim.title)
        else:
            if isinstance(attempt, Ended):
                checkpoint.remove()
        self._look_at_the_place(attempt)

    def _attempt(
        self, claim: Claim, heartbeat: Heartbeat, checkpoint: Checkpoint
    ) -> Ended | Failed | GivenBack:
        """Train, and say how that ended."""
        try:
            run = self._run(claim, heartbeat, checkpoint)
            heartbeat.follow(run)
            _look_before(claim, run.plan)
            began = time.perf_counter()
            result = self.trainer.fit(run)
            seconds = time.perf_counter() - began
            run.look()
            # Other rates or another number of steps than planned are an error, not a result.
            audit_run(run.plan, run.points, result)
            audit_batches(run.batch_size, result)
            if result.outcome != "stopped" or run.diverged():
                judged = claim.stage != Stage.RANGE_TEST
                return ended_of(
                    run,
                    result,
                    study=self.study,
                    judged=judged,
                    device=self.device,
                    seconds=seconds,
                    resumed=claim.had_owner,
                )
            if not run.stop_asked():
                raise AuditError("the loop stopped though nobody asked it to")
        except FencedOffError:
            heartbeat.lost = True
        except KeyboardInterrupt as error:
            return GivenBack(error)
        except UserError as error:
            kind = failure_kind(error)
            return GivenBack(error) if kind is None else Failed(kind, error)
        except Exception as error:
            kind = failure_kind(error)
            if kind is FailureKind.INFRASTRUCTURE:
                self.stop.sleep(_SIGNALS_TOGETHER_S)  # a signal may meet our children before us
            if not (self.stop.asked() or heartbeat.lost):
                assert kind is not None
                return Failed(kind, error)
            log.info("%s: %r after a request to stop", claim.title, error)
        return GivenBack()

    def _write(
        self, claim: Claim, attempt: Ended | Failed | GivenBack, heartbeat: Heartbeat
    ) -> None:
        """Write how a run ended that is still ours; raise FencedOffError where it is not."""
        epochs, reached = heartbeat.unwritten, heartbeat.reached()
        if isinstance(attempt, Ended):
            # Our tables first: Optuna is told from them, and again after a crash in between.
            work = self.patiently(self.queue.finish, claim, attempt, epochs, reached)
            log.info("%s: %s", claim.title, attempt.outcome)
            if claim.stage == Stage.SEARCH:
                self.patiently(lambda: tell(self.queue, self.history, work))
        elif isinstance(attempt, Failed):
            self._fail(claim, attempt, reached)
        else:
            self.patiently(self.queue.give_back, claim, epochs, reached)

    def _look_at_the_place(self, attempt: Ended | Failed | GivenBack) -> None:
        """Raise what the user must fix before more work is of use."""
        if isinstance(attempt, GivenBack) and attempt.error is not None:
            raise attempt.error
        if isinstance(attempt, Failed) and attempt.kind is FailureKind.DATA:
            if isinstance(attempt.error, UserError):
                raise attempt.error
            raise DataError(f"the data cannot be read: {attempt.error}") from attempt.error
        if not isinstance(attempt, Failed) or attempt.kind is not FailureKind.INFRASTRUCTURE:
            self._place_failures = 0
            return
        self._place_failures += 1
        if self._place_failures >= MAX_PLACE_FAILURES:
            raise UserError(
                f"{MAX_PLACE_FAILURES} attempts in a row failed here, the last with "
                f"{type(attempt.error).__name__}: {attempt.error}; "
                "the runs were given back, and the same command resumes them"
            ) from attempt.error
        # A second longer each time: a full disk or a network may come back.
        self.stop.sleep(self._place_failures)

    def _run(self, claim: Claim, heartbeat: Heartbeat, checkpoint: Checkpoint) -> Run:
        sweep = claim.stage == Stage.RANGE_TEST
        fresh = claim.stage == Stage.CONFIRMATION
        params = None if sweep else self._params(claim)
        return Run(
            plan=self._sweep(claim) if params is None else self._cycle(claim, params),
            seed=seed_of(self.row, claim),
            split=None if sweep else "validation",
            sealed_split="test" if fresh else None,
            on_epoch=heartbeat.epoch,
            stop_asked=lambda: self.stop.asked() or heartbeat.lost,
            is_lost=lambda: heartbeat.lost,
            checkpoint=checkpoint,
            params=self.study.told_outside(claim.setting)
            if params is None
            else params.of_the_task(),
        )

    def _sweep(self, claim: Claim) -> Sweep:
        # Among several optimizers each sweep says itself what it met.
        one = "optimizer" not in (claim.setting or {})
        return range_test.sweep_of(
            self.study.range_test,
            n_steps=claim.length,
            adaptive=self.study.task.adaptive if one else None,
            momentum=self.study.sweep_momentum,
        )

    def _cycle(self, claim: Claim, params: Params) -> OneCycle:
        return params.plan(self.study.steps_of(claim.length, batch_size=params.batch_size))

    def _params(self, claim: Claim) -> Params:
        """Return the configuration of a cycle, asked for where the slot has none yet."""
        unbound = claim.stage == Stage.SEARCH and claim.trial_number is None
        params = self._asked(claim) if unbound else claim.params
        assert params is not None
        return params

    def _asked(self, claim: Claim) -> Params:
        """Bind the slot to an Optuna trial and its parameters, once for all owners."""
        try:
            return self._ask(claim, asked_before=claim.had_owner)
        except DatabaseUnreachableError:
            # The answer may have been lost after the commit: the trial may be there.
            return self.patiently(self._ask, claim, asked_before=True)

    def _ask(self, claim: Claim, *, asked_before: bool) -> Params:
        study = self.study
        fixed = claim.params or search.given(
            claim.slot,
            screening=study.screening,
            study_seed=self.row.seed,
            ranges=self._ranges,
        )
        number, params = self.history.ask(
            claim.slot,
            study_seed=self.row.seed,
            ranges=self._ranges,
            screening=study.screening,
            fixed=fixed,
            proposed=self._proposed(claim.slot) if fixed is None else None,
            asked_before=asked_before,
            attributes={"worker": self.queue.owner, "device": self.device},
        )
        self.queue.bind(claim, number, params)
        return params

    def _proposed(self, slot: int) -> Params | None:
        """Return the configuration that our own sampler proposes; None: one of Optuna's does."""
        if self.study.screening.sampler != "kg":
            return None
        with reading(self.engine) as session:
            row = stored_study(session, self.row)
            seen = known(session, row, self.study, slot=slot, before=self._seen)
        if seen.belief is None:
            return search.space_filling(slot, study_seed=row.seed, ranges=self._ranges)
        return next_params(seen.belief, pending=seen.pending)

    def _fail(self, claim: Claim, failed: Failed, reached: Reached | None) -> None:
        """Write a failed attempt with its traceback."""
        self._out_of_memory = failed.kind is FailureKind.MEMORY
        text = scrubbed("".join(traceback.format_exception(failed.error)), self.engine.url)
        # PostgreSQL takes no NUL, and nothing that is no text.
        text = text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
        given_up = self.patiently(self.queue.fail, claim, failed.kind, text, reached)
        log.error(
            "%s failed (%s): %s: %s%s",
            claim.title,
            failed.kind,
            type(failed.error).__name__,
            scrubbed(str(failed.error), self.engine.url),
            "; given up" if given_up else "; it will be tried again",
        )

    def _checkpoint(self, claim: Claim) -> Checkpoint:
        folder = checkpoint_folder(self.site.cache) / self.row.id
        return Checkpoint(folder / f"{claim.work_id}.pt", expected=claim.had_owner)


def _look_before(claim: Claim, plan: Plan) -> None:
    """Refuse a cycle whose schedule is broken before it is trained; tell what is doubtful."""
    if not isinstance(plan, OneCycle):
        return
    for finding in lint(Call(schedule=plan.schedule)):
        if finding.severity == "error":
            raise ScheduleError(f"{claim.title}: {finding.line()}")
        if finding.severity == "warning":
            log.warning("%s: %s", claim.title, finding.line())
