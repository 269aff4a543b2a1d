"""The command reap: runs of workers that are gone, given back."""

import typer

from search.commands.flags import StorageFlag, StoredFlag

EXAMPLES = ("onecycle reap --study digits",)


def reap(study: StoredFlag, storage: StorageFlag = None) -> None:
    """Give back the runs of workers that are gone, after watching them for the grace time."""
    from search.queue import leases
    from search.starting import catalog, opening
    from search.views.terminal import status as monitor

    with opening.opened(storage) as engine:
        row = catalog.find(engine, study)
        held = leases.running(engine, row)
        typer.echo(f"watching {len(held)} run(s) for up to {row.grace_s:g} s", err=True)
        given_back = leases.reap(engine, row, held)
    monitor.print_reaped(given_back, n_watched=len(held))
