"""What a search needs here, each looked at alone: database, schemas, device, data, cache, disk."""

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy import URL, Engine, select, text

from search.shadowed import hidden_text, own_in
from search.starting.places import (
    folder_of,
    nearest,
    unwritable_text,
    why_unwritable,
)
from studies.columns import missing_columns
from studies.database import UPGRADE, looking, reading, refuse_network
from studies.definition import Study
from studies.errors import DatabaseError, UnknownStudyError, cause_line
from studies.mounts import file_system_here
from studies.registry import BUNDLED, load
from studies.tables import HEAD, StudyRow
from studies.translation import damaged_text
from studies.upgrade import optuna_versions, versions
from studies.urls import masked_text, sqlite_file, storage_url
from trainers.data import Cifar10, Data, Presence, look_for
from trainers.device import (
    cache_folder,
    device_name,
    native_precision,
    resolve_device,
)
from trainers.errors import UserError
from trainers.task import Task

State = Literal["ok", "warning", "to do"]
FREE_ENOUGH_BYTES = 2 * 2**30


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at: fine, worth knowing, or something that the user must do first."""

    name: str
    state: State
    text: str


Found = tuple[State, str]


def examine(
    *, storage: str | None, data: Path | None, device: str, study: str | None
) -> tuple[Check, ...]:
    """Look at everything that a search needs; nothing is written, none stops another."""
    looks: dict[str, Callable[[], Found]] = {
        "versions": _versions,
        "database": lambda: _database(storage_url(storage)),
        "our schema": lambda: _our_schema(storage_url(storage)),
        "Optuna schema": lambda: _optuna_schema(storage_url(storage)),
        "file system": lambda: _file_system(storage_url(storage)),
        "device": lambda: _device(device),
        "data": lambda: _data(storage, data, study),
        "cache": lambda: _folder("ONECYCLE_CACHE"),
        "checkpoints": lambda: _folder("ONECYCLE_CHECKPOINTS"),
        "cache disk": lambda: _free_disk(cache_folder()),
        "database disk": lambda: _database_disk(storage_url(storage)),
    }
    return tuple(_check(name, look) for name, look in looks.items())


def _check(name: str, look: Callable[[], Found]) -> Check:
    try:
        return Check(name, *look())
    except UserError as error:
        return Check(name, "to do", str(error))
    except Exception as error:  # whatever is wrong here, the other checks are still of use
        return Check(
            name, "to do", f"cannot be looked at: {type(error).__name__}: {cause_line(error)}"
        )


def is_ready(checks: Sequence[Check]) -> bool:
    """Whether nothing is left for the user to do; warnings do not count."""
    return all(check.state != "to do" for check in checks)


def _versions() -> Found:
    found = [f"{name} {importlib.metadata.version(name)}" for name in ("torch", "optuna")]
    text = f"Python {platform.python_version()}, {', '.join(found)}"
    hiding = own_in(Path.cwd())
    if hiding:
        return "warning", f"{text}; {hidden_text(hiding[0].stem, hiding[0])}"
    return "ok", text


def _database(url: URL) -> Found:
    where, file = masked_text(url), sqlite_file(url)
    if file is not None and not file.exists():
        problem = _cannot_be_made(file)
        return problem or ("ok", f"{where}: will be made at the first start")
    with looking(url) as engine:
        versions(engine)
        if file is not None:
            _quick_check(engine)
    if file is None:
        return "ok", f"{where} answers"
    reason = why_unwritable(file.parent)
    if reason is not None or not os.access(file, os.W_OK):
        reason = f" ({reason})" if reason else ""
        return "to do", f"{where}: make the file and its folder writable for you{reason}"
    if not file.stat().st_size:
        return "warning", f"{where} is empty: if studies were stored there, restore an older copy"
    return "ok", f"{where} answers"


def _quick_check(engine: Engine) -> None:
    """Raise DatabaseError where SQLite finds damage; what it costs grows with the file."""
    with reading(engine) as session:
        (first, *_) = session.scalars(text("PRAGMA quick_check(1)")).all()
    if first != "ok":
        raise DatabaseError(damaged_text(engine.url, first.splitlines()[-1]))


def _stored_versions(url: URL) -> tuple[str | None, str | None]:
    file = sqlite_file(url)
    if file is not None and not file.exists():
        return None, None
    with looking(url) as engine:
        return versions(engine)


def _our_schema(url: URL) -> Found:
    found = _stored_versions(url)[0]
    if found == HEAD:
        with looking(url) as engine, reading(engine) as session:
            missing = missing_columns(session.connection())
        if missing:
            return "to do", f"{found}, but there is no {', '.join(missing)}: {UPGRADE}"
    return _schema(found, HEAD, newer=found is not None and found > HEAD, owner="onecycle-search")


def _optuna_schema(url: URL) -> Found:
    found, known = _stored_versions(url)[1], optuna_versions()
    return _schema(found, known[0], newer=found not in known, owner="optuna")


def _schema(found: str | None, head: str, *, newer: bool, owner: str) -> Found:
    if found is None:
        return "ok", f"none yet: {head} will be made at the first start"
    if found == head:
        return "ok", f"{found}, the newest"
    advice = f"upgrade {owner}" if newer else UPGRADE
    return "to do", f"{found}, {owner} here needs {head}: {advice}"


def _file_system(url: URL) -> Found:
    file = sqlite_file(url)
    if file is None:
        return "ok", "left to the database server"
    refuse_network(file)
    return "ok", f"{file_system_here(file) or 'not known'}, no network file system"


def _device(asked: str) -> Found:
    import torch

    kind = resolve_device(asked)
    native = native_precision(kind) == "bf16"
    count = f"{torch.cuda.device_count()} x " if kind == "cuda" else ""
    return "ok", (
        f"{kind}: {count}{device_name(kind)}, torch {torch.__version__}, "
        f"bf16 {'native' if native else 'not native: fp32 is taken'}"
    )


def _data(storage: str | None, folder: Path | None, name: str | None) -> Found:
    data: Data = Cifar10(n_train=1, n_validation=1)
    if name is not None:
        task = _study(storage, name).task
        if not isinstance(task, Task):
            return "ok", f"study {name!r} has a loop of its own, which brings its data"
        data = task.data
    presence, text = look_for(data, folder=folder, cache=cache_folder())
    return ("warning" if presence is Presence.DOWNLOADED_LATER else "ok"), text


def _study(storage: str | None, name: str) -> Study:
    """Return the definition of a stored study, else the bundled one of that name."""
    url = storage_url(storage)
    if _stored_versions(url)[0] is not None:
        with looking(url) as engine, reading(engine) as session:
            spec = session.scalars(select(StudyRow.spec).where(StudyRow.name == name)).first()
        if spec:
            return load(spec).study
    if name not in BUNDLED and not name.endswith(".py"):
        raise UnknownStudyError(
            f"--study {name}: not stored in {masked_text(url)}, nor one of {', '.join(BUNDLED)}"
        )
    return load(name).study


def _folder(variable: str) -> Found:
    folder = folder_of(variable)
    if not folder.exists():
        problem = _cannot_be_made(folder)
        return problem or ("ok", f"{folder}: will be made at the first start")
    reason = why_unwritable(folder)
    if reason is not None:
        return "to do", unwritable_text(folder, variable, reason)
    return "ok", f"{folder} can be written"


def _cannot_be_made(path: Path) -> Found | None:
    reason = why_unwritable(path)
    if reason is None:
        return None
    above = nearest(path)
    return "to do", f"{path} cannot be made ({reason}): {above} must be a folder you can write"


def _database_disk(url: URL) -> Found:
    file = sqlite_file(url)
    return ("ok", "left to the database server") if file is None else _free_disk(file.parent)


def _free_disk(folder: Path) -> Found:
    free = shutil.disk_usage(nearest(folder)).free
    text = f"{free / 2**30:.1f} GiB free for {folder}"
    if free < FREE_ENOUGH_BYTES:
        return "warning", f"{text}: make room, at least {FREE_ENOUGH_BYTES / 2**30:.0f} GiB"
    return "ok", text
