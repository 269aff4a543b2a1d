"""When a range test ends: the sweep that it needs next, if any; a pure function."""

from collections.abc import Sequence
from typing import Literal

from trainers.sweeps.judgement import BRACKET_FACTOR, Judgement, agree, propose

Kind = Literal["fast", "slow"]
"""A slow sweep takes twice the steps of a fast one, over the same rates."""

FEWEST_SWEEPS = 2
"""So many fast sweeps are needed whatever they say, where the maximum allows them: one alone
shows nothing of its own error."""


def next_sweep(
    judgements: Sequence[Judgement],
    *,
    most: int,
    n_given_up: int = 0,
    slow: bool = False,
) -> Kind | None:
    """Return which sweep a range test needs after these, None where it needs no more.

    `judgements` are those of its fast sweeps, judged together; `n_given_up` more have nothing to
    judge. At most `most` fast sweeps are made, and one slow one; `slow`: that was made.

    Two fast sweeps whose edges lie within AGREE_FACTOR of each other are enough. Their mean is
    then hardly ever further than that from the edge of many sweeps (docs/benchmarks.md), and the
    bracket, which reaches BRACKET_FACTOR either way, forgives it. Where they disagree, more fast
    sweeps are made until the t interval of the edge spans no more than BRACKET_FACTOR, and then
    the slow one, which tells whether the edge moves with the number of steps. A sweep without an
    edge counts as one that disagrees. Where most sweeps have none there is nothing that a slow
    one could widen, and none is made.
    """
    n = len(judgements) + n_given_up
    if n < min(FEWEST_SWEEPS, most):
        return "fast"
    if not n_given_up and agree(judgements):
        return None
    if n < most and not _is_known(judgements):
        return "fast"
    return None if slow or propose(judgements) is None else "slow"


def _is_known(judgements: Sequence[Judgement]) -> bool:
    """Whether the edge is known well enough for what the bracket forgives."""
    said = propose(judgements)
    if said is None or said.interval is None:
        return False
    low, high = said.interval
    return high / low <= BRACKET_FACTOR
