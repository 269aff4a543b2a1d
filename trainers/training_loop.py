"""Our loop on anybody's training: what all its runs share, and how its models are scored."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from trainers.device import Site, native_precision, reproducible
from trainers.errors import TaskError
from trainers.factories import Factory
from trainers.run import Run, RunResult
from trainers.scores import score
from trainers.streams import Moved, is_loader, loader_of, n_samples
from trainers.sweeps.parts import check_loss
from trainers.sweeps.untouched import data_untouched, seed_everything
from trainers.training_facts import facts_of
from trainers.training_fit import Fit
from trainers.training_parts import build, split_of

if TYPE_CHECKING:
    from trainers.training import Training

log = logging.getLogger(__name__)

_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Every evaluation reads the data as this seed has it, so that scores of different runs compare.
_EVALUATION_SEED = 0


class TrainingLoop:
    """Trains a Training at a Site; one object serves any number of runs."""

    def __init__(self, training: "Training", site: Site) -> None:
        self.training, self.kind = training, site.device
        self.device = torch.device(site.device)
        self.precision: str = (
            training.precision
            if training.precision != "auto"
            else site.precision or native_precision(self.kind)
        )
        self._factories: dict[str, Factory] = {f.role: f for f in training.factories()}
        self._names = tuple(training.defaults)
        self._loss_needs_gradients = False
        for split in ("train", "validation", "test"):
            split_of(training, split, self.told({}))  # what is wrong with it shows at once

    def facts(self) -> dict[str, str]:
        """Return what has to be the same in all runs of a study."""
        return facts_of(self.training, self.precision)

    def fit(self, run: Run) -> RunResult:
        """Train once under `run.plan` and score the result where the run asks for it."""
        train = split_of(self.training, "train", self.told(run.params))
        with reproducible(run.seed, self.kind), data_untouched(train):
            seed_everything(run.seed, train)
            return Fit(self, run, train).to_the_end()

    def untrained_score(self, params: Mapping[str, Any]) -> float:
        """Return what a model scores on validation before any step."""
        with reproducible(0, self.kind), data_untouched(()):
            seed_everything(0, ())
            model, _ = self.built(params)
            return self.scored(model, "validation", params)

    def told(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the functions are told in a run: its parameters, and the batch size."""
        return {"batch_size": self.training.batch_size, **params}

    def built(self, params: Mapping[str, Any]) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Return a new model on the device, and its optimizer."""
        return build(self.training, self.told(params), self.device)

    def loss(self, model: nn.Module, batch: Any, params: Mapping[str, Any]) -> Tensor:
        """Return the loss of a batch, shape (), in the precision of the training.

        Raises TaskError for a loss of another form.
        """
        with self.autocast():
            loss = self._called("loss", model, batch, params=params)
        if isinstance(loss, Tensor) and loss.ndim == 0 and loss.requires_grad:
            return loss
        check_loss(loss, "loss(model, batch)", graded=torch.is_grad_enabled())
        assert isinstance(loss, Tensor)
        return loss.reshape(())

    def autocast(self) -> torch.autocast:
        """Return the precision of the forward pass as a context."""
        dtype = _TYPES[self.precision]
        return torch.autocast(self.kind, dtype=dtype, enabled=self.precision != "fp32")

    def scored(self, model: nn.Module, split: str, params: Mapping[str, Any]) -> float:
        """Return the score of a model on a whole split, in eval mode and without gradients."""
        if self.training.scored.metric == "loss" and isinstance(self.training.score, str):
            return self.mean_loss(model, split, params)
        with self._evaluated(model, split, params) as loader, self.autocast():
            if isinstance(self.training.score, str):
                return score(self.training.scored.metric, model, loader)
            value = self._called("score", model, loader, params=params)
        try:
            return float(value)
        except (TypeError, ValueError):
            kind = type(value).__name__
            raise TaskError(f"score(model, loader) must return a number, got {kind}") from None

    def sealed(self, model: nn.Module, split: str, params: Mapping[str, Any]) -> float | None:
        """Return the score on a split that there may not be, None without it."""
        there = split_of(self.training, split, self.told(params)) is not None
        return self.scored(model, split, params) if there else None

    def mean_loss(self, model: nn.Module, split: str, params: Mapping[str, Any]) -> float:
        """Return the mean loss of a model on a whole split, in eval mode.

        The loss has its defaults, not what the run tries, so that different runs compare.
        """
        told = params if self._factories["loss"].takes_any else {}
        total, n = torch.zeros((), dtype=torch.float64, device=self.device), 0
        with self._evaluated(model, split, params) as loader:
            for batch in loader:
                size = n_samples(batch, 1)
                total += self.loss(model, batch, told).double() * size
                n += size
        if not n:
            raise TaskError(f"the {split} split gives no batch")
        return float(total) / n

    def loss_if_it_has_one(
        self, model: nn.Module, split: str, params: Mapping[str, Any]
    ) -> float | None:
        """Return the mean loss, None for a loss that cannot be had without gradients."""
        if self._loss_needs_gradients:
            return None
        try:
            return self.mean_loss(model, split, params)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            log.warning("no validation loss, for it cannot be had in eval mode: %s", error)
            self._loss_needs_gradients = True
            return None

    def _called(self, role: str, *given: Any, params: Mapping[str, Any]) -> Any:
        return self._factories[role](*given, params=self.told(params), named=self._names)

    @contextmanager
    def _evaluated(
        self, model: nn.Module, split: str, params: Mapping[str, Any]
    ) -> Iterator[Moved]:
        """Give the batches of a split, the model in eval mode; put generators and modes back."""
        modes = {module: module.training for module in model.modules()}
        data = split_of(self.training, split, self.told(params))
        if not is_loader(data):
            part = self.training.batch_size // self.training.accumulate
            data = loader_of(data, self.training.loader, self.device, batch_size=part)
        with torch.no_grad(), data_untouched(data):
            seed_everything(_EVALUATION_SEED, data)
            model.eval()
            try:
                yield Moved(data, self.device)
            finally:
                for module, mode in modes.items():
                    module.training = mode
