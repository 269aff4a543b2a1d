"""How a result shows itself in a notebook: drawn by a module above, loaded when that is asked."""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from pandas import DataFrame
    from plotly.graph_objects import Figure


class Shown:
    """What a notebook can do with a result: show it, plot it, and have its rows as a table.

    `shown_by` names the module that does it, as pandas names its plotting backend: a name and no
    import, because what is measured knows nothing of how it is shown, and because neither plotly
    nor pandas is loaded before somebody asks.
    """

    __slots__ = ()
    shown_by: ClassVar[str]

    def _repr_html_(self) -> str:
        """Return the answer in words with its figure, which needs no network and no script."""
        shown: str = self._view().html(self)
        return shown

    def plot(self, *which: str) -> "Figure":
        """Return a plotly figure of the result: the first, or the one that `which` names.

        Raises UsageError for another name, with those that there are.
        """
        drawn: Figure = self._view().plot(self, *which)
        return drawn

    def to_dataframe(self) -> "DataFrame":
        """Return the rows of the result's file (trials, or steps of sweeps) as a DataFrame.

        Raises UsageError where pandas is not installed.
        """
        table: Any = self._view().to_dataframe(self)
        return table

    def _view(self) -> ModuleType:
        return importlib.import_module(self.shown_by)
