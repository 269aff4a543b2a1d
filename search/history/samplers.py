"""Optuna's samplers by the names that a study uses, made new for every trial."""

import importlib.util
from typing import TYPE_CHECKING

from search.errors import UsageError

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

_NEEDS = {"cmaes": ("cmaes", "onecycle-search[cmaes]")}


def check_installed(name: str) -> None:
    """Raise UsageError where the sampler of that name needs a package that is not there."""
    package, extra = _NEEDS.get(name, (None, None))
    if package is not None and importlib.util.find_spec(package) is None:
        raise UsageError(f"sampler {name!r} needs the package {package}; pip install '{extra}'")


def make_sampler(name: str, *, seed: int, n_initial: int) -> "BaseSampler":
    """Return a sampler whose only state is the history that it reads.

    `qmc` has no sampler here, for its points are a sequence over the slots (stages.search.given),
    nor has `kg`, which is our own (stages.propose).
    """
    from optuna import samplers

    # numpy's RandomState, which TPE and CMA-ES draw from, takes seeds of 32 bits only.
    seed %= 2**32
    # Optuna counts finished trials: the initial points and the baseline are as many as the sampler
    # waits for. Its own default of 10 would draw random ones after them.
    if name == "tpe":
        return samplers.TPESampler(seed=seed, n_startup_trials=n_initial + 1)
    if name == "gp":
        return samplers.GPSampler(seed=seed, n_startup_trials=n_initial + 1)
    if name == "cmaes":
        return samplers.CmaEsSampler(
            seed=seed,
            n_startup_trials=n_initial + 1,
            warn_independent_sampling=False,  # batch sizes, which it leaves to chance
        )
    assert name in ("kg", "qmc", "random")
    return samplers.RandomSampler(seed=seed)
