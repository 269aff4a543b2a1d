"""The LR range test as a measurement: ours and other tools' beside the best rate of whole cycles.

    python -m benchmarks.range_test --data FOLDER --workers 2     record what is missing
    python -m benchmarks.range_test --report                      print the tables; nothing trains
    python -m benchmarks.range_test --report --write docs/benchmarks/range-test.md

The first line resumes where a killed start ended, and needs the extra `bench`.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.commands import Flags, at_least, ended, existing_folder
from benchmarks.perform import Job, header_of, in_processes
from benchmarks.range_records import KINDS, RangeRecords
from benchmarks.range_report import report
from benchmarks.record import RunAll, alone_in
from benchmarks.settings import SETTINGS, in_order
from studies.definition import Study
from trainers.device import Site, cache_folder

RECORDED = Path(__file__).parent / "recorded" / "range-test"


class Experiment(RangeRecords):
    """The files of a folder, and what is still to do in it."""

    def missing_jobs(self) -> list[Job]:
        """Return what the first group of work that is not complete lacks."""
        for group in in_order(self.best, self.suggested):
            missing = [work for work in dict.fromkeys(group) if self.record(work) is None]
            if missing:
                return [
                    Job(SETTINGS[w.task].study, w, SETTINGS[w.task].params(w)) for w in missing
                ]
        return []

    def run(self, run_all: RunAll, header: Callable[[Study], dict[str, str]]) -> None:
        """Do and keep everything that is missing."""
        opened: set[str] = set()
        with alone_in(self.folder):
            while jobs := self.missing_jobs():
                for name in {job.work.task for job in jobs} - opened:
                    made = header(SETTINGS[name].study)
                    for kind in KINDS:
                        self.journals[name, kind].open(made)
                    opened.add(name)
                for n_left, record in zip(
                    range(len(jobs) - 1, -1, -1), run_all(jobs), strict=True
                ):
                    self.journal(record.work).add(record)
                    print(f"{n_left} left of this group | {record.work}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Record what is missing, or report what is there; return the exit code."""
    asked = _arguments(argv)
    return ended(partial(_report if asked.report else _record, asked))


def _report(asked: argparse.Namespace) -> None:
    page = report(Experiment(asked.out))
    if asked.write is None:
        print(page.markdown())
    else:
        page.write(asked.write)


def _record(asked: argparse.Namespace) -> None:
    site = Site(device="cpu", data=asked.data, cache=cache_folder())
    Experiment(asked.out).run(
        partial(in_processes, site=site, workers=asked.workers),
        partial(header_of, site=site),
    )


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    flags = Flags("range_test", __doc__)
    flags.add_argument(
        "--data", type=existing_folder, help="CIFAR-10 as an ImageFolder; else a download"
    )
    flags.add_argument("--out", type=Path, default=RECORDED, help="default: %(default)s")
    flags.add_argument("--report", action="store_true", help="print the tables, train nothing")
    flags.add_argument("--write", type=Path, metavar="PAGE", help="with --report: to this file")
    flags.add_argument(
        "--workers", type=at_least(1), default=2, help="processes of one thread each"
    )
    asked = flags.parse_args(argv)
    if asked.write is not None and not asked.report:
        flags.error("--write needs --report")
    return asked


if __name__ == "__main__":
    sys.exit(main())
