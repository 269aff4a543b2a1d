"""The command list: the stored studies."""

from search.commands.flags import StorageFlag

EXAMPLES = ("onecycle list", "onecycle list --storage sqlite:///studies.db")


def list_(storage: StorageFlag = None) -> None:
    """List the stored studies."""
    from search.starting import catalog, opening
    from search.views.terminal import answer as terminal

    with opening.opened(storage) as engine:
        terminal.print_studies(catalog.listing(engine))
