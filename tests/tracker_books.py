"""What trackers hold, read back with their own readers or from their own files."""

import json
import sqlite3
import struct
from collections import Counter
from pathlib import Path

Points = Counter[tuple[str, str, int]]
"""How often each point is there: run, curve, step."""


def tensorboard_points(folder: Path) -> Points:
    """Return the scalars of a folder of a study, by TensorBoard's own reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    points: Points = Counter()
    for place in {file.parent for file in folder.rglob("*tfevents*")}:
        events = EventAccumulator(str(place), size_guidance={"scalars": 0}).Reload()
        for tag in events.Tags()["scalars"]:
            points.update((place.name, tag, each.step) for each in events.Scalars(tag))
    return points


def mlflow_points(file: Path) -> Points:
    """Return the metrics in the database of an MLflow server."""
    return Counter(
        rows(file, "SELECT runs.name, key, step FROM metrics JOIN runs USING (run_uuid)")
    )


def rows(file: Path, query: str) -> list[tuple[str, str, int]]:
    """Return what a query gives of a SQLite file."""
    connection = sqlite3.connect(file)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def wandb_points(folder: Path) -> Points:
    """Return the history of offline runs, from the files that `wandb sync` reads."""
    from wandb.proto.wandb_internal_pb2 import Record

    points: Points = Counter()
    for file in folder.glob("offline-run-*/*.wandb"):
        name = ""
        for data in _leveldb_records(file.read_bytes()):
            record = Record.FromString(data)
            name = record.run.display_name or name
            items = {
                item.key or "/".join(item.nested_key): json.loads(item.value_json)
                for item in record.history.item
            }
            step = items.get("_step", record.history.step.num)
            points.update((name, key, step) for key in items if not key.startswith("_"))
    return points


def _leveldb_records(data: bytes) -> list[bytes]:
    """Return the records of a log in LevelDB's format, of blocks of 32 KiB, after 7 bytes."""
    records, part, at = [], b"", 7
    while at + 7 <= len(data):
        left = 32_768 - at % 32_768
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        if kind == 0:
            break
        part += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            records.append(part)
            part = b""
    return records
