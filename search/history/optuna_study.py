"""Optuna's side of a study: what samplers, importances and the dashboard read."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Literal

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import URL

from search.history.samplers import make_sampler
from search.params import Params
from search.stages.space import Ranges
from studies.database import TRANSIENT, DatabaseUnreachableError, close_optuna, optuna_storage
from studies.definition import Screening
from studies.errors import StudyError
from studies.tables import StudyRow
from trainers.seeding import seed_for

OWNER = "onecycle_study"
"""The user attribute of an Optuna study that holds the id of ours."""


@contextmanager
def _translated() -> Iterator[None]:
    """Raise DatabaseUnreachableError where Optuna's storage lost its database."""
    try:
        yield
    except StorageInternalError as error:
        lost = _lost_connection(error)
        if lost is None:
            raise
        line = str(getattr(lost, "orig", lost)).strip().partition("\n")[0]
        raise DatabaseUnreachableError(f"Optuna's storage does not answer: {line}") from error


def _lost_connection(error: BaseException | None) -> BaseException | None:
    """Return the lost connection behind an error: Optuna may meet a second error over it."""
    while error is not None and not isinstance(error, TRANSIENT):
        error = error.__cause__ or error.__context__
    return error


class History:
    """The Optuna study of one cycle length; ours by its user attribute `onecycle_study`."""

    def __init__(self, storage: BaseStorage, *, name: str, study_id: str) -> None:
        self.storage, self.name, self.study_id = storage, name, study_id

    def create(self, direction: Literal["maximize", "minimize"]) -> None:
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

    @cached_property
    def study(self) -> optuna.Study:
        """The Optuna study, without a sampler of its own and without a pruner."""
        study = optuna.load_study(
            study_name=self.name, storage=self.storage, pruner=optuna.pruners.NopPruner()
        )
        if study.user_attrs.get(OWNER) != self.study_id:
            raise StudyError(
                f"the Optuna study {self.name!r} was deleted and made anew by something else; "
                f"delete ours too (delete --study {self.name}) or choose another --name"
            )
        return study

    @_translated()
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
    ) -> tuple[int, Params]:
        """Return the trial number and parameters of a slot; each slot has one trial for ever.

        The sampler proposes what is not `fixed`, from a seed of the slot's own.

        The trial is made in one commit with its slot and `attributes`, so an owner killed while
        asking leaves something that the next one finds (`asked_before`).

        Where max_lr is sampled as a multiple of the proposal it is a user attribute of the trial.
        """
        study = self.study
        bound = self._trial_of(slot) if asked_before else None
        if bound is None:
            template = create_trial(
                state=TrialState.RUNNING,
                user_attrs={"slot": slot, **attributes},
                system_attrs={"fixed_params": ranges.sampled(fixed)} if fixed is not None else {},
            )
            trial_id = study._storage.create_new_trial(study._study_id, template)
        else:
            trial_id = bound._trial_id
        study._thread_local.cached_all_trials = None  # as Study.ask() does: samplers read this
        study.sampler = make_sampler(
            screening.sampler if fixed is None else "random",
            seed=seed_for(study_seed, "ask", slot),
            n_initial=screening.n_initial,
        )
        trial = optuna.trial.Trial(study, trial_id)
        suggested = ranges.suggest(trial)
        params = fixed or suggested  # a multiple of the proposal may be off by its last digit
        if ranges.relative and trial.user_attrs.get("max_lr") != params.max_lr:
            trial.set_user_attr("max_lr", params.max_lr)
        return trial.number, params

    @_translated()
    def tell(self, number: int, value: float | None, attributes: Mapping[str, object]) -> None:
        """Finish a trial, once or again: COMPLETE with its value, FAIL without one."""
        storage = self.study._storage
        trial_id = storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number)
        try:
            for name, content in attributes.items():
                storage.set_trial_user_attr(trial_id, name, content)
            if value is None:
                storage.set_trial_state_values(trial_id, TrialState.FAIL)
            else:
                storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [value])
        except UpdateFinishedTrialError:
            pass  # told before, by the owner or by another repair

    @_translated()
    def drop_unbound(self, bound: Mapping[int, int]) -> None:
        """Fail RUNNING trials that another trial of their slot replaced (`bound`: slot -> number).

        They come from owners that were fenced off between claim and ask.
        """
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if bound.get(trial.user_attrs.get("slot", -1), trial.number) != trial.number:
                self.tell(trial.number, None, {"outcome": "replaced"})

    @_translated()
    def importances(self) -> dict[str, float]:
        """Return fANOVA's share of each parameter; empty where there is nothing to explain."""
        values = {trial.value for trial in self.study.get_trials(states=(TrialState.COMPLETE,))}
        if len(values) < 2:
            return {}
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        return optuna.importance.get_param_importances(self.study, evaluator=evaluator)

    def delete(self) -> None:
        """Delete the Optuna study if it is ours and there."""
        try:
            study = optuna.load_study(study_name=self.name, storage=self.storage)
        except KeyError:
            return
        if study.user_attrs.get(OWNER) == self.study_id:
            optuna.delete_study(study_name=self.name, storage=self.storage)

    def _trial_of(self, slot: int) -> FrozenTrial | None:
        trials = self.study.get_trials(deepcopy=False)
        return next((t for t in trials if t.user_attrs.get("slot") == slot), None)


def names(name: str, lengths: Sequence[int]) -> dict[str, int]:
    """Return the names of the Optuna studies of a study with their cycle length in epochs.

    `NAME` holds the full length, `NAME/screen-2` the cycles of two epochs.
    """
    screens = {f"{name}/screen-{length}": length for length in lengths[:-1]}
    return {**screens, name: lengths[-1]}


class Histories:
    """The Optuna studies of one of ours, one per cycle length, over one storage."""

    def __init__(
        self, storage: BaseStorage, *, name: str, study_id: str, lengths: Sequence[int]
    ) -> None:
        self.storage, self.lengths = storage, tuple(lengths)
        self._of = {
            length: History(storage, name=each, study_id=study_id)
            for each, length in names(name, lengths).items()
        }

    @classmethod
    def stored(cls, url: URL, row: StudyRow) -> "Histories":
        """Return those of a stored study."""
        storage = optuna_storage(url)
        return cls(storage, name=row.name, study_id=row.id, lengths=row.lengths)

    def of(self, length: int) -> History:
        """Return the history of the cycles of `length` epochs."""
        return self._of[length]

    def create(self, direction: Literal["maximize", "minimize"]) -> None:
        """Make the Optuna study of each length; see History.create()."""
        for history in self._of.values():
            history.create(direction)

    def delete(self) -> None:
        """Delete those that are ours and there."""
        for history in self._of.values():
            history.delete()

    def close(self) -> None:
        """Give the connections back."""
        if isinstance(self.storage, RDBStorage):
            close_optuna(self.storage)
