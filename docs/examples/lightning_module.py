import lightning
import torch
from torch.utils.data import DataLoader, Subset, TensorDataset

from studies.definition import Space, Study
from trainers.adapters.lightning import LightningTraining


class Disk(lightning.LightningModule):
    def __init__(self, width=32):
        super().__init__()
        first, last = torch.nn.Linear(2, width), torch.nn.Linear(width, 2)
        self.net = torch.nn.Sequential(first, torch.nn.BatchNorm1d(width), torch.nn.ReLU(), last)

    def training_step(self, batch):
        return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch):
        self.log("val_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


points = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
disk = TensorDataset(points, (points.norm(dim=1) < 1.2).long())
cuts = {"train": (0, 2000), "validation": (2000, 3000), "test": (3000, 4000)}
loaders = {name: DataLoader(Subset(disk, range(*cut)), 50) for name, cut in cuts.items()}
task = LightningTraining(module=lambda width=32: Disk(width), data=loaders, monitor="val_acc")
STUDY = Study(name="disk", task=task, epochs=4, space=Space(extra={"width": (8, 64)}))
