"""Printed learning rates: a log's text -> rates, how far each is rounded, where each stands."""

import io
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trainers.calls.log_rows import is_fallback
from trainers.calls.log_store import OWN_EPOCH, OWN_STEP, Store
from trainers.calls.log_texts import rows
from trainers.errors import UserError

Unit = Literal["epoch", "fraction", "batch", "step", "count"]
"""What places the rates: whole epochs, fractions of them, an epoch with a batch in it, steps of
the whole training, or nothing but their order."""

_NEARLY = 0.9
"""A group with so large a part of the most rates is as complete as that one."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Log:
    """The rates of one run and one param group, in order; what was not used is counted.

    The rates lie within `half` of their digits, `exponent` is the power of ten of the last one.
    `epoch`, `batch` and `step` are as printed, nan where nothing was; `batches`, `steps` and
    `epochs` are what the log says there are in all. `others` are the same lines' rates of other
    groups, `alternates` other ways to place the same rates.
    """

    unit: Unit
    lr: NDArray[Any]
    half: NDArray[Any]
    digits: NDArray[Any]
    exponent: NDArray[Any]
    epoch: NDArray[Any]
    epoch_half: NDArray[Any]
    batch: NDArray[Any]
    step: NDArray[Any]
    epochs: int | None
    batches: int | None
    steps: int | None
    group: str
    forms: tuple[tuple[str, str], ...]
    epochs_counted: bool = False
    each: int | None = None
    n_repeated: int = 0
    n_of_earlier_runs: int = 0
    n_left_out: int = 0
    others: tuple["Log", ...] = ()
    alternates: tuple["Log", ...] = ()

    def only(self, which: NDArray[Any]) -> "Log":
        """Return the log with some of its rates."""
        taken = {name: getattr(self, name)[which] for name in _ARRAYS}
        return replace(self, **taken)


_ARRAYS = ("lr", "half", "digits", "exponent", "epoch", "epoch_half", "batch", "step")


def parse(text: str | Iterable[str]) -> Log:
    """Read a log: free lines, tables, JSON lines or one JSON document; docs/diagnose.md says more.

    Of several rates at one position the last one counts; where the positions start again, the
    last run. Raises UserError for a log without any rate.
    """
    lines = io.StringIO(text, newline=None) if isinstance(text, str) else text
    store = Store()
    for row in rows(lines):
        store.add(row)
    if not store.by_name:
        raise UserError(
            "no learning rate in the log; lines like 'Epoch 3 ... LR=0.0004' or 'step 100 lr "
            "4e-4', tables and CSV with a column lr, or JSON with a key lr are read"
        )
    logs = [_log(name, kept.numbers(), store) for name, kept in store.by_name.items()]
    plain = [log for log in logs if not is_fallback(log.group)] or logs
    most = max(len(log.lr) for log in plain)
    complete = [log for log in plain if len(log.lr) >= _NEARLY * most]
    return replace(complete[0], others=tuple(complete[1:]))


def _log(name: str, columns: dict[str, NDArray[Any]], store: Store) -> Log:
    """Return the rates of one name: the lines of one kind, the last run."""
    kept, steps, batches = _of_one_kind(columns)
    c = {field: column[kept] for field, column in columns.items()}
    epochs = c["epochs"][~np.isnan(c["epochs"])]
    log = Log(
        unit="count",
        lr=c["lr"],
        half=c["lr"],
        digits=c["lr_digits"],
        exponent=c["lr_exponent"],
        epoch=c["epoch"],
        epoch_half=_halves(c["epoch"], c["epoch_digits"], c["epoch_exponent"]),
        batch=c["batch"],
        step=c["step"],
        epochs=int(np.median(epochs)) if len(epochs) else None,
        batches=batches,
        steps=steps,
        group=name,
        forms=tuple((kind, form.most_common(1)[0][0]) for kind, form in store.forms.items()),
        n_left_out=len(columns["lr"]) - len(kept),
    )
    return _rounded(_last_run(_placed(log)))


def _rounded(log: Log) -> Log:
    """Return the log with how far its rates are rounded; another run may have another format."""
    alternates = tuple(_rounded(other) for other in log.alternates)
    half = _halves(log.lr, log.digits, log.exponent)
    return replace(log, half=half, alternates=alternates)


def _of_one_kind(c: dict[str, NDArray[Any]]) -> tuple[NDArray[Any], int | None, int | None]:
    """Return which lines count: the most that say their position in one way, and their totals.

    An options dump, a summary, the lines of a validation over other batches are left out.
    """
    own = c["own"].astype(int)
    has = {name: ~np.isnan(c[name]) for name in ("epoch", "batch", "step")}
    kind = (
        has["epoch"] * 1
        + has["batch"] * 2
        + has["step"] * 4
        + ((own & OWN_EPOCH) > 0) * 8
        + ((own & OWN_STEP) > 0) * 16
    )
    keys = np.stack(
        [kind, np.nan_to_num(c["batches"], nan=-1), np.nan_to_num(c["steps"], nan=-1)], axis=1
    )
    found, inverse, counts = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    inverse = inverse.reshape(-1)
    order = sorted(range(len(found)), key=lambda k: (counts[k], found[k][0]), reverse=True)
    numbered = [k for k in order if found[k][0] and counts[k] > 1]
    best = (numbered or order)[0]
    if not numbered and found[order[0]][0] == 0 and counts[order[0]] == 1:
        best = max(range(len(found)), key=lambda k: found[k][0])
    batches, steps = int(found[best][1]), int(found[best][2])
    which = np.flatnonzero(inverse == best)
    return which, None if steps < 0 else steps, None if batches < 0 else batches


def _halves(values: NDArray[Any], digits: NDArray[Any], exponents: NDArray[Any]) -> NDArray[Any]:
    """Return half a unit of the last digit of each.

    One log has one format, which may strip zeros: a number is as exact as the most decimals of
    the log say, if its own count of digits stays within the most digits of the log.
    """
    there = np.isfinite(values)
    if not there.any():
        return np.zeros(len(values))
    most, finest = digits[there].max(), exponents[there].min()
    leading = exponents + digits - 1
    last = np.minimum(exponents, np.maximum(finest, leading - most + 1))
    return np.asarray(0.5 * 10.0 ** np.where(there, last, 0.0))


def _placed(log: Log) -> Log:
    """Decide what places the rates."""
    epoch, batch, step = (~np.isnan(c).any() for c in (log.epoch, log.batch, log.step))
    if step and (epoch or not batch):
        if epoch and _begins_again_with_epochs(log):
            log = replace(log, batch=log.step, batches=log.steps, step=_nothing(log), steps=None)
            return replace(log, unit="batch")
        log = replace(log, unit="step")
        return log if epoch else _by_epochs_counted(log)
    if batch and epoch:
        return replace(log, unit="batch")
    if batch:
        log = replace(log, unit="step", step=log.batch, steps=log.batches)
        return _by_epochs_counted(replace(log, batch=_nothing(log), batches=None))
    if epoch:
        whole = bool((log.epoch == np.rint(log.epoch)).all())
        return replace(log, unit="epoch" if whole else "fraction")
    return log


def _begins_again_with_epochs(log: Log) -> bool:
    """Whether the step numbers are those of an epoch: they fall where the epoch rises."""
    rises = np.diff(log.epoch) > 0
    falls = np.diff(log.step) < 0
    if log.steps is not None and not rises.any():
        return False
    return bool(rises.any() and (falls & rises).sum() > rises.sum() / 2)


def _by_epochs_counted(log: Log) -> Log:
    """Count epochs where step numbers begin again after each full one; the other way is kept."""
    falls = np.flatnonzero(np.diff(log.step) < 0)
    if not len(falls):
        return log
    rises = np.diff(log.step)
    spacing = float(np.median(rises[rises > 0])) if (rises > 0).any() else 1.0
    ends = log.step[falls]
    most = ends.max() if log.steps is None else log.steps
    if (ends < most - spacing - 1).any() or (log.steps is None and len(falls) < 2):
        return log
    epoch = 1.0 + np.concatenate([[0], np.cumsum(np.diff(log.step) < 0)])
    counted = replace(
        log,
        unit="batch",
        epoch=epoch,
        epoch_half=np.zeros(len(epoch)),
        batch=log.step,
        batches=log.steps,
        step=_nothing(log),
        steps=None,
        epochs_counted=True,
    )
    return replace(counted, alternates=(_last_run(log),))


def _nothing(log: Log) -> NDArray[Any]:
    return np.full(len(log.lr), np.nan)


def _last_run(log: Log) -> Log:
    """Leave out earlier runs and repeated lines, such as those of several ranks."""
    if log.unit == "count":
        return log
    place = log.step if log.unit == "step" else log.epoch
    if log.unit == "batch":
        place = log.epoch * (1 + np.nanmax(log.batch)) + log.batch
    begin, mixed = _begin_of_run(place, log.lr)
    run = np.arange(begin, len(place))
    if mixed:
        run = run[np.argsort(place[begin:], kind="stable")]
    places = place[run]
    last = np.append(places[1:] != places[:-1], True)
    kept = log.only(run[last])
    log_in_order = replace(kept, n_of_earlier_runs=begin, n_repeated=int(len(run) - last.sum()))
    if log.unit != "epoch" or last.all():
        return log_in_order
    first = np.append(True, places[1:] != places[:-1])
    ways = [replace(log_in_order, **_columns_of(log.only(run[first])))]
    if (spread := _spread(log.only(run), places)) is not None:
        ways.append(spread)
    return replace(log_in_order, alternates=(*log.alternates, *ways))


def _columns_of(log: Log) -> dict[str, Any]:
    return {name: getattr(log, name) for name in _ARRAYS}


def _spread(log: Log, places: NDArray[Any]) -> Log | None:
    """Return the log by batches where each epoch has as many rates without a batch number."""
    _, counts = np.unique(places, return_counts=True)
    each = int(counts[0])
    if each < 3 or (counts[:-1] != each).any() or counts[-1] > each:
        return None
    nth = np.concatenate([np.arange(count) for count in counts]).astype(float)
    return replace(log, unit="batch", batch=nth, each=each, alternates=())


def _begin_of_run(place: NDArray[Any], lr: NDArray[Any]) -> tuple[int, bool]:
    """Return where the last run begins, and whether it went back to positions it had had.

    A fall of the position begins a run, unless its rates are those that the positions had before:
    then it is another rank's line, or a resumed run.
    """
    falls = (np.flatnonzero(np.diff(place) < 0) + 1).tolist()
    if not falls:
        return 0, False
    places, rates = place.tolist(), [lr if lr == lr else None for lr in lr.tolist()]
    begin, mixed, seen = 0, False, dict(zip(places[: falls[0]], rates[: falls[0]], strict=True))
    for start, end in zip(falls, [*falls[1:], len(places)], strict=True):
        part = dict(zip(places[start:end], rates[start:end], strict=True))
        known = [p for p in part if p in seen]
        if known and all(seen[p] == part[p] for p in known):
            seen |= part
            mixed = True
        else:
            begin, mixed, seen = start, False, part
    return begin, mixed
