"""A small loop of one's own: Adagrad on two param groups, whose rates are 1 : 10."""

import torch
from torch import nn
from torch.nn import functional

from studies.definition import Confirmation, RangeTest, Screening, Study
from trainers.device import Site
from trainers.run import Run, RunResult
from trainers.task import OwnLoop

N_IMAGES, BATCH_SIZE = 1024, 128


def optimizer_of(model: nn.Sequential) -> torch.optim.Optimizer:
    """Return the optimizer: the body at a tenth of the head's rate."""
    groups = [
        {"params": model[2].parameters(), "lr": 0.1},
        {"params": model[0].parameters(), "lr": 0.01},
    ]
    return torch.optim.Adagrad(groups)


class Loop:
    """Two classes of points, apart by a line, and a net of two layers."""

    def __init__(self, site: Site) -> None:
        points = torch.randn(2 * N_IMAGES, 2, generator=torch.Generator().manual_seed(0))
        self.x, self.y = points, (points[:, 0] > 0).long()

    def fit(self, run: Run) -> RunResult:
        """Train once; the score is the accuracy on points that are not trained on."""
        torch.manual_seed(run.seed % 2**32)
        model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
        optimizer = self.optimizer(model, run)
        scheduler, step = run.plan.scheduler(optimizer), 0
        while step < run.plan.total_steps and not run.should_stop():
            chosen = torch.randint(N_IMAGES, (BATCH_SIZE,))
            loss = functional.cross_entropy(model(self.x[chosen]), self.y[chosen])
            optimizer.zero_grad()
            loss.backward()
            run.report(step, loss.detach(), lrs=[group["lr"] for group in optimizer.param_groups])
            optimizer.step()
            step += 1
            if step < run.plan.total_steps:
                scheduler.step()
        run.look()
        right = model(self.x[N_IMAGES:]).argmax(1) == self.y[N_IMAGES:]
        score = float(right.float().mean())
        return RunResult(
            score=None if run.split is None else score,
            outcome="diverged" if run.diverged() else "completed",
            n_steps=step,
            n_images=step * BATCH_SIZE,
            seconds=0.1,
            sealed_score=score if run.sealed_split else None,
        )

    def optimizer(self, model: nn.Sequential, run: Run) -> torch.optim.Optimizer:
        """Return the optimizer of a run."""
        return optimizer_of(model)


STUDY = Study(
    name="grouped",
    task=OwnLoop(factory=Loop, batch_size=BATCH_SIZE, steps_per_epoch=8, adaptive=True),
    range_test=RangeTest(n_sweeps=2, n_steps=100, start_lr=1e-4, end_lr=1000.0),
    screening=Screening(n_trials=3, epochs=8),
    confirmation=Confirmation(n_finalists=1, n_seeds=2),
    diverged_value=0.5,
)
