"""The table study with a dropout and an optimizer in its space, which its loop reads."""

import json
import os
from dataclasses import replace
from pathlib import Path

from studies.definition import Screening, Space
from studies.params import Choice, Range
from tests.table_study import STEPS_PER_EPOCH, Table
from tests.table_study import STUDY as TABLE
from trainers.run import Run, RunResult
from trainers.task import OwnLoop


class Loop(Table):
    """A loop of one's own: 0.3 is its best dropout, and adamw its better optimizer."""

    def fit(self, run: Run) -> RunResult:
        """Train as the table says, and write down what the run was told."""
        note = os.environ.get("EXTRA_NOTE")
        if note:
            kind = "cycle" if run.split is not None else "sweep"
            if run.plan.lrs()[0] < 1e-8:
                kind = "warm-up"
            with Path(note).open("a") as file:
                file.write(json.dumps({"kind": kind, "params": dict(run.params)}) + "\n")
        result = super().fit(run)
        if result.score is None:
            return result
        loss = 2 * (run.params["dropout"] - 0.3) ** 2
        loss += 0.1 if run.params["optimizer"] == "sgd" else 0.0
        sealed = None if result.sealed_score is None else result.sealed_score - loss
        return replace(result, score=result.score - loss, sealed_score=sealed)


STUDY = replace(
    TABLE,
    name="extra",
    task=OwnLoop(factory=Loop, batch_size=10, steps_per_epoch=STEPS_PER_EPOCH),
    screening=Screening(n_trials=16, epochs=4, n_initial=8),
    space=Space(
        extra={
            "dropout": Range(0.0, 0.5, baseline=0.1),
            "optimizer": Choice(("sgd", "adamw"), baseline="sgd"),
        }
    ),
)
