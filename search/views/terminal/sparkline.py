"""How the runs under way learn, as a few characters each: what `run` and `status` show."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from search.results.status import Running
from studies.states import Stage

SCORE, VALIDATION_LOSS, TRAIN_LOSS = KINDS = ("score", "val. loss", "train loss")
_LEVELS = "▁▂▃▄▅▆▇█"
_PLAIN = "_.-~=+*#"
"""Where the encoding of the terminal has no blocks."""
WIDTH = 10
_EPSILON = 1e-9  # 0.1 + 0.2 is above 0.3
_FEW_EPOCHS = 4
"""Cycles of fewer are shown by their training loss: so few scores are no curve."""


@dataclass(frozen=True, slots=True)
class Learning:
    """What a run shows of how it learns: a line that is full where the run is over, the last
    value, and whose value it is."""

    line: str
    last: float
    kind: str

    def __str__(self) -> str:
        return f"{self.line} {self.kind} {self.last:.4g}"


@dataclass(frozen=True, slots=True)
class _Values:
    """Values of one run, each with the share of the run that was over by then."""

    shares: tuple[float, ...]
    values: tuple[float, ...]

    @classmethod
    def of(cls, pairs: Sequence[tuple[float, float | None]]) -> "_Values":
        known = [(share, v) for share, v in pairs if v is not None and math.isfinite(v)]
        return cls(tuple(share for share, _ in known), tuple(value for _, value in known))


def learning(runs: Sequence[Running], *, plain: bool = False) -> Mapping[int, Learning]:
    """Return by its place what each run shows; a run that has nothing to show is left out.

    All show the same: the score by epoch once one has any, else the validation loss, else the
    training loss. Their heights compare. `plain`: in characters of ASCII.
    """
    for kind, values in _kinds(runs):
        if any(each.values for each in values):
            return dict(_drawn(kind, values, plain=plain))
    return {}


def _kinds(runs: Sequence[Running]) -> Iterator[tuple[str, list[_Values]]]:
    cycles = [run for run in runs if run.stage != Stage.RANGE_TEST]
    if any(run.length >= _FEW_EPOCHS for run in cycles):
        yield SCORE, [_by_epoch(run, "score") for run in runs]
        yield VALIDATION_LOSS, [_by_epoch(run, "validation_loss") for run in runs]
    yield TRAIN_LOSS, [_by_step(run) for run in runs]


def _by_epoch(run: Running, name: str) -> _Values:
    return _Values.of([(e.step / run.total_steps, getattr(e, name)) for e in run.by_epoch])


def _by_step(run: Running) -> _Values:
    if not run.by_step:  # a worker of an earlier version
        return _by_epoch(run, "train_loss")
    return _Values.of([(w.step / run.total_steps, w.train_loss) for w in run.by_step])


def _drawn(kind: str, values: Sequence[_Values], *, plain: bool) -> Iterator[tuple[int, Learning]]:
    shown = [each for each in values if each.values]
    low = min(min(each.values) for each in shown)
    # Of losses the first ones: where training breaks they leave any scale.
    tops = [max(each.values) if kind == SCORE else each.values[0] for each in shown]
    for place, each in enumerate(values):
        if each.values:
            yield place, Learning(_line(each, low, max(tops), plain), each.values[-1], kind)


def _line(run: _Values, low: float, high: float, plain: bool) -> str:
    """Return a character for each part of the run that has begun: the mean of its values, or the
    next value where it has none."""
    levels, line = _PLAIN if plain else _LEVELS, ""
    for cell in range(1, WIDTH + 1):
        begin, end = (cell - 1) / WIDTH + _EPSILON, cell / WIDTH + _EPSILON
        if begin > run.shares[-1]:
            break
        pairs = list(zip(run.shares, run.values, strict=True))
        own = [v for share, v in pairs if begin < share <= end]
        values = own or [next(v for share, v in pairs if share > end)]
        line += levels[_level(sum(values) / len(values), low, high)]
    return line


def _level(value: float, low: float, high: float) -> int:
    if high <= low:
        return 0
    share = min(1.0, max(0.0, (value - low) / (high - low)))
    return round(share * (len(_LEVELS) - 1))
