"""Seeds derived from names, so that any run can be repeated alone."""

import hashlib


def seed_for(study_seed: int, *parts: str | int) -> int:
    """Return a seed in [0, 2**63) that depends on all of `parts` and on nothing else.

    The parts are joined as text and hashed (SHA-256): the same on every machine and version.
    """
    text = ":".join(str(part) for part in (study_seed, *parts))
    # 63 bits fit the signed 64-bit integers of databases and of torch.
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
