"""Rows of a log by name of the rate, held as columns of numbers, so that long logs stay small."""

import re
from array import array
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.calls.log_numbers import Number
from trainers.calls.log_rows import Row

FIELDS = [
    "lr",
    "lr_digits",
    "lr_exponent",
    "epoch",
    "epoch_digits",
    "epoch_exponent",
    "epochs",
    "batch",
    "batches",
    "step",
    "steps",
    "own",
]
OWN_EPOCH, OWN_STEP = 1, 2
_MOST_NAMES = 24
_MOST_FORMS = 200
"""Rows whose printed positions are kept for the report."""
_NONE = float("nan")
_NOWHERE = Number(_NONE)


@dataclass(slots=True)
class Columns:
    """The rates of one name in the log's order, FIELDS of each; nan for what is not said."""

    name: str
    rows: "array[float]"

    def numbers(self) -> dict[str, NDArray[Any]]:
        """Return the columns by field."""
        table = np.array(self.rows).reshape(-1, len(FIELDS))
        return {field: table[:, number] for number, field in enumerate(FIELDS)}


class Store:
    """Takes rows in order; an epoch or a step holds for the lines after it, not in tables."""

    def __init__(self) -> None:
        self.by_name: dict[str, Columns] = {}
        self.forms: dict[str, Counter[str]] = {}
        self._n_forms = 0
        self._epoch: Number | None = None
        self._epochs: int | None = None
        self._step: int | None = None
        self._steps: int | None = None

    def add(self, row: Row) -> None:
        """Add the rates of a row."""
        own = OWN_EPOCH * (row.epoch is not None) + OWN_STEP * (row.step is not None)
        if not row.table:
            self._inherit(row)
        for name, rate in row.rates:
            kept = self.by_name.get(name)
            if kept is None:
                if len(self.by_name) >= _MOST_NAMES:
                    continue
                kept = self.by_name[name] = Columns(name, array("d"))
            epoch = row.epoch or _NOWHERE
            kept.rows.extend(
                (
                    rate.value,
                    rate.digits,
                    rate.exponent,
                    epoch.value,
                    epoch.digits,
                    epoch.exponent,
                    _NONE if row.epochs is None else row.epochs,
                    _NONE if row.batch is None else row.batch,
                    _NONE if row.batches is None else row.batches,
                    _NONE if row.step is None else row.step,
                    _NONE if row.steps is None else row.steps,
                    own,
                )
            )
        if row.rates and self._n_forms < _MOST_FORMS:
            self._n_forms += 1
            for kind, form in row.forms.items():
                self.forms.setdefault(kind, Counter())[_short(form)] += 1

    def _inherit(self, row: Row) -> None:
        if row.epoch is not None:
            self._epoch, self._epochs, self._step = row.epoch, row.epochs, None
        elif self._epoch is not None:
            row.epoch, row.epochs = self._epoch, self._epochs
        if row.step is not None:
            self._step, self._steps = row.step, row.steps
        elif row.batch is None and self._step is not None:
            row.step, row.steps = self._step, self._steps


def _short(form: str | tuple[str, int, int]) -> str:
    """Return the text that gave a position."""
    text = form if isinstance(form, str) else form[0][form[1] : form[2]]
    return re.sub(r"\s+", " ", text).strip(" '\",:;|-])}")[:40]
