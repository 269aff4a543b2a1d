"""What a range test measured, for programs: every step as CSV, what it says as JSON."""

import csv
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trainers.sweeps.judgement import judge
from trainers.sweeps.result import RangeTestResult

COLUMNS = ("sweep", "step", "lr", "other_lrs", "loss", "grad_norm", "finite")


def rows(result: RangeTestResult) -> Iterator[tuple[Any, ...]]:
    """Yield a row under COLUMNS for each optimizer step; the sweep "slow" takes twice the steps.

    A loss that is not finite is None; rates of further param groups are joined by spaces.
    """
    sweeps = {str(number): points for number, points in enumerate(result.points)}
    if result.slow is not None:
        sweeps["slow"] = result.slow
    for name, points in sweeps.items():
        for p in points:
            others, loss = " ".join(map(str, p.other_lrs)), p.loss if p.finite else None
            yield name, p.step, p.lr, others, loss, p.grad_norm, p.finite


def write_points(result: RangeTestResult, file: Path) -> None:
    """Write the same as comma-separated values, None as nothing."""
    with file.open("w", newline="") as target:
        # The csv module ends lines with \r\n, as RFC 4180 says, which shell tools stumble over.
        writer = csv.writer(target, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows(result))


def as_json(result: RangeTestResult) -> dict[str, Any]:
    """Return what the sweeps say and cost as plain JSON values, without the points."""
    slow = result.slow_curve
    others = {key: as_json(other) for key, other in result.others.items()}
    return {
        "plan": {name: value for name, value in asdict(result.plan).items() if name != "driven"},
        "sweeps": [asdict(judgement) for judgement in result.judgements],
        "slow": None if slow is None else asdict(judge(slow)),
        "proposal": None if result.proposal is None else asdict(result.proposal),
        "n_steps": result.n_steps,
        "seconds": result.seconds,
        **({"batch_sizes": others} if others else {}),
    }
