"""Charts of plain characters, for a terminal or a log."""

import math
import threading
from collections.abc import Sequence

from trainers.sweeps.result import RangeTestResult, range_name
from trainers.sweeps.smoothing import smoothed_curve

HEIGHT = 18
SCHEDULE_HEIGHT = 13
# More points than most terminals have columns.
_POINTS = 400
_WIDTHS = (40, 100)
_LOCK = threading.Lock()  # plotext draws on one figure of its module


def range_test_chart(result: RangeTestResult, *, width: int) -> str:
    """Return every sweep as it was judged over the learning rate, with lines at bracket and
    proposal; empty where no sweep has enough finite losses to smooth.
    """
    import plotext

    drawn = [c for c in map(smoothed_curve, result.curves) if not math.isnan(c.first)]
    if not drawn:
        return ""
    low = min(float(curve.smoothed.min()) for curve in drawn)
    first = max(curve.first for curve in drawn)
    # A flat curve has no height of its own, and plotext needs limits that differ.
    room = 0.1 * (first - low) or 0.1 * abs(first)
    with _LOCK:
        plotext.clear_figure()
        plotext.theme("clear")
        plotext.plot_size(min(max(width, _WIDTHS[0]), _WIDTHS[1]), HEIGHT)
        for curve in drawn:
            logs = [math.log10(lr) for lr in curve.lrs]
            plotext.plot(logs, curve.smoothed.tolist(), marker="braille")
        if result.proposal is not None:
            proposal = result.proposal
            for lr in (proposal.low, proposal.max_lr, proposal.high):
                plotext.vline(math.log10(lr))
        decades = _decades([float(curve.lrs[0]) for curve in drawn], result.plan.end_lr)
        plotext.xlim(decades[0], decades[-1])
        plotext.ylim(low - room, first + room)
        plotext.xticks(decades, [f"{10.0**decade:g}" for decade in decades])
        lines = plotext.uncolorize(plotext.build()).splitlines()
    title = f"training loss, smoothed, of n = {len(drawn)} sweeps over the learning rate"
    marks = ""
    if result.proposal is not None:
        marks = f"; lines: {range_name(result.proposal)} and the baseline's max_lr"
        if result.proposal.origin == "edge":
            marks = "; lines: bracket and proposed max_lr"
    return "\n".join([title + marks, *(line.rstrip() for line in lines)])


def schedule_chart(lrs: Sequence[float], *, width: int) -> str:
    """Return the rate of each step of a cycle over its steps."""
    import plotext

    last = len(lrs) - 1
    steps = sorted({*range(0, last, max(1, len(lrs) // _POINTS)), last})
    with _LOCK:
        plotext.clear_figure()
        plotext.theme("clear")
        plotext.plot_size(width, SCHEDULE_HEIGHT)
        plotext.plot([step + 1 for step in steps], [lrs[step] for step in steps])
        plotext.xticks([1, len(lrs)], ["step 1", f"{len(lrs):,}"])
        plotext.title("learning rate")
        lines = plotext.uncolorize(plotext.build()).splitlines()
    return "\n".join(line.rstrip() for line in lines)


def _decades(first: Sequence[float], last: float) -> list[int]:
    """Return the whole decades from the lowest to the highest rate."""
    return list(range(math.floor(math.log10(min(first))), math.ceil(math.log10(last)) + 1))
