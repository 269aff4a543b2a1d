"""What `doctor` prints: a line for each thing that was looked at."""

import json as json_module
from collections.abc import Sequence
from dataclasses import asdict

from search.starting.doctor import Check, is_ready
from search.views.terminal.answer import on_stdout, say

_HANG = 24  # a text goes on below where it began, right of name and state


def print_checks(checks: Sequence[Check], *, json: bool) -> None:
    """Print one line per check on stdout, or one JSON document."""
    if json:
        document = {"ok": is_ready(checks), "checks": [asdict(check) for check in checks]}
        print(json_module.dumps(document, indent=2))
        return
    console = on_stdout()
    for check in checks:
        say(console, f"{check.name:<14} {check.state:<8} {check.text}", hang=_HANG)
