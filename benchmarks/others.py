"""What other tools suggest: the installed libraries, called as their users call them."""

import random
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.plan import Tool, Work
from benchmarks.records import SuggestionRecord
from trainers.augment import gather_augmented
from trainers.device import reproducible
from trainers.factories import load_factory

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from trainers.loop import Classifier

Suggestions = dict[str, float | None]

START_LR = 1e-7
"""The lr that the optimizer has where a tool starts from it: that of torch-lr-finder's README."""
PACKAGES: dict[Tool, str] = {
    "torch-lr-finder": "torch-lr-finder",
    "fastai": "fastai",
    "lightning": "lightning",
    "ignite": "pytorch-ignite",
}
assert set(PACKAGES) == set(get_args(Tool))


class _Images(Dataset[tuple[Tensor, Tensor]]):
    """The augmented, normalised train images of a task; a batch is read in one operation."""

    def __init__(self, classifier: "Classifier", seed: int) -> None:
        self.classifier = classifier
        self.generator = torch.Generator(classifier.device).manual_seed(seed)

    def __len__(self) -> int:
        return len(self.classifier.splits.train)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        images, labels = self.__getitems__([number])
        return images[0], labels[0]

    def __getitems__(self, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return (B, C, H, W) and (B,): a DataLoader asks for whole batches where it can."""
        c = self.classifier
        index = c.splits.train[torch.as_tensor(numbers)]
        images = gather_augmented(c.images, index, c.task.augment, generator=self.generator)
        return c.normalised(images), c.labels[index]


class _AsOurs(nn.Module):
    """A net in the precision and memory format of our own loop; its outputs are float32.

    `n_steps` counts what it was trained on.
    """

    def __init__(self, classifier: "Classifier") -> None:
        super().__init__()
        self.classifier = (classifier,)  # not a part of this module
        self.net: nn.Module = load_factory(classifier.task.model)()
        self.net.to(memory_format=classifier.memory_format)
        self.n_steps = 0

    def forward(self, images: Tensor) -> Tensor:
        self.n_steps += self.training
        with self.classifier[0].autocast():
            outputs: Tensor = self.net(images)
        return outputs.float()


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a user has at hand before asking a tool."""

    model: _AsOurs
    optimizer: "Optimizer"
    loader: "DataLoader[tuple[Tensor, Tensor]]"
    loss_fn: nn.Module
    n_steps: int


def suggest(work: Work, classifier: "Classifier") -> SuggestionRecord:
    """Ask one tool once. What it raises is recorded; it suggests nothing then."""
    assert work.kind != "sweep"
    assert work.kind != "cycle"
    tool, suggestions, error = work.kind, Suggestions(), None
    before, started = time.process_time(), time.perf_counter()
    with reproducible(work.run_seed(), "cpu"):
        random.seed(work.run_seed())
        np.random.seed(work.run_seed() % 2**32)
        parts = _parts(work, classifier)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                suggestions = _CALLS[tool](parts)
        except Exception as raised:
            error = f"{type(raised).__name__}: {raised}"[:200]
    return SuggestionRecord(
        work=work,
        version=version(PACKAGES[tool]),
        suggestions=suggestions,
        error=error,
        n_steps=parts.model.n_steps,
        seconds=round(time.perf_counter() - started, 2),
        cpu_seconds=round(time.process_time() - before, 2),
    )


def _parts(work: Work, classifier: "Classifier") -> _Parts:
    task = classifier.task
    model = _AsOurs(classifier)
    optimizer = task.optimizer.build(model)
    for group in optimizer.param_groups:
        group["lr"] = START_LR
    loader = DataLoader(
        _Images(classifier, work.run_seed()),
        task.batch_size,
        shuffle=True,
        drop_last=True,
        collate_fn=_as_it_is,
    )
    loss_fn = nn.CrossEntropyLoss(label_smoothing=task.label_smoothing)
    return _Parts(model, optimizer, loader, loss_fn, work.length)


def _as_it_is(batch: Any) -> Any:
    return batch


def _number(lr: float | None) -> float | None:
    return None if lr is None or not np.isfinite(lr) else float(f"{float(lr):.6g}")


def _torch_lr_finder(parts: _Parts) -> Suggestions:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from torch_lr_finder import LRFinder

    finder = LRFinder(parts.model, parts.optimizer, parts.loss_fn, device="cpu")
    finder.range_test(parts.loader, num_iter=parts.n_steps)
    _, axes = plt.subplots()
    said = finder.plot(suggest_lr=True, ax=axes)
    plt.close("all")
    finder.reset()
    return {"steepest": _number(said[1] if isinstance(said, tuple) else None)}


def _fastai(parts: _Parts) -> Suggestions:
    from fastai.callback.schedule import minimum, slide, steep, valley
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.optimizer import OptimWrapper

    learner = Learner(
        DataLoaders(parts.loader, parts.loader, device="cpu"),
        parts.model,
        loss_func=parts.loss_fn,
        opt_func=lambda *_, **__: OptimWrapper(opt=parts.optimizer),
    )
    with TemporaryDirectory() as folder, learner.no_bar():
        learner.path = Path(folder)
        said = learner.lr_find(
            num_it=parts.n_steps, show_plot=False, suggest_funcs=(valley, slide, minimum, steep)
        )
    return {name: _number(lr) for name, lr in said._asdict().items()}


def _lightning(parts: _Parts) -> Suggestions:
    import lightning
    from lightning.pytorch.tuner import Tuner

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.lr = parts.model, START_LR

        def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
            loss: Tensor = parts.loss_fn(self.model(batch[0]), batch[1])
            return loss

        def configure_optimizers(self) -> "Optimizer":
            return parts.optimizer

    with TemporaryDirectory() as folder:
        trainer = lightning.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=1_000,
            default_root_dir=folder,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        said = Tuner(trainer).lr_find(
            Module(), train_dataloaders=parts.loader, num_training=parts.n_steps
        )
    return {"suggestion": _number(said.suggestion() if said is not None else None)}


def _ignite(parts: _Parts) -> Suggestions:
    from ignite.engine import create_supervised_trainer
    from ignite.handlers import FastaiLRFinder

    trainer = create_supervised_trainer(parts.model, parts.optimizer, parts.loss_fn)
    finder = FastaiLRFinder()
    to_save = {"model": parts.model, "optimizer": parts.optimizer}
    with finder.attach(trainer, to_save=to_save, num_iter=parts.n_steps) as with_finder:
        with_finder.run(parts.loader)
    said = finder.lr_suggestion()
    return {"steepest": _number(said[0] if isinstance(said, list) else said)}


_CALLS: dict[Tool, Callable[[_Parts], Suggestions]] = {
    "torch-lr-finder": _torch_lr_finder,
    "fastai": _fastai,
    "lightning": _lightning,
    "ignite": _ignite,
}
