"""What both adapters are to a study: their functions' parameters, score and batch sizes."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from trainers.adapters.names import is_share
from trainers.factories import Factory, check_taken, defaults_of, plain_defaults
from trainers.scored import Scored


class Adapter:
    """The part of a Workload that follows from the author's functions and the monitored metric."""

    monitor: str
    direction: Literal["maximize", "minimize"]
    batch_size: int
    steps_per_epoch: int
    factories: Mapping[str, Factory]

    takes_any: ClassVar[bool] = True  # check_searched() says what it does not take

    # Another batch size needs another number of steps, read once for all its cycles.
    _others: dict[int, Self]

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _set_factories(self, **given: Any) -> None:
        """Read the signatures of those that are functions."""
        made = {role: Factory.of(role, call) for role, call in given.items() if callable(call)}
        self._set(factories=made, _others={})
        known: dict[str, Any] = {}
        for role, factory in made.items():
            for name, value in factory.defaults.items():
                if name != "batch_size" and known.setdefault(name, value) != value:
                    raise ValueError(
                        f"{name} has two defaults, {known[name]!r} and, in {role}, {value!r}; the "
                        "baseline has one: write the same"
                    )

    def made(self, role: str, given: Any, params: Mapping[str, Any]) -> Any:
        """Return `given`, or what it makes of the parameters that it names if it is a function."""
        if role not in self.factories:
            return given
        return self.factories[role](params=params, named=defaults_of(self.factories.values()))

    @property
    def scored(self) -> Scored:
        """The monitored metric; a broken cycle is worth 0 of a share, else an untrained model."""
        share = self.direction == "maximize" and is_share(self.monitor)
        return Scored(self.monitor, self.direction, 0.0 if share else None)

    @property
    def weight_decay(self) -> float | None:
        """The default of a parameter `weight_decay`, None where no function names one."""
        decay = self.own_values().get("weight_decay")
        return None if decay is None else float(decay)

    def own_values(self) -> Mapping[str, float | int | str | bool]:
        """Return what it trains with outside of a search: the defaults, and the batch size."""
        return {**plain_defaults(self.factories.values()), "batch_size": self.batch_size}

    def check_searched(self, names: tuple[str, ...]) -> None:
        """Raise ValueError for a searched parameter that no function takes."""
        check_taken(tuple(self.factories.values()), names)

    def at(self, *, batch_size: int | None = None) -> Self:
        """Return the same with another batch size; None leaves its own."""
        if batch_size is None or batch_size == self.batch_size:
            return self
        if batch_size not in self._others:
            self._others[batch_size] = self._sized(batch_size)
        return self._others[batch_size]

    def _sized(self, batch_size: int) -> Self:
        raise NotImplementedError
