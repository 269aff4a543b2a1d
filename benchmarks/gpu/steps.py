"""The training step of `cifar` in several forms, and how fast each is."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from benchmarks.gpu.setting import SEED
from trainers.device import synchronize
from trainers.factories import load_factory
from trainers.loop import Fit
from trainers.onecycle import OneCycle
from trainers.run import Run
from trainers.task import SGD, decay_groups

if TYPE_CHECKING:
    from trainers.loop import Classifier

# torch.cuda.graphs: work on a side stream before a capture, "e.g. 3 iterations"; and compiled code
# is built in the first two steps, for momentum has no buffers in the first.
_WARM_STEPS = 5
# Never reached: a clock ends these runs.
_ENDLESS_EPOCHS = 10_000


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Images per second of each round of an epoch's steps, without evaluation; `overall`: images
    by time with evaluation, where there is one. `warm_up_s` came before and does not count.
    """

    rounds: list[float]
    overall: float | None
    warm_up_s: float

    def facts(self) -> dict[str, Any]:
        """Return what is kept of it."""
        rounds = self.rounds
        return {
            "images_per_s": round(statistics.median(rounds)),
            "slowest": round(min(rounds)),
            "fastest": round(max(rounds)),
            "rounds": len(rounds),
            "overall_images_per_s": None if self.overall is None else round(self.overall),
            "warm_up_s": round(self.warm_up_s, 2),
        }


def plan_of(classifier: "Classifier", epochs: int = _ENDLESS_EPOCHS) -> OneCycle:
    """Return a cycle of so many epochs."""
    return OneCycle(max_lr=0.1, total_steps=epochs * classifier.task.steps_per_epoch)


@contextmanager
def autotuned() -> Iterator[None]:
    """Let cuDNN choose convolutions by their time, and by nothing else."""
    with torch.backends.cudnn.flags(enabled=True, deterministic=False, benchmark=True):
        yield


def ours(
    classifier: "Classifier", seconds: float, go: Callable[[], None], *, tuned: bool = False
) -> Speed:
    """Measure the product's own loop, evaluation after each epoch included.

    `go` is called between warm-up and clock.
    """

    def fitted(run: Run) -> int:
        if not tuned:
            return classifier.fit(run).n_images
        torch.manual_seed(SEED)
        with autotuned():
            return Fit(classifier, run).to_the_end().n_images

    started = time.perf_counter()
    plan = plan_of(classifier)
    first = Run(plan=plan, seed=SEED, stop_asked=lambda: bool(first.epochs))
    fitted(first)
    warm_up_s = time.perf_counter() - started
    go()
    begin = time.perf_counter()
    run = Run(
        plan=plan,
        seed=SEED,
        stop_asked=lambda: bool(run.epochs) and time.perf_counter() - begin > seconds,
    )
    n_images = fitted(run)
    overall = n_images / (time.perf_counter() - begin)
    rounds = [row.images_per_s for row in run.epochs]
    return Speed(rounds=rounds, overall=overall, warm_up_s=warm_up_s)


class Step:
    """One optimizer step on a batch of the product's, its rate in a tensor on the device.

    `compiled`: by torch.compile, in one of its modes.
    """

    def __init__(self, classifier: "Classifier", *, compiled: str | None = None) -> None:
        self.classifier = classifier
        optimizer = classifier.task.optimizer
        assert isinstance(optimizer, SGD)
        self.model: nn.Module = load_factory(classifier.task.model)()
        self.model.to(device=classifier.device, memory_format=classifier.memory_format)
        self.rate = torch.tensor(0.0, device=classifier.device)
        self.optimizer = torch.optim.SGD(
            decay_groups(self.model, optimizer.weight_decay),
            lr=self.rate,
            momentum=optimizer.momentum,
            nesterov=optimizer.nesterov,
            # The other forms read a rate that is a tensor back to the host, unless compiled.
            fused=compiled is None,
        )
        self._is_compiled = compiled is not None
        self._loss = self.loss if compiled is None else torch.compile(self.loss, mode=compiled)
        self._move: Callable[[], Any] = self.optimizer.step
        if self._is_compiled:
            self._move = torch.compile(self.optimizer.step, mode=compiled)

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of a batch."""
        with self.classifier.autocast():
            outputs = self.model(images)
        return self.classifier.loss(outputs, labels)

    def update(self, images: Tensor, labels: Tensor) -> None:
        """Train on a batch."""
        if self._is_compiled:
            # What an earlier step left in the memory of a graph is not needed any more.
            torch.compiler.cudagraph_mark_step_begin()
        self.optimizer.zero_grad(set_to_none=True)
        self._loss(images, labels).backward()  # type: ignore[no-untyped-call]
        self._move()

    def __call__(self, number: int, rate: float) -> None:
        """Take step `number` of a run at a rate."""
        images, labels = self.classifier.batch(SEED, number)
        self.rate.fill_(rate)
        self.update(images, labels)


class GraphedStep(Step):
    """The same as a CUDA graph: one launch in place of hundreds."""

    def __init__(self, classifier: "Classifier") -> None:
        super().__init__(classifier)
        self.images, self.labels = (part.clone() for part in classifier.batch(SEED, 0))
        # As torch's notes on CUDA semantics capture a whole step, "Whole-network capture".
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_STEPS):
                self.update(self.images, self.labels)
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(self.graph):
            self.loss(self.images, self.labels).backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()

    def __call__(self, number: int, rate: float) -> None:
        """Take step `number` of a run at a rate."""
        images, labels = self.classifier.batch(SEED, number)
        self.images.copy_(images)
        self.labels.copy_(labels)
        self.rate.fill_(rate)
        self.graph.replay()


def timed(
    classifier: "Classifier", make: Callable[[], Step], seconds: float, go: Callable[[], None]
) -> Speed:
    """Measure a step, in rounds of an epoch."""
    kind, n_steps = classifier.kind, classifier.task.steps_per_epoch
    started, rates = time.perf_counter(), plan_of(classifier, 10).lrs()
    step = make()
    for number in range(_WARM_STEPS):
        step(number, rates[number])
    synchronize(kind)
    warm_up_s = time.perf_counter() - started
    go()
    rounds, number, begin = list[float](), 0, time.perf_counter()
    while not rounds or time.perf_counter() - begin < seconds:
        round_began = time.perf_counter()
        for _ in range(n_steps):
            step(number, rates[number % len(rates)])
            number += 1
        synchronize(kind)
        taken = time.perf_counter() - round_began
        rounds.append(n_steps * classifier.task.batch_size / taken)
    return Speed(rounds=rounds, overall=None, warm_up_s=warm_up_s)
