"""Optuna's side of a study, and told of what our tables hold."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property, partial, wraps
from typing import Concatenate, ParamSpec, TypeVar

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import BaseTrial, FrozenTrial, TrialState, create_trial
from sqlalchemy import URL
from sqlalchemy.exc import IntegrityError

from search.history import optuna_private
from search.history.samplers import make_sampler
from search.params import Params
from search.queue.work import Queue
from search.stages.space import Ranges
from studies.database import close_optuna, optuna_errors, optuna_storage
from studies.definition import Screening
from studies.errors import StudyDeletedError, StudyError
from studies.states import Direction, RunState
from studies.tables import StudyRow, WorkRow
from studies.translation import translated
from trainers.seeding import seed_for

OWNER = "onecycle_study"
"""The user attribute of an Optuna study that holds the id of ours."""
_MOST_DELETIONS = 5

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _translated(
    call: Callable[Concatenate["History", _P], _R],
) -> Callable[Concatenate["History", _P], _R]:
    """Raise DatabaseError for what Optuna's storage says of its database; see translated()."""

    @wraps(call)
    def translating(history: "History", /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        if not isinstance(history.storage, RDBStorage):  # in memory, for tests and simulations
            return call(history, *args, **kwargs)
        with translated(history.storage.engine.url, also=optuna_errors()):
            try:
                return call(history, *args, **kwargs)
            except KeyError as error:  # Optuna's word for a study or trial that is not there
                if history.is_there():
                    raise
                raise StudyDeletedError(
                    f"the Optuna study {history.name!r} was deleted or renamed by something else: "
                    "delete ours too (onecycle delete), or choose another --name"
                ) from error

    return translating


class History:
    """The Optuna study of one of ours; ours by its user attribute `onecycle_study`."""

    def __init__(self, storage: BaseStorage, *, name: str, study_id: str) -> None:
        self.storage, self.name, self.study_id = storage, name, study_id

    @classmethod
    def stored(cls, url: URL, row: StudyRow) -> "History":
        """Return that of a stored study; close it after use."""
        return cls(optuna_storage(url), name=row.name, study_id=row.id)

    def close(self) -> None:
        """Give the connections back."""
        if isinstance(self.storage, RDBStorage):
            close_optuna(self.storage)

    @_translated
    def create(self, direction: Direction) -> None:
        """Make the Optuna study, or find it made; raise StudyError where it belongs to another.

        Call it under the schema lock.
        """
        study = optuna.create_study(
            storage=self.storage,
            study_name=self.name,
            direction=direction,
            load_if_exists=True,
            pruner=optuna.pruners.NopPruner(),
        )
        empty = not study.get_trials(deepcopy=False)  # new, or left by a start that was killed
        if empty and study.direction.name.lower() == direction:
            study.set_user_attr(OWNER, self.study_id)
        elif study.user_attrs.get(OWNER) != self.study_id:
            raise StudyError(
                f"the database holds an Optuna study {self.name!r} that is not ours; "
                "rename or delete it, or choose another --name"
            )

    def is_there(self) -> bool:
        """Whether an Optuna study of that name is stored."""
        try:
            self.storage.get_study_id_from_name(self.name)
        except KeyError:
            return False
        return True

    @cached_property
    def study(self) -> optuna.Study:
        """The Optuna study, without a sampler of its own and without a pruner."""
        study = optuna.load_study(
            study_name=self.name, storage=self.storage, pruner=optuna.pruners.NopPruner()
        )
        if study.user_attrs.get(OWNER) != self.study_id:
            raise StudyError(
                f"the Optuna study {self.name!r} was deleted and made again by something else; "
                f"delete ours too (delete --study {self.name}) or choose another --name"
            )
        return study

    @_translated
    def ask(
        self,
        slot: int,
        *,
        study_seed: int,
        ranges: Ranges,
        screening: Screening,
        fixed: Params | None,
        asked_before: bool,
        attributes: Mapping[str, object],
        proposed: Params | None = None,
    ) -> tuple[int, Params]:
        """Return the trial number and parameters of a slot; each slot has one trial for ever.

        The sampler proposes what is not `fixed`, from a seed of the slot's own. What our own
        sampler `proposed` is stored with the trial, and an earlier owner's proposal goes before.

        The trial is made in one commit with its slot and `attributes`, so an owner killed while
        asking leaves something that the next one finds (`asked_before`).

        Where max_lr is sampled as a multiple of the proposal it is a user attribute of the trial.
        """
        study, told = self.study, fixed or proposed
        assert told is not None or screening.sampler != "kg"  # Optuna has no sampler of that name
        trial = self._trial_of(slot) if asked_before else None
        study.sampler = make_sampler(
            screening.sampler if fixed is None else "random",
            seed=seed_for(study_seed, "ask", slot),
            n_initial=screening.n_initial,
        )
        suggested = partial(_suggested, ranges=ranges, fixed=fixed)
        if trial is None:
            template = create_trial(
                state=TrialState.RUNNING,
                user_attrs={"slot": slot, **attributes},
                system_attrs={} if told is None else {"fixed_params": ranges.sampled(told)},
            )
            if told is not None:
                trial, params = optuna_private.new_asked_trial(study, template, suggested)
                return trial.number, params
            trial = optuna_private.new_trial(study, template)
        with optuna_private.asking(study, trial) as asked:
            params = suggested(asked)
        return trial.number, params

    @_translated
    def tell(self, number: int, value: float | None, attributes: Mapping[str, object]) -> None:
        """Finish a trial, once or again: COMPLETE with its value, FAIL without one."""
        optuna_private.end(self.study, number, value, attributes)

    @_translated
    def drop_unbound(self, bound: Mapping[int, int]) -> None:
        """Fail RUNNING trials that another trial of their slot replaced (`bound`: slot -> number).

        They come from owners that were fenced off between claim and ask.
        """
        for trial in optuna_private.running_trials(self.study):
            if bound.get(trial.user_attrs.get("slot", -1), trial.number) != trial.number:
                self.tell(trial.number, None, {"outcome": "replaced"})

    @_translated
    def importances(self) -> dict[str, float]:
        """Return PED-ANOVA's share of each parameter; empty where there is nothing to explain.

        It is Optuna's default, and so what its dashboard and everybody's own call show.
        """
        trials = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len({trial.value for trial in trials}) < 2:
            return {}
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        shares = optuna.importance.get_param_importances(self.study, evaluator=evaluator)
        return {name: float(share) for name, share in shares.items()}

    @_translated
    def delete(self) -> None:
        """Delete every Optuna study that is ours, whatever its name.

        Studies of several cycle lengths, which earlier versions made, have one for each.
        """
        for summary in optuna.get_all_study_summaries(self.storage, include_best_trial=False):
            if summary.user_attrs.get(OWNER) == self.study_id:
                self._delete_named(summary.study_name)

    def _delete_named(self, name: str) -> None:
        """Delete an Optuna study, which may be gone already.

        Tried again where a worker added a trial meanwhile, which PostgreSQL does not let go.
        """
        for attempt in range(1, _MOST_DELETIONS + 1):
            with suppress(KeyError):
                try:
                    if isinstance(self.storage, RDBStorage):
                        number = self.storage.get_study_id_from_name(name)
                        optuna_private.drop_trials(self.storage, number)
                    optuna.delete_study(study_name=name, storage=self.storage)
                except (StorageInternalError, IntegrityError):
                    if attempt == _MOST_DELETIONS:
                        raise
                    time.sleep(1.0)
                    continue
            return

    def _trial_of(self, slot: int) -> FrozenTrial | None:
        trials = self.study.get_trials(deepcopy=False)
        return next((t for t in trials if t.user_attrs.get("slot") == slot), None)


def _suggested(trial: BaseTrial, *, ranges: Ranges, fixed: Params | None) -> Params:
    """Ask a trial for its parameters, and note max_lr where a multiple of it is sampled."""
    suggested = ranges.suggest(trial)
    params = fixed or suggested  # a multiple of the proposal may be off by its last digit
    if ranges.relative and trial.user_attrs.get("max_lr") != params.max_lr:
        trial.set_user_attr("max_lr", params.max_lr)
    return params


def repair(queue: Queue, history: History) -> None:
    """Put right what killed owners left behind: runs that they held, trials half told.

    A run of a dead process of this host waits again at once, so that the next claim, which takes
    slots in their order, resumes it before anything new is asked for.
    """
    queue.release_dead()
    settle(queue, history)
    history.drop_unbound(queue.bound())


def settle(queue: Queue, history: History) -> None:
    """Tell Optuna of every ended run that it was not told of, whoever did the run."""
    for row in queue.untold():
        tell(queue, history, row)


def tell(queue: Queue, history: History, row: WorkRow) -> None:
    """Tell Optuna how one run of the search ended."""
    assert row.trial_number is not None
    attributes: dict[str, object] = {
        "outcome": row.outcome or row.failure,
        "seconds": None if row.seconds is None else round(row.seconds, 3),
        "images_per_s": round(row.n_images / row.seconds)
        if row.n_images and row.seconds
        else None,
        "diverged_step": row.diverged_step,
        "diverged_lr": row.diverged_lr,
    }
    if row.had_owner:  # the trial names the worker that asked for it
        attributes |= {"worker": row.owner, "device": row.device}
    history.tell(
        row.trial_number,
        row.score if row.state == RunState.DONE else None,
        {name: value for name, value in attributes.items() if value is not None},
    )
    queue.told(row.id)
