"""How right the time is that a study says it still takes: real studies, looked at while they run.

    python -m benchmarks.time_left digits tests/table_study.py --workers 2 --out time-left.md

Each study is searched to its end in a database of its own, in a temporary folder. After each run
that ends, from the third on, the time left is noted as `status` says it, and compared with what
was left in truth.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from sqlalchemy import Engine

from search import api
from search.results.status import Overview, overview
from search.starting.cost import Started
from search.views.beside import beside

_LOOK_S = 0.2
_FIRST = 3  # runs that have ended when the time left is first compared
_FACTOR = 1.5


@dataclass
class Watched:
    """What was said while a study ran: when, after how many runs, and how long was left."""

    said: list[tuple[float, int, float, float, float]] = field(default_factory=list)
    ended_at: float = 0.0

    @contextmanager
    def watch(self, engine: Engine, started: Started) -> Iterator[None]:
        """Look at a study until the block ends."""

        def look(over: threading.Event) -> None:
            n_seen = 0
            while not over.wait(_LOOK_S):
                now = overview(engine, started.row.name, started.costs)
                n_ended = sum(stage.done + stage.given_up for stage in now.stages)
                if n_ended > n_seen and now.seconds_left is not None:
                    n_seen = n_ended
                    self._note(now, n_ended)

        with beside(look):
            yield
        self.ended_at = time.monotonic()

    def _note(self, now: Overview, n_ended: int) -> None:
        assert now.seconds_left is not None
        assert now.seconds_left_range is not None
        self.said.append((time.monotonic(), n_ended, now.seconds_left, *now.seconds_left_range))

    def row(self, name: str, n_workers: int) -> str:
        """Return a row of the table of main()."""
        seen = [
            (n, said / (self.ended_at - at), low <= self.ended_at - at <= high)
            for at, n, said, low, high in self.said
            if n >= _FIRST and self.ended_at > at
        ]
        if not seen:
            return f"| {name} | {n_workers} | nothing said | | | |"
        ratios = [ratio for _, ratio, _ in seen]
        within = sum(1 / _FACTOR <= ratio <= _FACTOR for ratio in ratios)
        held = sum(inside for *_, inside in seen)
        return (
            f"| {name} | {n_workers} | {ratios[0]:.2f} | {median(ratios):.2f} | "
            f"{within} of {len(seen)} | {held} of {len(seen)} |"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table: said over true after the third run, and at all looks after it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("studies", nargs="+")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--trials")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args(arguments)
    rows = [
        "| study | workers | said / true after the third run | median after it | within 1.5 | "
        "within the range |",
        "|---|---|---|---|---|---|",
    ]
    for study in asked.studies:
        watched = Watched()
        with tempfile.TemporaryDirectory() as folder:
            api.run(
                study,
                storage=f"sqlite:///{folder}/studies.db",
                workers=asked.workers,
                trials=asked.trials,
                watch=watched.watch,
            )
        rows.append(watched.row(Path(study).stem, asked.workers))
        print(rows[-1], flush=True)
    if asked.out is not None:
        asked.out.write_text("\n".join(rows) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
