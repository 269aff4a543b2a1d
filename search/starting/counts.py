"""How many images a folder gave to a study: counted once, when the study is made, and kept."""

import ast
from dataclasses import replace
from pathlib import Path

from search.errors import UsageError
from studies.registry import Definition
from studies.tables import StudyRow
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
        raise UsageError(str(error)) from None


def counted_as_stored(definition: Definition, row: StudyRow) -> Definition:
    """Return the definition with the numbers of images that the stored study was made with."""
    task, stored = definition.study.task, row.declared.get("task.data.counted")
    if not isinstance(task, Task) or task.is_counted or stored is None:
        return definition
    # Where the file changed since, the comparison of protocols names the field.
    data = replace(task.data, counted=ast.literal_eval(stored))
    try:
        return _with_task(definition, replace(task, data=data))
    except ValueError as error:
        raise UsageError(str(error)) from None


def _with_task(definition: Definition, task: Task) -> Definition:
    return replace(definition, study=replace(definition.study, task=task))
