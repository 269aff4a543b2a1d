"""The version of the study format: what a stored study, an export and their readers agree on."""

from importlib.metadata import PackageNotFoundError, version

STUDY_FORMAT = 1
"""Raised where a field of the protocol or of an export gets another meaning; a new field is none.

The tables have a version of their own (studies.tables.HEAD).
"""


def product_version() -> str:
    """Return the version of onecycle-search; 'unknown' where it is not installed."""
    try:
        return version("onecycle-search")
    except PackageNotFoundError:
        return "unknown"


def written_by() -> str:
    """Return what wrote an export: product, version and study format, in one line."""
    return f"onecycle-search {product_version()}, study format {STUDY_FORMAT}"
