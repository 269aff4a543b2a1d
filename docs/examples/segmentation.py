"""Segmentation: the pixels of a disk in noise, judged by a Dice score of one's own."""

import torch
from torch.nn import Conv2d, ReLU, Sequential, functional

from studies.definition import Study
from trainers.training import Training

draw, grid = torch.Generator().manual_seed(0), torch.arange(24)
row, column, radius = torch.rand(3, 800, 1, 1, 1, generator=draw) * 12 + 3
masks = ((grid[:, None] - row) ** 2 + (grid - column) ** 2 < radius**2).float()
images = masks + torch.randn(masks.shape, generator=draw)
pairs, bce = list(zip(images, masks, strict=True)), functional.binary_cross_entropy_with_logits


def dice(model, loader):
    each = [((model(image) > 0).float(), mask) for image, mask in loader]
    return 2 * sum((a * b).sum() for a, b in each) / sum((a + b).sum() for a, b in each)


task = Training(
    model=lambda: Sequential(Conv2d(1, 8, 5, padding=2), ReLU(), Conv2d(8, 1, 5, padding=2)),
    optimizer=lambda model: torch.optim.Adam(model.parameters()),
    data={"train": pairs[:400], "validation": pairs[400:600], "test": pairs[600:]},
    batch_size=16,
    loss=lambda model, batch: bce(model(batch[0]), batch[1]),
    score=dice,
    direction="maximize",
)
STUDY = Study(name="segmentation", task=task, epochs=6)
