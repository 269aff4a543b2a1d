"""A study as TensorBoard's event files: a folder of the study, in it one for each run.

What is there is read back from the files: a value of a curve, at its step, is written once. So a
run that is taken over goes on in its folder, in one more file. The HPARAMS tab shows the `score`
of every run beside its parameters; the answer is under TEXT, for events have no tags.
"""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from search.tracking.records import STUDY, Tracked, TrackedStudy, plain_name
from studies.states import RunState

_SENT = "onecycle-sent.txt"
"""Which version of a record its folder holds, written after its events."""
_STARTED = "_hparams_/session_start_info"
_ENDED = "_hparams_/session_end_info"
_TEXT = "/text_summary"


class TensorBoardSink:
    """Writes event files below `place`."""

    def __init__(self, place: str, study: TrackedStudy) -> None:
        self._root = Path(place).expanduser() / study.label
        self._writers: dict[str, Any] = {}
        self._there: dict[str, dict[tuple[str, int], str]] = {}

    def has(self, record: Tracked) -> bool:
        """Return whether the folder of a record says that it holds this version."""
        try:
            return (self._folder(record) / _SENT).read_text() == record.version
        except FileNotFoundError:
            return False

    def write(self, record: Tracked) -> None:
        """Write the events that the files of a record do not hold."""
        folder = self._folder(record)
        there = self._there.get(record.key)
        if there is None:
            there = self._there[record.key] = _read(folder)
        for tag, step, at, value in self._events(record):
            text = value.pop("said")
            key = (tag, _next_step(there, tag, text) if tag.endswith(_TEXT) else step)
            if key not in there and (tag, text) not in _last_texts(there):
                self._add(record, key, at, value)
                there[key] = text
        writer = self._writers.get(record.key)
        if writer is not None:
            writer.flush()
        if record.state.is_end:
            self._writers.pop(record.key, None)
            if writer is not None:
                writer.close()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _SENT).write_text(record.version)

    def close(self) -> None:
        """Close all files."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _folder(self, record: Tracked) -> Path:
        return self._root if record.key == STUDY else self._root / record.name

    def _add(
        self, record: Tracked, key: tuple[str, int], at: float, value: Mapping[str, Any]
    ) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        if record.key not in self._writers:
            self._writers[record.key] = EventFileWriter(str(self._folder(record)))
        tag, step = key
        summary = Summary(value=[Summary.Value(tag=tag, **value)])
        self._writers[record.key].add_event(Event(wall_time=at, step=step, summary=summary))

    def _events(self, record: Tracked) -> Iterator[tuple[str, int, float, dict[str, Any]]]:
        """Yield tag, step, time and value of all that there is to write of a record."""
        if record.key != STUDY:
            yield _STARTED, 0, record.began, {"metadata": _session_start(record), "said": ""}
        # Sections of their own: numbers without a curve would push the curves off the first page.
        section = "study/" if record.key == STUDY else ""
        for point in record.points:
            value = {"simple_value": point.value, "said": ""}
            yield f"{section}{point.name}", point.step, point.at, value
        if not record.state.is_end and record.key != STUDY:
            return
        at = time.time() if record.ended is None else record.ended
        for name, number in (record.results or {}).items():
            place = section or ("" if name == "score" else "run/")
            yield f"{place}{name}", record.last_step, at, {"simple_value": number, "said": ""}
        text = _text_of(record)
        if text:
            yield f"{'answer' if record.note else 'run'}{_TEXT}", 0, at, _text(text)
        if record.key != STUDY:
            yield _ENDED, 0, at, {"metadata": _session_end(record), "said": ""}


def _text_of(record: Tracked) -> str:
    """Return what is told of a record in words: the answer of a study, the end of a run."""
    if record.key == STUDY:
        return record.note
    told = {"outcome": record.tags["outcome"], "role": record.tags["role"]}
    return ", ".join(f"{name}: {value}" for name, value in told.items() if value)


def _last_texts(there: Mapping[tuple[str, int], str]) -> set[tuple[str, str]]:
    """Return the newest text of each tag."""
    newest = {tag: text for (tag, _), text in sorted(there.items()) if tag.endswith(_TEXT)}
    return set(newest.items())


def _next_step(there: Mapping[tuple[str, int], str], tag: str, text: str) -> int:
    return sum(name == tag for name, _ in there)


def _read(folder: Path) -> dict[tuple[str, int], str]:
    """Return what the event files of a folder hold: tag and step, of a text also its words.

    A file that a killed process left ends in half an event, which is not there.
    """
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    there = {}
    for file in sorted(folder.glob("*tfevents*")):
        for event in LegacyEventFileLoader(str(file)).Load():
            for value in event.summary.value:
                words = value.tensor.string_val
                there[value.tag, event.step] = words[0].decode() if words else ""
    return there


def _text(text: str) -> dict[str, Any]:
    from tensorboard.compat.proto.summary_pb2 import SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboard.plugins.text.plugin_data_pb2 import TextPluginData

    plugin = SummaryMetadata.PluginData(
        plugin_name="text", content=TextPluginData(version=0).SerializeToString()
    )
    tensor = TensorProto(
        dtype="DT_STRING",
        string_val=[text.encode()],
        tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]),
    )
    return {"metadata": SummaryMetadata(plugin_data=plugin), "tensor": tensor, "said": text}


def _session_start(record: Tracked) -> Any:
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo

    info = SessionStartInfo(start_time_secs=record.began, group_name=record.name)
    for name, value in record.params.items():
        cell = info.hparams[plain_name(name)]
        if isinstance(value, bool):
            cell.bool_value = value
        elif isinstance(value, int | float):
            cell.number_value = value
        else:
            cell.string_value = str(value)
    return _hparams(HParamsPluginData(session_start_info=info, version=0))


def _session_end(record: Tracked) -> Any:
    from tensorboard.plugins.hparams.api_pb2 import Status
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo

    failed = record.state == RunState.FAILED
    status = Status.Value("STATUS_FAILURE" if failed else "STATUS_SUCCESS")
    info = SessionEndInfo(status=status, end_time_secs=record.ended)
    return _hparams(HParamsPluginData(session_end_info=info, version=0))


def _hparams(data: Any) -> Any:
    from tensorboard.compat.proto.summary_pb2 import SummaryMetadata

    plugin = SummaryMetadata.PluginData(plugin_name="hparams", content=data.SerializeToString())
    return SummaryMetadata(plugin_data=plugin)
