"""One family of tasks: its net, data and optimizer as plain values, and the study they make."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from studies.definition import Confirmation, RangeTest, Screening, Study

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

OptimizerName = Literal["sgd", "nesterov", "adam", "adamw", "rmsprop"]
ADAPTIVE = ("adam", "adamw", "rmsprop")
Kind = Literal["images", "table", "text", "sequences"]

_SCORED_AT_ONCE = 1_000  # samples; a score does not depend on it


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """A task small enough to be trained thousands of times: a cycle takes about half a second.

    `net` and `data` name a function of `nets` and of a data module; families that name the same
    share it. `shape` is what the net is made with. `n_classes`: None for a regression, whose
    score is R^2. A cycle of `n_steps` steps is one epoch of its study: it is scored once.
    """

    name: str
    kind: Kind
    net: str
    data: str
    optimizer: OptimizerName
    batch_size: int
    n_steps: int
    n_classes: int | None
    shape: tuple[int, ...] = ()
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    clip_norm: float | None = None

    @property
    def diverged_value(self) -> float:
        """What a broken cycle is worth: a guess among the classes, or the mean of the targets."""
        return 0.0 if self.n_classes is None else 1 / self.n_classes

    @property
    def adaptive(self) -> bool:
        """Whether the optimizer's step does not grow with the gradient."""
        return self.optimizer in ADAPTIVE

    def study(self, folder: Path | None = None) -> Study:
        """Return the family as a study of the product; `folder` holds CIFAR-10 as an ImageFolder.

        Reads or makes the data. Raises DataError where CIFAR-10 is needed and not there.
        """
        return _study(self, folder)


@cache
def _study(family: Family, folder: Path | None) -> Study:
    from trainers.training import Training

    score = {"score": "accuracy"} if family.n_classes else {"score": r2, "direction": "maximize"}
    training: Any = Training(
        model=_model_of(family),
        optimizer=_optimizer_of(family),
        data=_splits(family, folder),
        loss=_loss_of(family),
        batch_size=family.batch_size,
        steps_per_epoch=family.n_steps,
        loader={"collate_fn": _as_it_is},
        clip_norm=family.clip_norm,
        **score,
    )
    return Study(
        name=family.name,
        task=training,
        epochs=1,
        screening=Screening(n_trials=24),
        range_test=RangeTest(),
        confirmation=Confirmation(),
        diverged_value=family.diverged_value,
    )


class Rows:
    """Inputs and targets as two tensors; a batch is taken out of both at once."""

    def __init__(self, inputs: "Tensor", targets: "Tensor") -> None:
        self.inputs, self.targets = inputs, targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> "tuple[Tensor, Tensor]":
        return self.inputs[index], self.targets[index]

    def __getitems__(self, indices: list[int]) -> "tuple[Tensor, Tensor]":
        import torch

        chosen = torch.tensor(indices)
        return self.inputs.index_select(0, chosen), self.targets.index_select(0, chosen)


def _as_it_is(batch: Any) -> Any:
    return batch


def _splits(family: Family, folder: Path | None) -> dict[str, Any]:
    from torch.utils.data import DataLoader

    from benchmarks.families.data import made

    train, validation, test = (Rows(*split) for split in made(family.data, folder))
    judged = {"validation": validation, "test": test}
    return {
        "train": train,
        **{
            name: DataLoader(rows, batch_size=_SCORED_AT_ONCE, collate_fn=_as_it_is)  # type: ignore[arg-type]
            for name, rows in judged.items()
        },
    }


def _model_of(family: Family) -> "Callable[[], nn.Module]":
    def model() -> "nn.Module":
        from benchmarks.families.nets import NETS

        return NETS[family.net](*family.shape)

    return model


def _optimizer_of(family: Family) -> "Callable[[nn.Module], Optimizer]":
    def optimizer(model: "nn.Module") -> "Optimizer":
        from torch import optim

        weights, decay = model.parameters(), family.weight_decay
        # The rate is the plan's; fused: the steps of a small net are mostly overhead.
        if family.optimizer in ("sgd", "nesterov"):
            nesterov = family.optimizer == "nesterov"
            return optim.SGD(
                weights, lr=0.1, momentum=0.9, nesterov=nesterov, weight_decay=decay, fused=True
            )
        if family.optimizer == "rmsprop":
            return optim.RMSprop(weights, lr=1e-3, momentum=0.9, weight_decay=decay)
        kind = {"adam": optim.Adam, "adamw": optim.AdamW}[family.optimizer]
        return kind(weights, lr=1e-3, weight_decay=decay, fused=True)

    return optimizer


def _loss_of(family: Family) -> "Callable[[nn.Module, Any], Tensor]":
    def loss(model: "nn.Module", batch: Any) -> "Tensor":
        from torch.nn import functional

        outputs = model(batch[0])
        if family.n_classes is None:
            return functional.mse_loss(outputs.flatten(), batch[1])
        return functional.cross_entropy(outputs, batch[1], label_smoothing=family.label_smoothing)

    return loss


def r2(model: "nn.Module", loader: Iterable[Any]) -> float:
    """Return the share of the targets' variance that the model explains, 0 where it is less."""
    import torch

    pairs = [(model(inputs).flatten(), targets) for inputs, targets in loader]
    outputs, targets = (torch.cat(each).double() for each in zip(*pairs, strict=True))
    errors = (outputs - targets).square().mean()
    share = float(1 - errors / targets.var(correction=0))
    return share if share > 0 else 0.0  # NaN too
