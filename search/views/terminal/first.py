"""What a person reads of a budget of the range test alone: the first choice, unconfirmed."""

import json as json_module

from search.results.first import UNCONFIRMED, FirstChoice
from search.results.provenance import Shell
from search.stages.first import WHY_FIRST
from search.views.terminal.answer import on_stdout, say, say_code
from search.views.wording import CALL_EXPLAINED, code_of, proposal_lines


def print_first(first: FirstChoice, shell: Shell, *, json: bool) -> None:
    """Print the first choice on stdout: for people, or as one JSON document."""
    search = shell.run() if shell.spec else ""
    if json:
        print(json_module.dumps({**first.as_json(), "search": search}, indent=2))
        return
    console, measured = on_stdout(), first.measured
    assert measured.proposal is not None  # without one there is no first choice
    say(console, f"first choice, {UNCONFIRMED}: {first.params}")
    factor = first.params.max_lr / measured.proposal.max_lr
    say(console, f"{factor:.2g} times the proposed max_lr: {WHY_FIRST}")
    say(console, "")
    for line in proposal_lines(measured.proposal, {}):
        say(console, line)
    say(console, f"cost: {measured.n_steps:,} optimizer steps, {measured.seconds:.1f} s")
    console.print()
    say(console, CALL_EXPLAINED)
    say_code(console, code_of(first, first.params))
    console.print()
    say(console, "The search goes on from these sweeps, and confirms its answer:")
    console.print(f"    {search}", markup=False, soft_wrap=True)
