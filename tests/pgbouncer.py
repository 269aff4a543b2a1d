"""A PgBouncer of our own on 127.0.0.1 that lends a connection for each transaction."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL

from tests.postgres import as_postgres, free_port, listens
from tests.waits import wait_for

SETTINGS = """\
[databases]
* = host=127.0.0.1 port={server_port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
pool_mode = transaction
default_pool_size = {connections}
max_client_conn = 1000
auth_type = trust
auth_file = {folder}/users
"""


@contextmanager
def pooled(url: URL, *, connections: int) -> Iterator[URL]:
    """Give the URL of the same database through PgBouncer, with so many connections to it."""
    folder, port = Path(tempfile.mkdtemp(prefix="onecycle-bouncer-")), free_port()
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        SETTINGS.format(server_port=url.port, port=port, connections=connections, folder=folder)
    )
    (folder / "users").write_text(f'"{url.username}" "{url.password}"\n')
    folder.chmod(0o755)
    process = subprocess.Popen(
        [*as_postgres(), "pgbouncer", "--quiet", str(settings)],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(lambda: listens(port))
        yield url.set(port=port)
    finally:
        process.terminate()
        process.communicate()
        shutil.rmtree(folder)
