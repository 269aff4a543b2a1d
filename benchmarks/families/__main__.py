"""Record the families of tasks on which searches are judged.

    python -m benchmarks.families --data FOLDER --workers 2
    python -m benchmarks.families --dry-run        how much there is, and how much is done
    python -m benchmarks.families --write docs/benchmarks/families.md

FOLDER is CIFAR-10 as an ImageFolder, which three of the families need. The same line resumes
where a killed recording ended. About one core hour in all.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.commands import Flags, at_least, ended, existing_folder
from benchmarks.families.design import Design
from benchmarks.families.record import RECORDED, Recording, in_processes
from benchmarks.families.table import FAMILIES


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    flags = Flags("families", __doc__)
    flags.add_argument("--data", type=existing_folder, help="CIFAR-10 as an ImageFolder")
    flags.add_argument("--out", type=Path, default=RECORDED, help="default: %(default)s")
    flags.add_argument(
        "--workers", type=at_least(1), default=1, help="processes of one thread each"
    )
    flags.add_argument("--only", choices=FAMILIES, action="append", help="default: all")
    instead = flags.add_mutually_exclusive_group()
    instead.add_argument("--dry-run", action="store_true", help="print the counts and stop")
    instead.add_argument(
        "--write", type=Path, metavar="PAGE", help="write the page of what is kept, and stop"
    )
    return flags.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Record what is missing, or write the page; return the exit code."""
    return ended(partial(_record, _arguments(argv)))


def _record(asked: argparse.Namespace) -> None:
    # Before torch is there, in this process and in the workers.
    os.environ["OMP_NUM_THREADS"] = "1"
    if asked.write is not None:
        from benchmarks.families.report import page

        page(asked.out).write(asked.write)
        return
    families = [FAMILIES[name] for name in dict.fromkeys(asked.only or FAMILIES)]
    recording = Recording(asked.out, families, data=asked.data, design=Design())
    if not asked.dry_run:
        recording.run(partial(in_processes, workers=asked.workers))
    print(recording.counts())


if __name__ == "__main__":
    sys.exit(main())
