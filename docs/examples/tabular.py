"""Regression on a table, minimised: Friedman's function of five columns; five are noise."""

import torch
from sklearn.datasets import make_friedman1
from torch import nn
from torch.utils.data import TensorDataset

from studies.definition import Space, Study
from trainers.training import Training


def table(n, seed):
    columns, wanted = make_friedman1(n, noise=1.0, random_state=seed)
    wanted = (wanted[:, None] - 14) / 5  # about mean 0 and deviation 1
    return TensorDataset(torch.tensor(columns).float(), torch.tensor(wanted).float())


task = Training(
    model=lambda width=32: nn.Sequential(nn.Linear(10, width), nn.ReLU(), nn.Linear(width, 1)),
    optimizer=lambda model: torch.optim.SGD(model.parameters(), momentum=0.9, nesterov=True),
    data={"train": table(1600, 0), "validation": table(1000, 1), "test": table(1000, 2)},
    batch_size=32,
    loss=lambda model, batch: nn.functional.mse_loss(model(batch[0]), batch[1]),
    score="mean squared error",
)
STUDY = Study(name="tabular", task=task, epochs=8, space=Space(extra={"width": (16, 32, 64)}))
