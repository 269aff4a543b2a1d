"""Rows as a pandas DataFrame, where pandas is installed: only notebooks ask for it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from search.errors import UsageError

if TYPE_CHECKING:
    from pandas import DataFrame


def data_frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> "DataFrame":
    """Return the rows under these columns; raise UsageError where pandas is not installed."""
    try:
        from pandas import DataFrame
    except ModuleNotFoundError:
        raise UsageError(
            "to_dataframe() needs the package pandas; pip install 'onecycle-search[notebook]', "
            "or write the same rows with `onecycle trials --csv` and `range-test --save`"
        ) from None
    return DataFrame([dict(row) for row in rows], columns=list(columns))
