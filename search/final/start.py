"""One start of `train`: the study found, its definition loaded, its configuration trained."""

from dataclasses import replace
from pathlib import Path

from search.final.asked import FinalAsked
from search.final.chosen import chosen, on_both_splits
from search.final.loading import loading_lines
from search.final.models import FinalModels
from search.final.training import FinalTraining, Watch
from search.stages.range_test import with_stored_range_test
from search.starting import catalog
from search.starting.asked import check_counts, definition_of
from search.starting.cost import load_task
from search.starting.opening import opened
from search.starting.start import facts_of
from search.workers.patience import START_PATIENCE_S, Patience
from search.workers.stop import Stop
from studies.definition import Study
from studies.errors import ProtocolError, UnknownStudyError
from studies.protocol import compare, declared
from studies.registry import Definition, load
from studies.tables import StudyRow
from trainers.final import TrainedOn


def train(
    study: str | Study,
    out: str | Path,
    *,
    name: str | None = None,
    storage: str | None = None,
    slot: int | None = None,
    baseline: bool = False,
    on: TrainedOn = "train",
    seeds: int = 1,
    seed: int | None = None,
    force: bool = False,
    changed: bool = False,
    device: str = "auto",
    data: str | Path | None = None,
    timeout_min: float | None = None,
    wait_s: float = START_PATIENCE_S,
    watch: Watch | None = None,
) -> FinalModels:
    """Train the configuration that a stored study recommends, and write its weights at `out`.

    `study` is the name of a stored study, or the Study object that one was made from. `slot` or
    `baseline` take another configuration. With several `seeds`, model.pt becomes model.seed0.pt
    and so on; `seed` is that of the first, fresh ones by default. Beside the weights lie their
    facts (trainers.final.Facts), and trainers.final.load_final() reads both. A model that is
    there already, whole and of the same call, is not trained again; `force` overwrites another
    one. `changed` takes a study file whose code has changed since the search.

    Raises UserError for what the user must fix, NoResultError where the study has no such
    configuration or its cycle breaks, GivenBackError when `timeout_min` or a signal ended this
    start early, and KeyboardInterrupt after Ctrl-C; in the last two cases the same call resumes.
    """
    check_counts(timeout_min=timeout_min, wait_s=wait_s)
    asked = FinalAsked(
        out=Path(out),
        slot=slot,
        baseline=baseline,
        on=on,
        n_seeds=seeds,
        seed=seed,
        force=force,
        changed=changed,
    )
    for place in asked.places:
        place.check_folder()
    stop = Stop(timeout_s=None if timeout_min is None else 60 * timeout_min)
    with stop.on_signals():
        patiently = Patience(stop, seconds=wait_s)
        with opened(storage, patiently=patiently) as engine:
            called = name or (study.name if isinstance(study, Study) else study)
            row = patiently(catalog.find, engine, called)
            searched = _definition(row, study, changed=changed)
            final = searched.study
            if on == "train+validation":
                final = on_both_splits(searched.study, row)
            pick = patiently(chosen, engine, row, searched.study, slot=slot, baseline=baseline)
        # From here on the database is not needed.
        trainer, site = load_task(searched, row, device=device, data=data)
        facts = facts_of(trainer)
        compare(row.name, row.resolved or facts, facts)
        if final is not searched.study:
            trainer = final.task.trainer(site)
        models = FinalTraining(
            row=row,
            # Measured when the study was made, where its author does not say it.
            study=replace(final, diverged_value=row.diverged_value),
            chosen=pick,
            asked=asked,
            trainer=trainer,
            site=site,
            resolved=facts,
            stop=stop,
            watch=watch,
        ).models()
    return FinalModels(
        study=row.name,
        chosen=pick,
        trained_on=on,
        searched_steps=searched.study.steps_of(row.epochs, batch_size=pick.params.batch_size),
        models=models,
        loading=loading_lines(models[0].path, final.task, searched.spec),
    )


def _definition(row: StudyRow, study: str | Study, *, changed: bool) -> Definition:
    """Return what a stored study was made from; raise UserError where that is not available."""
    if isinstance(study, Study):
        loaded, flag = definition_of(study), "changed=True"
    elif row.spec:
        loaded, flag = load(row.spec), "--changed"
    else:
        raise UnknownStudyError(
            f"study {row.name!r} was made from a Study object of a program: only that can train "
            "it, with search.api.train(STUDY, ...)"
        )
    definition = with_stored_range_test(loaded, row)
    try:
        compare(row.name, row.declared, declared(definition.study, definition.source))
    except ProtocolError as error:
        # Where more than the code differs, this raises for it.
        compare(row.name, row.declared, declared(definition.study, row.source))
        if not changed:
            raise ProtocolError(f"{error}; {flag} trains it as it is now") from None
    return definition
