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
import os
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from benchmarks.commands import Flags, at_least, ended
from benchmarks.judge import refits, trained
from benchmarks.judge.judged import NAMES
from benchmarks.judge.kept import Kept
from benchmarks.judge.page import REFITS, write
from benchmarks.judge.strategies import STRATEGIES, repeated_often
from benchmarks.processes import as_they_end

RECORDED = Path(__file__).parents[1] / "recorded" / "judge.jsonl"
_FEWER = {"gp": 5}
"""Strategies that take long have so many times fewer repetitions."""
_BLOCK = 10  # repetitions that one process does before another family has its turn


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    flags = Flags("judge", __doc__)
    flags.add_argument("--out", type=Path, default=RECORDED, help="default: %(default)s")
    instead = flags.add_mutually_exclusive_group()
    instead.add_argument(
        "--write", type=Path, metavar="PAGE", help="write the page of what is kept, and end"
    )
    instead.add_argument("--trained", action="store_true", help="train searches for real")
    instead.add_argument("--refit", action="store_true", help="fit first choices and shares again")
    flags.add_argument("--repetitions", type=at_least(1), default=100, help="default: %(default)s")
    flags.add_argument(
        "--workers", type=at_least(1), default=1, help="processes of one thread each"
    )
    flags.add_argument("--only", choices=STRATEGIES, action="append", help="default: all")
    flags.add_argument("--family", choices=NAMES, action="append", help="default: all")
    asked = flags.parse_args(argv)
    if (asked.write or asked.trained or asked.refit) and (asked.only or asked.family):
        flags.error("--only and --family choose what is replayed: leave them out here")
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
    """Do what is asked for; return the exit code."""
    asked = _arguments(argv)
    os.environ["OMP_NUM_THREADS"] = "1"
    if asked.write is not None:
        return ended(partial(write, asked.out, asked.write))
    if asked.refit:
        return ended(partial(_refit, asked.out.with_name(REFITS)))
    return ended(partial(_train if asked.trained else _judge, asked))


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
