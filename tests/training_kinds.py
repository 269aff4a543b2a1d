"""Trainings of several kinds, tiny: for tests of our loop on what is not an image classifier."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from trainers.training import Training

PADDING = -100


def numbers(seed: int, *shape: int) -> Tensor:
    """Return standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Noisy(Dataset[Any]):
    """Samples that each of the three generators changes whenever they are read."""

    def __init__(self, n: int, seed: int) -> None:
        self.x = numbers(seed, n, 6)
        self.y = (self.x[:, 0] + self.x[:, 1] > 0).long()

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Any:
        noise = torch.rand(6) + float(np.random.rand()) + random.random()
        return self.x[index] + 0.1 * noise, self.y[index]


class Counted(IterableDataset[Any]):
    """A stream without a length, shuffled by Python's generator."""

    def __init__(self, n: int, seed: int) -> None:
        self.data = Noisy(n, seed)

    def __iter__(self) -> Iterator[Any]:
        order = list(range(len(self.data)))
        random.shuffle(order)
        return (self.data[index] for index in order)


class Tagger(nn.Module):
    """An LSTM over padded sequences, a class for each word."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, width, padding_idx=0)
        self.lstm = nn.LSTM(width, width, batch_first=True)
        self.dropout, self.out = nn.Dropout(dropout), nn.Linear(width, 4)

    def forward(self, words: Tensor) -> Tensor:
        return self.out(self.dropout(self.lstm(self.embedding(words))[0]))


class Sentences(Dataset[Any]):
    """Words 1 to 19 of varying number; the class of a word is its number modulo 4."""

    def __init__(self, n: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        sizes = torch.randint(2, 7, (n,), generator=generator).tolist()
        self.words = [torch.randint(1, 20, (size,), generator=generator) for size in sizes]

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, index: int) -> Any:
        return self.words[index], self.words[index] % 4


def padded(samples: list[Any]) -> dict[str, Tensor]:
    """Return sentences of one length."""
    words, classes = zip(*samples, strict=True)
    pad = nn.utils.rnn.pad_sequence
    return {
        "words": pad(list(words), batch_first=True),
        "labels": pad(list(classes), batch_first=True, padding_value=PADDING),
    }


def splits(of: Any, n: int = 48) -> dict[str, Any]:
    """Return three splits of n, n / 2 and n / 2 samples."""
    return {"train": of(n, 0), "validation": of(n // 2, 1), "test": of(n // 2, 2)}


def sgd(model: nn.Module, weight_decay: float = 1e-4) -> torch.optim.Optimizer:
    """Return SGD with momentum."""
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=weight_decay)


def classifier(dropout: float = 0.2) -> nn.Module:
    """Return a small net with dropout over 6 numbers."""
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 2))


def cross_entropy(model: nn.Module, batch: Any, label_smoothing: float = 0.0) -> Tensor:
    """Return the mean cross-entropy of a batch of pairs."""
    return functional.cross_entropy(model(batch[0]), batch[1], label_smoothing=label_smoothing)


def plain(**changed: Any) -> Training:
    """Return a training of noisy pairs."""
    fields: dict[str, Any] = {
        "model": classifier,
        "optimizer": sgd,
        "data": splits(Noisy),
        "batch_size": 8,
        "loss": cross_entropy,
        "score": "accuracy",
    }
    return Training(**{**fields, **changed})


def tagger() -> Training:
    """Return a tagger on padded dicts."""

    def loss(model: nn.Module, batch: Any) -> Tensor:
        logits = model(batch["words"])
        return functional.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten())

    return plain(
        model=lambda width=8, dropout=0.1: Tagger(width, dropout),
        data=splits(Sentences),
        loss=loss,
        loader={"collate_fn": padded},
    )


def regression() -> Training:
    """Return a regression on columns."""

    def data(n: int, seed: int) -> TensorDataset:
        x = numbers(seed, n, 5)
        return TensorDataset(x, x.sum(1))

    return plain(
        model=lambda width=8: nn.Sequential(nn.Linear(5, width), nn.Tanh(), nn.Linear(width, 1)),
        optimizer=lambda model: torch.optim.AdamW(model.parameters()),
        data=splits(data),
        loss=lambda model, batch: functional.mse_loss(model(batch[0])[:, 0], batch[1]),
        score="mse",
    )


def dice(model: nn.Module, loader: Any, threshold: float = 0.0) -> float:
    """Return twice the overlap of two masks over their sizes."""
    both = sizes = 0.0
    for image, mask in loader:
        chosen = (model(image) > threshold).float()
        both += float((chosen * mask).sum())
        sizes += float(chosen.sum() + mask.sum())
    return 2 * both / max(sizes, 1.0)


def segmentation() -> Training:
    """Return a segmentation of bright places, scored by a function of one's own."""

    def data(n: int, seed: int) -> TensorDataset:
        images = numbers(seed, n, 1, 8, 8)
        return TensorDataset(images, (images > 0.5).float())

    def net() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 1)
        )

    return plain(
        model=net,
        data=splits(data),
        loss=lambda model, batch: functional.binary_cross_entropy_with_logits(
            model(batch[0]), batch[1]
        ),
        score=dice,
        metric="Dice",
        direction="maximize",
    )


def bagged(samples: list[Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Return words in one row, where each text begins, and classes."""
    words, classes = zip(*((words, int(words[0]) % 3) for words, _ in samples), strict=True)
    starts = torch.tensor([0, *(len(text) for text in words[:-1])]).cumsum(0)
    return torch.cat(list(words)), starts, torch.tensor(classes)


class Bag(nn.Module):
    """The mean of the words' vectors, and a class for each text."""

    def __init__(self) -> None:
        super().__init__()
        self.bag, self.out = nn.EmbeddingBag(20, 8), nn.Linear(8, 3)

    def forward(self, words: Tensor, starts: Tensor) -> Tensor:
        return self.out(self.bag(words, starts))


def text() -> Training:
    """Return a classifier of texts by loaders of its own, whose batches have no one length."""
    loaders = {
        name: DataLoader(data, batch_size=8, shuffle=name == "train", collate_fn=bagged)
        for name, data in splits(Sentences).items()
    }
    return plain(
        model=Bag,
        data=loaders,
        batch_size=None,
        loss=lambda model, batch: functional.cross_entropy(model(batch[0], batch[1]), batch[2]),
        score="macro F1",
    )


def stream() -> Training:
    """Return a training on streams."""
    return plain(data=splits(Counted), steps_per_epoch=4)


KINDS = {each.__name__: each for each in (plain, tagger, regression, segmentation, text, stream)}
