"""A PostgreSQL server of our own on 127.0.0.1, to be stopped and started again at will."""

import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, create_engine, text

from studies.database import open_engine, prepare

PASSWORD = "p{a}ss%w@rd"


class PostgresServer:
    """One server with its data in a temporary folder; `fsync` is off unless asked for.

    `options`: further ones of its command line.
    """

    def __init__(self, *, fsync: bool = False, options: str = "") -> None:
        self._initdb, self._pg_ctl = program("initdb"), program("pg_ctl")
        self._folder = Path(tempfile.mkdtemp(prefix="onecycle-pg-"))
        self._port = free_port()
        self._as_user = as_postgres()
        self._options = (
            f"-p {self._port} -k {self._folder} -c listen_addresses=127.0.0.1 "
            f"-c fsync={'on' if fsync else 'off'} {options}"
        )
        self.url = URL.create(
            "postgresql+psycopg", "onecycle", PASSWORD, "127.0.0.1", self._port, "postgres"
        )
        self._has_template = False
        self._make()

    def _make(self) -> None:
        if self._as_user:
            shutil.chown(self._folder, "postgres")
        secret = self._folder / "secret"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        flags = ["-U", "onecycle", "-A", "scram-sha-256", f"--pwfile={secret}", "--no-sync"]
        assert self._initdb is not None
        _quiet(*self._as_user, self._initdb, "-D", str(self._folder / "data"), *flags)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self._control("-w", "-o", self._options, "-l", str(self._folder / "log"), "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop the server; 'immediate' is as if it had crashed."""
        self._control("-m", mode, "-w", "stop")

    @property
    def pid(self) -> int:
        """The process that all others of the server are children of."""
        return int((self._folder / "data" / "postmaster.pid").read_text().split()[0])

    def start_if_down(self) -> None:
        """Start the server unless it runs."""
        if not self.is_running():
            self.start()

    def is_running(self) -> bool:
        """Whether the server accepts connections."""
        return listens(self._port)

    def restart(self, mode: str = "fast") -> None:
        """Stop the server under whoever uses it, and start it again."""
        self.stop(mode)
        self.start()

    def remove(self) -> None:
        """Stop the server and delete its data."""
        self.stop("immediate")
        shutil.rmtree(self._folder, ignore_errors=True)

    @contextmanager
    def database(self, *, prepared: bool = False) -> Iterator[URL]:
        """A database of its own, empty or with the tables of a first start; dropped at the end."""
        name = f"test_{uuid.uuid4().hex}"
        template = f" TEMPLATE {self._template()}" if prepared else ""
        self._as_admin(f"CREATE DATABASE {name}{template}")
        yield self.url.set(database=name)
        self._as_admin(f"DROP DATABASE {name} WITH (FORCE)")

    def _template(self) -> str:
        """Return a database that a first start has prepared; made at the first call."""
        name = "prepared"
        if not self._has_template:
            self._as_admin(f"CREATE DATABASE {name}")
            made = open_engine(self.url.set(database=name))
            prepare(made)
            made.dispose()  # a template may have no connections
            self._has_template = True
        return name

    def _as_admin(self, statement: str) -> None:
        admin = create_engine(self.url, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text(statement))
        admin.dispose()

    def _control(self, *arguments: str) -> None:
        assert self._pg_ctl is not None
        _quiet(*self._as_user, self._pg_ctl, "-D", str(self._folder / "data"), *arguments)


def as_postgres() -> list[str]:
    """Return what goes before a command that refuses to run as root."""
    return ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []


def listens(port: int) -> bool:
    """Whether somebody listens on a port of 127.0.0.1."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def program(name: str) -> str | None:
    """Return where a program of PostgreSQL is; Debian keeps them off the PATH."""
    found = shutil.which(name)
    if found is not None:
        return found
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(installed[-1]) if installed else None


def _quiet(*command: str) -> None:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd="/", check=False
    )
    assert done.returncode == 0, done.stdout


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
