"""Records families: one file of JSON lines each, only ever appended to."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path

from benchmarks.families.design import Design, next_round, seed_of
from benchmarks.families.family import Family
from benchmarks.perform import Job, cycle_of, sweep_of
from benchmarks.plan import Work
from benchmarks.processes import as_they_end
from benchmarks.record import alone_in
from benchmarks.records import CycleRecord, Journal, Record, SweepRecord
from search.params import Params
from trainers.device import Site, cache_folder, device_name
from trainers.run import Trainer

RECORDED = Path(__file__).parents[1] / "recorded" / "families"

Call = Callable[[], Record]
RunAll = Callable[[Sequence[Call]], Iterable[Record]]
"""Does runs and gives their records as they end, in any order."""


class Recording:
    """The files of a folder and what is still to do in them; `data` holds CIFAR-10."""

    def __init__(
        self, folder: Path, families: Sequence[Family], *, data: Path | None, design: Design
    ) -> None:
        self.folder, self.families, self.data, self.design = folder, families, data, design
        self.journals = {f.name: Journal(folder / f"{f.name}.jsonl") for f in families}

    def run(self, run_all: RunAll) -> None:
        """Do and keep everything that is missing, round by round over all families."""
        with alone_in(self.folder):
            for family in self.families:
                self.journals[family.name].open(header_of(family, self.data))
            while lacking := self.lacking():
                for n_done, record in enumerate(run_all(lacking), 1):
                    self.journals[record.work.task].add(record)
                    print(f"{len(lacking) - n_done} left: {_line(record)}", file=sys.stderr)

    def lacking(self) -> list[Call]:
        """Return the missing runs of the earliest round that any family has not done."""
        rounds = {}
        for family in self.families:
            recorded = self.journals[family.name].records
            study = family.study(self.data)
            rounds[family] = next_round(family, study, self.design, recorded)
        earliest = min(number for number, _ in rounds.values())
        return [
            partial(perform, family, work, params, self.data)
            for family, (number, runs) in rounds.items()
            if number == earliest
            for work, params in runs
        ]

    def counts(self) -> str:
        """Return how much of each family is there, and about how long the rest takes."""
        lines = []
        for family in self.families:
            records = self.journals[family.name].records
            cycles = [r.cpu_seconds for r in records.values() if isinstance(r, CycleRecord)]
            left = self.design.n_runs - len(records)
            each = sum(cycles) / len(cycles) if cycles else None
            time = "" if each is None else f", {each:.2f} s a cycle"
            rest = f", {left * each / 60:.1f} minutes left" if left and each is not None else ""
            lines.append(f"{family.name}: {len(records)} of {self.design.n_runs} runs{time}{rest}")
        return "\n".join(lines)


def in_processes(calls: Sequence[Call], *, workers: int) -> Iterator[Record]:
    """Yield the records of calls as they end, done by worker processes in the order given."""
    for _, record in as_they_end(dict(enumerate(calls)), workers=workers):
        yield record


def perform(family: Family, work: Work, params: Params | None, data: Path | None) -> Record:
    """Do one run."""
    job = Job(family.study(data), work, params, seed_of(work))
    trainer = _trainer_of(family, data)
    return sweep_of(job, trainer) if params is None else cycle_of(job, params, trainer)


@cache
def _trainer_of(family: Family, data: Path | None) -> Trainer:
    site = Site(device="cpu", data=data, cache=cache_folder(), precision="fp32")
    return family.study(data).task.trainer(site)


def header_of(family: Family, data: Path | None) -> dict[str, str]:
    """Return how the runs of a family are made here."""
    import torch

    from benchmarks.families.data import checksum

    return {
        "task": repr(family),
        "torch": ".".join(torch.__version__.split(".")[:2]),
        "torch build": torch.__version__,
        "device": f"{device_name('cpu')}, one thread a run",
        "data checksum": checksum(family.data, data),
        "seeds": "seed n of a cycle is the same for every configuration",
    }


def _line(record: Record) -> str:
    work = record.work
    if isinstance(record, SweepRecord):
        return f"{work.task}, sweep {work.number} of {work.length} steps"
    assert isinstance(record, CycleRecord)
    outcome = record.outcome if record.score is None else f"{record.score:.4f}"
    which = f"{work.task}, configuration {work.number}, seed {work.seed}"
    return f"{which}: {outcome}, {record.cpu_seconds:.2f} s"
