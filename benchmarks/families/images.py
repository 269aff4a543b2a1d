"""Images of the families: digits of scikit-learn, CIFAR-10 shrunken, and two kinds made up."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainers.errors import DataError

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Splits = tuple[tuple[Floats, Ints], tuple[Floats, Ints], tuple[Floats, Ints]]

CIFAR_CLASSES = ("airplane", "automobile", "deer", "frog")
_CIFAR_SIDE = 16


def digits() -> Splits:
    """Return noisy handwritten digits (1, 8, 8): 600, and 4 noisy copies of 500 and of 697.

    Several copies, so that a score moves in steps of 0.05 points.
    """
    from sklearn.datasets import load_digits

    rng = np.random.default_rng(0)
    pixels, labels = load_digits(return_X_y=True)
    order = rng.permutation(len(labels))
    pixels = (pixels[order].reshape(-1, 1, 8, 8) - 4.9) / 6.0
    return tuple(  # type: ignore[return-value]
        _noisy(pixels[cut], labels[order][cut], copies=copies, deviation=0.7, rng=rng)
        for cut, copies in (
            (slice(600), 1),
            (slice(600, 1100), 4),
            (slice(1100, None), 4),
        )
    )


def _noisy(
    inputs: NDArray[np.float64],
    labels: NDArray[np.int64],
    *,
    copies: int,
    deviation: float,
    rng: np.random.Generator,
) -> tuple[Floats, Ints]:
    repeated = np.repeat(inputs, copies, axis=0)
    noise = deviation * rng.standard_normal(repeated.shape)
    return (repeated + noise).astype(np.float32), np.repeat(labels, copies).astype(np.int64)


def textures() -> Splits:
    """Return stripes (1, 16, 16) of 6 directions, any wave length and phase, under much noise."""
    return _drawn(_stripes, n_classes=6, noise=1.15, seed=1)


def shapes() -> Splits:
    """Return outlines (1, 12, 12) of 5 kinds at any place and size, under noise."""
    return _drawn(_outlines, n_classes=5, noise=0.35, seed=2)


def _drawn(draw, *, n_classes: int, noise: float, seed: int) -> Splits:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(seed)

    def split(n: int) -> tuple[Floats, Ints]:
        labels = rng.integers(n_classes, size=n)
        clean = draw(labels, rng)
        images = clean + noise * rng.standard_normal(clean.shape)
        return images[:, None].astype(np.float32), labels.astype(np.int64)

    return split(3000), split(3000), split(3000)


def _stripes(labels: Ints, rng: np.random.Generator) -> NDArray[np.float64]:
    n, side = len(labels), 16
    angles = np.pi * (labels + rng.uniform(-0.4, 0.4, n)) / 6
    rates, phases = rng.uniform(0.6, 1.6, n), rng.uniform(0, 2 * np.pi, n)
    y, x = np.mgrid[:side, :side]
    along = np.cos(angles)[:, None, None] * x + np.sin(angles)[:, None, None] * y
    waves: NDArray[np.float64] = np.sin(rates[:, None, None] * along + phases[:, None, None])
    return waves


def _outlines(labels: Ints, rng: np.random.Generator) -> NDArray[np.float64]:
    """A ring, a square, a lozenge, an upright cross and a slanting one."""
    n, side = len(labels), 12
    y, x = np.mgrid[:side, :side].astype(float)
    centres, radii = rng.uniform(4, 7, (n, 2)), rng.uniform(2.5, 4.0, n)
    dx, dy = x - centres[:, :1, None], y - centres[:, 1:, None]
    far = np.maximum(abs(dx), abs(dy))
    distances = np.stack([np.hypot(dx, dy), far, 0.75 * (abs(dx) + abs(dy))])
    r = radii[:, None, None]
    drawn = [abs(distance - r) < 0.7 for distance in distances]
    arms = [np.minimum(abs(dx), abs(dy)), np.minimum(abs(dx - dy), abs(dx + dy)) / 1.4]
    drawn += [(arm < 0.6) & (far <= r) for arm in arms]
    found: NDArray[np.float64] = np.stack(drawn)[labels, np.arange(n)].astype(float)
    return found - 0.2


def cifar(folder: Path | None) -> Splits:
    """Return images of CIFAR-10 (3, 16, 16) of 4 classes: 3,000, 2,400 and 2,400.

    `folder` is an ImageFolder with `train` and `test`. Raises DataError where it is not there.
    """
    from PIL import Image

    if folder is None:
        raise DataError("CIFAR-10 is needed: give --data FOLDER, an ImageFolder with train, test")
    rng = np.random.default_rng(3)
    wanted = {"train": 3000, "validation": 2400, "test": 2400}
    found: dict[str, list[tuple[Path, int]]] = {name: [] for name in wanted}
    for label, name in enumerate(CIFAR_CLASSES):
        train, test = (sorted((folder / part / name).glob("*.*")) for part in ("train", "test"))
        if not (train and test):
            raise DataError(f"{folder}: no images in train/{name} and test/{name}")
        own = [train[i] for i in rng.permutation(len(train))]
        n_train, n_validation = (
            wanted[part] // len(CIFAR_CLASSES) for part in ("train", "validation")
        )
        found["train"] += [(path, label) for path in own[:n_train]]
        found["validation"] += [(p, label) for p in own[n_train : n_train + n_validation]]
        found["test"] += [(path, label) for path in test[: wanted["test"] // len(CIFAR_CLASSES)]]

    def read(path: Path) -> NDArray[np.float32]:
        with Image.open(path) as image:
            small = image.convert("RGB").resize((_CIFAR_SIDE,) * 2, Image.Resampling.BOX)
            return (np.asarray(small, dtype=np.float32).transpose(2, 0, 1) / 255 - 0.47) / 0.25

    return tuple(  # type: ignore[return-value]
        (np.stack([read(path) for path, _ in paths]), np.array([label for _, label in paths]))
        for paths in found.values()
    )
