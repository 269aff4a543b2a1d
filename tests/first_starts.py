"""Start a study many times at the same moment: `python -m tests.first_starts N URL`.

The starts are forked from one process that has imported everything by a search of its own, so
that they meet at the database and not one after the other. Prints their exit codes as JSON.
"""

import json
import multiprocessing
import os
import sys
import tempfile
from multiprocessing.synchronize import Barrier

from search.api import run
from tests.conftest import TABLE_STUDY


def start(barrier: Barrier, url: str) -> None:
    """Wait for the others, then be one start of the study."""
    barrier.wait()
    run(TABLE_STUDY, storage=url, workers=1, device="cpu")


def warm_up() -> None:
    """Search once elsewhere, which leaves nothing to import."""
    ledger = os.environ.pop("TABLE_LEDGER", None)
    with tempfile.TemporaryDirectory() as folder:
        run(TABLE_STUDY, storage=f"sqlite:///{folder}/a.db", workers=1, device="cpu")
    if ledger is not None:
        os.environ["TABLE_LEDGER"] = ledger


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
