"""Tables of the families: scikit-learn's small ones under noise, and made-up ones."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]
Classes = tuple[tuple[Floats, Ints], tuple[Floats, Ints], tuple[Floats, Ints]]
Numbers = tuple[tuple[Floats, Floats], tuple[Floats, Floats], tuple[Floats, Floats]]


def rules() -> Classes:
    """Return 20 numbers and one of 4 classes by products of some; one label in ten is random."""
    rng = np.random.default_rng(10)
    inputs = rng.standard_normal((10_000, 20))
    firsts, seconds, weights = (
        rng.integers(20, size=(4, 8)),
        rng.integers(20, size=(4, 8)),
        rng.standard_normal((4, 8)),
    )
    products = np.sign(inputs[:, firsts]) * inputs[:, seconds]
    linear = inputs @ rng.standard_normal((20, 4)) * 0.5
    labels = ((products * weights).sum(2) + linear).argmax(1)
    wrong = rng.random(len(labels)) < 0.1
    labels[wrong] = rng.integers(4, size=wrong.sum())
    return _classes(inputs, labels, 4000, 3000)


def cancer() -> Classes:
    """Return the 30 measures of a breast tumour: 300, and 16 noisy copies of 135 and of 134."""
    from sklearn.datasets import load_breast_cancer

    rng = np.random.default_rng(11)
    inputs, labels = load_breast_cancer(return_X_y=True)
    order = rng.permutation(len(labels))
    inputs, labels = _standard(inputs[order]), labels[order]

    def noisy(cut: slice, copies: int) -> tuple[Floats, Ints]:
        repeated = np.repeat(inputs[cut], copies, axis=0)
        repeated = repeated + 2.5 * rng.standard_normal(repeated.shape)
        return repeated.astype(np.float32), np.repeat(labels[cut], copies).astype(np.int64)

    return noisy(slice(300), 2), noisy(slice(300, 435), 16), noisy(slice(435, None), 16)


def spirals() -> Classes:
    """Return points (2,) on 3 arms that turn one and a quarter times, widened by noise."""
    rng = np.random.default_rng(12)
    labels = rng.integers(3, size=9000)
    along = np.sqrt(rng.uniform(0.02, 1, 9000))
    angles = 2 * np.pi * (labels / 3 + 1.25 * along)
    points = along[:, None] * np.column_stack([np.cos(angles), np.sin(angles)])
    points += 0.07 * rng.standard_normal(points.shape)
    return _classes(2 * points, labels, 3000, 3000)


def friedman() -> Numbers:
    """Return Friedman's first function of 10 numbers, half of the variance noise."""
    from sklearn.datasets import make_friedman1

    inputs, targets = make_friedman1(8000, n_features=10, noise=2.5, random_state=13)
    return _numbers(2 * inputs - 1, targets, 2000, 3000)


def diabetes() -> Numbers:
    """Return the progress of diabetes by 10 measures: 222 patients, 110 and 110."""
    from sklearn.datasets import load_diabetes

    inputs, targets = load_diabetes(return_X_y=True)
    order = np.random.default_rng(14).permutation(len(targets))
    return _numbers(_standard(inputs[order]), targets[order], 222, 110)


def teacher() -> Numbers:
    """Return what a random net with sines makes of 30 numbers, with noise."""
    rng = np.random.default_rng(15)
    inputs = rng.standard_normal((9000, 30))
    hidden = np.sin(inputs @ rng.standard_normal((30, 12)) * 0.25)
    targets = hidden @ rng.standard_normal(12) + hidden[:, 0] * hidden[:, 1]
    targets += 0.4 * targets.std() * rng.standard_normal(len(targets))
    return _numbers(inputs, targets, 3000, 3000)


def ratings() -> tuple[tuple[Ints, Floats], tuple[Ints, Floats], tuple[Ints, Floats]]:
    """Return ratings of 150 things by 200 users: three tastes, two biases and noise."""
    rng = np.random.default_rng(16)
    users, things = rng.standard_normal((200, 3)), rng.standard_normal((150, 3))
    pairs = np.column_stack([rng.integers(200, size=14_000), rng.integers(150, size=14_000)])
    user, thing = pairs.T
    targets = (users[user] * things[thing]).sum(1) / 3**0.5
    targets += 0.5 * rng.standard_normal(200)[user] + 0.5 * rng.standard_normal(150)[thing]
    targets += 0.5 * rng.standard_normal(len(targets))
    values = targets.astype(np.float32)
    cuts = (slice(8000), slice(8000, 11_000), slice(11_000, None))
    train, validation, test = ((pairs[cut], values[cut]) for cut in cuts)
    return train, validation, test


def _standard(inputs: Doubles) -> Doubles:
    scaled: Doubles = (inputs - inputs.mean(0)) / inputs.std(0)
    return scaled


def _classes(inputs: Doubles, labels: Ints, n_train: int, n_validation: int) -> Classes:
    rows, kept = inputs.astype(np.float32), labels.astype(np.int64)
    train, validation, test = ((rows[cut], kept[cut]) for cut in _cuts(n_train, n_validation))
    return train, validation, test


def _numbers(inputs: Doubles, targets: Doubles, n_train: int, n_validation: int) -> Numbers:
    """Return the splits, the targets scaled by those to train on."""
    own = targets[:n_train]
    scaled = ((targets - own.mean()) / own.std()).astype(np.float32)
    rows = inputs.astype(np.float32)
    train, validation, test = ((rows[cut], scaled[cut]) for cut in _cuts(n_train, n_validation))
    return train, validation, test


def _cuts(n_train: int, n_validation: int) -> tuple[slice, slice, slice]:
    end = n_train + n_validation
    return slice(n_train), slice(n_train, end), slice(end, None)
