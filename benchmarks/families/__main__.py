"""Record the families of tasks on which searches are judged.

    python -m benchmarks.families --data FOLDER --workers 2
    python -m benchmarks.families --dry-run        how much there is, and how much is done
    python -m benchmarks.families --write docs/benchmarks/families.md

FOLDER is CIFAR-10 as an ImageFolder, which three of the families need. The same line resumes
where a killed recording ended. About one core hour in all.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.families.design import Design
from benchmarks.families.record import RECORDED, Recording, in_processes
from benchmarks.families.table import FAMILIES
from trainers.errors import UserError


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.families",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, help="CIFAR-10 as an ImageFolder")
    parser.add_argument("--out", type=Path, default=RECORDED, help="default: %(default)s")
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread each")
    parser.add_argument("--only", choices=FAMILIES, action="append", help="default: all")
    parser.add_argument("--dry-run", action="store_true", help="print the counts and stop")
    parser.add_argument("--write", type=Path, help="write the page of what is kept, and stop")
    asked = parser.parse_args(argv)
    if asked.workers < 1:
        parser.error(f"--workers must be at least 1, got {asked.workers}")
    return asked


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 0 recorded, 2 something to fix, 130 interrupted."""
    logging.basicConfig(format="%(levelname)s %(message)s")
    asked = _arguments(argv)
    # Before torch is there, in this process and in the workers.
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        if asked.write is not None:
            from benchmarks.families.report import page

            page(asked.out).write(asked.write)
            return 0
        families = [FAMILIES[name] for name in dict.fromkeys(asked.only or FAMILIES)]
        recording = Recording(asked.out, families, data=asked.data, design=Design())
        if not asked.dry_run:
            recording.run(partial(in_processes, workers=asked.workers))
        print(recording.counts())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
