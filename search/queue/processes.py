"""Which process is which: identities that tell a dead process of this host from a live one."""

import os
import socket
import uuid
from pathlib import Path


def process_identity(pid: int | None = None) -> str | None:
    """Return 'boot/pid namespace/pid/start time' of a process; None where it is not there.

    A pid alone is used again and means another process in another container; with these four
    the text names one process for ever. None also on systems without /proc.
    """
    pid = os.getpid() if pid is None else pid
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink("/proc/self/ns/pid")
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    state, started = fields[0], fields[19]
    return None if state == "Z" else f"{boot}/{namespace}/{pid}/{started}"


def is_gone(identity: str | None) -> bool:
    """Whether that process surely ended: it ran on this boot of this host, and is not there."""
    own = process_identity()
    if identity is None or own is None:
        return False
    boot, namespace, pid, _ = identity.split("/")
    same_host = own.startswith(f"{boot}/{namespace}/")
    return same_host and process_identity(int(pid)) != identity


def on_another_host(identity: str | None) -> bool:
    """Whether that process surely ran on another host, or before this one was started again."""
    own = process_identity()
    if identity is None or own is None:
        return False
    return identity.partition("/")[0] != own.partition("/")[0]


def worker_name() -> str:
    """Return a name for this worker that a person can read and no other worker has."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:6]}"
