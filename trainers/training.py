"""Anybody's training: a model, data, optimizer, loss and score, each as a function."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from trainers.device import Site
from trainers.factories import Factory, check_taken, defaults_of, plain_defaults
from trainers.run import Trainer
from trainers.scored import Scored, named
from trainers.splits import Joined, Splits

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
_OURS = (
    *("dataset", "batch_size", "shuffle", "sampler", "batch_sampler", "drop_last", "generator"),
)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Training:
    """Trains any PyTorch model by our loop: seeds, device, precision, checkpoints, audit.

    Each part is a function: `model()`, `optimizer(model)`, `loss(model, batch)` with the mean loss
    of a batch, `score(model, loader)`, or a name of trainers.scored. `data` is a dict of "train",
    "validation" and, for the last comparison, "test", or a function data(split) that returns one
    of them (None for a test split that there is not): a Dataset, an IterableDataset or a
    DataLoader. Whatever else a function has in its signature, with a default, is a parameter that
    a study may search; the default is the baseline's.

    A data set is shuffled and read in batches of `batch_size` samples, with `loader` as further
    options of its DataLoader. A DataLoader is read as it is, and says its own size.
    `steps_per_epoch` is needed only for data without a length. `accumulate` batches of
    batch_size / accumulate samples make one step, for memory.

    `metric` and `direction` say what a score of one's own is.
    """

    model: "Callable[..., nn.Module]"
    optimizer: "Callable[..., Optimizer]"
    data: Any
    loss: "Callable[..., Tensor]"
    score: "str | Callable[..., float]"
    # Read from the data where they are not given.
    batch_size: int = None  # type: ignore[assignment]
    steps_per_epoch: int = None  # type: ignore[assignment]
    metric: str | None = None
    direction: Literal["maximize", "minimize"] | None = None
    loader: Mapping[str, Any] = field(default_factory=dict)
    accumulate: int = 1
    clip_norm: float | None = None
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"

    takes_any: ClassVar[bool] = True  # check_searched() says what it does not take

    def __post_init__(self) -> None:
        _check_functions(self)
        _check_numbers(self)
        splits = self.data if isinstance(self.data, Splits) else Splits(self.data)
        object.__setattr__(self, "data", splits)
        self._check_defaults()
        _ = self.scored
        for name, value in _sizes(self).items():
            object.__setattr__(self, name, value)

    def factories(self) -> tuple[Factory, ...]:
        """Return the author's functions, with the parameters that they take."""
        own = () if isinstance(self.score, str) else (self.score,)
        return (
            Factory.of("model", self.model),
            Factory.of("optimizer", self.optimizer, "model"),
            *(() if self.data.factory is None else (self.data.factory,)),
            Factory.of("loss", self.loss, "model", "batch"),
            *(Factory.of("score", each, "model", "loader") for each in own),
        )

    @property
    def defaults(self) -> dict[str, Any]:
        """The parameters that the functions name, each with its default."""
        return defaults_of(self.factories())

    def _check_defaults(self) -> None:
        known: dict[str, tuple[Factory, Any]] = {}
        for factory in self.factories():
            for name, value in factory.defaults.items():
                other, before = known.setdefault(name, (factory, value))
                if name != "batch_size" and (type(before), before) != (type(value), value):
                    raise ValueError(
                        f"{name} has two defaults, {before!r} in {other.role} and {value!r} in "
                        f"{factory.role}; the baseline has one: write the same"
                    )

    @property
    def scored(self) -> Scored:
        """The metric, its direction, and what a broken cycle is worth."""
        if isinstance(self.score, str):
            scored = named(self.score)
            for name in ("metric", "direction"):
                if getattr(self, name) not in (None, getattr(scored, name)):
                    raise ValueError(
                        f"{name} must be {getattr(scored, name)!r} with score={self.score!r}, got "
                        f"{getattr(self, name)!r}"
                    )
            return scored
        if self.direction not in ("maximize", "minimize"):
            raise ValueError(
                "direction must be 'maximize' or 'minimize' with a score of your own, got "
                f"{self.direction!r}"
            )
        name = getattr(self.score, "__name__", type(self.score).__name__)
        return Scored(self.metric or ("score" if name == "<lambda>" else name), self.direction)

    @property
    def adaptive(self) -> bool:
        """Whether the optimizer's step does not grow with the gradient."""
        return _adaptive(self)

    @property
    def weight_decay(self) -> float | None:
        """The default of a parameter `weight_decay`, None where no function names one."""
        decay = self.defaults.get("weight_decay")
        return decay if isinstance(decay, (int, float)) else None

    def own_values(self) -> Mapping[str, float | int | str | bool]:
        """Return what it trains with outside of a search: the defaults, and the batch size."""
        return {**plain_defaults(self.factories()), "batch_size": self.batch_size}

    def check_searched(self, names: "tuple[str, ...]") -> None:
        """Raise ValueError for a searched parameter that no function takes."""
        check_taken(self.factories(), names)

    def at(self, *, batch_size: int | None = None) -> "Training":
        """Return the same training with another batch size; None leaves its own."""
        if batch_size in (None, self.batch_size):
            return self
        assert batch_size is not None
        return _at(self, batch_size)

    def with_validation(self) -> "Training":
        """Return the same trained on train and validation together; an epoch has more steps.

        Raises TaskError where these are no map-style data sets.
        """
        both = Joined(self.data)
        # None: read from the data again.
        return replace(self, data=both, steps_per_epoch=None)  # type: ignore[arg-type]

    def trainer(self, site: Site) -> Trainer:
        """Return our loop on this training."""
        from trainers.training_loop import TrainingLoop

        return TrainingLoop(self, site)


def _sizes(training: Training) -> dict[str, int]:
    from trainers.training_parts import sizes

    return sizes(training)


# Asked for at every count of steps; each may have to make the data.
@lru_cache(maxsize=64)
def _at(training: Training, batch_size: int) -> Training:
    from trainers.training_parts import steps_at

    steps: Any = steps_at(training, batch_size)
    return replace(training, batch_size=batch_size, steps_per_epoch=steps)


@lru_cache(maxsize=8)
def _adaptive(training: Training) -> bool:
    from trainers.groups import is_adaptive
    from trainers.training_parts import built_apart

    return is_adaptive(built_apart(training, training.own_values())[1])


def _check_numbers(training: Training) -> None:
    for name in ("batch_size", "steps_per_epoch", "accumulate"):
        value = getattr(training, name)
        if value is not None and (type(value) is not int or value < 1):
            raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
    norm = training.clip_norm
    if norm is not None and (isinstance(norm, bool) or not 0 < norm < float("inf")):
        raise ValueError(f"clip_norm must be a number above 0, got {norm!r}")
    if training.precision not in PRECISIONS:
        raise ValueError(
            f"precision must be {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}, "
            f"got {training.precision!r}"
        )
    ours = [name for name in training.loader if name in _OURS]
    if ours:
        raise ValueError(
            f"loader holds further options of a DataLoader, such as num_workers; {ours[0]} is the "
            "training's own: for a loader of your own, give it in data"
        )


def _check_functions(training: Training) -> None:
    """Raise ValueError, saying what to write, for a part that is no such function."""
    forms = {
        "model": "model=lambda: Net()",
        "optimizer": "optimizer=lambda model: torch.optim.AdamW(model.parameters())",
        "loss": "loss=lambda model, batch: F.cross_entropy(model(batch[0]), batch[1])",
        "score": "a function score(model, loader), or score='accuracy'",
    }
    for name, form in forms.items():
        given = getattr(training, name)
        if name == "score" and isinstance(given, str):
            continue
        if not callable(given) or _is_object(name, given):
            shown = getattr(given, "__name__", None) or type(given).__name__
            shown = repr(given) if isinstance(given, str) else shown
            raise ValueError(
                f"{name} must be a function, called for each run; got {shown}: write {form}"
            )


def _is_object(name: str, given: Any) -> bool:
    """Whether a part is an object, or a class of torch's, where a function of ours is meant."""
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    inner = getattr(given, "func", given)  # of a functools.partial
    if name == "optimizer":
        is_class = isinstance(inner, type) and issubclass(inner, torch.optim.Optimizer)
        return is_class or isinstance(given, torch.optim.Optimizer)
    if isinstance(given, torch.nn.Module):
        # A loss that is a module of its author's may take (model, batch).
        return name == "model" or type(given).__module__.startswith(("torch.", "torchmetrics."))
    return name == "loss" and getattr(inner, "__module__", None) == "torch.nn.functional"
