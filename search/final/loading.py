"""The lines of Python that load a final model: by what was written, not by what was asked for."""

import json
from pathlib import Path
from typing import Any

from studies.registry import BUNDLED
from trainers.adapters.adapter import Adapter
from trainers.final import facts_of, plain_content, state_dict_of
from trainers.named_model import NamedModel
from trainers.task import Workload


def loading_lines(model: Path, task: Workload, spec: str) -> tuple[str, ...]:
    """Return what to paste; `spec` is what the study was made from, '' for an object."""
    if model.is_dir():
        return _of_a_folder(model)
    content = plain_content(model)
    if isinstance(content, dict) and "pytorch-lightning_version" in content:
        return _of_lightning(model, task, knows_arguments="hyper_parameters" in content)
    if state_dict_of(model) is None:
        return (f"# {model.name} is as your loop wrote it: read it likewise",)
    where = _factory(task, spec)
    lines = [
        "from trainers.final import load_final",
        *(["from trainers.named_model import NamedModel"] if _is_named(task) else []),
        f"model, facts = load_final({str(model)!r}, {where or 'YourNet'})",
    ]
    if where is None:
        lines.insert(0, "# YourNet: the model of your loop, or the function that makes it")
    elif spec.endswith(".py") and "STUDY" in where:
        lines.insert(0, f"# where {Path(spec).name} can be imported, as in its folder:")
    return tuple(lines)


def _of_lightning(model: Path, task: Workload, *, knows_arguments: bool) -> tuple[str, ...]:
    """Return how Lightning reads a checkpoint; a module that saved no arguments is told them."""
    module = getattr(task, "module", None)
    name = module.__name__ if isinstance(module, type) else "YourModule"
    told = ""
    if not knows_arguments and isinstance(task, Adapter) and "module" in task.factories:
        params = facts_of(model).params
        names = (each for each in task.factories["module"].defaults if each in params)
        told = "".join(f", {each}={params[each]!r}" for each in names)
    return (f"model = {name}.load_from_checkpoint({str(model)!r}{told})",)


def _of_a_folder(model: Path) -> tuple[str, ...]:
    """Return how transformers reads a folder; of another one, that its loop knows."""
    try:
        config: Any = json.loads((model / "config.json").read_text(encoding="utf-8"))
        (name, *_) = config["architectures"]
    except (OSError, ValueError, KeyError, TypeError):
        return (f"# the folder {model.name} is as your loop wrote it: read it likewise",)
    return (
        f"from transformers import {name}",
        f"model = {name}.from_pretrained({str(model)!r})",
    )


def _is_named(task: Workload) -> bool:
    return isinstance(getattr(task, "model", None), NamedModel)


def _factory(task: Workload, spec: str) -> str | None:
    """Return what makes the net, as an argument of load_final(); None where a loop makes it."""
    model = getattr(task, "model", None)
    if isinstance(model, (str, NamedModel)):
        return repr(model)
    if model is None:
        return None
    if spec in BUNDLED:
        return repr(f"studies.{spec.replace('-', '_')}:STUDY.task.model")
    stem = Path(spec).stem
    return repr(f"{stem}:STUDY.task.model") if spec and "." not in stem else "STUDY.task.model"
