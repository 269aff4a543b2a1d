"""One configuration: its parameters by name, as the table of parameters declares them."""

from collections.abc import Iterator, Mapping

from studies.params import CYCLE, TORCHS_OWN, Value, parameter
from trainers.onecycle import OneCycle, cycle_of


class Params(Mapping[str, Value]):
    """The values of one configuration by name; what a study does not search is not in it.

    Equal, with equal hashes, where names and values are equal.
    """

    __slots__ = ("_values",)

    def __init__(self, /, **values: Value) -> None:
        self._values = values

    def __getitem__(self, name: str) -> Value:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        # Mapping defines equality, and with that takes the hash away.
        return hash(frozenset(self._values.items()))

    def __str__(self) -> str:
        return ", ".join(f"{name} {text}" for name, text in self.texts().items())

    def __repr__(self) -> str:
        return f"Params({', '.join(f'{name}={value!r}' for name, value in self.items())})"

    @property
    def max_lr(self) -> float:
        """The peak of the cycle."""
        return float(self._values["max_lr"])

    @property
    def batch_size(self) -> int | None:
        """The batch size, None where it is not searched."""
        size = self._values.get("batch_size")
        return None if size is None else int(size)

    def texts(self) -> dict[str, str]:
        """Return each value as it is shown, by name."""
        return {name: parameter(name).text(value) for name, value in self.items()}

    def of_the_task(self) -> dict[str, Value]:
        """Return what the training itself is told: all that is not the cycle's."""
        own = (*CYCLE, *TORCHS_OWN)
        return {name: value for name, value in self.items() if name not in own}

    def plan(self, total_steps: int) -> OneCycle:
        """Return the cycle of `total_steps` optimizer steps under this configuration."""
        return cycle_of(self, total_steps)
