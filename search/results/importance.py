"""Whether a study's scores say anything of what matters."""

LEAST_PER_PARAMETER = 3
"""Configurations for each searched parameter: a level and, in each of d parameters, a curve with
one bend go through 2 d + 1 scores exactly, noise included, whatever matters."""


def untold_reason(*, n: int, n_searched: int, computed: bool) -> str:
    """Return why importances are not told, '' where they are.

    `n`: configurations that did not break; `computed`: whether anybody has computed them yet.
    """
    least = LEAST_PER_PARAMETER * n_searched
    if n < least:
        return (
            f"{n} configurations that did not break are too few to say which of {n_searched} "
            f"parameters matters: importances are told from {least} on, {LEAST_PER_PARAMETER} for "
            "each parameter"
        )
    return "" if computed else "importances have not been computed yet; `onecycle run` does it"
