"""The study database of a command: opened, upgraded, and an ended study in it settled."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import URL, Engine

from search.queue.work import Queue
from search.starting import catalog
from search.workers.patience import Patience
from search.workers.stop import Stop
from studies.database import open_engine, prepare
from studies.errors import UnknownStudyError
from studies.tables import StudyRow
from studies.upgrade import Upgraded
from studies.upgrade import upgrade as upgrade_tables
from studies.urls import sqlite_file, storage_url
from trainers.device import cache_folder


@contextmanager
def opened(
    storage: str | None, *, make: bool = False, patiently: Patience | None = None
) -> Iterator[Engine]:
    """Open the study database, waited for by `patiently`; its connections end with the block.

    Raises UnknownStudyError where the SQLite file is not there, or empty, and `make` does not ask
    for it.
    """
    url = storage_url(storage)
    if not make:
        _check_is_there(url)
    engine = open_engine(url)
    try:
        (patiently or Patience(Stop(), seconds=0))(prepare, engine)
        yield engine
    finally:
        engine.dispose()


def _check_is_there(url: URL) -> None:
    file = sqlite_file(url)
    if file is not None and not file.exists():
        raise UnknownStudyError(f"no database at {file}: no study is stored there yet")
    # A file that was cut off; one that is in use for the first time may be empty beside its log.
    if file is not None and file.is_file() and not file.stat().st_size and not _log(file).exists():
        raise UnknownStudyError(
            f"the database {file} is empty: no study is stored there; if there were some, restore "
            "an older copy"
        )


def _log(file: Path) -> Path:
    return Path(f"{file}-wal")


def upgrade(storage: str | None) -> tuple[Upgraded, ...]:
    """Bring the tables of a stored database to this version, ours and Optuna's.

    Raises UnknownStudyError where the SQLite file is not there.
    """
    url = storage_url(storage)
    _check_is_there(url)
    return upgrade_tables(url)


def settle_ended(engine: Engine, row: StudyRow) -> None:
    """Do once for an ended study what waits for its end, and what a killed worker left undone."""
    catalog.remove_checkpoints(row.id, cache_folder())
    queue = Queue(engine, row, owner="", process=None)
    unexplained = row.answer is not None and row.answer.importances is None
    if queue.untold() or unexplained:
        from search.history.optuna_study import History, repair

        with closing(History.stored(engine.url, row)) as history:
            repair(queue, history)
            if unexplained:
                catalog.add_importances(engine, row, history.importances())
