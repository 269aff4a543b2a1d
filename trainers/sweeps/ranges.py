"""Where max_lr is searched without a bracket: a range of one's own, or a wide one of ours."""

import math
from collections.abc import Sequence
from dataclasses import replace

from trainers.sweeps.judgement import Judgement, Origin, Proposal, propose

# The rates within half a point of the best, in four settings with SGD and three with AdamW
# (docs/benchmarks/range-test.md), reach from 0.026 to 2, and from 0.003 to 0.14. Below them there
# is room for what is fine-tuned. The middle of Adam's is the default rate of torch's Adam types.
WIDE = {"sgd": (1e-3, 1.0), "adaptive": (1e-5, 1e-1)}
"""The range of max_lr that is searched where no sweep says where training breaks."""
_LEAST_DECADES = 2.0  # of a wide range that the sweeps have cut


def wide_range(
    judgements: Sequence[Judgement], *, adaptive: bool, end_lr: float
) -> tuple[float, float]:
    """Return the wide range of an optimizer's type, without what the sweeps exclude.

    It ends at the highest rate at which a sweep broke, where each did. It reaches as far as the
    bracket of an edge at `end_lr` where most sweeps broke nowhere up to there.
    """
    low, high = WIDE["adaptive" if adaptive else "sgd"]
    endings = [judgement.ending for judgement in judgements]
    if 2 * endings.count("reached end_lr") > len(endings):
        at_end = propose([Judgement("rebounded", None, end_lr)], adaptive=adaptive)
        assert at_end is not None
        high = max(high, at_end.high)
    broken = [judgement.edge for judgement in judgements if judgement.edge is not None]
    if broken and len(broken) == len(judgements):
        high = min(high, max(broken))
        low = min(low, high / 10**_LEAST_DECADES)
    return low, high


def middle_of(low: float, high: float, *, origin: Origin) -> Proposal:
    """Return the geometric mean of a range in place of a proposal."""
    return Proposal(
        edge=None,
        low=low,
        high=high,
        max_lr=math.sqrt(low * high),
        n_sweeps=0,
        interval=None,
        drift=None,
        widened=False,
        origin=origin,
    )


def within(proposal: Proposal | None, own: tuple[float, float]) -> Proposal:
    """Return what is searched in a range of one's own: the proposal at its nearest rate."""
    low, high = own
    if proposal is None:
        return middle_of(low, high, origin="own range")
    max_lr = min(high, max(low, proposal.max_lr))
    return replace(proposal, low=low, high=high, max_lr=max_lr, widened=False, origin="own range")
