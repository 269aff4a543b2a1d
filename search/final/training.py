"""The training of a final model: one cycle with its checkpoint, scored and written."""

import hashlib
import inspect
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from search.errors import NoResultError, UsageError
from search.final.asked import FinalAsked
from search.final.chosen import Chosen
from search.final.models import FinalModel
from search.final.place import Draft, Place
from search.stages.versions import versions
from search.starting.catalog import final_checkpoints
from search.starting.cost import user_code
from search.starting.here import raise_if_stopped
from search.workers.outcome import ended_of
from search.workers.stop import Stop
from studies.definition import Study
from studies.format import STUDY_FORMAT
from studies.states import BROKEN, WorkEnd
from studies.tables import StudyRow
from trainers.calls.audit import AuditError, audit_batches, audit_run
from trainers.checkpoint import Checkpoint
from trainers.device import Site, device_name
from trainers.errors import TaskError
from trainers.final import Facts
from trainers.onecycle import OneCycle
from trainers.run import Run, RunResult, Saver, Trainer

log = logging.getLogger(__name__)

Watch = Callable[[Run, str], AbstractContextManager[object]]
"""Shows a run, which is named by a text, while it trains."""

HOW_TO_OFFER = (
    "add `run.trained(lambda path: torch.save(model.state_dict(), path))` to fit(), after the "
    "last step and before it returns"
)
_PROBE_STEPS = 10


@dataclass(frozen=True, kw_only=True)
class FinalTraining:
    """All models of one start: the same configuration, trained at one site."""

    row: StudyRow
    study: Study
    chosen: Chosen
    asked: FinalAsked
    trainer: Trainer
    site: Site
    resolved: dict[str, str]
    stop: Stop
    watch: Watch | None = None

    @cached_property
    def plan(self) -> OneCycle:
        """The cycle: as many epochs as in the search, of the images that are trained on."""
        params = self.chosen.params
        return params.plan(self.study.steps_of(self.row.epochs, batch_size=params.batch_size))

    def models(self) -> tuple[FinalModel, ...]:
        """Train what is not there yet, seed by seed.

        Raises NoResultError for a cycle that breaks, and what raise_if_stopped() does.
        """
        seeds = self.asked.seeds(self.row.seed)
        wanted = list(zip(self.asked.places, seeds, strict=True))
        there = {place: self._there(place, seed) for place, seed in wanted}
        for place, model in there.items():
            if model is None:
                place.check(force=self.asked.force)
        if not all(there.values()):
            self._check_offers()
        return tuple(there[place] or self._trained(place, seed) for place, seed in wanted)

    def _there(self, place: Place, seed: int) -> FinalModel | None:
        """Return the model that an earlier start of the same command has written."""
        facts = place.facts()
        if facts is None or self._identity(facts) != self._identity(self._facts(seed)):
            return None
        log.info("%s: is trained already", place.path)
        return FinalModel(place.path, facts, is_new=False)

    @staticmethod
    def _identity(facts: Facts) -> tuple[Any, ...]:
        return (
            facts.study_id,
            dict(facts.params),
            facts.seed,
            facts.trained_on,
            facts.n_steps,
            facts.resolved,
        )

    def _check_offers(self) -> None:
        """Raise TaskError where a few steps show that the loop does not offer its model.

        Only a loop in whose source nothing calls `trained` is tried.
        """
        if ".trained(" in _source_of(self.trainer):
            return
        offered = list[Saver]()
        plan = OneCycle(max_lr=1e-9, total_steps=_PROBE_STEPS)
        run = self._run(plan, seed=0, checkpoint=None, on_trained=offered.append)
        result: RunResult | None = None
        # What fails here fails again in training, where it is not hidden.
        with suppress(Exception):
            result = self.trainer.fit(run)
        if result is not None and result.outcome == "completed" and not offered:
            raise TaskError(self._unoffered())

    def _unoffered(self) -> str:
        file = " and start again with --changed" if self.row.spec.endswith(".py") else ""
        return f"the loop of study {self.row.name!r} offers no model: {HOW_TO_OFFER}{file}"

    def _run(
        self,
        plan: OneCycle,
        *,
        seed: int,
        checkpoint: Checkpoint | None,
        on_trained: Callable[[Saver], None],
    ) -> Run:
        joined = self.asked.on == "train+validation"
        return Run(
            plan=plan,
            seed=seed,
            # A score on images that it was trained on would say nothing.
            split="test" if joined else "validation",
            sealed_split=None if joined or self.chosen.n_comparisons is None else "test",
            on_trained=on_trained,
            stop_asked=self.stop.asked,
            checkpoint=checkpoint,
            params=self.chosen.params.of_the_task(),
        )

    def _trained(self, place: Place, seed: int) -> FinalModel:
        key = self._key(place, seed)
        folder = final_checkpoints(self.row.id, self.site.cache)
        checkpoint, draft = Checkpoint(folder / f"{key}.pt"), Draft(place)
        with _alone(folder / f"{key}.lock", place):
            run = self._run(self.plan, seed=seed, checkpoint=checkpoint, on_trained=draft.take)
            title = f"seed {seed}"
            if checkpoint.path.exists():
                log.info("%s: resumes from its checkpoint", title)
            with self.watch(run, title) if self.watch is not None else nullcontext():
                began = time.perf_counter()
                result = self._fitted(run)
                seconds = time.perf_counter() - began
            facts = self._scored(run, result, checkpoint, seconds=seconds)
            if not draft.is_there:
                raise TaskError(self._unoffered())
            facts = draft.put(facts, force=self.asked.force)
            checkpoint.remove()
        return FinalModel(place.path, facts, is_new=True)

    def _fitted(self, run: Run) -> RunResult:
        """Train; what fails after a request to stop, such as a killed loader, is the stop's."""
        try:
            with user_code("in the training"):
                return self.trainer.fit(run)
        except Exception:
            if self.stop.asked():
                raise_if_stopped(WorkEnd.STOPPED, self.stop)
            raise

    def _scored(
        self, run: Run, result: RunResult, checkpoint: Checkpoint, *, seconds: float
    ) -> Facts:
        """Return the facts of a cycle that is a result."""
        run.look()
        stopped = result.outcome == "stopped" and not run.diverged()
        if stopped and self.stop.asked():
            raise_if_stopped(WorkEnd.STOPPED, self.stop)
        try:
            audit_run(run.plan, run.points, result)
            audit_batches(run.batch_size, result)
            if stopped:
                raise AuditError("the loop stopped though nobody asked it to")
            ended = ended_of(
                run,
                result,
                study=self.study,
                judged=True,
                device=self.site.device,
                seconds=seconds,
            )
        except AuditError as error:
            raise TaskError(f"the cycle is no result: {error}") from error
        if ended.outcome in BROKEN:
            checkpoint.remove()
            raise NoResultError(self._broke(run))
        assert ended.score is not None
        scores = {str(run.split): ended.score}
        if ended.sealed_score is not None:
            scores["test"] = ended.sealed_score
        return replace(
            self._facts(run.seed),
            onecycle_lr={"total_steps": self.plan.total_steps, **self.plan.keywords(ended.driven)},
            call=self.plan.call(driven=ended.driven),
            scores=scores,
            notes=self.notes,
            task=_about(self.trainer),
        )

    def _broke(self, run: Run) -> str:
        params = self.chosen.params
        if run.diverged_at is None:
            why = f"its score is no number, or no better than {self.study.diverged_value:g}"
        else:
            at = run.diverged_at
            why = f"a loss was not finite at step {at.step}, at lr {at.lr:.3g}"
        return (
            f"the cycle of slot {self.chosen.slot} ({params}) with seed {run.seed} broke: {why}; "
            "nothing was written. Another --seed, or another --slot of a lower max_lr, may train"
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the scores has to know."""
        n = self.chosen.n_comparisons
        if n is None:
            if self.row.answer is not None:
                return ("The study has scored nothing on a test split.",)
            return ("The test split is still sealed: the study has not ended.",)
        count = "comparison" if n == 1 else "comparisons"
        return (
            f"The study had read the test split before, for {n} {count}; this is one more look "
            "at it. It chose nothing here: do not choose by it.",
        )

    def _facts(self, seed: int) -> Facts:
        """Return the facts of a model that are known before it is trained."""
        params, plan = self.chosen.params, self.plan
        size = params.batch_size
        return Facts(
            study=self.row.name,
            study_id=self.row.id,
            slot=self.chosen.slot,
            chosen=self.chosen.why,
            params=dict(params),
            onecycle_lr={},
            call="",
            epochs=self.row.epochs,
            batch_size=self.row.batch_size if size is None else size,
            n_steps=plan.total_steps,
            seed=seed,
            trained_on=self.asked.on,
            metric=self.row.metric,
            scores={},
            resolved=self.resolved,
            versions=versions(),
            study_format=STUDY_FORMAT,
            device=f"{self.site.device} ({device_name(self.site.device)})",
        )

    def _key(self, place: Place, seed: int) -> str:
        """Return a name of the run that another configuration, seed or place does not have."""
        facts = self._facts(seed)
        parts = [dict(facts.params), seed, facts.trained_on, facts.n_steps, str(place.path)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def _alone(file: Path, place: Place) -> Iterator[None]:
    """Raise UsageError where another process trains the same model; a kill lets go of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(f"--out {place.path}: another process is training this model") from None
    try:
        yield
    finally:
        lock.release()
        with suppress(OSError):
            file.unlink(missing_ok=True)
            file.parent.rmdir()


def _source_of(trainer: Trainer) -> str:
    """Return the text of the module that a trainer's class stands in, as far as it can be read."""
    try:
        module = inspect.getmodule(type(trainer))
        return "" if module is None else inspect.getsource(module)
    except (OSError, TypeError):
        return ""


def _about(trainer: Trainer) -> dict[str, Any]:
    """Return what a trainer says of model and data for their users; empty where it says none."""
    said: dict[str, Any] = getattr(trainer, "about", dict)()
    return said
