"""What a tracker's writer can do, whichever tracker it is, and how one is opened."""

import os
from collections.abc import Mapping
from typing import Protocol

from search.starting.trackers import Tracker
from search.tracking.records import Tracked, TrackedStudy

# Their own words on our terminal, and what they send home of their use, are of no use to a study.
# Set where the user has not set them; docs/trackers.md names them.
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "WANDB_SILENT": "true",
    "WANDB_CONSOLE": "off",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_DISABLE_CODE": "true",
    "WANDB_DISABLE_GIT": "true",
}
# Its own are two minutes and seven tries: too long for who waits for the end of a study.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "20", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}


class Sink(Protocol):
    """Writes one study to one tracker; what is there already is not written again."""

    def has(self, record: Tracked) -> bool:
        """Return whether this version of a record is there, whole."""

    def write(self, record: Tracked) -> None:
        """Write what is missing of a record; that of the study comes first."""

    def close(self) -> None:
        """Let go of the tracker; all that was written is there."""


def opened_sink(tracker: Tracker, study: TrackedStudy) -> Sink:
    """Return what writes a study to a tracker; raises whatever its library raises."""
    _be_quiet({**_QUIET, **_PATIENCE})
    if tracker.kind == "tensorboard":
        from search.tracking.tensorboard_sink import TensorBoardSink

        return TensorBoardSink(tracker.place, study)
    if tracker.kind == "mlflow":
        from search.tracking.mlflow_sink import MlflowSink

        return MlflowSink(tracker.place, study)
    from search.tracking.wandb_sink import WandbSink

    return WandbSink(tracker.place, study)


def _be_quiet(settings: Mapping[str, str]) -> None:
    import logging

    for name, value in settings.items():
        os.environ.setdefault(name, value)
    for library in ("mlflow", "wandb", "tensorboard", "urllib3", "alembic"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
