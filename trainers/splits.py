"""The data of a training as its author gives it: a dict of splits, or a function of the split."""

from collections.abc import Callable, Mapping
from typing import Any

from trainers.errors import TaskError
from trainers.factories import Factory

_NAMES = ("train", "validation", "test")
_FORM = 'data={"train": ..., "validation": ..., "test": ...} or data(split)'


class Splits:
    """Gives the split of a name; None for a test split that there is not.

    What a function made is kept until it is asked for with other parameters.
    """

    def __init__(self, given: "Mapping[str, Any] | Callable[..., Any]") -> None:
        self.factory: Factory | None = None
        self.fixed: Mapping[str, Any] = {}
        self._made: dict[str, tuple[dict[str, Any], Any]] = {}
        if isinstance(given, Mapping):
            self.fixed = dict(given)
            _check_names(self.fixed)
        elif callable(given) and not hasattr(given, "__getitem__"):
            self.factory = Factory.of("data", given, "split")
        else:
            raise ValueError(f"data must be {_FORM}, got {_kind(given)}")

    def get(self, split: str, params: Mapping[str, Any], named: tuple[str, ...] = ()) -> Any:
        """Return the split, made by the author's function with the `params` that it takes."""
        if self.factory is None:
            return self.fixed.get(split)
        known = dict(params)
        if split not in self._made or self._made[split][0] != known:
            self._made[split] = (known, self._from_the_factory(split, params, named))
        return self._made[split][1]

    def _from_the_factory(
        self, split: str, params: Mapping[str, Any], named: tuple[str, ...]
    ) -> Any:
        assert self.factory is not None
        try:
            return self.factory(split, params=params, named=named)
        except KeyError as error:
            # What a dict of splits says of one that it does not have.
            if split == "test" and error.args == (split,):
                return None
            raise

    def __repr__(self) -> str:
        if self.factory is not None:
            call = self.factory.call
            return str(getattr(call, "__qualname__", type(call).__qualname__))
        return ", ".join(f"{name}: {_kind(data)}" for name, data in self.fixed.items())

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_made": {}}


class Joined(Splits):
    """The same data, with the validation samples among those to train on: for a final model.

    They come as the validation split gives them, without what the train split augments.
    """

    def __init__(self, own: Splits) -> None:
        self.factory, self.fixed, self._made = own.factory, own.fixed, {}

    def get(self, split: str, params: Mapping[str, Any], named: tuple[str, ...] = ()) -> Any:
        """Return the split; raise TaskError where train and validation are no data sets."""
        data = super().get(split, params, named)
        if split != "train":
            return data
        from torch.utils.data import ConcatDataset

        both = (data, super().get("validation", params, named))
        for name, each in zip(_NAMES, both, strict=False):
            if not (hasattr(each, "__getitem__") and hasattr(each, "__len__")):
                raise TaskError(
                    f"train and validation together need two map-style Datasets, and {name} is "
                    f"{type(each).__name__}: give data sets, or train on train alone"
                )
        return ConcatDataset(both)


def _check_names(given: Mapping[str, Any]) -> None:
    unknown = [name for name in given if name not in _NAMES]
    lacking = [name for name in _NAMES[:2] if given.get(name) is None]
    if unknown or lacking:
        wrong = f"got {unknown[0]!r}" if unknown else f"{lacking[0]!r} is missing"
        raise ValueError(f'data must have "train" and "validation", and may have "test"; {wrong}')


def _kind(data: object) -> str:
    """Return the class of some data, without an address, which differs in every process."""
    kind = data.__name__ if isinstance(data, type) else type(data).__name__
    return f"the class {kind}" if isinstance(data, type) else kind
