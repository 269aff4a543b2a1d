"""Judge whole searches on recorded families of tasks.

    python -m benchmarks.judge --workers 2                       about 40 core minutes
    python -m benchmarks.judge --trained --workers 2             searches that train: 30 more
    python -m benchmarks.judge --refit                           fits with families left out
    python -m benchmarks.judge --write docs/benchmarks/judge.md  the page of what is kept

The same line resumes where a killed start ended. Repetitions of all families and strategies come
in turns, so that what is there may be looked at any time.
"""

import argparse
import importlib.metadata
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from benchmarks.judge import refits, trained
from benchmarks.judge.judged import NAMES
from benchmarks.judge.kept import Kept
from benchmarks.judge.page import REFITS, write
from benchmarks.judge.strategies import STRATEGIES, repeated_often
from benchmarks.processes import as_they_end
from trainers.errors import UserError

RECORDED = Path(__file__).parents[1] / "recorded" / "judge.jsonl"
_FEWER = {"gp": 5}
"""Strategies that take long have so many times fewer repetitions."""
_BLOCK = 10  # repetitions that one process does before another family has its turn


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.judge",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=RECORDED, help="default: %(default)s")
    parser.add_argument("--write", type=Path, help="write the page of what is kept, and end")
    parser.add_argument("--trained", action="store_true", help="train searches for real")
    parser.add_argument("--refit", action="store_true", help="fit first choices and shares again")
    parser.add_argument("--repetitions", type=int, default=100, help="default: %(default)s")
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread each")
    parser.add_argument("--only", choices=STRATEGIES, action="append", help="default: all")
    parser.add_argument("--family", choices=NAMES, action="append", help="default: all")
    asked = parser.parse_args(argv)
    for name in ("workers", "repetitions"):
        if getattr(asked, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(asked, name)}")
    return asked


Block = tuple[str, str, tuple[int, ...]]
"""Family, strategy, repetitions."""


def lacking(
    kept: Kept, *, families: Sequence[str], strategies: Sequence[str], repetitions: int
) -> Iterator[Block]:
    """Yield what is not there yet, a block of repetitions of everything after the other."""
    for first in range(0, repetitions, _BLOCK):
        for family in families:
            for strategy in strategies:
                n = -(-repetitions // _FEWER.get(strategy.split(", ")[0], 1))
                block = range(first, min(n, first + _BLOCK))
                left = tuple(r for r in block if (family, strategy, r) not in kept.rows)
                if left:
                    yield family, strategy, left


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 0 judged, 2 something to fix, 130 interrupted."""
    logging.basicConfig(format="%(levelname)s %(message)s")
    asked = _arguments(argv)
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        if asked.write is not None:
            write(asked.out, asked.write)
        elif asked.refit:
            _refit(asked.out.with_name(REFITS))
        elif asked.trained:
            _train(asked)
        else:
            _judge(asked)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _judge(asked: argparse.Namespace) -> None:
    kept = Kept(asked.out)
    kept.open({name: importlib.metadata.version(name) for name in ("optuna", "numpy", "scipy")})
    blocks = list(
        lacking(
            kept,
            families=asked.family or NAMES,
            strategies=asked.only or list(STRATEGIES),
            repetitions=asked.repetitions,
        )
    )
    calls = {block: partial(repeated_often, *block) for block in blocks}
    ended = as_they_end(calls, workers=asked.workers)
    for number, (block, rows) in enumerate(ended, 1):
        kept.add(rows)
        print(f"{number} of {len(blocks)}: {block[0]}, {block[1]}", file=sys.stderr)


def _train(asked: argparse.Namespace) -> None:
    kept = trained.KeptSearches(asked.out.with_name(trained.FILE))
    calls = {key: partial(trained.searched, *key) for key in kept.lacking(trained.N_SEARCHES)}
    for number, (key, found) in enumerate(as_they_end(calls, workers=asked.workers), 1):
        kept.add(found)
        print(f"{number} of {len(calls)}: {key[0]}, search {key[1]}", file=sys.stderr)


def _refit(path: Path) -> None:
    families = [refits.measured(name) for name in NAMES]
    found = {"fits": list(refits.refitted(families)), "spread": refits.spread(families)}
    path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
