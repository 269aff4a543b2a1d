"""A study in Weights & Biases: a group of the study, in it one run for each of the study's.

The id of a run is made of the study's and its own, so whoever comes next resumes it: what lies
before the step that W&B has reached is not logged again. Offline nothing can be resumed: there a
run is written when it has ended, whole, and a folder that a killed process left is written anew.
The study itself is one more run, of job type `study`, written when the study has ended.
"""

import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

from search.tracking.records import STUDY, Tracked, TrackedStudy, plain_name
from studies.states import RunState

_SENT = "onecycle_sent"
_LONGEST_TAG = 64


class WandbSink:
    """Writes to the project `place`, of the logged-in user or of the entity before a slash."""

    def __init__(self, place: str, study: TrackedStudy) -> None:
        import wandb

        self._wandb = wandb
        self._study = study
        entity, _, self._project = place.rpartition("/")
        self._entity = entity or None
        self._settings = wandb.Settings(
            console="off",
            silent=True,
            save_code=False,
            disable_git=True,
            disable_job_creation=True,
            x_disable_stats=True,
            x_disable_meta=True,
            init_timeout=30,
        )
        self._offline = wandb.setup().settings.mode in ("offline", "dryrun")
        self._open: dict[str, Any] = {}

    def has(self, record: Tracked) -> bool:
        """Return whether W&B has this version of a record; online it is asked by opening it."""
        if not record.state.is_end and (self._offline or record.key == STUDY):
            return True  # nothing to write yet
        return self._offline and any(
            _read(folder / f"{_SENT}.txt") == record.version for folder in self._folders(record)
        )

    def write(self, record: Tracked) -> None:
        """Log what W&B has not, and finish a run that has ended."""
        if self._offline:
            self._remove_unsynced(record)
        run = self._open.get(record.key) or self._opened(record)
        self._open[record.key] = run
        if run.config.get(_SENT) != record.version:
            self._log(run, record)
        if not record.state.is_end:
            return
        folder = Path(run.settings.sync_dir)
        run.finish(exit_code=int(record.state == RunState.FAILED))
        del self._open[record.key]
        if self._offline:
            (folder / f"{_SENT}.txt").write_text(record.version)

    def close(self) -> None:
        """Finish what is open; a run that goes on is resumed later."""
        while self._open:
            self._open.popitem()[1].finish()

    def _id(self, record: Tracked) -> str:
        return f"{self._study.id[:18]}-{record.key}"

    def _opened(self, record: Tracked) -> Any:
        return self._wandb.init(
            entity=self._entity,
            project=self._project,
            group=self._study.label,
            job_type=record.tags["stage"] if record.key != STUDY else STUDY,
            name=record.name,
            id=self._id(record),
            notes=record.note or None,
            config={plain_name(name): value for name, value in record.params.items()},
            resume=None if self._offline else "allow",
            allow_val_change=True,
            reinit="create_new",
            settings=self._settings,
        )

    def _log(self, run: Any, record: Tracked) -> None:
        by_step: dict[int, dict[str, float]] = defaultdict(dict)
        for point in record.points:
            by_step[point.step][point.name] = point.value
        for step, values in by_step.items():
            if step >= run.step:
                run.log(values, step=step, commit=True)
        run.summary.update({**(record.results or {}), **_told(record)})
        run.tags = tuple(
            text[:_LONGEST_TAG] for text in (record.tags["stage"], *_roles(record)) if text
        )
        if record.note:
            run.notes = record.note
        run.config.update({_SENT: record.version}, allow_val_change=True)

    def _folders(self, record: Tracked) -> list[Path]:
        """Return the folders that hold a record offline."""
        root = Path(self._settings_of().wandb_dir)
        return sorted(root.glob(f"offline-run-*-{self._id(record)}"))

    def _settings_of(self) -> Any:
        return self._wandb.setup().settings

    def _remove_unsynced(self, record: Tracked) -> None:
        """Remove what is written anew; what was synced stays: the same id replaces it there."""
        for folder in self._folders(record):
            if not any(folder.glob("*.synced")):
                shutil.rmtree(folder, ignore_errors=True)


def _told(record: Tracked) -> dict[str, str]:
    return {name: text for name, text in record.tags.items() if text}


def _roles(record: Tracked) -> list[str]:
    """Return outcome and roles of a run; of the study its answer."""
    if record.key == STUDY:
        return [f"answer {record.tags['answer']}"] if record.tags["answer"] else []
    return [record.tags["outcome"], *record.tags["role"].split(", ")]


def _read(file: Path) -> str | None:
    try:
        return file.read_text()
    except OSError:
        return None
