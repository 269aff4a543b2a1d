"""A study in MLflow: a parent run, and nested in it one for each run of the study.

Runs are found again by their tags, so whoever comes next goes on with them. The experiment has
the name of the study, or is that of MLFLOW_EXPERIMENT_NAME or MLFLOW_EXPERIMENT_ID.
"""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from search.tracking.records import STUDY, Tracked, TrackedStudy, plain_name
from studies.states import RunState

_STUDY_ID, _KEY, _SENT = "onecycle.study_id", "onecycle.run", "onecycle.sent"
# What one request of MLflow's log-batch takes: 1,000 in all, of them 100 parameters and 100 tags.
_METRICS_AT_ONCE = 800
_MOST_AT_ONCE = 100
_LONGEST_PARAM, _LONGEST_TAG = 6_000, 5_000
_STATUS = {
    RunState.WAITING: "SCHEDULED",
    RunState.RUNNING: "RUNNING",
    RunState.DONE: "FINISHED",
    RunState.FAILED: "FAILED",
}


@dataclass(slots=True)
class _There:
    """A run that MLflow has: its id, the version of its record, and the points that it has."""

    run_id: str
    sent: str = ""
    status: str = ""
    points: set[tuple[str, int]] | None = None
    has_params: bool = False


class MlflowSink:
    """Writes to the tracking server or the database at `uri`."""

    def __init__(self, uri: str, study: TrackedStudy) -> None:
        from mlflow import MlflowClient

        self._client = MlflowClient(tracking_uri=uri)
        self._study = study
        self._experiment = self._experiment_id()
        self._there = {key: there for key, there in self._stored()}

    def has(self, record: Tracked) -> bool:
        """Return whether MLflow has this version of a record."""
        there = self._there.get(record.key)
        return there is not None and there.sent == record.version

    def write(self, record: Tracked) -> None:
        """Log what MLflow has not; a run is made first where there is none."""
        from mlflow.entities import Param, RunTag

        there = self._there.get(record.key)
        if there is None:
            there = self._there[record.key] = self._made(record)
        if there.points is None:
            there.points = self._points_of(there.run_id, record)
        if not there.has_params:
            params = [
                Param(plain_name(name), str(value)[:_LONGEST_PARAM])
                for name, value in record.params.items()
            ]
            for some in _batches(params, _MOST_AT_ONCE):
                self._client.log_batch(there.run_id, params=some)
            there.has_params = True
        self._end(record, there)
        told = {**record.tags, "mlflow.note.content": record.note}
        tags = [RunTag(name, value[:_LONGEST_TAG]) for name, value in told.items()]
        # With the last points: MLflow writes the tags of a batch after its metrics.
        tags.append(RunTag(_SENT, record.version))
        *first, last = _batches(list(_metrics(record, there.points)), _METRICS_AT_ONCE)
        for metrics in first:
            self._client.log_batch(there.run_id, metrics=metrics)
        self._client.log_batch(there.run_id, metrics=last, tags=tags)
        there.points |= {(metric.key, metric.step) for some in (*first, last) for metric in some}
        there.sent = record.version

    def close(self) -> None:
        """Let go of nothing: every request was answered."""

    def _experiment_id(self) -> str:
        given = os.environ.get("MLFLOW_EXPERIMENT_ID")
        if given:
            return given
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or self._study.whole.name
        found = self._client.get_experiment_by_name(name)
        return str(self._client.create_experiment(name) if found is None else found.experiment_id)

    def _stored(self) -> Iterator[tuple[str, _There]]:
        """Yield the runs that MLflow has of the study, by key."""
        token: str | None = None
        while True:
            page = self._client.search_runs(
                [self._experiment],
                filter_string=f"tags.`{_STUDY_ID}` = '{self._study.id}'",
                max_results=1_000,
                page_token=token,
            )
            for run in page:
                tags = run.data.tags
                if _KEY in tags:
                    there = _There(run.info.run_id, tags.get(_SENT, ""), run.info.status)
                    yield tags[_KEY], there
            token = page.token
            if not token:
                return

    def _made(self, record: Tracked) -> _There:
        tags = {_STUDY_ID: self._study.id, _KEY: record.key, **record.tags}
        if record.key != STUDY:
            tags["mlflow.parentRunId"] = self._there[STUDY].run_id
        run = self._client.create_run(
            self._experiment, start_time=_ms(record.began), tags=tags, run_name=record.name
        )
        return _There(run.info.run_id, status=run.info.status, points=set())

    def _points_of(self, run_id: str, record: Tracked) -> set[tuple[str, int]]:
        """Return which points of a record a run has, that another process wrote to."""
        names: Sequence[str] = [*{point.name for point in record.points}, *(record.results or {})]
        return {
            (name, metric.step)
            for name in names
            for metric in self._client.get_metric_history(run_id, plain_name(name))
        }

    def _end(self, record: Tracked, there: _There) -> None:
        status = _STATUS[record.state]
        if status == there.status:
            return
        if record.state.is_end:
            ended = time.time() if record.ended is None else record.ended
            self._client.set_terminated(there.run_id, status, end_time=_ms(ended))
        else:
            self._client.update_run(there.run_id, status=status)
        there.status = status


def _metrics(record: Tracked, there: set[tuple[str, int]]) -> Iterator[Any]:
    """Yield MLflow's metrics of the points that are not there, and of the results."""
    from mlflow.entities import Metric

    ended = time.time() if record.ended is None else record.ended
    for point in record.points:
        if (point.name, point.step) not in there:
            yield Metric(point.name, point.value, _ms(point.at), point.step)
    for name, value in (record.results or {}).items():
        if (name, record.last_step) not in there:
            yield Metric(name, value, _ms(ended), record.last_step)


def _batches(entities: list[Any], size: int) -> Iterator[list[Any]]:
    """Yield the entities, so many at once; one empty batch where there are none."""
    return (entities[start : start + size] for start in range(0, len(entities) or 1, size))


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
