"""A trainer of Transformers' models: one run at a time, from its plan to its score."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from trainers.adapters.transformers import REPLACED
from trainers.adapters.transformers_conduct import MOST_SKIPPED_IN_A_ROW, Conduct
from trainers.adapters.transformers_fit import Fit, alone
from trainers.device import Site
from trainers.errors import TaskError
from trainers.groups import is_adaptive
from trainers.run import Run, RunResult

if TYPE_CHECKING:
    from trainers.adapters.transformers import TransformersTraining

log = logging.getLogger(__name__)

_CPU = Site(device="cpu", data=None, cache=Path())


def steps_adaptively(task: "TransformersTraining") -> bool:
    """Whether the optimizer that Trainer would make takes steps of the gradient's scale."""
    with alone(0, _CPU) as folder:
        fit = Fit(task, _CPU, {}, seed=0, folder=folder)
        return is_adaptive(fit.made_trainer(total_steps=1).create_optimizer())


class TransformersTrainer:
    """Trains models of Transformers at a Site; one object serves any number of runs."""

    def __init__(self, task: "TransformersTraining", site: Site) -> None:
        self.task, self.site = task, site
        with alone(0, _CPU) as folder:
            fit = Fit(task, _CPU, {}, seed=0, folder=folder)
            fit.check_scores()
            self.shapes = {
                n: f"{tuple(p.shape)} {p.dtype}" for n, p in fit.model.named_parameters()
            }
            self.sizes = fit.sizes()
        reasons: dict[str, list[str]] = {}
        for name in task.arguments({}):
            if name in REPLACED:
                reasons.setdefault(REPLACED[name], []).append(name)
        for reason, names in reasons.items():
            log.info("args: %s left out; %s", ", ".join(names), reason)

    def facts(self) -> dict[str, str]:
        """Return what has to be the same in all runs of a study."""
        shapes = "; ".join(f"{name} {shape}" for name, shape in self.shapes.items())
        return {"parameters": shapes, **self.sizes}

    def untrained_score(self, params: Mapping[str, Any]) -> float:
        """Return the monitored metric of a model as it is made, on the validation split."""
        with alone(0, self.site) as folder:
            fit = Fit(self.task, self.site, params, seed=0, folder=folder)
            return fit.monitored(fit.made_trainer(total_steps=1).evaluate())

    def fit(self, run: Run) -> RunResult:
        """Train once under `run.plan` and score the result where the run asks for it."""
        self.task.check_searched(tuple(run.params))
        task = self.task.at(batch_size=run.batch_size)
        with alone(run.seed, self.site) as folder:
            fit = Fit(task, self.site, run.params, seed=run.seed, folder=folder)
            return _result(fit, run)


def _result(fit: Fit, run: Run) -> RunResult:
    judged, total = run.split is not None, run.plan.total_steps
    conduct = type("Conduct", (Conduct, fit.library.TrainerCallback), {})(fit, run)
    conduct.resume()
    progress = conduct.progress
    left = total - progress.step
    # Room for the steps that a GradScaler skips: we end it.
    if fit.task.arguments(fit.params).get("fp16"):
        left = 2 * left + MOST_SKIPPED_IN_A_ROW
    trainer = fit.made_trainer(total_steps=left, conduct=conduct)
    conduct.take_hold(trainer)
    trainer.train()
    run.look()
    completed = progress.is_complete and not run.diverged()
    sealed = None
    if completed and judged:
        run.trained(_saver(trainer))
        if run.sealed_split is not None:
            conduct.is_over = True
            sealed = fit.monitored(trainer.evaluate(eval_dataset=fit.evaluation["test"]))
    elif not (completed or run.should_stop()):
        raise TaskError(
            f"the fit ended after {progress.step} of {total} steps: a callback ended it, or "
            "the train set gave no more batches; a cycle is trained to its end"
        )
    result: RunResult = progress.result(sealed)
    return result


def _saver(trainer: Any) -> Callable[[Path], None]:
    """Return what writes model and processing class, so that from_pretrained reads them."""

    def save(path: Path) -> None:
        model = trainer.accelerator.unwrap_model(trainer.model)
        if hasattr(model, "save_pretrained"):
            model.save_pretrained(path)
        else:
            path.mkdir(parents=True, exist_ok=True)
            torch.save(model.state_dict(), path / "pytorch_model.bin")
        if trainer.processing_class is not None:
            trainer.processing_class.save_pretrained(path)

    return save
