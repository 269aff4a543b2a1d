"""Record what sweeps and cycles of CIFAR-10 give, for searches to be simulated on.

    python -m benchmarks.record --data FOLDER --workers 2
    python -m benchmarks.record --dry-run      how much there is to record, and how much is done

The same line resumes where a killed recording ended. Cycles have the length of the study, half of
it and a quarter. About six core hours of a CPU with bf16 (Zen 4, Sapphire Rapids): two thirds for
cifar-small, one third for cifar-residual.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from benchmarks.commands import Flags, at_least, ended, existing_folder
from benchmarks.perform import Job, header_of, in_processes
from benchmarks.plan import Design, Work, configurations, first_sweeps, in_order
from benchmarks.records import CycleRecord, Journal, Record, SweepRecord
from benchmarks.tasks import STUDIES
from studies.definition import Study
from trainers.device import Site, cache_folder
from trainers.errors import UserError

RECORDED = Path(__file__).parent / "recorded"

RunAll = Callable[[Sequence[Job]], Iterable[Record]]
"""Does jobs and gives their records as they end, in any order."""


class Recording:
    """The files of a folder and what is still to do in them."""

    def __init__(self, folder: Path, studies: Sequence[Study], design: Design) -> None:
        self.folder, self.studies, self.design = folder, studies, design
        self.journals = {
            (study.name, kind): Journal(folder / f"{study.name}.{kind}s.jsonl")
            for study in studies
            for kind in ("sweep", "cycle")
        }

    def plan(self) -> list[Work]:
        """Return all work in its order, done or not."""
        first = [work for study in self.studies for work in first_sweeps(study)]
        return [*first, *in_order(self.studies, self.design)]

    def is_done(self, work: Work) -> bool:
        """Whether the files hold this run."""
        return work in self.journals[work.task, work.kind].records

    def centre(self, study: Study) -> float:
        """Return the median rebound of the first sweeps; raises UserError where there is none."""
        records = self.journals[study.name, "sweep"].records
        sweeps = [records[work] for work in first_sweeps(study)]
        rebounds = [s.judgement.rebound for s in sweeps if isinstance(s, SweepRecord)]
        found = sorted(rebound for rebound in rebounds if rebound is not None)
        if 2 * len(found) <= len(sweeps):
            raise UserError(f"the first {len(sweeps)} sweeps of {study.name} found no rebound")
        return found[len(found) // 2]

    def missing_jobs(self) -> list[Job]:
        """Return the next jobs in order: the first sweeps, and once they are there all others."""
        by_name = {study.name: study for study in self.studies}
        first = [work for study in self.studies for work in first_sweeps(study)]
        missing = [work for work in first if not self.is_done(work)]
        if missing:
            return [Job(by_name[work.task], work) for work in missing]
        chosen = {
            study.name: configurations(study, self.design, self.centre(study))
            for study in self.studies
        }
        jobs = []
        for work in self.plan():
            params = chosen[work.task][work.number] if work.kind == "cycle" else None
            record = self.journals[work.task, work.kind].records.get(work)
            if record is None:
                jobs.append(Job(by_name[work.task], work, params))
            elif isinstance(record, CycleRecord) and record.params != params:
                raise UserError(
                    f"{self.folder}: {_title(work)} was recorded with {record.params}, "
                    f"this start would train {params}; give another --out"
                )
        return jobs

    def run(self, run_all: RunAll, header: Callable[[Study], dict[str, str]]) -> None:
        """Do and keep everything that is missing."""
        with alone_in(self.folder):
            for study in self.studies:
                made = header(study)
                for kind in ("sweep", "cycle"):
                    self.journals[study.name, kind].open(made)
            progress = Progress([work for work in self.plan() if not self.is_done(work)], self)
            while jobs := self.missing_jobs():
                for record in run_all(jobs):
                    self.journals[record.work.task, record.work.kind].add(record)
                    progress.show(record)


class Progress:
    """One line on stderr for each run that ended."""

    def __init__(self, missing: Sequence[Work], recording: Recording) -> None:
        self.study = {study.name: study for study in recording.studies}
        self.n_left = len(missing)
        self.n_images_left = sum(work.n_images(self.study[work.task]) for work in missing)
        self.n_images_done = 0
        self.began = time.monotonic()

    def show(self, record: Record) -> None:
        """Say what came out and, from the images so far, how long the rest will take."""
        n_images = record.work.n_images(self.study[record.work.task])
        self.n_left -= 1
        self.n_images_left -= n_images
        self.n_images_done += n_images
        hours = (time.monotonic() - self.began) / 3600
        hours_left = hours * self.n_images_left / self.n_images_done
        print(
            f"{self.n_left} left, {hours_left:.1f} h | {_title(record.work)}: {_outcome(record)}, "
            f"{record.seconds:.1f} s",
            file=sys.stderr,
            flush=True,
        )


def _title(work: Work) -> str:
    if work.kind == "sweep":
        return f"{work.task}, sweep {work.number}, {work.length} steps"
    return f"{work.task}, configuration {work.number}, {work.length} epochs, seed {work.seed}"


def _outcome(record: Record) -> str:
    if isinstance(record, SweepRecord):
        rebound = record.judgement.rebound
        return record.judgement.ending + (
            f", rebound {rebound:.3g}" if rebound is not None else ""
        )
    assert isinstance(record, CycleRecord)
    return record.outcome if record.score is None else f"{record.score:.4f} ({record.params})"


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder of records; raises UserError where another process does."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout as error:
        raise UserError(f"another recording writes to {folder}; give another --out") from error


def counts(recording: Recording) -> str:
    """Return what a recording holds when it is complete, and how much of that is there."""
    plan, lines = recording.plan(), []
    for study in recording.studies:
        own = [work for work in plan if work.task == study.name]
        n_sweeps = sum(work.kind == "sweep" for work in own)
        n_images = sum(work.n_images(study) for work in own)
        lines.append(
            f"{study.name}: {n_sweeps} sweeps, {len(own) - n_sweeps} cycles, "
            f"{n_images / 1e6:.1f} million images to train; "
            f"{sum(map(recording.is_done, own))} of {len(own)} runs recorded"
        )
    return "\n".join(lines)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    flags = Flags("record", __doc__)
    flags.add_argument(
        "--data", type=existing_folder, help="CIFAR-10 as an ImageFolder; else a download"
    )
    flags.add_argument("--out", type=Path, default=RECORDED, help="default: %(default)s")
    flags.add_argument(
        "--workers", type=at_least(1), default=1, help="processes of one thread each"
    )
    flags.add_argument("--task", choices=STUDIES, action="append", help="default: all")
    flags.add_argument("--dry-run", action="store_true", help="print the counts and stop")
    return flags.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Record what is missing; return the exit code."""
    return ended(partial(_record, _arguments(argv)))


def _record(asked: argparse.Namespace) -> None:
    studies = [STUDIES[name] for name in dict.fromkeys(asked.task or STUDIES)]
    recording = Recording(asked.out, studies, Design())
    if not asked.dry_run:
        site = Site(device="cpu", data=asked.data, cache=cache_folder())
        recording.run(
            partial(in_processes, site=site, workers=asked.workers),
            partial(header_of, site=site),
        )
    print(counts(recording))


if __name__ == "__main__":
    sys.exit(main())
