"""How many images a folder gives a study: counted when the study is made, and kept with it."""

import ast
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from studies.errors import StudyError
from studies.registry import Definition
from trainers.device import cache_folder
from trainers.task import Task


def counted_now(definition: Definition, data: str | Path | None) -> Definition:
    """Return the definition with the numbers of images in its folder, or in `data` instead.

    Raises UserError for a folder that cannot be used, or that is too small for the study.
    """
    task = definition.study.task
    if not isinstance(task, Task) or task.is_counted:
        return definition
    folder = None if data is None else Path(data).expanduser().resolve()
    try:
        return _with_task(definition, task.counted(folder, cache_folder()))
    except ValueError as error:
        raise StudyError(str(error)) from None


def counted_as_stored(definition: Definition, stored: Mapping[str, str]) -> Definition:
    """Return the definition with the numbers of images that a study's protocol was stored with."""
    task, numbers = definition.study.task, stored.get("task.data.counted")
    if not isinstance(task, Task) or task.is_counted or numbers is None:
        return definition
    # Where they do not suit what the file says now, the comparison of protocols names the field.
    with suppress(ValueError):
        data = replace(task.data, counted=ast.literal_eval(numbers))
        return _with_task(definition, replace(task, data=data))
    return definition


def _with_task(definition: Definition, task: Task) -> Definition:
    return replace(definition, study=replace(definition.study, task=task))
