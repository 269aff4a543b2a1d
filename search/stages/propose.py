"""The sampler `kg`: which configuration comes next, and whether another is worth its cycle.

Pure functions of what was tried; simulations call them as workers do.
"""

from collections.abc import Sequence

from search.params import Params
from search.stages.believed import Belief
from search.stages.first import first_choices
from studies.definition import Screening

_STOP_BELOW = 0.05
"""Points that one more cycle must be expected to gain: a tenth of what a seed moves an accuracy by
(0.5 points in the better half of configurations)."""
_LEAST_TRIED = 6
"""Configurations of which some have scores before a search may end: two beside the first four, for
a flat start may be the flank of a hill."""
_AHEAD = 0.02
"""Points that a configuration nobody trained must be expected to lead by to be trained at the end:
less is below what its cycle could tell, with a deviation of some 0.5 points."""


def next_params(belief: Belief, *, pending: Sequence[Params] = ()) -> Params:
    """Return the candidate whose cycle is expected to gain most (knowledge gradient: Frazier,
    Powell and Dayanik, INFORMS Journal on Computing 21(4), 2009).

    `pending`: configurations under way, in other workers.
    """
    return belief.candidates[int(belief.gains(pending).argmax())]


def is_enough(
    belief: Belief | None, screening: Screening, *, pending: Sequence[Params] = ()
) -> float | None:
    """Return what one more cycle is expected to gain, where that is too little to go on.

    None where the search goes on. The pending ones end as usual, so theirs is not counted.
    """
    if belief is None or not belief.has_learnt:
        return None
    n_given = len(first_choices(belief.ranges)) + screening.n_initial
    if len(belief.tried) < max(_LEAST_TRIED, n_given):
        return None
    gain = belief.gain(pending)
    below = screening.stop_below
    return gain if gain < (_STOP_BELOW * belief.unit if below is None else below) else None


def unvisited(belief: Belief | None) -> Params | None:
    """Return a configuration that is worth training at the end of a search, for it is expected
    to score better than all that were trained; None where there is none."""
    if belief is None or belief.ahead <= _AHEAD * belief.unit:
        return None
    return belief.best_unvisited[0]
