"""The command dashboard: Optuna Dashboard on the study database."""

from typing import Annotated

import typer

from search.commands.flags import StorageFlag
from search.commands.layout import WHERE

PASSWORD_VARIABLE = "ONECYCLE_DASHBOARD_PASSWORD"
EXAMPLES = (
    "ONECYCLE_DASHBOARD_PASSWORD=secret onecycle dashboard",
    "ONECYCLE_DASHBOARD_PASSWORD=secret onecycle dashboard --port 9000",
)


def dashboard(
    storage: StorageFlag = None,
    host: Annotated[
        str,
        typer.Option(
            "--host",
            help="The address to listen at; 0.0.0.0 is every one.",
            rich_help_panel=WHERE,
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            "--port",
            min=0,
            max=65535,
            help="The port to listen at; 0 takes a free one.",
            rich_help_panel=WHERE,
        ),
    ] = 8080,
    allow_writes: Annotated[
        bool,
        typer.Option(
            "--allow-writes",
            help="Let readers change and delete studies.",
            rich_help_panel=WHERE,
        ),
    ] = False,
) -> None:
    """Serve Optuna Dashboard with our cards; the password is in ONECYCLE_DASHBOARD_PASSWORD."""
    import os
    import signal
    import sys

    from search.errors import UsageError
    from search.views.dashboard.serving import serve
    from studies.urls import storage_url

    password = os.environ.get(PASSWORD_VARIABLE)
    if not password:
        raise UsageError(
            f"{PASSWORD_VARIABLE} is not set: whoever opens the dashboard must give it"
        )
    # As the first process of a container it would not hear SIGTERM otherwise.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    serve(storage_url(storage), host=host, port=port, password=password, allow_writes=allow_writes)
