"""The source of a function as text that lasts: its own lines alone, without comments or layout."""

import ast
import linecache
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType


def source_of(code: CodeType) -> str:
    """Return the source of a function's code; its bytecode where the source is not known.

    A notebook keeps the text of its cells where linecache finds it. The text of a function does
    not move when others of its cell or file change, and two lambdas of one line are told apart.
    """
    lines = tuple(linecache.getlines(code.co_filename))
    nodes = [node for node in _functions(lines) if _is_of(node, code)]
    if len(nodes) > 1:
        nodes = [node for node in nodes if _spans(node, code)]
    # Several that span it are nested; the innermost is last.
    return ast.unparse(nodes[-1]) if nodes else _bytecode(code)


_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@lru_cache(maxsize=16)
def _functions(lines: tuple[str, ...]) -> tuple[_Function, ...]:
    try:
        tree = ast.parse("".join(lines))
    except (SyntaxError, ValueError):  # edited since, or no Python
        return ()
    return tuple(node for node in ast.walk(tree) if isinstance(node, _Function))


def _is_of(node: _Function, code: CodeType) -> bool:
    if isinstance(node, ast.Lambda):
        return code.co_name == "<lambda>" and node.lineno == code.co_firstlineno
    # The first line of a decorated function is its first decorator's.
    first = min(line.lineno for line in (node, *node.decorator_list))
    return code.co_name == node.name and first == code.co_firstlineno


def _spans(node: _Function, code: CodeType) -> bool:
    """Whether the instructions stand within the body of a function of that line."""
    body = node.body if isinstance(node, ast.Lambda) else node.body[0]
    end = node.body if isinstance(node, ast.Lambda) else node.body[-1]
    start = (body.lineno, body.col_offset)
    stop = (end.end_lineno or body.lineno, end.end_col_offset or 0)
    return all(start <= place < stop for place in _places(code))


def _places(code: CodeType) -> Iterator[tuple[int, int]]:
    for line, _, column, end in code.co_positions():
        # The instructions that set a function up have no width, or none of these.
        if line is not None and column is not None and end:
            yield line, column


def _bytecode(code: CodeType) -> str:
    """Return what a function does as text: its instructions, and what they name and load."""
    constants = [
        _bytecode(each)
        if isinstance(each, CodeType)
        # Their order changes from process to process.
        else str(sorted(map(repr, each)))
        if isinstance(each, frozenset)
        else repr(each)
        for each in code.co_consts
    ]
    return " ".join([code.co_code.hex(), *code.co_names, *code.co_varnames, *constants])
