"""A trainer of LightningModules: one run at a time, from its plan to its score."""

import logging
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainers.adapters.lightning_conduct import Conduct
from trainers.adapters.lightning_fit import Ended, Fit, alone
from trainers.adapters.lightning_look import look
from trainers.device import Site
from trainers.errors import TaskError
from trainers.run import Run, RunResult

if TYPE_CHECKING:
    from trainers.adapters.lightning import LightningTraining

log = logging.getLogger(__name__)


class LightningTrainer:
    """Trains LightningModules at a Site; one object serves any number of runs."""

    def __init__(self, task: "LightningTraining", site: Site) -> None:
        self.task, self.site = task, site
        self.seen = look(task, steps_per_epoch=task.steps_per_epoch)
        with alone(0, site) as folder:
            fit = Fit(task, site, {}, seed=0, folder=folder)
            # One batch shows whether the metric is there, before anything is trained.
            fit.validated(limit_val_batches=1)
            fit.test_loader()
        if self.seen.has_scheduler:
            log.info("the scheduler of configure_optimizers is replaced by that of the plan")
        for name in self.seen.left_out:
            log.info("the callback %s is left out: a cycle is trained to its end", name)

    def facts(self) -> dict[str, str]:
        """Return what has to be the same in all runs of a study."""
        shapes = "; ".join(f"{name} {shape}" for name, shape in self.seen.shapes.items())
        precision = self.task.arguments.get("precision", "32-true")
        return {"precision": str(precision), "parameters": shapes}

    def untrained_score(self, params: Mapping[str, Any]) -> float:
        """Return the monitored metric of a module as it is made, on the validation split."""
        with alone(0, self.site) as folder:
            return Fit(self.task, self.site, params, seed=0, folder=folder).validated()

    def fit(self, run: Run) -> RunResult:
        """Train under the plan of `run`, or resume where an earlier owner saved, and score it."""
        self.task.check_searched(tuple(run.params))
        task = self.task.at(batch_size=run.batch_size)
        with alone(run.seed, self.site) as folder:
            fit = Fit(task, self.site, run.params, seed=run.seed, folder=folder)
            return _result(fit, run)


def _result(fit: Fit, run: Run) -> RunResult:
    task, judged = fit.task, run.split is not None
    conduct = fit.callback(Conduct, fit, run)
    trainer = fit.made_trainer(
        conduct,
        judged=judged,
        max_epochs=math.ceil(run.plan.total_steps / task.steps_per_epoch),
        limit_train_batches=task.steps_per_epoch * task.accumulated,
    )
    _train(fit, trainer, conduct)
    run.look()
    progress, sealed = conduct.progress, None
    completed = progress.is_complete and not run.diverged()
    if completed and judged:
        run.trained(trainer.save_checkpoint)
        if run.sealed_split is not None:
            # The test split too is scored by validation_step, which logs the metric.
            trainer.validate(fit.module, dataloaders=fit.test_loader(), verbose=False)
            sealed = fit.monitored(trainer)
    elif not (completed or run.should_stop()):
        raise TaskError(
            f"the fit ended after {progress.step} of {run.plan.total_steps} steps: something "
            "set trainer.should_stop; a cycle is trained to its end, or stopped from outside"
        )
    result: RunResult = progress.result(sealed)
    return result


def _train(fit: Fit, trainer: Any, conduct: Any) -> None:
    try:
        trainer.fit(fit.module, ckpt_path=conduct.resumed(), **fit.given)
    except Ended:
        pass
    except SystemExit as ended:
        # So Lightning ends for SIGTERM, whose meaning the run knows, and for Ctrl-C.
        if not conduct.run.stop_asked():
            raise KeyboardInterrupt from ended
