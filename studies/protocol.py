"""What must not change within a study: a flat list of named fields, compared at every start."""

import ast
import dataclasses
import hashlib
import importlib.metadata
import re
from collections.abc import Iterator, Mapping
from typing import Any

from studies.definition import RangeTest, Study
from studies.errors import ProtocolError
from studies.flags import is_written_by_us
from studies.made_of import code_fields, is_of_object
from studies.params import Choice, Fixed, Range
from studies.space import Space

# A study may be stored under another name with --name; its epochs stand in its screening as well.
# Where images lie is no matter, as long as they are the same (their checksum is a fact).
_NOT_PROTOCOL = frozenset({"name", "epochs", "task.data.path"})
_NOT_COMPARED = frozenset({"data read"})
"""Facts in words, for people, whose wording may change; others hold what they rest on."""
_SEEDS = "seeds of the runs"
_RACE = "rule of the confirmation"
_FIRST = "first choices"
_SEARCH_SEEDS = "seeds of the search"
_MARKS = (_SEEDS, _FIRST, _SEARCH_SEEDS, _RACE)
"""Fields that tell studies from before: these keep their own ways, and are not refused."""
_CODE = "code of the study file"
_NO_CODE = "none of its own"
_ONLY_WHERE_GIVEN = {
    "range_test.required": "False",
    "screening.exact": "False",
    "screening.stop_below": "None",
    "space.max_lr": "None",
    "space.weight_decay": "None",
    "space.batch_size": "None",
    "space.extra": "{}",
    "task.weight_decay": "None",
    "task.data.channels": "3",
    "task.data.skip_broken": "False",
    "task.data.counted": "None",
}
"""Fields that are left out where they have this value, so that studies from before these fields
stay what they were."""


def declared(study: Study, source: str) -> dict[str, str]:
    """Return the part of the protocol that can be read without torch: field -> value as text.

    That is the definition, the code of the study file or of a Study object's functions (comments
    and layout do not count) and torch's major.minor version. The stored name may differ from the
    definition's. What the space holds is not a field of the task, but the baseline still has one
    value of it.
    """
    fields = {name: text for name, text in _flat("", study) if name not in _NOT_PROTOCOL}
    for name, text in _ONLY_WHERE_GIVEN.items():
        if fields.get(name) == text:
            del fields[name]
    for name in study.space.domains():
        for field in (f"task.optimizer.{name}", f"task.{name}"):
            if field in fields:
                fields[f"baseline.{name}"] = fields.pop(field)
    fields[_SEEDS] = "fit 32 bits"
    fields[_RACE] = "a race, then pairs"
    fields[_FIRST] = "four"
    fields[_SEARCH_SEEDS] = "one for all configurations"
    fields |= code_fields(source) if is_of_object(source) else {_CODE: _code_of(source)}
    # From the package's metadata: importing torch takes two seconds. To the minor version, because
    # patch releases of torch mend regressions only.
    fields["torch"] = ".".join(importlib.metadata.version("torch").split(".")[:2])
    return fields


def stored_range_test(stored: Mapping[str, str]) -> RangeTest:
    """Return the settings that the sweeps of a stored study follow."""
    fields = {f.name: stored.get(f"range_test.{f.name}") for f in dataclasses.fields(RangeTest)}
    return RangeTest(**{k: ast.literal_eval(v) for k, v in fields.items() if v is not None})


def stored_space(stored: Mapping[str, str]) -> Space:
    """Return the space of a stored study, which no page needs the study's file for.

    Raises ValueError where what is stored is not as declared() writes it.
    """
    fields = {f.name: stored.get(f"space.{f.name}") for f in dataclasses.fields(Space)}
    try:
        given = {k: _value(ast.parse(v, mode="eval").body) for k, v in fields.items() if v}
    except (SyntaxError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the stored space cannot be read: {error}") from error
    return Space(**given)


_DOMAINS = {kind.__name__: kind for kind in (Range, Choice, Fixed)}


def _value(node: ast.expr) -> Any:
    """Return the value of plain Python source in which domains are made by keyword."""
    if isinstance(node, ast.Call):
        kind = _DOMAINS[node.func.id]  # type: ignore[attr-defined]
        return kind(**{f"{each.arg}": _value(each.value) for each in node.keywords})
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {ast.literal_eval(key or ""): _value(value) for key, value in pairs}
    return ast.literal_eval(node)


def has_long_seeds(stored: Mapping[str, str]) -> bool:
    """Whether a stored study is from before the seeds of runs fitted 32 bits: it keeps its own."""
    return _SEEDS not in stored


def has_first_choices(stored: Mapping[str, str]) -> bool:
    """Whether the search of a stored study begins with first choices; not one from before them,
    whose Sobol points would be asked for twice."""
    return _FIRST in stored


def has_seed_of_slots(stored: Mapping[str, str]) -> bool:
    """Whether a stored study is from before a search had one seed: each slot keeps its own."""
    return _SEARCH_SEEDS not in stored


def compare(name: str, stored: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raise ProtocolError naming the first field in which `now` differs from what is stored."""
    keys = [*stored, *(key for key in now if key not in stored)]
    if stored.get(_CODE) == _code_digest(""):  # of a Study object, by a version that read no code
        keys = [
            key for key in keys if key != _CODE and not key.startswith(("code of ", "value of "))
        ]
    if _CODE not in stored and now.get(_CODE) == _NO_CODE:
        # A Study object that uses no function of its author's says all in its fields as well.
        keys.remove(_CODE)
    for key in keys:
        if key in _MARKS and key not in stored:
            continue
        # Of before, when n_seeds was a number of seeds: it is the most now, and more by default.
        if key == "confirmation.n_seeds" and _RACE not in stored:
            continue
        if key not in _NOT_COMPARED and stored.get(key) != now.get(key):
            made = f"{key} = {_short(stored.get(key))}, now it is {_short(now.get(key))}"
            if key.startswith("code of ") and key != _CODE:  # two digests say nothing
                made = f"another {key}" if key in stored and key in now else made
            raise ProtocolError(
                f"study {name!r} was made with {made}; put it back, or start a new study with "
                "--name"
            )


def trained_on(stored: Mapping[str, str]) -> str:
    """Return what a stored study counts: 'images', or 'samples' where others are trained on."""
    return "images" if stored.get("task") == "Task" else "samples"


def _flat(path: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield dotted field names and values of nested dataclasses."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if path:
            yield path, type(value).__name__
        for field in dataclasses.fields(value):
            name = f"{path}.{field.name}" if path else field.name
            yield from _flat(name, getattr(value, field.name))
    elif callable(value):
        yield path, getattr(value, "__qualname__", type(value).__qualname__)
    else:
        yield path, _WHERE_IT_LIES.sub("", repr(value))


_WHERE_IT_LIES = re.compile(r" at 0x[0-9a-fA-F]+")
"""What Python writes of an object that has no text of its own: another in every process."""


def _code_of(source: str) -> str:
    """Return what stands for a study file's code; one that we wrote says all in its fields.

    So its text may be another in the next version, and name another folder.
    """
    tree = ast.parse(source)
    return _NO_CODE if is_written_by_us(tree) else _code_digest(source)


def _code_digest(source: str) -> str:
    """Return a digest of Python source that comments, blank lines and layout do not move."""
    # Parsing drops comments, and unparsing writes one layout.
    return hashlib.sha256(ast.unparse(ast.parse(source)).encode()).hexdigest()[:16]


def _short(text: str | None) -> str:
    if text is None:
        return "nothing"
    return text if len(text) <= 60 else f"{text[:57]}..."
