"""A model by the place of its class or function, "torchvision.models:resnet18" or "net.py:Net"."""

import difflib
import importlib
import inspect
import sys
import sysconfig
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

from trainers.errors import TaskError
from trainers.given import what
from trainers.module_files import module_of, run_module

if TYPE_CHECKING:
    from torch import nn

FORM = "MODULE:NAME, as in torchvision.models:resnet18, or FILE.py:NAME, as in net.py:Net"


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedModel:
    """A factory of models: calls what `where` names with `arguments`, new weights each time.

    `where` is "module:name" or "file.py:name". With the `stem` "small" a first 7x7 convolution of
    stride 2 and its pooling become a 3x3 convolution of stride 1 (trainers.stems). `channels`
    makes the first convolution take so many; None leaves it.
    """

    where: str
    # A dict has no hash, and studies have one.
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    stem: Literal["own", "small"] = "own"
    channels: int | None = None

    def __post_init__(self) -> None:
        place, _, name = self.where.rpartition(":")
        if not place or not all(part.isidentifier() for part in name.split(".")):
            raise ValueError(f"model must be {FORM}, got {self.where!r}")
        if self.stem not in ("own", "small"):
            raise ValueError(f"stem must be own or small, got {self.stem!r}")

    def __call__(self) -> "nn.Module":
        """Return a new model; raise TaskError where there is none."""
        from trainers.stems import small_stem, with_channels

        model = built(self.where, self.arguments)
        if self.stem == "small":
            small_stem(model)
        if self.channels is not None:
            with_channels(model, self.channels)
        return model


def built(where: str, arguments: Mapping[str, Any]) -> "nn.Module":
    """Return what a named callable makes of these arguments; raise TaskError, with the way on."""
    call = named_callable(where)
    _check_required(where, call, arguments)
    try:
        model = call(**arguments)
    except Exception as error:  # whatever the user's own code raises
        told = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        raise TaskError(f"the model {where}({told}) fails: {one_line(error)}") from error
    return checked(where, model)


def checked(where: str, model: Any) -> "nn.Module":
    """Return the model; raise TaskError for what is none."""
    from torch import nn

    if not isinstance(model, nn.Module):
        raise TaskError(
            f"{where} must make a torch.nn.Module, got {type(model).__name__}: name the class of "
            "the net, or a function that returns one"
        )
    return model


def named_callable(where: str) -> Callable[..., Any]:
    """Return the class or function that a text names; raise TaskError where there is none."""
    place, _, name = where.rpartition(":")
    module = _file(Path(place)) if place.endswith(".py") else _module(place)
    try:
        call = attrgetter(name)(module)
    except AttributeError:
        names = [each for each in vars(module) if not each.startswith("_")]
        near = difflib.get_close_matches(name, names, n=3) or sorted(names)[:8]
        raise TaskError(
            f"model {where}: {place} has no {name!r}; it has {', '.join(near) or 'no names'}"
        ) from None
    if _is_model(call):
        raise TaskError(
            f"model {where}: this is one model, and each run needs a new one: name its class, or "
            "a function that returns a new one"
        )
    if not callable(call):
        raise TaskError(f"model {where}: must be a class or a function, got {what(call)}")
    if not _makes_models(call):
        raise TaskError(
            f"model {where}: does not say that it makes a model; name the class of a net, or a "
            "function of your own that calls it, as in net.py:net"
        )
    made: Callable[..., Any] = call
    return made


_ZOOS = ("torchvision", "timm")
"""Packages whose functions are models and often say no type."""


def _makes_models(call: Any) -> bool:
    """Whether a call is a net's class, a function of the user's, or one that says it returns one.

    The text of a stored study comes from a database, where anybody may have written
    subprocess:run. Such a text must call nothing but what makes models.
    """
    from torch import nn

    owner = call if isinstance(call, type) else getattr(call, "__self__", None)
    if isinstance(owner, type):
        return issubclass(owner, nn.Module)
    name: str = getattr(call, "__module__", None) or ""
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None:
        return False
    if not {"site-packages", "dist-packages"} & set(Path(file).parts):
        return not file.startswith(sysconfig.get_path("stdlib"))
    if name.partition(".")[0] in _ZOOS:
        return True
    try:
        said = get_type_hints(call).get("return")
    except Exception:  # a name that is not there any more, or no function
        return False
    return isinstance(said, type) and issubclass(said, nn.Module)


def required_of(call: Callable[..., Any]) -> tuple[str, ...]:
    """Return the parameters that a call must be given; none where they cannot be read."""
    try:
        parameters = inspect.signature(call).parameters.values()
    except (ValueError, TypeError):
        return ()
    spread = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return tuple(p.name for p in parameters if p.default is p.empty and p.kind not in spread)


def one_line(error: BaseException) -> str:
    """Return an error in one line, with the last line of the user's own code that it came from."""
    text = " ".join(str(error).split())
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if Path(f.filename).suffix == ".py" and Path(__file__) != _path(f)]
    where = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {text}{where}"


def _path(frame: traceback.FrameSummary) -> Path:
    return Path(frame.filename)


def _is_model(value: Any) -> bool:
    from torch import nn

    return isinstance(value, nn.Module)


def _check_required(where: str, call: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    lacking = [name for name in required_of(call) if name not in arguments]
    if lacking:
        told = " ".join(f"--model-arg {name}=..." for name in lacking)
        raise TaskError(
            f"model {where} needs {', '.join(lacking)}: add {told}, or name a function without "
            "them"
        )


def _module(name: str) -> ModuleType:
    import torch  # noqa: F401  what is imported next would, and a model is told by its class

    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        # Last, so that a file there hides no package; an installed program has it nowhere.
        sys.path.append(here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name != missing and not name.startswith(f"{missing}."):
            raise _unloaded(name, error) from error
        raise TaskError(
            f"model {name}:...: there is no module {missing!r}; install it, start in the folder "
            f"that holds it, or give its file; {FORM}"
        ) from None
    except (Exception, SystemExit) as error:
        raise _unloaded(name, error) from error


def _file(path: Path) -> ModuleType:
    """Import a file once; modules beside it can be imported by it."""
    import torch  # noqa: F401

    full = path.expanduser().resolve()
    name = f"onecycle_model_{full.stem}"
    known = sys.modules.get(name)
    if known is not None and known.__file__ == str(full):
        return known
    if not full.is_file():
        raise TaskError(f"model {path}:...: there is no file {full}")
    module = module_of(full, name)
    try:
        run_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _unloaded(str(path), error) from error
    return module


def _unloaded(name: str, error: BaseException) -> TaskError:
    return TaskError(f"model {name}:...: it does not load: {one_line(error)}")
