"""The command dashboard: Optuna Dashboard on the study database."""

from typing import Annotated

import typer

from search.commands.flags import StorageFlag

PASSWORD_VARIABLE = "ONECYCLE_DASHBOARD_PASSWORD"


def dashboard(
    storage: StorageFlag = None,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen at; 0.0.0.0 is every one.")
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option("--port", min=0, max=65535, help="Port to listen at; 0 takes a free one."),
    ] = 8080,
    allow_writes: Annotated[
        bool, typer.Option("--allow-writes", help="Let readers change and delete studies.")
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
