"""What an object of a program consists of, part by part: its fields, and what functions use."""

import dataclasses
import dis
import functools
import inspect
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType, MethodType
from typing import Any

Part = tuple[str, Any]
"""A part by the name that its author knows it by."""


def parts_of(name: str, value: Any) -> Iterator[Part]:
    """Yield the parts of the object called `name`, each with its own name."""
    if isinstance(value, FunctionType):
        yield from used_by(name, value)
    elif isinstance(value, MethodType):
        yield f"{name}.__func__", value.__func__
        yield name, value.__self__
    elif isinstance(value, functools.partial):
        yield name, value.func
        yield from _items(name, value.args)
        yield from value.keywords.items()
    elif isinstance(value, type):
        yield from members(value)
        yield from ((base.__name__, base) for base in value.__bases__)
    elif isinstance(value, (Mapping, list, tuple, set, frozenset)):
        yield from _items(name, value)
    else:
        yield from attributes(name, value)


def used_by(name: str, function: FunctionType) -> Iterator[Part]:
    """Yield what a function uses from around it: globals, captured variables, defaults."""
    for used in dict.fromkeys(_globals(function.__code__)):
        if used in function.__globals__:
            yield used, function.__globals__[used]
    for used, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield used, cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    for argument in inspect.signature(function, follow_wrapped=False).parameters.values():
        if argument.default is not argument.empty:
            yield f"{name}({argument.name})", argument.default


def _globals(code: CodeType) -> Iterator[str]:
    """Yield the globals that code loads; co_names would name attributes as well."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _globals(constant)


def members(of: type) -> Iterator[Part]:
    """Yield what a class defines: its functions, and its values but those that Python adds."""
    for name, member in vars(of).items():
        label = f"{of.__name__}.{name}"
        if isinstance(member, (staticmethod, classmethod)):
            yield label, member.__func__
        elif isinstance(member, property):
            yield from ((label, each) for each in (member.fget, member.fset) if each is not None)
        elif isinstance(member, FunctionType) or not name.startswith("_"):
            yield label, member


def attributes(name: str, value: Any) -> Iterator[Part]:
    """Yield the fields of a dataclass, or the attributes of any other object."""
    if dataclasses.is_dataclass(value):
        held = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    else:
        held = dict(getattr(value, "__dict__", {}))
    for attribute, part in held.items():
        yield f"{name}.{attribute}" if name else attribute, part


def _items(name: str, value: Any) -> Iterator[Part]:
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
    for key, part in pairs:
        yield f"{name}[{key!r}]", part
