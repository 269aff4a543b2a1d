"""The flags that say what is studied: --study, or without a file a model; --set changes either."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

from search.commands.completing import complete_definitions
from search.commands.layout import WHAT, WITHOUT_FILE

if TYPE_CHECKING:
    from studies.registry import Definition

Returned = TypeVar("Returned")


def _option(*names: str, help: str, panel: str = WITHOUT_FILE, **more: Any) -> Any:
    return typer.Option(*names, help=help, show_default=False, rich_help_panel=panel, **more)


@dataclass(frozen=True, kw_only=True, slots=True)
class What:
    """Which study is asked for, as the command line says it."""

    study: Annotated[
        str | None,
        _option(
            "--study",
            help="The study: digits, cifar-small, cifar, or the path of your own study file; "
            "without one, --data and --model.",
            panel=WHAT,
            autocompletion=complete_definitions,
        ),
    ] = None
    model: Annotated[
        str | None,
        _option(
            "--model",
            help="The model of a study without a file: MODULE:NAME or FILE.py:NAME; its classes "
            "are filled in from --data.",
        ),
    ] = None
    model_arg: Annotated[
        list[str] | None,
        _option("--model-arg", help="An argument of the model, as in width=64; may be repeated."),
    ] = None
    size: Annotated[
        int | None,
        _option("--size", help="Pixels of a side. Default: that of most images, at most 224."),
    ] = None
    channels: Annotated[
        int | None,
        _option(
            "--channels",
            help="Channels of the images: 1 for grey, 3 for colour. Default: as they are.",
        ),
    ] = None
    stem: Annotated[
        str | None,
        _option(
            "--stem",
            help="The first layers: own leaves the model's; small makes a 7x7 convolution and its "
            "pooling 3x3 without one. Default: small below 64 pixels.",
        ),
    ] = None
    epochs: Annotated[
        int | None, _option("--epochs", help="Epochs of each training. Default: 10.")
    ] = None
    batch_size: Annotated[
        int | None,
        _option("--batch-size", help="Images of a step. Default: 128, less for a small folder."),
    ] = None
    optimizer: Annotated[
        str | None,
        _option(
            "--optimizer",
            help="A name of torch.optim, as in adamw, with torch's own defaults. Default: sgd, "
            "with Nesterov's momentum and weight decay 0.0005.",
        ),
    ] = None
    optimizer_arg: Annotated[
        list[str] | None,
        _option(
            "--optimizer-arg",
            help="An argument of the optimizer, as in eps=1e-6; may be repeated.",
        ),
    ] = None
    weight_decay: Annotated[
        float | None, _option("--weight-decay", help="Of matrices. Default: the optimizer's.")
    ] = None
    momentum: Annotated[
        float | None,
        _option("--momentum", help="Hold it (Adam: beta1) here. Default: the cycle moves it."),
    ] = None
    label_smoothing: Annotated[
        float | None, _option("--label-smoothing", help="From 0 to below 1. Default: 0.")
    ] = None
    crop: Annotated[
        int | None, _option("--crop", help="Shift train images by so many pixels. Default: 0.")
    ] = None
    flip: Annotated[bool, _option("--flip", help="Mirror half of the train images.")] = False
    precision: Annotated[
        str | None,
        _option("--precision", help="The precision: auto, fp32 or bf16. Default: auto."),
    ] = None
    settings: Annotated[
        list[str] | None,
        _option(
            "--set",
            help="One field of the study, as in epochs=20, batch_size=256, n_trials=12 or "
            "space.max_lr=(0.01,0.1); may be repeated.",
            panel=WHAT,
        ),
    ] = None

    def definition(self, data: Path | None) -> "Definition":
        """Return the study asked for; raise UserError for one that is not to be had."""
        from search.errors import UsageError
        from search.starting.asked import definition_of
        from search.starting.without_file import Wanted, definition_without_file
        from studies.flags import setting
        from studies.registry import with_set

        given: dict[str, Any] = {name: getattr(self, name) for name in Wanted.__slots__}
        wanted = Wanted(**given)
        settings = dict(setting(text, "--set") for text in self.settings or ())
        if self.study is None:
            definition = definition_without_file(wanted, data)
        elif wanted.said():
            flag = wanted.said()[0]
            raise UsageError(
                f"--study {self.study} {flag}: {flag} is for a study without a file; leave one "
                "of the two out, or change a field of the study: --set epochs=20"
            )
        else:
            definition = definition_of(self.study)
        return with_set(definition, settings)


def asks_what(command: Callable[..., Returned]) -> Callable[..., Returned]:
    """Give a command whose first parameter is a `What` its flags in place of it."""
    hints = get_type_hints(What, include_extras=True)
    kind = inspect.Parameter.KEYWORD_ONLY
    own = [
        inspect.Parameter(each.name, kind, default=each.default, annotation=hints[each.name])
        for each in fields(What)
    ]
    _, *others = inspect.signature(command, eval_str=True).parameters.values()
    rest = [each.replace(kind=kind) for each in others]

    @functools.wraps(command)
    def asked(**given: Any) -> Returned:
        what = What(**{each.name: given.pop(each.name) for each in own})
        return command(what, **given)

    parameters = [*own, *rest]
    asked.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    asked.__annotations__ = {each.name: each.annotation for each in parameters}
    del asked.__wrapped__
    return asked
