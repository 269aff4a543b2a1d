"""The bundled training loop: one run of an image classifier, and its evaluation."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor, nn

from trainers.augment import Augment, EachImage, gather_augmented, transformed
from trainers.calls.applied import Applied
from trainers.data import Cifar10, Digits, ImageFolder, joined, open_splits
from trainers.device import Precision, Site, native_precision, reproducible, sent, synchronize
from trainers.errors import DataError, TaskError, UserError
from trainers.factories import load_factory
from trainers.gradients import gradient_norm
from trainers.run import EpochRow, Outcome, Run, RunResult, Split
from trainers.seeding import seed_for

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

log = logging.getLogger(__name__)

# For memory only: in eval mode an image's output does not depend on its batch.
_EVALUATION_BATCH = 500
# The most training that a kill can cost.
_SECONDS_BETWEEN_CHECKPOINTS = 30.0


class ImageTask(Protocol):
    """What the loop needs of a task: trainers.task.Task has it."""

    @property
    def data(self) -> Digits | Cifar10 | ImageFolder: ...
    @property
    def model(self) -> str | Callable[[], nn.Module]: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def steps_per_epoch(self) -> int: ...
    @property
    def label_smoothing(self) -> float: ...
    @property
    def augment(self) -> Augment | EachImage | Callable[[Any], Any]: ...
    @property
    def precision(self) -> Literal["auto", "fp32", "bf16"]: ...
    @property
    def joins_validation(self) -> bool: ...

    def build_optimizer(self, model: nn.Module) -> "Optimizer":
        """Return a new optimizer over the model's parameters."""

    def under(self, params: Mapping[str, Any]) -> "ImageTask":
        """Return the same task with these values in place of its own."""


class Classifier:
    """Trains a task of images at a Site; one object serves any number of runs."""

    forks = True
    """On a CPU it works as well in a forked process: it holds tensors and starts no thread."""

    def __init__(self, task: ImageTask, site: Site) -> None:
        self.task = task
        self.kind = site.device
        self.device = torch.device(site.device)
        self.splits = open_splits(task.data, folder=site.data, cache=site.cache)
        for remark in self.splits.remarks:
            log.info("%s", remark)
        if task.joins_validation:
            self.splits = joined(self.splits)
        self.images = self._on_device(self.splits.images)
        self.labels = self.splits.labels.to(self.device)
        self.mean = self.splits.mean.to(self.device)
        self.std = self.splits.std.to(self.device)
        self.precision: Precision = (
            task.precision
            if task.precision != "auto"
            else site.precision or native_precision(self.kind)
        )
        # This model is tried on two images and asked for its shapes, and must not move the
        # caller's generator.
        with torch.random.fork_rng(devices=[]):
            model = load_factory(task.model)()
            self._try(model)
        # channels_last makes small_cnn 1.49 times as fast on a CPU (docs/log.md); a tensor that is
        # not 4-dimensional has no such format.
        convolves = any(isinstance(module, nn.Conv2d) for module in model.modules())
        self.memory_format = torch.channels_last if convolves else torch.contiguous_format
        self.shapes = {n: f"{tuple(p.shape)} {p.dtype}" for n, p in model.named_parameters()}
        self._epoch: tuple[tuple[int, int], Tensor] | None = None

    def facts(self) -> dict[str, str]:
        """Return what has to be the same in all runs of a study, and what was read."""
        remarks = self.splits.remarks
        return {
            "data checksum": self.splits.checksum,
            "precision": self.precision,
            "memory format": str(self.memory_format).removeprefix("torch."),
            "parameters": "; ".join(f"{name} {shape}" for name, shape in self.shapes.items()),
            **({"data read": _storable("; ".join(remarks))} if remarks else {}),
        }

    def about(self) -> dict[str, Any]:
        """Return what a reader of the final weights needs: classes, and how pixels are scaled."""
        return {
            "classes": list(self.splits.classes),
            "mean": self.splits.mean.tolist(),
            "std": self.splits.std.tolist(),
            "image_size": list(self.splits.images.shape[1:3]),
        }

    def _on_device(self, images: Tensor) -> Tensor:
        """All of them on the device as bytes, a quarter of their size as floats: no loader."""
        try:
            return images.to(self.device)
        except torch.OutOfMemoryError as error:
            raise DataError(
                f"the images take {images.nbytes / 2**30:.1f} GiB, more than is free on the "
                "device: take a smaller ImageFolder(size=...), or read them by batches in a "
                "training of your own"
            ) from error

    @torch.no_grad()
    def _try(self, model: nn.Module) -> None:
        """Raise TaskError where model and augmentation do not suit the images and classes."""
        images = self.images[self.splits.train[:2].to(self.device)]
        shape = tuple(images.permute(0, 3, 1, 2).shape)
        augment = self.task.augment
        if isinstance(augment, EachImage):
            try:
                transformed(images, augment, seed=0)
            except UserError:
                raise
            except Exception as error:
                raise TaskError(
                    f"augment does not take a uint8 image of {shape[1:]}: {_first_line(error)}; "
                    "what mixes several images, or their labels, is for a loop of your own"
                ) from error
        try:
            with self.autocast():
                outputs = model.to(self.device).eval()(self.normalised(images))
        except Exception as error:
            raise TaskError(
                f"the model does not take images of {shape}: {_first_line(error)}"
            ) from error
        n_classes = len(self.splits.classes)
        if not isinstance(outputs, Tensor) or outputs.ndim != 2:
            got = getattr(outputs, "shape", type(outputs).__name__)
            raise TaskError(f"the model must give (images, classes), got {got}")
        if outputs.shape[1] < n_classes:
            raise TaskError(
                f"the model gives {outputs.shape[1]} outputs, and the data has {n_classes} "
                f"classes: build it with {n_classes}"
            )
        if outputs.shape[1] > n_classes:
            log.info(
                "the model gives %d outputs for %d classes: the others are never a target",
                outputs.shape[1],
                n_classes,
            )

    def fit(self, run: Run) -> RunResult:
        """Train once under `run.plan` and score the result where the run asks for it."""
        with reproducible(run.seed, self.kind):
            return Fit(self, run).to_the_end()

    def batch(
        self, seed: int, step: int, *, batch_size: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the images (B, C, H, W) and labels (B,) of one step: a function of its arguments.

        Images are normalised floats; an epoch visits each image at most once. `batch_size`: the
        task's own where it is None.
        """
        size = self.task.batch_size if batch_size is None else batch_size
        epoch, position = divmod(step, len(self.splits.train) // size)
        index = self._order(seed, epoch)[position * size : (position + 1) * size]
        return self.normalised(self._augmented(index, seed, step)), self.labels[index]

    def _order(self, seed: int, epoch: int) -> Tensor:
        """Return the train images of one epoch in its order, (N,) on the device.

        Sent once an epoch, and kept for its steps: a permutation of 45,000 takes milliseconds, as
        does a step of `cifar-small` on an H200 (docs/log.md).
        """
        if self._epoch is None or self._epoch[0] != (seed, epoch):
            generator = _generator(seed, "order", epoch)
            order = torch.randperm(len(self.splits.train), generator=generator)
            self._epoch = (seed, epoch), sent(self.splits.train[order], self.device)
        return self._epoch[1]

    def _augmented(self, index: Tensor, seed: int, step: int) -> Tensor:
        augment = self.task.augment
        if isinstance(augment, Augment):
            generator = _generator(seed, "augment", step, device=self.device)
            return gather_augmented(self.images, index, augment, generator=generator)
        assert isinstance(augment, EachImage), "a task wraps any other transform"
        drawn = seed_for(seed, "augment", step)
        return transformed(self.images[index], augment, seed=drawn)

    def normalised(self, images: Tensor) -> Tensor:
        """Turn uint8 (B, H, W, C) into floats (B, C, H, W) of mean 0 and deviation 1."""
        return ((images - self.mean) / self.std).permute(0, 3, 1, 2)

    def loss(self, outputs: Tensor, labels: Tensor, task: ImageTask | None = None) -> Tensor:
        """Return the mean cross-entropy with a task's label smoothing, in fp32.

        `task`: as a run trains it; None: as it is outside of a search, so that validation losses
        of different runs compare.
        """
        smoothing = (task or self.task).label_smoothing
        # bf16 has 8 bits of precision, too few for a mean over a batch.
        return nn.functional.cross_entropy(outputs.float(), labels, label_smoothing=smoothing)

    def autocast(self) -> torch.autocast:
        """Return the precision of the forward pass as a context."""
        # bf16 has the exponents of fp32, so that no GradScaler is needed.
        return torch.autocast(self.kind, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    @torch.no_grad()
    def evaluate(self, model: nn.Module, split: Split) -> tuple[float, float]:
        """Return mean loss and accuracy of `model` on a whole split."""
        if split == "validation":
            images, labels, index = self.images, self.labels, self.splits.validation
        else:
            images, labels = self.splits.test_images, self.splits.test_labels
            index = torch.arange(len(labels))
        index = index.to(images.device)
        loss = torch.zeros((), device=self.device)
        correct = torch.zeros((), device=self.device)
        model.eval()
        for chosen in torch.split(index, _EVALUATION_BATCH):
            x = self.normalised(images[chosen].to(self.device))
            y = labels[chosen].to(self.device)
            with self.autocast():
                outputs = model(x)
            loss += self.loss(outputs, y) * len(chosen)
            correct += (outputs.argmax(1) == y).sum()
        model.train()
        return float(loss) / len(index), float(correct) / len(index)


@dataclass(slots=True)
class _Tally:
    """Sums over the training batches of one epoch; tensors stay on the device until read."""

    loss: Tensor
    correct: Tensor
    lr_first: float = 0.0
    lr_last: float = 0.0
    n_images: int = 0
    seconds: float = 0.0


class Fit:
    """The state of one run: everything that a checkpoint must hold."""

    def __init__(self, classifier: Classifier, run: Run) -> None:
        self.classifier, self.run = classifier, run
        self.task = classifier.task.under(run.params)
        self.model: nn.Module = load_factory(classifier.task.model)()
        self.model.to(device=classifier.device, memory_format=classifier.memory_format)
        self.optimizer: Optimizer = self.task.build_optimizer(self.model)
        self.scheduler: LRScheduler = run.plan.scheduler(self.optimizer)
        self.applied = Applied(self.optimizer)
        self.step = 0
        self.seconds = 0.0
        self.validation_accuracy = 0.0
        self.tally = self._fresh_tally()
        self.clock = time.perf_counter()
        # Last: a state is loaded into the objects made above.
        kept = run.load_on(self.classifier.kind)
        if kept is not None:
            self._restore(kept)

    def to_the_end(self) -> RunResult:
        """Train until the plan ends, training breaks or the run is asked to stop."""
        run, saved_at = self.run, time.monotonic()
        steps_per_epoch = self.task.steps_per_epoch
        while self.step < run.plan.total_steps and not run.should_stop():
            self._one_step()
            if self.step % steps_per_epoch == 0 or self.step == run.plan.total_steps:
                self._end_epoch()
            if time.monotonic() - saved_at > _SECONDS_BETWEEN_CHECKPOINTS:
                run.save(self._state())
                saved_at = time.monotonic()
        run.look()
        if run.diverged():
            return self._result("diverged")
        if self.step < run.plan.total_steps:
            run.save(self._state())
            return self._result("stopped")
        return self._result("completed")

    def _one_step(self) -> None:
        classifier, tally = self.classifier, self.tally
        images, labels = self._batch(self.step)
        # The forward pass only: backward takes the types that it used (torch's notes on autocast).
        with classifier.autocast():
            outputs = self.model(images)
        loss = classifier.loss(outputs, labels, self.task)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        # Only the steps of sweeps are stored; a cycle need not pay for the norm.
        norm = gradient_norm(self.model.parameters()) if self.run.split is None else None
        self.optimizer.step()
        # What the optimizer used, by a hook: the scheduler's word for it would prove nothing.
        lrs = [kept[-1] for kept in self.applied.lrs]
        momentum = self.applied.momenta[-1]
        self.run.report(self.step, loss.detach(), lrs=lrs, grad_norm=norm, momentum=momentum)
        self.step += 1
        if self.step < self.run.plan.total_steps:
            # Not after the last step: OneCycleLR takes one more, and the rate rises again
            # (https://github.com/pytorch/pytorch/issues/91765).
            self.scheduler.step()
        tally.lr_first = tally.lr_first if tally.n_images else lrs[0]
        tally.lr_last = lrs[0]
        tally.loss += loss.detach() * len(labels)
        tally.correct += (outputs.detach().argmax(1) == labels).sum()
        tally.n_images += len(labels)

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        size = self.task.batch_size
        return self.classifier.batch(self.run.seed, step, batch_size=size)

    def _end_epoch(self) -> None:
        """Evaluate and record the epoch of a judged run; a sweep has steps only.

        A validation loss that is not finite is the divergence that the next loss would show.
        """
        self._read_clock()
        # Read before the evaluation, so that images per second are those of training alone.
        tally, training_s = self.tally, self.tally.seconds
        self.run.look()
        if self.run.split is not None and not self.run.diverged():
            loss, self.validation_accuracy = self.classifier.evaluate(self.model, self.run.split)
            self._read_clock()
            if not math.isfinite(loss):
                self.run.diverged_at = self.run.points[-1]
                return
            row = EpochRow(
                epoch=math.ceil(self.step / self.task.steps_per_epoch),
                lr_first=tally.lr_first,
                lr_last=tally.lr_last,
                train_loss=float(tally.loss) / tally.n_images,
                train_accuracy=float(tally.correct) / tally.n_images,
                validation_loss=loss,
                validation_accuracy=self.validation_accuracy,
                seconds=tally.seconds,
                images_per_s=tally.n_images / training_s,
            )
            self.run.epoch(row)
        self.tally = self._fresh_tally()

    def _result(self, outcome: Outcome) -> RunResult:
        run, sealed = self.run, None
        if outcome == "completed" and run.sealed_split is not None:
            _, sealed = self.classifier.evaluate(self.model, run.sealed_split)
        self._read_clock()
        judged = outcome == "completed" and run.split is not None
        if judged:
            run.trained(self._save_weights)
        return RunResult(
            score=self.validation_accuracy if judged else None,
            outcome=outcome,
            n_steps=self.step,
            n_images=self.step * self.task.batch_size,
            seconds=self.seconds,
            sealed_score=sealed,
        )

    def _save_weights(self, path: Path) -> None:
        """Write the model's state_dict, on the CPU and in torch's own memory format."""
        weights = self.model.state_dict()
        torch.save({name: value.cpu().contiguous() for name, value in weights.items()}, path)

    def _read_clock(self) -> None:
        """Add the time since the last reading to the epoch and to the run."""
        synchronize(self.classifier.kind)
        now = time.perf_counter()
        self.tally.seconds += now - self.clock
        self.seconds += now - self.clock
        self.clock = now

    def _fresh_tally(self) -> _Tally:
        device = self.classifier.device
        return _Tally(torch.zeros((), device=device), torch.zeros((), device=device))

    def _state(self) -> dict[str, Any]:
        self._read_clock()
        return {
            "device": self.classifier.kind,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "generators": self._generators(),
            "tally": asdict(self.tally),
            "step": self.step,
            "seconds": self.seconds,
            "validation_accuracy": self.validation_accuracy,
        }

    def _generators(self) -> dict[str, Tensor]:
        """Return the states of the CPU's generator and, on another device, of that one's too."""
        states = {"cpu": torch.get_rng_state()}
        if self.classifier.kind != "cpu":
            module = torch.get_device_module(self.classifier.device)
            states[self.classifier.kind] = module.get_rng_state()
        return states

    def _restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        # Both are needed: OneCycleLR keeps max_lr and initial_lr in the optimizer's groups, and
        # only its count of steps in its own state.
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        device, generators = self.classifier.device, state["generators"]
        torch.set_rng_state(generators.pop("cpu"))
        for kind, generator in generators.items():
            torch.get_device_module(kind).set_rng_state(generator)
        sums = {name: state["tally"].pop(name).to(device) for name in ("loss", "correct")}
        self.tally = _Tally(**sums, **state["tally"])
        self.step = state["step"]
        self.seconds = state["seconds"]
        self.validation_accuracy = state["validation_accuracy"]


def _first_line(error: BaseException) -> str:
    """Return the first line of an error with its type; torch's may have many."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _storable(text: str) -> str:
    """Return text that a database takes: names of files may hold bytes that are no text."""
    return text.encode("utf-8", "replace").decode().replace("\0", "")


def _generator(
    seed: int, purpose: str, number: int, *, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Return a generator for one purpose within one run."""
    return torch.Generator(device).manual_seed(seed_for(seed, purpose, number))
