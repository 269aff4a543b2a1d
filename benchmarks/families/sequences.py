"""Texts and sequences of the families: Python's own source, and made-up ones."""

import sysconfig
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainers.errors import DataError

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Tokens = tuple[tuple[Ints, Ints], tuple[Ints, Ints], tuple[Ints, Ints]]
Signals = tuple[tuple[Floats, Ints], tuple[Floats, Ints], tuple[Floats, Ints]]

STDLIB_PACKAGES = ("asyncio", "email", "unittest", "xml")
_N_CHARACTERS = 64


def stdlib() -> Tokens:
    """Return 64 characters (numbers below 128) from one of 4 packages of Python's library.

    Every fifth file is for validation and every fifth for the test. They change with Python's
    minor version. Raises DataError where the library has no source.
    """
    rng, library = np.random.default_rng(20), Path(sysconfig.get_paths()["stdlib"])
    counts = {"train": 4200, "validation": 3000, "test": 3000}
    found: dict[str, list[tuple[Ints, Ints]]] = {name: [] for name in counts}
    for label, package in enumerate(STDLIB_PACKAGES):
        files = sorted((library / package).rglob("*.py"))
        texts = [path.read_text(errors="replace") for path in files]
        parts = {
            "train": [text for n, text in enumerate(texts) if n % 5 < 3],
            "validation": texts[3::5],
            "test": texts[4::5],
        }
        for name, count in counts.items():
            windows = _windows("\n".join(parts[name]), count // len(STDLIB_PACKAGES), rng)
            found[name].append((windows, np.full(len(windows), label)))
    train, validation, test = (
        tuple(np.concatenate(each) for each in zip(*parts, strict=True))
        for parts in found.values()
    )
    return train, validation, test  # type: ignore[return-value]


def _windows(text: str, n: int, rng: np.random.Generator) -> Ints:
    codes = np.frombuffer(text.encode("ascii", "replace"), dtype=np.uint8).astype(np.int64)
    if len(codes) <= _N_CHARACTERS:
        raise DataError(f"Python's library has no source here; needed: {STDLIB_PACKAGES}")
    starts = rng.integers(len(codes) - _N_CHARACTERS, size=n)
    windows: Ints = codes[starts[:, None] + np.arange(_N_CHARACTERS)]
    return windows


def markov() -> Tokens:
    """Return 12 tokens of 10 from one of 4 Markov chains that are alike in part."""
    rng = np.random.default_rng(21)
    common = rng.dirichlet(np.ones(10), 10)
    chains = 0.35 * common + 0.65 * rng.dirichlet(np.full(10, 0.7), (4, 10))
    labels = rng.integers(4, size=9000)
    tokens = np.empty((9000, 12), dtype=np.int64)
    tokens[:, 0] = rng.integers(10, size=9000)
    for place in range(1, 12):
        odds = chains[labels, tokens[:, place - 1]].cumsum(1)
        tokens[:, place] = (rng.random((9000, 1)) * odds[:, -1:] > odds).sum(1)
    return _cut(tokens, labels)


def tokens() -> Tokens:
    """Return 12 tokens of 12; the class of 5 is that of the greatest sum over neighbours."""
    rng = np.random.default_rng(22)
    inputs = rng.integers(12, size=(9500, 12))
    alone, pairs = rng.standard_normal((12, 5)), rng.standard_normal((12, 12, 5))
    sums = 1.0 * alone[inputs].sum(1) + 0.7 * pairs[inputs[:, :-1], inputs[:, 1:]].sum(1)
    sums += 0.5 * rng.standard_normal(sums.shape)
    return _cut(inputs, sums.argmax(1))


def sensors() -> Signals:
    """Return 12 readings of 3 sensors: noise that swings in one of 5 ways."""
    rng = np.random.default_rng(23)
    labels = rng.integers(5, size=9000)
    angles = np.linspace(0.2, 1.4, 5)
    turn = np.stack([np.eye(3)] * 5)
    for n, angle in enumerate(angles):
        cos, sin = 0.9 * np.cos(angle), 0.9 * np.sin(angle)
        turn[n] = [[cos, -sin, 0.0], [sin, cos, 0.1], [0.0, 0.2 - 0.1 * n, 0.5]]
    state, readings = rng.standard_normal((9000, 3)), np.empty((9000, 12, 3))
    for step in range(12):
        state = np.einsum("nij,nj->ni", turn[labels], state) + 0.2 * rng.standard_normal((9000, 3))
        readings[:, step] = state + 0.3 * rng.standard_normal((9000, 3))
    return _cut(readings.astype(np.float32), labels)  # type: ignore[arg-type, return-value]


def signals() -> Signals:
    """Return 2 channels of 48 values: one of 6 short waves at any time, under noise."""
    rng = np.random.default_rng(24)
    labels = rng.integers(6, size=9000)
    time = np.arange(48) - rng.uniform(14, 34, 9000)[:, None]
    rate = 0.35 + 0.22 * (labels // 2)[:, None] + 0.006 * time * (2 * (labels % 2)[:, None] - 1)
    envelope = np.exp(-((time / 9) ** 2))
    phase = rng.uniform(0, 2 * np.pi, (9000, 1))
    waves = [envelope * np.sin(rate * time + phase + shift) for shift in (0.0, 0.8)]
    noisy = np.stack(waves, axis=1) + 0.5 * rng.standard_normal((9000, 2, 48))
    return _cut(noisy.astype(np.float32), labels)  # type: ignore[arg-type, return-value]


def _cut(inputs: Ints, labels: Ints) -> Tokens:
    """Return 3,000 for validation, as many for the test, and the rest to train on."""
    kept = labels.astype(np.int64)
    cuts = (slice(6000, None), slice(3000), slice(3000, 6000))
    train, validation, test = ((inputs[cut], kept[cut]) for cut in cuts)
    return train, validation, test
