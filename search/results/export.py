"""The answer of a study as code that runs as pasted: torch, Lightning, Transformers, JSON."""

import json
from textwrap import indent
from typing import TYPE_CHECKING, Literal, Protocol

from search.text import printable
from studies.format import STUDY_FORMAT, product_version, written_by
from studies.params import Value

if TYPE_CHECKING:
    from search.params import Params
    from search.results.first import FirstChoice
    from search.results.result import StudyResult
    from trainers.groups import Driven
    from trainers.onecycle import OneCycle


class Cycle(Protocol):
    """One configuration's cycle, and the loader that it was found with."""

    @property
    def plan(self) -> "OneCycle": ...

    @property
    def driven(self) -> "Driven | None": ...

    @property
    def epochs(self) -> int: ...

    @property
    def steps_per_epoch(self) -> int: ...

    @property
    def batch_size(self) -> int: ...

    @property
    def trained_on(self) -> str: ...


Format = Literal["torch", "lightning", "transformers", "json"]


def exported(result: "StudyResult", form: Format) -> str:
    """Return the answer's cycle as the text of a file."""
    if form == "json":
        return json.dumps(document(result), indent=2) + "\n"
    return _source(result, form, head=_head(result))


def exported_first(first: "FirstChoice", form: Format) -> str:
    """Return the first choice of a range test alone as the text of a file."""
    if form == "json":
        return json.dumps({**_versions(), **first.as_json()}, indent=2) + "\n"
    told = "".join(f", {name}={value!r}" for name, value in _told(first.params).items())
    lines = [
        f"Study {printable(first.name)}: the first choice, unconfirmed: no cycle was trained.",
        f"Meant for {first.epochs} epochs of {first.steps_per_epoch} steps with batches of "
        f"{first.batch_size}{told}.",
        *optimizer_lines(first),
    ]
    return _source(first, form, head="\n".join(f"# {line}" for line in lines))


def _source(cycle: Cycle, form: Format, *, head: str) -> str:
    body = {"torch": _TORCH, "lightning": _LIGHTNING, "transformers": _TRANSFORMERS}[form]
    head = f"{head}\n# Written by {written_by()}."
    return body.format(head=head, arguments=_arguments(cycle), steps=_steps(cycle))


def _versions() -> dict[str, object]:
    return {"onecycle_search": product_version(), "study_format": STUDY_FORMAT}


def document(result: "StudyResult") -> dict[str, object]:
    """Return the answer's cycle in torch's names, with what it rests on."""
    document: dict[str, object] = {
        **_versions(),
        "study": result.name,
        "onecycle_lr": result.as_json()["onecycle_lr"],
        "epochs": result.epochs,
        "steps_per_epoch": result.steps_per_epoch,
        "batch_size": result.batch_size,
        "recommended": result.recommended.slot,
        "n_seeds": result.recommended.validation.n,
        "verdict": result.verdict(),
    }
    return document | _training(result)


def _head(result: "StudyResult") -> str:
    from search.results.verdict import short_verdict  # reads tables, which --help need not

    answer, metric = result.recommended, result.metric
    n = answer.validation.n
    told = "".join(f", {name}={value!r}" for name, value in _training(result).items())
    optimizer = "".join(f"\n# {line}" for line in optimizer_lines(result))
    return (
        f"# Study {printable(result.name)}, n = {n} fresh seeds: "
        f"{printable(metric.title)} "
        f"{metric.interval(answer.scores)} (validation).\n"
        f"# Measured at {result.epochs} epochs of {result.steps_per_epoch} steps with batches of "
        f"{result.batch_size}{told}.{optimizer}{_baseline(result)}\n"
        f"# {short_verdict(result)}"
    )


def _baseline(result: "StudyResult") -> str:
    """Return a line that says whose the baseline's max_lr is, where no range test proposed it."""
    if result.proposal.origin == "edge":
        return ""
    # Here, for the help of `export` must not wait for numpy.
    from trainers.sweeps.result import baseline_text

    return f"\n# The baseline is torch's default 1cycle at {baseline_text(result.proposal)}."


def optimizer_lines(result: Cycle) -> list[str]:
    """Return what a call has to respect of the optimizer that was searched with, in sentences."""
    driven, plan, lines = result.driven, result.plan, list[str]()
    if driven is None:
        return lines
    if set(driven.lr_ratios) != {1.0}:
        ratios = " : ".join(f"{ratio:.4g}" for ratio in driven.lr_ratios)
        lines.append(f"The param groups keep the ratio of their rates ({ratios} in the search).")
    if driven.has_momentum is False:
        lines.append(f"{driven.name} has no momentum to cycle: cycle_momentum=False.")
    elif not plan.cycle_momentum:
        lines.append("The cycle leaves the momentum at the optimizer's own.")
    return lines


def _training(result: "StudyResult") -> dict[str, Value]:
    """Return what the answer has beside the cycle and the batch size."""
    return _told(result.recommended.params)


def _told(params: "Params") -> dict[str, Value]:
    told = params.of_the_task()
    return {name: value for name, value in told.items() if name != "batch_size"}


def _steps(result: Cycle) -> str:
    return f"{result.plan.total_steps} here: {result.epochs} epochs x {result.steps_per_epoch}"


def _arguments(result: Cycle) -> str:
    """Return the arguments that are the configuration's, in full precision, one a line."""
    arguments = result.plan.arguments(driven=result.driven)
    return indent("".join(f"{name}={value},\n" for name, value in arguments.items()), " " * 8)


_TORCH = '''\
{head}
from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR


def onecycle(optimizer: Optimizer, total_steps: int) -> OneCycleLR:
    """Call .step() once after every optimizer.step().

    total_steps counts optimizer steps: epochs * len(train_loader) ({steps}).
    """
    return OneCycleLR(
        optimizer,
        total_steps=total_steps,
{arguments}    )
'''

_LIGHTNING = '''\
{head}
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR


def onecycle(optimizer: Optimizer, total_steps: int) -> dict[str, Any]:
    """Return what LightningModule.configure_optimizers must return:

        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=1.0, momentum=0.9)
            return onecycle(optimizer, int(self.trainer.estimated_stepping_batches))

    total_steps counts optimizer steps ({steps}).
    """
    scheduler = OneCycleLR(
        optimizer,
        total_steps=total_steps,
{arguments}    )
    # "step": Lightning's default steps the scheduler once an epoch
    return {{
        "optimizer": optimizer,
        "lr_scheduler": {{"scheduler": scheduler, "interval": "step"}},
    }}
'''

_TRANSFORMERS = '''\
{head}
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR
from transformers import Trainer


def onecycle(optimizer: Optimizer, total_steps: int) -> OneCycleLR:
    """total_steps counts optimizer steps ({steps})."""
    return OneCycleLR(
        optimizer,
        total_steps=total_steps,
{arguments}    )


class OneCycleTrainer(Trainer):
    """transformers.Trainer whose rate follows the cycle; it counts the steps itself.

    learning_rate, lr_scheduler_type and warm-up of TrainingArguments are not used.
    """

    def create_scheduler(
        self, num_training_steps: int, optimizer: Optimizer | None = None
    ) -> Any:
        """Make the scheduler, once."""
        if self.lr_scheduler is None:
            self.lr_scheduler = onecycle(optimizer or self.optimizer, num_training_steps)
            self._created_lr_scheduler = True
        return self.lr_scheduler
'''
