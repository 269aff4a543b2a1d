"""A short Lightning study that draws much: order, dropout, a batch size, noise on the samples."""

from typing import Any

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from studies.definition import Confirmation, RangeTest, Screening, Space, Study
from trainers.adapters.lightning import LightningTraining


class Noisy(Dataset[Any]):
    """Points that are moved each time they are read, by torch's generator."""

    def __init__(self, n: int, seed: int, noise: float = 0.0) -> None:
        self.x = torch.randn(n, 6, generator=torch.Generator().manual_seed(seed))
        self.y, self.noise = (self.x[:, :3].sum(1) > 0).long(), noise

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Any:
        return self.x[index] + self.noise * torch.randn(6), self.y[index]


class Points(lightning.LightningDataModule):
    """The three splits, in loaders of the batch size that is searched."""

    def __init__(self, batch_size: int, n_workers: int) -> None:
        super().__init__()
        self.batch_size, self.n_workers = batch_size, n_workers

    def train_dataloader(self) -> Any:
        """Return a loader that shuffles."""
        n = self.n_workers
        return DataLoader(Noisy(640, 0, 0.5), self.batch_size, shuffle=True, num_workers=n)

    def val_dataloader(self) -> Any:
        """Return the validation split."""
        return DataLoader(Noisy(97, 1), 97)

    def test_dataloader(self) -> Any:
        """Return the test split."""
        return DataLoader(Noisy(98, 2), 98)


class Net(lightning.LightningModule):
    """A net with batch norm and dropout."""

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.save_hyperparameters()
        hidden = (nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(dropout))
        self.net = nn.Sequential(*hidden, nn.Linear(8, 2))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """Return the loss of a batch."""
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log a loss, which tells two runs apart better than an accuracy."""
        self.log("val_loss", nn.functional.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        """Return AdamW."""
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def study(
    *, epochs: int = 2, n_workers: int = 0, batch_sizes: tuple[int, ...] | None = None
) -> Study:
    """Return the study, whose train loader has so many processes."""
    return Study(
        name="points",
        task=LightningTraining(
            module=lambda dropout=0.2: Net(dropout),
            data=lambda batch_size=16: Points(batch_size, n_workers),
            monitor="val_loss",
            trainer={"accumulate_grad_batches": 2},
        ),
        epochs=epochs,
        space=Space(max_lr=(1e-3, 1e-1), batch_size=batch_sizes, extra={"dropout": (0.0, 0.5)}),
        range_test=RangeTest(n_sweeps=0),
        screening=Screening(n_trials=2, n_initial=1),
        confirmation=Confirmation(n_finalists=1, n_seeds=2),
    )


STUDY = study()
