"""The small loop with an optimizer to choose, torch's own parameters, and one held fixed."""

from dataclasses import replace

import torch
from torch import nn

from studies.definition import Confirmation, RangeTest, Screening, Space
from studies.params import Choice, Range
from tests.grouped_study import STUDY as GROUPED
from tests.grouped_study import Loop as Grouped
from trainers.run import Run
from trainers.task import OwnLoop


class Loop(Grouped):
    """The grouped loop with the optimizer that it is told."""

    def optimizer(self, model: nn.Sequential, run: Run) -> torch.optim.Optimizer:
        """Return the optimizer of a run."""
        assert run.params["held"] == 0.25
        assert "three_phase" not in run.params, "that is the cycle's"
        assert (run.params["width"] in (64, 128)) or run.split is None
        kinds = {"sgd": torch.optim.SGD, "rmsprop": torch.optim.RMSprop}
        return kinds[run.params["optimizer"]](model.parameters(), lr=0.1)  # type: ignore[operator]


STUDY = replace(
    GROUPED,
    name="any",
    task=OwnLoop(factory=Loop, batch_size=128, steps_per_epoch=8),
    range_test=RangeTest(n_sweeps=1, n_steps=100, start_lr=1e-5, end_lr=1000.0),
    screening=Screening(n_trials=8, epochs=8, n_initial=7),
    confirmation=Confirmation(n_finalists=1, n_seeds=2),
    space=Space(
        extra={
            "optimizer": Choice(("sgd", "rmsprop"), baseline="sgd"),
            "width": Choice((64, 128), baseline=64),
            "held": 0.25,
            "anneal_strategy": ("cos", "linear"),
            "three_phase": (True, False),
            "final_div_factor": (1e3, 1e5),
            "base_momentum": Range(0.8, 0.9, baseline=0.85),
            "max_momentum": (0.93,),
        }
    ),
)
