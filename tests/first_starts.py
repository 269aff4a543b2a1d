"""Start a study many times at the same moment: `python -m tests.first_starts N URL`.

The starts are forked from one process that has imported everything, so that they meet at the
database and not one after the other. Prints their exit codes as JSON.
"""

import json
import multiprocessing
import sys
from multiprocessing.synchronize import Barrier

from benchmarks.chaos import warm_up
from search.api import run
from tests.conftest import TABLE_STUDY


def start(barrier: Barrier, url: str) -> None:
    """Wait for the others, then be one start of the study."""
    barrier.wait()
    run(TABLE_STUDY, storage=url, workers=1)


def main() -> None:
    """Start them all, wait for all."""
    n, url = int(sys.argv[1]), sys.argv[2]
    warm_up()
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(n)
    starts = [context.Process(target=start, args=(barrier, url)) for _ in range(n)]
    for process in starts:
        process.start()
    for process in starts:
        process.join()
    print(json.dumps([process.exitcode for process in starts]))


if __name__ == "__main__":
    main()
