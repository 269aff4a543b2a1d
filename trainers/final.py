"""A final model on disk: its weights, and beside them what they are and how they score."""

import hashlib
import importlib
import inspect
import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainers.errors import DataError, TaskError
from trainers.factories import load_factory

if TYPE_CHECKING:
    from torch import nn

TrainedOn = Literal["train", "train+validation"]

_IN_A_FOLDER = "onecycle.json"
_READ_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What a final model is: plain values, read and written as JSON.

    `params` is the configuration by name, `onecycle_lr` its cycle in torch's arguments, `call`
    the same as Python source. `scores` holds the metric by split as these weights score it.
    `task` is what the training says of model and data; of images: classes, and the mean and std
    (0 to 255) that pixels are normalised with. `resolved` are the protocol's fields of the loaded
    task, such as the precision. `sha256` is the digest of the weights. `study_format` is that of
    studies.format, None in files from before.
    """

    study: str
    study_id: str
    slot: int
    chosen: str
    params: Mapping[str, Any]
    onecycle_lr: Mapping[str, Any]
    call: str
    epochs: int
    batch_size: int
    n_steps: int
    seed: int
    trained_on: TrainedOn
    metric: str
    scores: Mapping[str, float]
    notes: tuple[str, ...] = ()
    task: Mapping[str, Any] = field(default_factory=dict)
    resolved: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    device: str = ""
    sha256: str = ""
    study_format: int | None = None

    def text(self) -> str:
        """Return the facts as a JSON document."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def of_text(cls, text: str) -> "Facts":
        """Return the facts of a JSON document; raise ValueError for another one."""
        document = json.loads(text)
        if not isinstance(document, dict):
            raise ValueError("no JSON object")
        known = {each.name for each in fields(cls)}
        kept = {name: value for name, value in document.items() if name in known}
        try:
            return cls(**{**kept, "notes": tuple(kept.get("notes", ()))})
        except TypeError as error:
            raise ValueError(str(error)) from None


def facts_file(model: Path) -> Path:
    """Return where the facts of a model lie: in its folder, or beside its file (model.pt.json)."""
    return model / _IN_A_FOLDER if model.is_dir() else model.with_name(f"{model.name}.json")


def facts_of(model: str | Path) -> Facts:
    """Return the facts of a final model; raise DataError where none are there."""
    file = facts_file(Path(model))
    try:
        return Facts.of_text(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{model}: no {file.name} {'in' if Path(model).is_dir() else 'beside'} it; "
            "`onecycle train` writes both"
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{file} holds no facts of a model: {error}") from None


def digest(model: Path) -> str:
    """Return the SHA-256 of a file, or of all files in a folder but the facts."""
    if not model.is_dir():
        return _digest_of(model)
    whole = hashlib.sha256()
    for file in sorted(model.rglob("*")):
        if file.is_file() and file != model / _IN_A_FOLDER:
            name = file.relative_to(model).as_posix()
            whole.update(f"{name}\0{_digest_of(file)}\0".encode())
    return whole.hexdigest()


def _digest_of(file: Path) -> str:
    body = hashlib.sha256()
    with file.open("rb") as opened:
        while part := opened.read(_READ_BYTES):
            body.update(part)
    return body.hexdigest()


def load_final(
    path: str | Path, model: "str | nn.Module | Callable[..., nn.Module]"
) -> "tuple[nn.Module, Facts]":
    """Return the trained model on the CPU in eval mode, and its facts.

    `model` is the net, the factory that the study trains, or "module:name" of one; a factory gets
    those parameters of the configuration that its signature names. Nothing that the files hold is
    run: weights are read with weights_only=True. No database is needed. Raises DataError for
    files that hold no such model, TaskError for weights of another net.
    """
    path = Path(path)
    facts = facts_of(path)
    weights = state_dict_of(path)
    if weights is None:
        how = "from_pretrained()" if path.is_dir() else "the library that wrote it"
        raise DataError(f"{path} holds no state_dict: read it with {how}")
    net = _built(model, facts.params)
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise TaskError(f"{path} holds the weights of another net: {reason}") from None
    return net.eval(), facts


def state_dict_of(path: Path) -> dict[str, Any] | None:
    """Return the tensors by name that a file holds, also those in a checkpoint of Lightning's.

    None where it holds something else, or more than plain data. Raises DataError for a file that
    is not there.
    """
    held = plain_content(path)
    if isinstance(held, dict) and isinstance(held.get("state_dict"), dict):
        held = held["state_dict"]
    return held if _is_state_dict(held) else None


def plain_content(path: Path) -> Any:
    """Return what torch.load(weights_only=True) reads of a file; None where it reads nothing."""
    import torch

    if not path.exists():
        raise DataError(f"no file at {path}")
    if path.is_dir():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError):
        return None


def _is_state_dict(held: Any) -> bool:
    """Whether this is a dict of tensors by name; a module's own extra state may stand in it."""
    import torch

    if not isinstance(held, dict) or not held:
        return False
    named = all(isinstance(name, str) for name in held)
    tensors = (
        isinstance(value, torch.Tensor) or name.endswith("_extra_state")
        for name, value in held.items()
    )
    return named and all(tensors)


def _built(
    model: "str | nn.Module | Callable[..., nn.Module]", params: Mapping[str, Any]
) -> "nn.Module":
    from torch import nn

    while isinstance(model, str):  # a study's model may itself be given as "module:name"
        model = _named(model)
    if isinstance(model, nn.Module):
        return model
    factory = load_factory(model)
    taken = inspect.signature(factory).parameters
    made = factory(**{name: value for name, value in params.items() if name in taken})
    if not isinstance(made, nn.Module):
        raise TaskError(f"the model must be a torch.nn.Module, got {type(made).__name__}")
    return made


def _named(text: str) -> Any:
    """Return what "module:name" points to; the name may have dots, as in mine:STUDY.task.model."""
    module, _, name = text.partition(":")
    try:
        return attrgetter(name)(importlib.import_module(module))
    except (ImportError, AttributeError, ValueError) as error:
        raise TaskError(f'no model at {text!r} ("module:name" is meant): {error}') from error
