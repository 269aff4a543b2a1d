"""The LR range test as a measurement: ours and other tools' beside the best rate of whole cycles.

    python -m benchmarks.range_test --data FOLDER --workers 2     record what is missing
    python -m benchmarks.range_test --report                      print the tables; nothing trains
    python -m benchmarks.range_test --report --write docs/benchmarks/range-test.md

The first line resumes where a killed start ended, and needs the extra `bench`.
"""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.perform import Job, header_of, in_processes
from benchmarks.range_records import KINDS, RangeRecords
from benchmarks.range_report import report
from benchmarks.record import RunAll, alone_in
from benchmarks.settings import SETTINGS, in_order
from studies.definition import Study
from trainers.device import Site, cache_folder
from trainers.errors import UserError

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
    """Return the exit code: 0 done, 2 something to fix, 130 interrupted."""
    logging.basicConfig(format="%(levelname)s %(message)s")
    asked = _arguments(argv)
    try:
        experiment = Experiment(asked.out)
        if asked.report:
            page = report(experiment)
            if asked.write is None:
                print(page.markdown())
            else:
                page.write(asked.write)
            return 0
        site = Site(device="cpu", data=asked.data, cache=cache_folder())
        experiment.run(
            partial(in_processes, site=site, workers=asked.workers),
            partial(header_of, site=site),
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.range_test",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, help="CIFAR-10 as an ImageFolder; else a download")
    parser.add_argument("--out", type=Path, default=RECORDED, help="default: %(default)s")
    parser.add_argument("--report", action="store_true", help="print the tables, train nothing")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="with --report: to this file")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    asked = parser.parse_args(argv)
    if asked.write is not None and not asked.report:
        parser.error("--write needs --report")
    return asked


if __name__ == "__main__":
    sys.exit(main())
