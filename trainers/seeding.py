"""Seeds derived from names, so that any run can be repeated alone."""

import hashlib

MOST_SEED = 2**32 - 1
"""The largest seed that numpy, Lightning and Transformers take."""


def seed_for(study_seed: int, *parts: str | int) -> int:
    """Return a seed in [0, 2**63) that depends on all of `parts` and on nothing else.

    The parts are joined as text and hashed (SHA-256): the same on every machine and version.
    """
    text = ":".join(str(part) for part in (study_seed, *parts))
    # 63 bits fit the signed 64-bit integers of databases and of torch.
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def run_seed_for(study_seed: int, *parts: str | int) -> int:
    """Return the seed of a run, in [0, 2**31): the upper bits of seed_for().

    `numpy.random.seed`, Lightning's `seed_everything` and transformers' `set_seed` take 32 bits.
    One less leaves room for `seed + rank`, and fits the signed numbers of other libraries.
    """
    return seed_for(study_seed, *parts) >> 32
