"""Where figures go as they come, and until when."""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.children import Facts, FailedError
from benchmarks.gpu.setting import Setting
from benchmarks.lines import append

START_S = 12.0
"""What a process takes beside its measurement: torch, CUDA, the data, a first epoch; a guess."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where figures go, and by when all is over (time.monotonic())."""

    setting: Setting
    out: Path
    work: Path
    ends_at: float

    @property
    def left_s(self) -> float:
        """Seconds until the end."""
        return self.ends_at - time.monotonic()

    def add(self, part: str, name: str, facts: Mapping[str, Any]) -> None:
        """Keep figures, and show them."""
        row = {"part": part, "name": name, **facts}
        append(self.out / "gpu.jsonl", row)
        print(json.dumps(row), file=sys.stderr)

    @contextmanager
    def trying(self, part: str, name: str) -> Iterator[None]:
        """Keep why something gave no figures, and go on."""
        try:
            yield
        except FailedError as error:
            self.add(part, name, {"failed": str(error)})

    def ask(self, job: str, **more: Any) -> Facts:
        """Return what a child is told."""
        setting = self.setting
        places = {"data": str(setting.data), "cache": str(setting.cache)}
        return {"job": job, "device": setting.device, **places, **more}
