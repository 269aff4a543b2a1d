"""Which images are train, validation and test, where a folder leaves that to us."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainers.errors import DataError
from trainers.images.words import counted

Index = NDArray[np.int64]

# Not the study's seed: all studies share one split, so their scores compare. Another number would
# mix the train and validation images of studies that are stored.
PERMUTATION_SEED = 20180326
CUT_SHARE = 0.15
"""The share of the train images that becomes a split which the folder does not have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Three splits as indices into the train images; `test` is None where it is a part of its own.

    `remarks` say how they came about.
    """

    train: Index
    validation: Index
    test: Index | None
    remarks: tuple[str, ...] = ()


def permutation(n: int) -> Index:
    """Return the one order of `n` images in which splits are drawn."""
    return np.random.default_rng(PERMUTATION_SEED).permutation(n)


def drawn(n: int, *, n_train: int, n_validation: int, rest_is_test: bool) -> Plan:
    """Draw both splits from `n` images without regard to classes; DataError where n is less."""
    n_taken = n_train + n_validation
    if n_taken > n:
        raise DataError(
            f"n_train={n_train} and n_validation={n_validation} need {n_taken} images, "
            f"but the train part of the data holds {n}"
        )
    order = permutation(n)
    return Plan(
        train=order[:n_train],
        validation=order[n_train:n_taken],
        test=order[n_taken:] if rest_is_test else None,
        remarks=("validation: drawn from the train images by a fixed seed",),
    )


def stratified(
    labels: Index,
    classes: Sequence[str],
    *,
    own_validation: int,
    own_test: bool,
    n_train: int | None,
    n_validation: int | None,
) -> Plan:
    """Cut what the folder lacks from its train images, each class by its share, by a fixed seed.

    The last `own_validation` of the images are a validation split of the folder's own. A number
    that is given takes so many; None takes all there are or, of a cut, `CUT_SHARE`. Raises
    DataError for numbers that are too large, and for a class that is too small to be cut.
    """
    n = len(labels) - own_validation
    cuts = [
        *([] if own_validation else ["validation"]),
        *([] if own_test else ["test"]),
    ]
    _check_classes(labels[:n], classes, cuts)
    pool, said, test = permutation(n), [], None
    share = max(len(classes), round(CUT_SHARE * n))
    if not own_test:
        test, pool = _cut(pool, labels, share, "the share of test")
    if own_validation:
        validation = n + permutation(own_validation)
        if n_validation is not None:
            validation = _some_of(validation, labels, n_validation, "n_validation")
    else:
        validation, pool = _cut(pool, labels, n_validation or share, "n_validation")
    train = pool if n_train is None else _some_of(pool, labels, n_train, "n_train")
    if cuts:
        said = [f"{' and '.join(cuts)}: cut from the train images, stratified, by a fixed seed"]
    return Plan(train=train, validation=validation, test=test, remarks=tuple(said))


def _check_classes(labels: Index, classes: Sequence[str], cuts: Sequence[str]) -> None:
    counts = np.bincount(labels, minlength=len(classes))
    for name, count in zip(classes, counts.tolist(), strict=True):
        if not count:
            raise DataError(f"class {name!r} has no train image that can be decoded")
        if count < 1 + len(cuts):
            raise DataError(
                f"class {name!r} has {counted(count, 'train image')}; to cut "
                f"{' and '.join(cuts)} from them takes at least {1 + len(cuts)} of "
                "each class: add images, or make folders val/ and test/ of your own"
            )


def _cut(order: Index, labels: Index, n: int, name: str) -> tuple[Index, Index]:
    """Return the first `n` of `order`, each class by its share, and the rest: one of each or more.

    Raises DataError where that leaves a class without an image.
    """
    counts = np.bincount(labels[order])
    if n > len(order) - len(counts):
        raise DataError(
            f"{name}={n}: of {counted(len(order), 'train image')} at most "
            f"{len(order) - len(counts)} can be taken, so that one of each class is left"
        )
    taken = _firsts(order, labels, apportioned(counts, n, counts - 1))
    return order[taken], order[~taken]


def _some_of(order: Index, labels: Index, n: int, name: str) -> Index:
    """Return `n` of `order`, each class by its share; DataError where there are fewer."""
    if n > len(order):
        raise DataError(f"{name}={n}: there are {counted(len(order), 'image')} for it")
    counts = np.bincount(labels[order])
    chosen: Index = order[_firsts(order, labels, apportioned(counts, n, counts))]
    return chosen


def _firsts(order: Index, labels: Index, wanted: Index) -> NDArray[np.bool_]:
    """Return which of `order` are the first `wanted` of their class."""
    taken = np.zeros(len(order), dtype=bool)
    for label, n in enumerate(wanted.tolist()):
        taken[np.flatnonzero(labels[order] == label)[:n]] = True
    return taken


def apportioned(counts: Index, n: int, most: Index) -> Index:
    """Return how many of each class make `n`: by its share of `counts`, at most `most`.

    At least one of each where `n` allows. `n` must not exceed the sum of `most`.
    """
    quotas = counts * n / counts.sum()
    least = np.minimum(1 if n >= len(counts) else 0, most)
    out: Index = np.clip(np.floor(quotas).astype(np.int64), least, most)
    while out.sum() < n:
        out[np.argmax(np.where(out < most, quotas - out, -np.inf))] += 1
    while out.sum() > n:
        out[np.argmin(np.where(out > least, quotas - out, np.inf))] -= 1
    return out
